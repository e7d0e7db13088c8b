"""Which optimizers may look ahead, and that the refused ones deserve it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from optax import contrib

from cmwjax.core.lookahead import UnfitLookahead, check_optimizer_lookahead

PARAMS = {"kernel": jnp.ones((5, 7)), "bias": jnp.zeros(7)}
WARM_UP = optax.linear_schedule(0.0, 0.1, 10)  # starts with a step of zero


def check(tx, params=PARAMS):
    check_optimizer_lookahead(tx, params, jax.eval_shape(tx.init, params))


def by_size(big, small):
    """One optimizer for large arrays, another for small ones."""
    return optax.partition(
        {"big": big, "small": small},
        lambda params: jax.tree.map(lambda x: "big" if x.size > 8 else "small", params),
    )


def scaled_by(tree):
    """Multiplies updates by arrays of the parameters' own shapes."""
    return optax.stateless(lambda u, _: jax.tree.map(jnp.multiply, u, tree))


def attracted_to(tree):
    """L2-SP: weight decay towards where training started."""
    return optax.stateless(
        lambda u, p: jax.tree.map(lambda g, w, w0: g + 0.01 * (w - w0), u, p, tree)
    )


MASK = {"kernel": jnp.eye(5, 7), "bias": jnp.ones(7)}
FIT = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, 0.9, nesterov=True),
    "warm-up": optax.sgd(WARM_UP, 0.9),
    "ends at zero": optax.sgd(optax.linear_schedule(0.1, 0.0, 3)),
    "adam": optax.adam(1e-3, eps_root=1e-16),
    "adamw": optax.adamw(WARM_UP, eps_root=1e-16, weight_decay=0.1),
    "amsgrad": optax.amsgrad(1e-3, eps_root=1e-16),
    "rmsprop": optax.rmsprop(1e-3),
    "clip": optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(1e-3, eps_root=1e-16)
    ),
    "decay": optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.1, 0.9)),
    "frozen layer": optax.multi_transform(
        {"train": optax.sgd(0.1), "freeze": optax.set_to_zero()},
        {"kernel": "freeze", "bias": "train"},
    ),
    "pruned": optax.chain(optax.sgd(0.1), scaled_by(MASK)),
    "L2-SP": optax.chain(attracted_to(PARAMS), optax.sgd(0.1)),
    "by size": by_size(optax.sgd(0.1), optax.set_to_zero()),
    "needs the loss": optax.chain(optax.sgd(0.1), contrib.reduce_on_plateau()),
    "if finite": optax.apply_if_finite(optax.sgd(0.1), 3),
}
SIGN = {
    "lion": optax.lion(1e-3),
    "sign_sgd": optax.sign_sgd(0.1),
    "sign of momentum": optax.chain(optax.trace(0.9), optax.scale_by_sign()),
    "by size": by_size(optax.sign_sgd(0.1), optax.set_to_zero()),
}
CURABLE = {
    "adam": lambda **kwargs: optax.adam(1e-3, **kwargs),
    "adamw": lambda **kwargs: optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(1e-3, **kwargs)
    ),
    "pruned": lambda **kwargs: optax.chain(scaled_by(MASK), optax.nadam(0.1, **kwargs)),
    "by size": lambda **kwargs: by_size(optax.adam(0.1, **kwargs), optax.sgd(0.1)),
}
INCURABLE = {
    "adaptive clipping": optax.chain(optax.adaptive_grad_clip(0.01), optax.sgd(0.1)),
    # NaN only where an array has no gradient at all, as one that is not used.
    "clipping by block": optax.chain(optax.clip_by_block_rms(0.1), optax.sgd(0.1)),
    "novograd": optax.novograd(0.1, eps_root=1e-16),
    "muon": contrib.muon(0.1),
    "adafactor": optax.adafactor(0.1),
}


