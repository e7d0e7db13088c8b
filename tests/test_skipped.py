"""A loss or gradient that is not finite skips the update, on all devices alike."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmwjax.core.meta import MetaState, meta_step, weighted_step

LEARNED = ("params", "model_state", "opt_state", "meta_params", "meta_opt_state")
TX = optax.sgd(0.1, 0.9)
# Hides a NaN meta-gradient from the weighting net, but not from the step.
META_TX = optax.chain(optax.zero_nans(), optax.adam(0.1))


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


def step(state, batch, meta_batch, axis_name=None):
    return meta_step(
        state,
        batch,
        meta_batch,
        meta_tx=META_TX,
        inner_lr=optax.constant_schedule(0.1),
        axis_name=axis_name,
        **SETTINGS,
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


def fresh_state():
    return MetaState.create(
        params=jnp.ones(3),
        meta_params=jnp.ones(2),
        tx=TX,
        meta_tx=META_TX,
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


def on_jit():
    return jax.jit(step)


def on_pmap():
    named = partial(step, axis_name="data")
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
