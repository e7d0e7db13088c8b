"""Probabilities of which the largest are kept, against a loop over samples."""

import re
from fractions import Fraction
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from cmwjax.core.parallel import layout
from cmwjax.methods.elr import early_targets
from cmwjax.methods.probability_store import (
    ONE,
    keep_largest,
    probability_store,
    spread,
)
from cmwjax.methods.soft_labels import soft_label_memory
from cmwjax.stopping import Interrupted
from cmwjax.training.run import assemble
from runs import newest, run, some, stop_after, tiny, two_processes

C, SIZE, SHARDS = 7, 27, 4
# Some are never trained on, and the shards are not of one length.
TRAINED = np.delete(np.arange(SIZE), [0, 11, 12, 20]).astype(np.int32)


def problem(seed=0):
    labels = np.random.default_rng(seed).integers(C, size=SIZE).astype(np.int32)
    return SimpleNamespace(
        labels=labels,
        train_index=TRAINED,
        dataset=SimpleNamespace(num_classes=C),
    )


def distributions(rng, *shape, concentration=0.3):
    return rng.dirichlet(np.full(C, concentration), shape).astype(np.float32)


def by_hand(row, k):
    """What is left of a row of probabilities, in whole numbers and fractions of them.

    Class by class from the likeliest, in units of 1 / 65535.
    """
    order = sorted(range(C), key=lambda c: (-row[c], c))
    units = [round(float(np.float32(row[c]) * np.float32(ONE))) for c in order[:k]]
    left = round(float(row.sum(dtype=float)) * ONE) - sum(units)
    if left < 0:
        units[0], left = units[0] + left, 0
    found = [Fraction(left, C - k)] * C
    for c, unit in zip(order[:k], units, strict=True):
        found[c] = Fraction(unit)
    return np.array([float(x / ONE) for x in found])


@pytest.mark.parametrize("k", [1, 3, C - 1])
def test_the_largest_and_an_even_rest(k):
    rng = np.random.default_rng(k)
    rows = [distributions(rng, 40, concentration=a) for a in (0.02, 0.3, 30.0)]
    rows += [np.eye(C, dtype=np.float32), 0.31 * rows[1], np.zeros((1, C), np.float32)]
    rows += [np.full((1, C), 1 / C, np.float32)]
    rows = np.concatenate(rows)
    kept = jax.jit(keep_largest, static_argnums=1)(rows, k)
    assert {x.dtype for x in kept} == {np.dtype("uint16")}
    found = np.asarray(spread(kept, C))
    for row, got in zip(rows, found, strict=True):
        np.testing.assert_allclose(got, by_hand(row, k), rtol=1e-6, atol=1e-9)
    classes = np.sort(kept.classes, axis=1)
    assert np.all(classes[:, 1:] > classes[:, :-1])  # no class twice
    if k == C - 1:  # nothing is lost but digits
        np.testing.assert_allclose(found, rows, atol=(C + 1) / 2 / ONE)


def test_sums_do_not_change_however_often_they_are_rounded():
    """Where rounding up gives away more than there is, too."""
    rng = np.random.default_rng(0)
    rows = np.eye(C, dtype=np.float32)[[0] * 50]
    keep, more = jax.jit(lambda rows: keep_largest(rows, C - 1)), 0
    for _ in range(20):
        rows = 0.9 * rows + 0.1 * distributions(rng, 50, concentration=0.05)
        kept = keep(rows)
        more += np.sum(np.sum(np.round(ONE * np.sort(rows)[:, 1:]), axis=1) > ONE)
        total = np.sum(kept.shares, axis=1, dtype=int) + np.asarray(kept.rest, int)
        np.testing.assert_array_equal(total, ONE)
        rows = np.asarray(spread(kept, C))
        assert rows.min() >= 0
    assert more > 10  # else this tests nothing


def visits(count, seed=1):
    """Batches of two samples of each shard, and predictions; a few are not finite."""
    rng = np.random.default_rng(seed)
    for visit in range(count):
        index = np.concatenate(
            [rng.permutation(TRAINED[s::SHARDS])[:2] for s in range(SHARDS)]
        )
        p = distributions(rng, len(index))
        if visit % 3 == 1:
            p[visit % len(p)] = 0
        yield index, p


@pytest.mark.parametrize("start", ["predicted", "one_hot"])
def test_soft_labels_of_the_largest_sample_by_sample(start):
    k, momentum = 3, 0.8
    memory = soft_label_memory(momentum, start, top_k=k, shards=SHARDS)
    before = jax.jit(lambda state, index, p: memory.before(state, index, p, None))
    given = problem()
    state = memory.init(given)
    want = [np.eye(C)[y] if start == "one_hot" else None for y in given.labels]
    for index, p in visits(12):
        state, batch = before(state, {"index": index}, p)
        for i, row, got in zip(index, p, batch["soft_label"], strict=True):
            now = want[i]
            if row.any():
                now = row if now is None else momentum * now + (1 - momentum) * row
                # What is used is not rounded, what is remembered is.
                want[i] = by_hand(np.float32(now), k)
            expected = 0 if now is None else now
            np.testing.assert_allclose(got, expected, atol=3 / ONE)
    assert sum(x is None for x in want) < SIZE / 2


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_all_but_one_class_are_the_exact_memory_up_to_digits(momentum):
    kinds = (
        lambda **options: soft_label_memory(momentum, **options),
        lambda **options: early_targets(momentum, **options),
    )
    for kind, name in zip(kinds, ("soft_label", "target"), strict=True):
        both = kind(), kind(top_k=C - 1, shards=SHARDS)

        @jax.jit
        def visit(states, index, p, both=both):
            batch = {"index": index}
            pairs = zip(both, states, strict=True)
            new = [m.before(s, batch, p, None) for m, s in pairs]
            return [s for s, _ in new], [batch for _, batch in new]

        states = [memory.init(problem()) for memory in both]
        for index, p in visits(20):
            states, batches = visit(states, index, p)
            found = [batch[name] for batch in batches]
            # What rounding changes decays by the momentum from one visit to the next;
            # where nothing is predicted, what was remembered is used as it is.
            worst = (C + 1) / 2 / ONE / (1 - momentum)
            np.testing.assert_allclose(found[1], found[0], atol=worst + 1e-6)