def outer_gradient(tx, dead=..., step=0):
    """d(sum of squared updates) / d(gradient), where some have no gradient."""
    gradient = jax.tree.map(jnp.ones_like, PARAMS)
    gradient["kernel"] = gradient["kernel"].at[dead].set(0.0)
    state = tx.init(PARAMS)
    for _ in range(step):
        _, state = tx.update(jax.tree.map(jnp.ones_like, PARAMS), state, PARAMS)

    def objective(gradient):
        updates, _ = tx.update(gradient, state, PARAMS)
        return sum(jnp.sum(u**2) for u in jax.tree.leaves(updates))

    return jax.tree.leaves(jax.grad(objective)(gradient))


def is_nan(tree):
    return any(np.isnan(x).any() for x in tree)


@pytest.mark.parametrize("name", FIT)
def test_fit_optimizers_pass(name):
    check(FIT[name])


@pytest.mark.parametrize("name", SIGN)
def test_sign_based_optimizers_are_refused(name):
    assert not any(np.any(x) for x in outer_gradient(SIGN[name], dead=0))
    with pytest.raises(ValueError, match="sign of the gradient.*lookahead='sgd'"):
        check(SIGN[name])


@pytest.mark.parametrize("name", CURABLE)
def test_nan_at_zero_is_refused_and_its_cure_cures(name):
    assert is_nan(outer_gradient(CURABLE[name](), dead=0))
    with pytest.raises(ValueError, match="is not finite .*eps_root=1e-16.*, or use"):
        check(CURABLE[name]())
    assert not is_nan(outer_gradient(CURABLE[name](eps_root=1e-16), dead=0))
    check(CURABLE[name](eps_root=1e-16))


@pytest.mark.parametrize("name", INCURABLE)
def test_nan_at_zero_without_a_cure_names_none(name):
    assert is_nan(outer_gradient(INCURABLE[name]))
    with pytest.raises(ValueError, match="exactly zero.*To go on, use lookahead='sgd'"):
        check(INCURABLE[name])


def test_half_precision_has_a_cure_of_its_own():
    params = jax.tree.map(lambda x: x.astype(jnp.float16), PARAMS)
    for useless in (0.0, 1e-16):  # which is zero there
        with pytest.raises(ValueError, match="eps_root=1e-4"):
            check(optax.adam(1e-3, eps_root=useless), params)
    check(optax.adam(1e-3, eps_root=1e-4), params)


@pytest.mark.parametrize("eps_root", [0.0, 1e-16])
def test_radam_fails_later(eps_root):
    tx = optax.radam(1e-3, eps_root=eps_root)
    assert not is_nan(outer_gradient(tx, dead=0, step=1)) or not eps_root
    assert is_nan(outer_gradient(tx, dead=0, step=2))
    with pytest.raises(ValueError, match="not finite at step 2. To go on, use looka"):
        check(tx)


class Every:
    """Moves at every k-th step, without a state that Optax would know."""

    def __init__(self, k):
        self.k = k

    def init(self, params):
        return jnp.zeros((), jnp.int32)

    def update(self, updates, count, params=None):
        on = count % self.k == self.k - 1
        return jax.tree.map(lambda u: -0.1 * u * on, updates), count + 1


ACCUMULATING = {
    "MultiSteps": optax.MultiSteps(optax.sgd(0.1), 2),
    "of many": optax.MultiSteps(optax.sgd(0.1), 1000).gradient_transformation(),
    "apply_every": optax.chain(optax.sgd(0.1), optax.apply_every(4)),
    "conditional": optax.chain(
        optax.sgd(0.1),
        optax.conditionally_mask(optax.identity(), lambda step, **_: step % 2 == 0),
    ),
    "own": Every(2),
}


@pytest.mark.parametrize("name", ACCUMULATING)
def test_what_moves_at_times_is_refused(name):
    tx = ACCUMULATING[name]
    moves = {any(map(np.any, outer_gradient(tx, step=step))) for step in range(4)}
    assert moves == ({False} if name == "of many" else {False, True})
    with pytest.raises(ValueError, match="some steps only.*micro_batches.*inner_lr"):
        check(tx)


