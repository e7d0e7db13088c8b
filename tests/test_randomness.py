"""Streams of one seed have nothing in common, whatever they are for.

Most of these tests see streams from outside: by the states that generators begin with,
and by what the order of training tells of whom something else has drawn.
"""

import itertools
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import stats

from cmwjax import train
from cmwjax.bias import long_tail, meta_set, noise, pmd, targets
from cmwjax.bias.problem import prepare
from cmwjax.data import synthetic
from cmwjax.data.dataset import Dataset
from cmwjax.data.order import epoch_batches, meta_batches
from cmwjax.randomness import Purpose, fold, generator
from cmwjax.training.workdir import claim_folder
from runs import run, tiny

PACKAGE = Path(train.__file__).parent
SIZE, BATCH, EPOCHS, SEEDS = 1200, 60, range(6), range(3)
BY_CHANCE = 1e-7  # how often a batch looks so though streams are independent


@pytest.fixture
def begun(monkeypatch):
    """The states, 128 bits each, that NumPy's generators begin with during a test."""
    states, make = [], np.random.default_rng

    def recorded(*args, **kwargs):
        rng = make(*args, **kwargs)
        states.append(tuple(rng.bit_generator.seed_seq.generate_state(4).tolist()))
        return rng

    monkeypatch.setattr(np.random, "default_rng", recorded)
    return states


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("policy", ["held_out", "balanced"])
def test_no_two_streams_of_a_run_begin_alike(tmp_path, begun, policy, shards):
    fields = {"meta_set.policy": policy, "data.validation": 0.2, "data.shards": shards}
    config = tiny(**fields, **{"data.imbalance_factor": 2.0, "data.train_size": 1000})
    run(config, tmp_path / "run")
    steps = config.epochs * shards + (config.epochs - 1) * shards  # and the meta steps
    drawn = 1 if policy == "held_out" else config.epochs - 1  # meta sets
    others = 5  # train_size, long tail, noise, validation, samples to follow
    assert len(set(begun)) == steps + drawn + others


def test_no_two_functions_begin_alike_with_a_seed_of_the_user(begun):
    labels, every = np.arange(SIZE) % 4, np.arange(SIZE)
    eta, classes = np.full((SIZE, 4), 0.25), {"num_classes": 4}
    order = dict(batch_size=BATCH, shards=2)
    for seed in (0, 1, [1, 0], [1, 1]):
        seeded = {"seed": seed}
        noise.symmetric(labels, rate=0.5, **classes, **seeded)
        pmd.generate(eta, kind="type1", factor=1, **seeded)
        long_tail.select(labels, every, imbalance_factor=2, **classes, **seeded)
        meta_set.held_out(labels, per_class=3, **classes, **seeded)
        synthetic.headlines(seed)
        for epoch in range(3):
            meta_set.balanced(labels, every, epoch=epoch, **classes, **seeded)
            epoch_batches(every, epoch=epoch, **order, **seeded)
            meta_batches(every, epoch=epoch, steps=3, **order, **seeded)
    assert len(begun) == len(set(begun)) == 4 * (5 + 3 * 5)


def test_streams_differ_in_seed_purpose_moment_and_part():
    """And seeds in their length, though NumPy pads them with zeros."""
    seeds = (0, 1, 2**32 - 1, 2**40, [0, 0], [0, 1], [1, 0], [1, 0, 0, 0, 0])
    numbers = (0, 1, 2, 17)
    streams = itertools.product(seeds, Purpose, numbers, numbers)
    words = [
        tuple(generator(s, p, moment=m, part=n).integers(2**63, size=2))
        for s, p, m, n in streams
    ]
    assert len(set(words)) == len(words) == len(seeds) * len(Purpose) * 16
    assert all(purpose > 0 for purpose in Purpose)
    one = generator([1], Purpose.ORDER).random(3)
    np.testing.assert_array_equal(one, generator(1, Purpose.ORDER).random(3))


def test_keys_differ_in_purpose_and_moment():
    key = jax.random.key(0)
    keys = [fold(key, p, step) for p in Purpose for step in range(len(Purpose) + 1)]
    keys += [fold(key, p) for p in Purpose] + [jax.random.fold_in(key, 0), key]
    words = {tuple(jax.random.key_data(k).tolist()) for k in keys}
    assert len(words) == len(keys)


@pytest.mark.parametrize("seed", [-1, None, 0.5, [1, -1], "a"])
def test_an_unfit_seed_is_named(seed):
    with pytest.raises(ValueError, match=re.escape(f"seed is {seed!r}: give whole")):
        noise.symmetric([0, 1], rate=0.5, num_classes=2, seed=seed)


def test_nobody_else_makes_a_generator():
    made = r"\bnp\.random\.(?!Generator\b)|numpy\.random|RandomState"
    found = {
        path.name
        for path in PACKAGE.rglob("*.py")
        if re.search(made, path.read_text(encoding="utf-8"))
    }
    assert found == {"randomness.py"}


def is_in(index):
    """bool `[SIZE]`, who is in an index."""
    return np.isin(np.arange(SIZE), index)