def mapped(mode, devices, top_k=3):
    """A step that only remembers, laid over devices, and its first state there."""
    over = layout(mode, some(devices))
    memory = early_targets(0.7, top_k=top_k, shards=SHARDS)

    def step(state, table, rows):
        del table
        return memory.before(state, rows, rows["p"], over.axis_name)[0]

    cut = memory.split
    step = over.map(step, num_tables=1, num_batches=1, cut=cut)
    return over, cut, step, over.place(memory.init(problem()), cut)


def remembered(mode, devices):
    """What a memory holds after some steps, and how much of it each device holds."""
    over, cut, step, state = mapped(mode, devices)
    for index, p in visits(6):
        rows = over.split({"index": index, "p": p})
        state = step(state, over.replicate(0.0), rows)
    parts = [s.data.size for s in state.kept.shares.addressable_shards]
    return jax.device_get(over.gathered(state, cut)), parts


@pytest.mark.parametrize(("top_k", "number"), [(0, 2), (3, 0)])
def test_devices_need_not_tell_each_other(top_k, number):
    over, _, step, state = mapped("pmap", 4, top_k)
    index, p = next(visits(1))
    rows = over.split({"index": index, "p": p})
    program = str(jax.make_jaxpr(step)(state, over.replicate(0.0), rows))
    assert len(re.findall(r"all_gather\[|psum|all_to_all|ppermute", program)) == number


def test_devices_hold_their_own_shards_and_the_same_in_all():
    one, _ = remembered("pmap", 1)
    shares = one.kept.shares
    assert shares.shape == (SHARDS, 6, 3) and one.kept.rest.shape == (SHARDS, 6)
    assert np.count_nonzero(shares) > 50
    for mode, devices in (("pmap", 2), ("pmap", 4), ("shard_map", 2), ("jit", 4)):
        other, parts = remembered(mode, devices)
        assert parts == [shares.size // devices] * devices
        jax.tree.map(np.testing.assert_array_equal, other, one)


def test_who_is_where():
    """Rows of the store by sample, found in another way."""
    given = problem()
    memory = probability_store("z", top_k=2, shards=SHARDS).init(given, given.labels)
    classes = memory.kept.classes
    for shard in range(SHARDS):
        own = TRAINED[shard::SHARDS]
        np.testing.assert_array_equal(memory.place[own], np.arange(len(own)))
        np.testing.assert_array_equal(classes[shard, : len(own), 0], given.labels[own])
    assert np.all(classes[..., 0] != classes[..., 1])


def test_bytes_of_webvision():
    """2.4 million samples of 1000 classes, by the shapes of what is kept."""
    rows = jax.ShapeDtypeStruct((2_439_574, 1000), np.float32)
    kept = jax.eval_shape(lambda x: keep_largest(x, 24), rows)
    size = sum(x.size * x.dtype.itemsize for x in kept) + 4 * rows.shape[0]  # `place`
    assert size <= 0.3e9
    assert rows.size * 4 > 9.7e9


def test_what_is_refused(tmp_path):
    for fields, message in (
        ({"memory.top_k": 10}, r"config.memory.top_k=10 .* there are 10: choose at "),
        ({"memory.top_k": -1}, r"config.memory.top_k=-1 is out of range"),
    ):
        with pytest.raises(ValueError, match=message):
            assemble(tiny(method="elr", **fields), tmp_path / "run")
    assert not list(tmp_path.iterdir())
    with pytest.raises(
        ValueError, match=r"top_k=9 .* tell 65536 apart.* 70000: set it"
    ):
        probability_store("z", top_k=9).check(70_000)


SEVERAL = {"method": "elr", "memory.top_k": 3, "epochs": 2}
TRAIN = """
from runs import tiny, train
from test_probability_store import SEVERAL
train.run(tiny(**SEVERAL, parallel=sys.argv[1]), sys.argv[2], report=False)
"""


@pytest.fixture(scope="module")
def on_one_device(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("one") / "run"
    run(tiny(**SEVERAL), workdir)
    return newest(workdir)


def assert_same_run(workdir, wanted):
    """Nets but for the order of summation, and what is remembered but for digits."""
    found = newest(workdir)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        if "/memory/" not in name:
            np.testing.assert_allclose(found[name], array, 1e-3, 1e-4, err_msg=name)
    for name in ("shares", "rest"):
        a, b = (x[f"run/memory/kept/{name}"].astype(int) for x in (found, wanted))
        assert a.any() and np.abs(a - b).max() <= 20, name  # of 65535


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["pmap", "jit"])
def test_two_processes_gather_and_save_what_both_hold(tmp_path, mode, on_one_device):
    outputs = two_processes(TRAIN, mode, tmp_path / "run")
    assert [code for code, _ in outputs] == [0, 0], outputs
    assert_same_run(tmp_path / "run", on_one_device)


@pytest.mark.slow
def test_other_devices_go_on(tmp_path, monkeypatch, on_one_device):
    stop_after(monkeypatch, 3, 6)
    for devices in (4, 2):
        with pytest.raises(Interrupted):
            run(tiny(**SEVERAL), tmp_path / "run", devices=devices)
    run(tiny(**SEVERAL), tmp_path / "run", devices=1)
    assert_same_run(tmp_path / "run", on_one_device)