def test_uphill_is_refused():
    tx = contrib.sam(optax.sgd(0.1), optax.chain(contrib.normalize(), optax.sgd(0.1)))
    updates, _ = tx.update(MASK, tx.init(PARAMS), PARAMS)
    assert optax.tree.vdot(updates, MASK) > 0
    with pytest.raises(ValueError, match="at step 0 it goes uphill.*lookahead='sgd'"):
        check(tx)
    with pytest.raises(ValueError, match="uphill"):
        check(optax.chain(optax.clip(1.0), tx))


@pytest.mark.parametrize(
    "tx",
    [optax.lbfgs(), contrib.sophia(0.1)],
    ids=["line search", "second derivative"],
)
def test_what_evaluates_the_loss_itself_is_refused(tx):
    with pytest.raises(ValueError, match="needs more than the gradient and value"):
        check(tx)


def test_a_loop_has_no_derivative_backwards():
    def update(updates, params):
        return jax.lax.while_loop(
            lambda u: optax.tree.norm(u) > 1.0,
            lambda u: jax.tree.map(lambda x: x / 2, u),
            updates,
        )

    with pytest.raises(ValueError, match="cannot be differentiated.*everse-mode"):
        check(optax.chain(optax.stateless(update), optax.sgd(0.1)))


# --- wherever the check is made ------------------------------------------------------


def refuses_adam(params=PARAMS):
    with pytest.raises(ValueError, match="eps_root"):
        check(optax.adam(1e-3), params)


def passes_and_refuses(params):
    check(FIT["adamw"], params)
    check(FIT["pruned"], params)
    refuses_adam(params)
    return params


def test_while_tracing():
    jax.jit(passes_and_refuses)(PARAMS)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_on_meshes(axis_type):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(axis_type,))
    params = jax.device_put(PARAMS, NamedSharding(mesh, P()))
    specs = {"mesh": mesh, "in_specs": P(), "out_specs": P()}
    passes_and_refuses(params)
    jax.jit(passes_and_refuses)(params)
    with jax.set_mesh(mesh):
        passes_and_refuses(params)
        jax.jit(passes_and_refuses)(params)
        jax.shard_map(passes_and_refuses, **specs)(params)
        jax.jit(jax.shard_map(passes_and_refuses, **specs))(params)


def test_in_double_precision():
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: jnp.ones(x.shape), PARAMS)
        assert params["bias"].dtype == np.float64
        check(optax.adam(1e-3, eps_root=1e-100), params)  # zero in single precision


def test_flags_against_nan_do_not_hide_the_message():
    starts_from_infinity = optax.GradientTransformation(
        lambda params: 1 / jnp.zeros(()), lambda u, state, params=None: (u, state)
    )
    with jax.debug_nans(True), jax.debug_infs(True):
        refuses_adam()
        with pytest.raises(UnfitLookahead, match="exactly zero"):
            check(optax.chain(starts_from_infinity, optax.adam(1e-3)))


def test_an_optimizer_made_of_traced_values_cannot_be_tried():
    @jax.jit
    def step(rate):
        check(optax.sgd(rate, 0.9))
        check(optax.adam(rate))  # the step itself is left to skip what is NaN
        with pytest.raises(UnfitLookahead, match="sign"):  # which shows all the same
            check(optax.lion(rate))
        return rate

    step(0.1)


def test_nothing_of_the_size_of_the_parameters_is_made():
    size = 10**7  # squared, more than any memory
    params = {"kernel": jax.ShapeDtypeStruct((size, size), jnp.float32)} | {
        "bias": jax.ShapeDtypeStruct((size,), jnp.float32)
    }
    check(FIT["clip"], params)
    refuses_adam(params)
    with pytest.raises(UnfitLookahead, match="sign of the gradient"):
        check(by_size(optax.sign_sgd(0.1), optax.set_to_zero()), params)
    check(by_size(optax.adam(0.1), optax.sgd(0.1)), params)  # too large to be tried


def test_errors_of_an_optimizer_are_its_own():
    def update(updates, params):
        raise RuntimeError("broken anyway")

    check(optax.stateless(update))  # the real step will raise it