def problem(num_classes, seed, **fields):
    """A problem of two or more classes; the first has twice as many as the others."""
    labels = np.maximum(np.arange(SIZE) % (num_classes + 1) - 1, 0).astype(np.int32)
    pixels = np.zeros((SIZE, 2, 2, 1), np.uint8)
    names = tuple(map(str, range(num_classes)))
    data = Dataset(pixels, labels, pixels, labels, num_classes, names)
    given = {"data.train_size": 0, "meta_set.policy": "lowest_loss", "seed": seed}
    given |= {"noise.kind": "none", "noise.rate": 0.0, "meta_set.per_class": 1}
    given |= {"weighting.num_families": 1}
    return labels, prepare(tiny(**given | fields), data)


def wrong_labels(kind, seed):
    """bool `[SIZE]`, what the noise of a run makes wrong."""
    if kind in pmd.KINDS:
        eta = np.random.default_rng(7).dirichlet(np.ones(10), size=SIZE)
        true = eta.argmax(axis=1)
        factor = pmd.calibrate(eta, true, kind=kind, rate=0.4)
        return pmd.generate(eta, kind=kind, factor=factor, seed=seed) != true
    if kind == "targets":
        values = np.arange(SIZE, dtype=np.float32)
        return targets.corrupt(values, kind="symmetric", rate=0.4, seed=seed) != values
    pairs = tuple((label, label + 1) for label in range(99))
    fields = {"noise.kind": kind, "noise.rate": 0.4, "noise.class_map": pairs}
    return problem(100, seed, **fields)[1].is_wrong


def set_aside(choice, seed):
    """bool `[SIZE]`, and the positions among which they were the first to be drawn."""
    fields = {
        "validation": {"data.validation": 0.4},
        "held out": {"meta_set.policy": "held_out", "meta_set.per_class": 200},
        "long tail": {"data.imbalance_factor": 2.0},
    }
    labels, made = problem(2, seed, **fields[choice])
    first = np.flatnonzero(labels == 0)
    if choice == "validation":
        return is_in(made.validation_index), np.arange(SIZE)
    if choice == "held out":
        return is_in(made.meta_index), first
    return is_in(made.train_index), first


def rows_by_shard(index, *, shards, seed, epoch):
    """Positions `[steps, S, B / S]` that training visits."""
    rows = epoch_batches(index, batch_size=BATCH, shards=shards, seed=seed, epoch=epoch)
    return rows.reshape(len(rows), shards, -1)


def assert_flat(marked, index, *, shards, seed):
    """In every batch of every epoch are as many of the marked as chance allows.

    Each part of a batch is a draw without replacement from its virtual shard, so the
    number in it is hypergeometric.
    """
    assert 0.1 < marked[index].mean() < 0.9
    for epoch in EPOCHS:
        rows = rows_by_shard(index, shards=shards, seed=seed, epoch=epoch)
        found = marked[rows].sum(axis=-1)
        for shard in range(shards):
            members = index[shard::shards]
            chance = stats.hypergeom(
                len(members), marked[members].sum(), BATCH // shards
            )
            low, high = chance.ppf([BY_CHANCE / 2, 1 - BY_CHANCE / 2])
            here = found[:, shard]
            assert low <= here.min() and here.max() <= high, (epoch, shard, here)


NOISES = (*(k for k in noise.KINDS if k != "none"), *pmd.KINDS, "targets")


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("kind", NOISES)
def test_wrong_labels_are_spread_evenly_over_every_epoch(kind, shards):
    for seed in SEEDS:
        marked = wrong_labels(kind, seed)
        assert_flat(marked, np.arange(SIZE), shards=shards, seed=seed)


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("choice", ["validation", "held out", "long tail"])
def test_who_is_set_aside_would_be_spread_evenly_over_every_epoch(choice, shards):
    for seed in SEEDS:
        assert_flat(*set_aside(choice, seed), shards=shards, seed=seed)


def test_order_and_noise_are_independent_by_chi_square():
    """Tenths of an epoch against who is noisy, summed over seeds and epochs."""
    total, freedom = 0.0, 0
    for seed, epoch in itertools.product(range(20), EPOCHS):
        marked = wrong_labels("symmetric", seed)
        rows = rows_by_shard(np.arange(SIZE), shards=1, seed=seed, epoch=epoch)
        found = marked[rows.reshape(10, -1)].sum(axis=1)
        expected = marked.sum() / 10
        # Both cells of each column, those noisy and those not.
        total += ((found - expected) ** 2).sum() * (
            1 / expected + 1 / (SIZE / 10 - expected)
        )
        freedom += 9
    assert BY_CHANCE < stats.chi2(freedom).sf(total) < 1 - BY_CHANCE


def test_a_run_that_drew_otherwise_is_not_gone_on_with(tmp_path):
    config = tiny(**{"checkpoint.every_steps": 0})
    folder = claim_folder(tmp_path / "run", config)
    content = json.loads((folder / "config.json").read_text())
    del content["draws"]  # which early versions did not write
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="draws other random numbers now.*another wo"):
        run(config, folder)
    assert [path.name for path in folder.iterdir()] == ["config.json"]
