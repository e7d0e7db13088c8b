"""What is not finite skips the update, on all devices alike."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmwjax.core.meta import MetaState, meta_step, weighted_step

LEARNED = ("params", "model_state", "opt_state", "meta_params", "meta_opt_state")
# They hide what is not finite from classifier and weighting net, not from the step.
HIDE = optax.stateless(lambda updates, _: jax.tree.map(jnp.nan_to_num, updates))
TX = optax.chain(HIDE, optax.sgd(0.1, 0.9))
META_TX = optax.chain(HIDE, optax.adam(0.1))


def loss_fn(params, model_state, batch, key):
    outputs = batch["x"] @ params
    # On a cliff the loss is finite, sqrt(0), but its gradient is not.
    zeros = outputs - jax.lax.stop_gradient(outputs)
    losses = (outputs - 1) ** 2 + jnp.sqrt(jnp.where(batch["cliff"], zeros, 1.0))
    return losses, {"mean": 0.9 * model_state["mean"] + 0.1 * batch["aux"].mean()}


def weight_fn(meta_params, losses, batch):
    return jax.nn.sigmoid(meta_params[0] * losses + meta_params[1])


SETTINGS = {
    "loss_fn": loss_fn,
    "weight_fn": weight_fn,
    "tx": TX,
    "normalisation": "weights",
}


def step(state, batch, meta_batch, axis_name=None, **changes):
    settings = SETTINGS | {"meta_tx": META_TX} | changes
    return meta_step(
        state,
        batch,
        meta_batch,
        inner_lr=optax.constant_schedule(0.1),
        axis_name=axis_name,
        **settings,
    )


def good_batch(seed):
    x = np.random.default_rng(seed).normal(size=(8, 3)).astype(np.float32)
    return {"x": x, "cliff": np.zeros(8, bool), "aux": np.ones(8, np.float32)}


def bad_batches(case):
    """A training and a meta batch of which one sample, the sixth, is bad."""
    which, field, value = {
        "NaN loss": (0, "x", np.nan),
        "infinite loss": (0, "x", 1e30),
        "infinite gradient": (0, "cliff", True),
        "NaN statistics": (0, "aux", np.nan),
        "NaN meta loss": (1, "x", np.nan),
        "infinite meta gradient": (1, "cliff", True),
    }[case]
    batches = good_batch(0), good_batch(1)
    batches[which][field][5] = value
    return batches


CASES = (
    "NaN loss",
    "infinite loss",
    "infinite gradient",
    "NaN statistics",
    "NaN meta loss",
    "infinite meta gradient",
)


def fresh_state(tx=TX, meta_tx=META_TX, dtype=jnp.float32):
    return MetaState.create(
        params=jnp.ones(3, dtype),
        meta_params=jnp.ones(2),
        tx=tx,
        meta_tx=meta_tx,
        model_state={"mean": jnp.zeros(())},
    )


def shards(tree):
    """Every leaf as each device holds it."""
    leaves = jax.tree.leaves(tree)
    return [[np.asarray(s.data) for s in leaf.addressable_shards] for leaf in leaves]


def assert_learned_equal(state, wanted):
    for name in LEARNED:
        old = jax.tree.leaves(getattr(wanted, name))
        for copies, value in zip(shards(getattr(state, name)), old, strict=True):
            for copy in copies:
                np.testing.assert_array_equal(copy, value, err_msg=name)


def on_jit(**changes):
    return jax.jit(partial(step, **changes))


def on_pmap(**changes):
    named = partial(step, axis_name="data", **changes)
    mapped = jax.pmap(named, "data", in_axes=(None, 0, 0), out_axes=None)

    def split(batch):
        return {k: v.reshape(4, 2, *v.shape[1:]) for k, v in batch.items()}

    return lambda state, *batches: mapped(state, *map(split, batches))


@pytest.fixture(scope="module", params=[on_jit, on_pmap])
def mapped(request):
    return request.param()


@pytest.mark.parametrize("case", CASES)
def test_nothing_moves_but_the_step_and_the_counters(mapped, case):
    start, metrics = mapped(fresh_state(), good_batch(2), good_batch(3))
    assert metrics["skipped"] == 0
    for name in LEARNED:  # so that staying as it was can be told from starting anew
        leaves = (getattr(s, name) for s in (start, fresh_state()))
        assert any(
            np.any(a != b) for a, b in zip(*map(jax.tree.leaves, leaves), strict=True)
        )
    state, metrics = mapped(start, *bad_batches(case))
    if case == "infinite meta gradient":
        assert np.isfinite(metrics["meta_loss"])
    assert_learned_equal(state, start)
    for counts in shards((state.skipped, state.skipped_in_a_row, metrics["skipped"])):
        assert all(count == 1 for count in counts)
    assert all(copy == 2 for copy in shards(state.step)[0])


def test_counters_tell_a_row_from_a_total(mapped):
    good, bad = (good_batch(0), good_batch(1)), bad_batches("NaN loss")
    state, counts = fresh_state(), []
    for batches in (bad, bad, good, bad):
        state, _ = mapped(state, *batches)
        counts.append((int(state.skipped), int(state.skipped_in_a_row)))
    assert counts == [(1, 1), (2, 2), (2, 0), (3, 1)]
    assert state.step == 4
    # The good step was as good as if the bad ones had never been.
    wanted, _ = mapped(fresh_state()._replace(step=jnp.int32(2)), *good)
    assert_learned_equal(state, wanted)


@pytest.mark.parametrize("case", CASES[:4])
def test_weighted_step_skips_as_well(case):
    frozen = jax.jit(partial(weighted_step, **SETTINGS))
    start, _ = frozen(fresh_state(), good_batch(2))
    state, metrics = frozen(start, bad_batches(case)[0])
    if case in ("infinite gradient", "NaN statistics"):
        assert np.isfinite(metrics["loss"])
    assert_learned_equal(state, start)
    assert metrics["skipped"] == state.skipped == 1


# --- what optimizers propose ---------------------------------------------------------


def at_the_second_update(value):
    return lambda count: jnp.where(count == 1, value, 0.1)


def nan_on_one_device(updates, params):
    nan = jnp.where(jax.lax.axis_index("data") == 2, jnp.nan, 0.0)
    return jax.tree.map(lambda u: u + nan, updates)


# Per case: tx, meta_tx, and the type of the parameters.
PROPOSALS = {
    "parameters": (optax.sgd(at_the_second_update(np.nan)), META_TX, jnp.float32),
    # Its epsilon is zero in half precision, and 0 / 0 its update.
    "half precision": (optax.adam(1e-3), META_TX, jnp.float16),
    # Its square overflows, so that the update is a harmless zero.
    "optimizer state": (
        optax.chain(optax.scale(1e25), optax.adam(0.1)),
        META_TX,
        jnp.float32,
    ),
    # Its weights are 0 or 1 then, which is finite.
    "weighting net": (TX, optax.sgd(at_the_second_update(np.inf)), jnp.float32),
    "state of its optimizer": (
        TX,
        optax.chain(optax.scale(1e30), optax.adam(0.1)),
        jnp.float32,
    ),
}


@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("case", PROPOSALS)
def test_no_optimizer_can_poison_the_state(case, lean):
    tx, meta_tx, dtype = PROPOSALS[case]
    mapped = on_jit(tx=tx, meta_tx=meta_tx, lean=lean)
    state, skipped = fresh_state(tx, meta_tx, dtype), []
    if case == "half precision":  # one gradient is exactly zero
        batches = good_batch(2) | {"x": good_batch(2)["x"] * [1, 1, 0]}, good_batch(3)
    else:
        batches = good_batch(2), good_batch(3)
    for _ in range(3):
        before, (state, metrics) = state, mapped(state, *batches)
        skipped.append(int(metrics["skipped"]))
        assert np.isfinite(metrics["loss"]) and np.isfinite(metrics["grad_norm"])
        if skipped[-1]:
            assert_learned_equal(state, before)
        for leaf in jax.tree.leaves([getattr(state, name) for name in LEARNED]):
            assert np.isfinite(leaf).all()
    # A skipped update does not count as one: a schedule stays where it is NaN.
    late = case in ("parameters", "weighting net")
    assert skipped == ([0, 1, 1] if late else [1, 1, 1])


def test_infinity_that_was_there_before_is_no_reason_to_skip():
    best_so_far = optax.GradientTransformation(
        lambda params: jnp.array([jnp.inf, -jnp.inf, 0.0]),
        lambda updates, best, params=None: (updates, best.at[2].add(1)),
    )
    tx = optax.chain(best_so_far, TX)
    state, metrics = on_jit(tx=tx)(fresh_state(tx), good_batch(0), good_batch(1))
    assert metrics["skipped"] == 0 and state.skipped == 0
    np.testing.assert_array_equal(state.opt_state[0], [np.inf, -np.inf, 1])


def test_one_device_decides_for_all():
    tx = optax.chain(TX, optax.stateless(nan_on_one_device))
    start = fresh_state(tx)
    state, metrics = on_pmap(tx=tx)(start, good_batch(0), good_batch(1))
    assert_learned_equal(state, start)
    for counts in shards((state.skipped, metrics["skipped"])):
        assert all(count == 1 for count in counts)
