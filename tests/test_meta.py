"""The meta step against the paper's closed form, naive autodiff and hand-made steps."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from cmwjax.core.meta import MetaState, meta_step, weighted_step
from problems import MLP, assert_close, problem

LR = 0.5
TX = {
    "sgd": optax.sgd(0.3),
    "momentum": optax.chain(optax.add_decayed_weights(0.05), optax.sgd(0.3, 0.9)),
    "adam": optax.adam(0.05, eps_root=1e-16),
    "clip_adamw": optax.chain(
        optax.clip_by_global_norm(0.1),
        optax.adamw(0.05, eps_root=1e-16, weight_decay=0.1),
    ),
}
# Takes no step but keeps the gradient, exactly, as its state.
RECORD = optax.GradientTransformation(
    optax.tree.zeros_like, lambda g, state, params: (optax.tree.zeros_like(g), g)
)
BATCH = 4
make = cache(partial(problem, dtype=np.float64, size=BATCH))


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def bind(p, **kwargs):
    """meta_step for a problem, with the plainest settings not given."""
    kwargs = {
        "tx": TX["sgd"],
        "meta_tx": RECORD,
        "inner_lr": optax.constant_schedule(LR),
        "meta_loss_fn": p.meta_loss_fn,
        **kwargs,
    }
    return partial(meta_step, loss_fn=p.loss_fn, weight_fn=p.weight_fn, **kwargs)


def live_state(p, tx, meta_tx=RECORD) -> MetaState:
    """A state whose optimizer has already seen two gradients."""
    state, rng = p.state(tx, meta_tx), np.random.default_rng(5)
    for _ in range(2):
        gradient = jax.tree.map(lambda x: rng.normal(0, 0.1, x.shape), p.params)
        _, opt_state = tx.update(gradient, state.opt_state, p.params)
        state = state._replace(opt_state=opt_state)
    return state


@cache
def meta_gradient(terms, normalisation, lookahead):
    p, tx = make(terms), TX[lookahead]
    mode = "sgd" if lookahead == "sgd" else "optimizer"
    step = bind(p, tx=tx, lookahead=mode, normalisation=normalisation)
    state, metrics = step(live_state(p, tx), p.batch, p.meta_batch)
    norm = optax.tree.norm(state.meta_opt_state)
    np.testing.assert_allclose(metrics["meta_grad_norm"], norm, rtol=1e-12)
    return state.meta_opt_state


# --- the meta-gradient ---------------------------------------------------------------


@cache
def gradients_one_by_one(terms):
    """The gradient at w of every single loss term, one at a time."""
    p = make(terms)

    def losses(params):
        return p.loss_fn(params, p.model_state, p.batch, None)[0]

    indices = list(np.ndindex(losses(p.params).shape))
    return {i: jax.grad(lambda w, i=i: losses(w)[i])(p.params) for i in indices}


@pytest.mark.parametrize("normalisation", ["mean", "weights"])
@pytest.mark.parametrize("terms", [1, 2, 4])
def test_meta_gradient_is_the_closed_form(terms, normalisation):
    p, gradients = make(terms), gradients_one_by_one(terms)
    losses, _ = p.loss_fn(p.params, p.model_state, p.batch, None)

    def weights(meta_params):
        return p.weight_fn(meta_params, losses, p.batch)

    now = weights(p.meta_params)
    total = BATCH if normalisation == "mean" else now.sum()
    ahead = p.params
    for i, gradient in gradients.items():
        ahead = optax.tree.add_scale(ahead, -LR / total * now[i], gradient)
    gradient_ahead = jax.grad(
        lambda w: p.meta_loss_fn(w, p.model_state, p.meta_batch, None).mean()
    )(ahead)

    slopes = jax.jacobian(weights)(p.meta_params)  # dV_i / d theta
    wanted = optax.tree.zeros_like(p.meta_params)
    for i, gradient in gradients.items():
        agreement = optax.tree.vdot(gradient_ahead, gradient)  # G_i
        slope = jax.tree.map(lambda s, i=i: s[i], slopes)
        wanted = optax.tree.add_scale(wanted, -LR / total * agreement, slope)

    assert_close(meta_gradient(terms, normalisation, "sgd"), wanted, 1e-8)


def naive_meta_loss(p, state, tx, normalisation, lookahead):
    """Lookahead loss as one would write it first: nothing shared, nothing clever.

    The denominator of 'weights' stays at the current meta_params, as if detached.
    """

    def training_loss(params, meta_params):
        losses, _ = p.loss_fn(params, p.model_state, p.batch, None)
        detached = lax.stop_gradient(losses)
        weights = p.weight_fn(meta_params, detached, p.batch)
        held = p.weight_fn(state.meta_params, detached, p.batch)
        total = BATCH if normalisation == "mean" else held.sum()
        return jnp.sum(weights * losses) / total

    def meta_loss(meta_params):
        gradient = jax.grad(training_loss)(state.params, meta_params)
        if lookahead == "sgd":
            ahead = optax.tree.add_scale(state.params, -LR, gradient)
        else:
            updates, _ = tx.update(gradient, state.opt_state, state.params)
            ahead = optax.tree.add(state.params, updates)
        return p.meta_loss_fn(ahead, p.model_state, p.meta_batch, None).mean()

    return meta_loss


CASES = [
    (1, "mean", "sgd"),
    (2, "mean", "sgd"),
    (4, "mean", "sgd"),
    (1, "weights", "sgd"),
    (4, "mean", "momentum"),
    (1, "weights", "momentum"),
    (2, "mean", "adam"),
    (1, "weights", "adam"),
    (4, "weights", "clip_adamw"),
    (1, "weights", "clip_adamw"),
]


@pytest.mark.parametrize(("terms", "normalisation", "lookahead"), CASES)
def test_meta_gradient_is_autodiff_and_the_difference_quotient(
    terms, normalisation, lookahead
):
    p, tx = make(terms), TX[lookahead]
    meta_loss = naive_meta_loss(p, live_state(p, tx), tx, normalisation, lookahead)
    actual = meta_gradient(terms, normalisation, lookahead)
    assert_close(actual, jax.grad(meta_loss)(p.meta_params), 1e-10)

    rng, h = np.random.default_rng(0), 1e-5
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), p.meta_params)
    up, down = (
        meta_loss(optax.tree.add_scale(p.meta_params, c, direction)) for c in (h, -h)
    )
    np.testing.assert_allclose(
        optax.tree.vdot(actual, direction), (up - down) / (2 * h), rtol=1e-5
    )


def test_default_meta_loss_is_the_losses_of_loss_fn():
    p = make(1)
    step = bind(p, meta_loss_fn=None)
    state, metrics = step(live_state(p, TX["sgd"]), p.batch, p.meta_batch)
    assert_close(state.meta_opt_state, meta_gradient(1, "mean", "sgd"), 1e-12)
    meta_loss = naive_meta_loss(p, p.state(TX["sgd"], RECORD), None, "mean", "sgd")
    np.testing.assert_allclose(metrics["meta_loss"], meta_loss(p.meta_params))


def test_inner_lr_is_a_schedule_of_the_step():
    p = make(1, net=MLP)
    schedule = optax.piecewise_constant_schedule(LR, {3: 0.0})  # 0 after step 3
    step, state = bind(p, inner_lr=schedule), p.state(TX["sgd"], RECORD)
    norms = [
        step(state._replace(step=jnp.int32(i)), p.batch, p.meta_batch)[1][
            "meta_grad_norm"
        ]
        for i in (2, 4)
    ]
    assert norms[0] > 1e-6 and norms[1] == 0


# --- the real step -------------------------------------------------------------------


@pytest.mark.parametrize("normalisation", ["mean", "weights"])
@pytest.mark.parametrize("terms", [1, 4])
def test_real_step_is_weighted_sgd_with_the_new_meta_params(terms, normalisation):
    p, meta_tx = make(terms), optax.adam(0.1)  # so that old and new weights differ
    step = bind(p, tx=TX["momentum"], meta_tx=meta_tx, normalisation=normalisation)
    state = p.state(TX["momentum"], meta_tx)
    velocity = optax.tree.zeros_like(p.params)
    for _ in range(2):
        before = state
        state, metrics = step(before, p.batch, p.meta_batch)
        losses, model_state = p.loss_fn(
            before.params, before.model_state, p.batch, None
        )
        old = p.weight_fn(before.meta_params, losses, p.batch)
        weights = p.weight_fn(state.meta_params, losses, p.batch)
        assert np.abs(weights - old).max() > 1e-2
        total = BATCH if normalisation == "mean" else weights.sum()

        def loss(params, before=before, weights=weights, total=total):
            losses, _ = p.loss_fn(params, before.model_state, p.batch, None)
            return jnp.sum(weights * losses) / total

        value, gradient = jax.value_and_grad(loss)(before.params)
        decayed = optax.tree.add_scale(gradient, 0.05, before.params)
        velocity = optax.tree.add_scale(decayed, 0.9, velocity)
        wanted = optax.tree.add_scale(before.params, -0.3, velocity)
        assert_close(state.params, wanted, 1e-12)
        # The statistics of the one forward at w; the virtual model's are thrown away.
        assert_close(state.model_state, model_state, 1e-12)
        np.testing.assert_allclose(metrics["loss"], value, rtol=1e-12)
        np.testing.assert_allclose(metrics["grad_norm"], optax.tree.norm(gradient))
    assert state.step == 2 and state.skipped == 0


def test_jit_changes_nothing():
    p = make(1, net=MLP)
    step, state = bind(p), p.state(TX["sgd"], RECORD)
    eager = step(state, p.batch, p.meta_batch)
    jitted = jax.jit(step)(state, p.batch, p.meta_batch)
    for a, b in zip(jax.tree.leaves(eager), jax.tree.leaves(jitted), strict=True):
        if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_weighted_step_leaves_the_weighting_net_alone():
    p, tx = make(4), TX["momentum"]
    step = partial(weighted_step, loss_fn=p.loss_fn, weight_fn=p.weight_fn, tx=tx)
    frozen, metrics = step(p.state(tx, None), p.batch)
    # With a meta_tx that stands still, meta_step's real step is the same.
    state, wanted = bind(p, tx=tx)(p.state(tx, RECORD), p.batch, p.meta_batch)
    assert_close(frozen.params, state.params, 1e-12)
    assert_close(frozen.model_state, state.model_state, 1e-12)
    assert frozen.meta_opt_state == ()
    assert jax.tree.all(
        jax.tree.map(jnp.array_equal, frozen.meta_params, p.meta_params)
    )
    np.testing.assert_allclose(metrics["loss"], wanted["loss"])
    assert set(wanted) - set(metrics) == {"meta_loss", "meta_grad_norm"}


@pytest.mark.parametrize("normalisation", ["mean", "weights"])
def test_weighted_step_with_constant_weight_is_ordinary_training(normalisation):
    p, tx = make(1), TX["clip_adamw"]
    state = p.state(tx, None)._replace(meta_params={})
    params, model_state, opt_state = p.params, p.model_state, tx.init(p.params)
    for _ in range(3):
        state, metrics = weighted_step(
            state,
            p.batch,
            loss_fn=p.loss_fn,
            weight_fn=lambda meta_params, losses, batch: jnp.ones_like(losses),
            tx=tx,
            normalisation=normalisation,
        )

        def mean_loss(params, model_state=model_state):
            losses, model_state = p.loss_fn(params, model_state, p.batch, None)
            return losses.mean(), model_state

        (loss, model_state), gradient = jax.value_and_grad(mean_loss, has_aux=True)(
            params
        )
        updates, opt_state = tx.update(gradient, opt_state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-12)
    assert_close(state.params, params, 1e-11)
    assert_close(state.model_state, model_state, 1e-11)


def test_weights_that_are_all_zero_move_nothing():
    p, tx = make(1, net=MLP), TX["sgd"]
    state, metrics = weighted_step(
        p.state(tx, None),
        p.batch,
        loss_fn=p.loss_fn,
        weight_fn=lambda meta_params, losses, batch: jnp.zeros_like(losses),
        tx=tx,
        normalisation="weights",
    )
    assert metrics["loss"] == 0 and metrics["skipped"] == 0
    assert jax.tree.all(jax.tree.map(jnp.array_equal, state.params, p.params))


def test_weights_that_sum_to_nearly_nothing_do_no_harm():
    """Of losses over a sum of 1e-306 there would be infinities."""
    p = make(1, net=MLP)

    def loss_fn(*arguments):
        losses, model_state = p.loss_fn(*arguments)
        return 1e4 * losses, model_state

    step = partial(
        bind(p, normalisation="weights"),
        loss_fn=loss_fn,
        weight_fn=lambda *arguments: 1e-306 * p.weight_fn(*arguments),
    )
    state, metrics = jax.jit(step)(p.state(TX["sgd"], RECORD), p.batch, p.meta_batch)
    assert metrics["skipped"] == 0
    assert jax.tree.all(jax.tree.map(jnp.array_equal, state.params, p.params))


def test_virtual_and_real_step_share_the_dropout_mask():
    p, tx = make(1, net=MLP), TX["sgd"]

    def masked(params, batch, mask):
        image = batch["image"] * mask[:, :, None, None]
        return p.loss_fn(params, {}, {**batch, "image": image}, None)[0]

    def loss_fn(params, model_state, batch, key):
        mask = jax.random.bernoulli(key, 0.5, (BATCH, 4)).astype(float)
        return masked(params, batch, mask), {"mask": mask}  # kept for us to see

    def meta_loss_fn(params, model_state, batch, key):
        return masked(params, batch, jnp.ones((BATCH, 4)))

    def random_meta_loss_fn(params, model_state, batch, key):
        return masked(params, batch, jax.random.uniform(key, (BATCH, 4)))

    zero_mask = {"mask": jnp.zeros((BATCH, 4))}
    state = p.state(tx, RECORD)._replace(model_state=zero_mask)
    step = bind(p._replace(loss_fn=loss_fn), meta_loss_fn=meta_loss_fn)
    first, _ = step(state, p.batch, p.meta_batch)
    mask = first.model_state["mask"]
    assert 0 < mask.mean() < 1

    known = p._replace(
        loss_fn=lambda params, model_state, batch, key: (
            masked(params, batch, mask),
            model_state,
        )
    )
    naive = naive_meta_loss(known, p.state(tx, RECORD), tx, "mean", "sgd")
    assert_close(first.meta_opt_state, jax.grad(naive)(p.meta_params), 1e-10)
    real_step = partial(weighted_step, loss_fn=known.loss_fn, weight_fn=p.weight_fn)
    wanted, _ = real_step(p.state(tx, None), p.batch, tx=tx)
    assert_close(first.params, wanted.params, 1e-12)

    again, _ = step(state, p.batch, p.meta_batch)
    assert_close(again.model_state, first.model_state, 0)  # a pure function
    second, _ = step(first, p.batch, p.meta_batch)
    assert np.any(second.model_state["mask"] != mask)  # keys follow the step
    other, _ = step(state._replace(key=jax.random.key(4)), p.batch, p.meta_batch)
    assert np.any(other.model_state["mask"] != mask)
    # The meta batch has a key of its own, which the step folds as well.
    step = bind(p, meta_loss_fn=random_meta_loss_fn)
    losses = [
        step(p.state(tx, RECORD)._replace(step=jnp.int32(i)), p.batch, p.meta_batch)[1]
        for i in (0, 1)
    ]
    assert losses[0]["meta_loss"] != losses[1]["meta_loss"]


# --- errors --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lookahead": "adam"}, "lookahead='adam' is unknown.*'sgd', 'optimizer'"),
        ({"normalisation": "sum"}, "normalisation='sum' is unknown.*'mean', 'weights'"),
        ({"inner_lr": 0.1}, "inner_lr=0.1 is not a schedule.*constant_schedule"),
        ({"inner_lr": None}, "inner_lr=None is not a schedule"),
        ({"lookahead": "optimizer", "tx": optax.lion(0.1)}, "sign of the gradient"),
        ({"lookahead": "optimizer", "tx": optax.adam(0.1)}, "eps_root > 0"),
        ({"weight_fn": lambda m, losses, b: losses[:1]}, r"shape \(1,\).*\(4,\)"),
        (
            {"loss_fn": lambda params, state, batch, key: (jnp.float32(1), state)},
            r"shape \(\).*per example.*do not reduce",
        ),
    ],
)
def test_errors_name_the_argument_and_the_remedy(changes, message):
    p = make(1, net=MLP)
    step = partial(bind(p), **changes)
    state = p.state(changes.get("tx", TX["sgd"]), RECORD)
    with pytest.raises(ValueError, match=message):
        step(state, p.batch, p.meta_batch)


def test_several_loss_terms_need_a_meta_loss():
    p = make(4, net=MLP)
    step = bind(p, meta_loss_fn=None)
    with pytest.raises(ValueError, match="4 loss terms per example.*meta_loss_fn"):
        step(p.state(TX["sgd"], RECORD), p.batch, p.meta_batch)


def test_weighted_step_checks_its_normalisation():
    p = make(1, net=MLP)
    with pytest.raises(ValueError, match="normalisation='sum'"):
        weighted_step(
            p.state(TX["sgd"], None),
            p.batch,
            loss_fn=p.loss_fn,
            weight_fn=p.weight_fn,
            tx=TX["sgd"],
            normalisation="sum",
        )
