"""The memory of the easiest samples, against lists that are sorted in Python."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmwjax.core import lowest_loss

CLASSES, KEPT, SAMPLES = 3, 2, 40


def batches(number, size=8, seed=0):
    """Some batches of one data set, with losses that change all the time."""
    rng = np.random.default_rng(seed)
    label = rng.integers(CLASSES, size=SAMPLES)
    for _ in range(number):
        index = rng.choice(SAMPLES, size)
        losses = rng.random(size).astype(np.float32)
        losses[rng.random(size) < 0.1] = np.nan
        yield losses, {"x": {"y": index * 10.0}, "index": index, "label": label[index]}


def expected(rounds):
    """By class, (loss, index) of the lowest, in ascending order."""
    kept = {c: {} for c in range(CLASSES)}
    for losses, batch in rounds:
        for c in kept:
            for i in batch["index"]:
                kept[c].pop(i, None)
        seen = set()
        for loss, i, c in zip(losses, batch["index"], batch["label"], strict=True):
            if i not in seen and np.isfinite(loss):
                kept[c][i] = loss
            seen.add(i)
        for c in kept:
            lowest = sorted((loss, i) for i, loss in kept[c].items())[:KEPT]
            kept[c] = {i: loss for loss, i in lowest}
    return [
        sorted((loss, i) for i, loss in of_class.items()) for of_class in kept.values()
    ]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("number", [1, 2, 30])
def test_it_holds_what_a_sorted_list_of_each_class_does(number, seed):
    rounds = list(batches(number, seed=seed))
    memory = lowest_loss.empty(rounds[0][1], CLASSES, KEPT)
    remember = jax.jit(lowest_loss.remember)
    for losses, batch in rounds:
        memory = remember(memory, losses, batch)
    for c, want in enumerate(expected(rounds)):
        size = len(want)
        got = list(
            zip(memory.losses[c].tolist(), memory.index[c].tolist(), strict=True)
        )
        assert got[:size] == [(float(loss), i) for loss, i in want]
        assert got[size:] == [(np.inf, -1)] * (KEPT - size)
        np.testing.assert_array_equal(
            memory.samples["x"]["y"][c, :size], [10.0 * i for _, i in want]
        )
    batch = lowest_loss.meta_batch(memory)
    filled = np.asarray(batch["filled"])
    np.testing.assert_array_equal(batch["index"][filled] * 10, batch["x"]["y"][filled])
    assert filled.sum() == sum(map(len, expected(rounds)))


def test_devices_share_one_memory():
    losses, batch = next(batches(1))
    memory = lowest_loss.empty(batch, CLASSES, KEPT)
    want = lowest_loss.remember(memory, losses, batch)
    cut = partial(jax.tree.map, lambda x: jnp.asarray(x).reshape(4, -1, *x.shape[1:]))
    remember = partial(lowest_loss.remember, axis_name="data")
    on_four = jax.vmap(remember, in_axes=(None, 0, 0), axis_name="data")
    got = on_four(memory, cut(losses), cut(batch))
    for device in range(4):
        mine = jax.tree.map(lambda x, device=device: x[device], got)
        jax.tree.map(np.testing.assert_array_equal, mine, want)


def test_the_mean_is_over_places_that_are_filled():
    losses = jnp.array([1.0, np.nan, 5.0, 7.0])
    filled = jnp.array([True, False, True, False])

    def mean(losses):
        return lowest_loss.mean_over_filled(losses, filled).mean()

    assert mean(losses) == 3
    np.testing.assert_allclose(jax.grad(mean)(losses), [0.5, 0, 0.5, 0])
    assert lowest_loss.mean_over_filled(losses, filled & False).mean() == 0
