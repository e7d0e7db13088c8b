"""Semi-supervised learning: who has a label, in which rows, and what is refused."""

import numpy as np
import pytest

from cmwjax.bias import unlabelled
from cmwjax.bias.problem import prepare
from cmwjax.data.order import mixed_batches
from cmwjax.report.problem import describe_problem, summarise_problem
from cmwjax.training.run import assemble
from runs import semi as config_of

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("amount", [4, 9, 40, 131])
def test_labels_are_drawn_by_the_shares_of_classes(amount):
    counts = np.array([100, 3, 20, 9])
    labels = RNG.permutation(np.repeat(np.arange(4), counts)).astype(np.int32)
    index = np.arange(132)
    keep = unlabelled.draw(labels, index, amount=amount, num_classes=4, seed=1)
    assert len(set(keep.tolist())) == len(keep) == amount and (np.diff(keep) > 0).all()
    sizes = np.bincount(labels[keep], minlength=4)
    assert (sizes >= 1).all() and (sizes <= counts).all()
    if amount > 9:  # where one of each class does not distort it
        assert np.abs(sizes - counts * amount / 132).max() < 1
    same = unlabelled.draw(labels, index, amount=amount, num_classes=4, seed=1)
    other = unlabelled.draw(labels, index, amount=amount, num_classes=4, seed=2)
    np.testing.assert_array_equal(keep, same)
    assert amount == 131 or not np.array_equal(keep, other)


def test_the_problem_knows_labels_of_few():
    config = config_of(**{"data.train_size": 0, "data.imbalance_factor": 10.0})
    problem = prepare(config)
    sets, index = problem.candidates, problem.train_index
    given = problem.labelled_index
    assert len(given) == 40 and set(given) < set(index)
    assert sets[np.setdiff1d(index, given)].all()
    true = problem.dataset.train_labels
    np.testing.assert_array_equal(problem.labels[given], true[given])
    others = np.setdiff1d(index, given)
    assert np.mean(problem.labels[others] == true[others]) < 0.25  # drawn at random
    counts = np.bincount(true[given], minlength=10)
    assert (
        counts.min() >= 1 and counts[0] > 3 * counts[9] and (np.diff(counts) <= 0).all()
    )
    assert len(problem.families.centres) == 3 and not problem.is_wrong.any()
    summary = summarise_problem(config, problem)
    assert summary["labelled"] == counts.tolist()
    assert summary["samples"]["meta"] == 40
    assert any("40 samples have one" in x for x in describe_problem(summary))


def test_an_archive_says_itself_who_has_a_label(tmp_path):
    problem = prepare(config_of(**{"data.train_size": 0}))
    images, true = problem.dataset.train_inputs, problem.dataset.train_labels
    sets = np.ones((len(true), 10), bool)
    sets[::20] = true[::20, None] == np.arange(10)
    test = {"x_test": images[:50], "y_test": true[:50]}
    np.savez(tmp_path / "own.npz", x_train=images, y_train=sets, **test)
    given = {"data.name": str(tmp_path / "own.npz"), "data.labels": "given"}
    own = prepare(config_of(**given, **{"data.train_size": 0, "semi.labels": 0}))
    np.testing.assert_array_equal(own.labelled_index, np.arange(0, len(true), 20))
    with pytest.raises(ValueError, match="semi.labels=40, but data .* say themselves"):
        prepare(config_of(**given))


def test_a_file_of_rows(tmp_path):
    """Of which the owner has labels of all, or of some."""
    x = RNG.normal(size=(60, 3))
    labels = np.array(["a", "b", "c"])[np.arange(60) % 3]
    some = np.where(np.arange(60) % 2 < 1, labels, "a|b|c")
    for name, column in (("all", labels), ("some", some)):
        rows = [",".join([*map(str, row), y]) for row, y in zip(x, column, strict=True)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["p,q,r,label", *rows]))
    fields = {"data.train_size": 0, "augment.pad": 0, "semi.labels": 9}
    every = config_of(**fields, **{"data.name": str(tmp_path / "all.csv")})
    assert len(prepare(every).labelled_index) == 9
    own = {"data.csv.test_share": 0.0, "data.validation": 6, "data.labels": "given"}
    fields |= {"semi.labels": 0, "data.name": str(tmp_path / "some.csv"), **own}
    problem = prepare(config_of(**fields))
    assert len(problem.train_index) == 54 and len(problem.labelled_index) == 24
    assert set(problem.validation_index) <= set(np.arange(0, 60, 2))
    assert (problem.candidates[problem.validation_index].sum(axis=1) == 1).all()


def test_a_row_has_the_ratio_of_both_kinds_in_every_shard():
    labelled, others = (
        np.arange(0, 30, 3),
        np.setdiff1d(np.arange(200), range(0, 30, 3)),
    )
    rows = mixed_batches(
        labelled, others, batch_size=24, ratio=3, shards=2, seed=0, epoch=1
    )
    assert rows.shape == (10, 24)
    by_shard = rows.reshape(10, 2, 12)
    for shard in range(2):
        with_label = by_shard[:, shard, :3].ravel()
        assert set(with_label) == set(labelled[shard::2])
        counts = np.bincount(with_label, minlength=30)[labelled[shard::2]]
        assert counts.max() - counts.min() <= 1
        without = by_shard[:, shard, 3:].ravel()
        assert len(set(without)) == 90 and set(without) <= set(others[shard::2])
    again = mixed_batches(
        labelled, others, batch_size=24, ratio=3, shards=2, seed=0, epoch=2
    )
    assert not np.array_equal(rows, again)


BAD = {
    "semi.labels=5 must be at least 10, one for each class": {"semi.labels": 5},
    "semi.labels=240 .* less than the 240 samples": {"semi.labels": 240},
    "semi.labels=0, but every sample of 'digits' has": {"semi.labels": 0},
    "config.semi.mu=0 is out of range": {"semi.mu": 0},
    "data.batch_size=50 must be .* multiple of 12.* 48": {"data.batch_size": 50},
    "12 samples .* fewer than config.data.shards=16": {
        "data.shards": 16,
        "semi.labels": 12,
    },
    "semi.labels=40 .* task='semi'": {"task": "partial", "loss": "proden"},
    "policy='labelled' is for samples with": {"task": "partial", "semi.labels": 0},
    "loss='fixmatch' is not for config.task='partial'": {
        "task": "partial",
        "semi.labels": 0,
        "meta_set.policy": "lowest_loss",
    },
    "candidates.kind='pair' makes sets .* set it to": {"candidates.kind": "pair"},
    "'cmw_net_mixup' blends inputs .* of its own": {"method": "cmw_net_mixup"},
    "config.task='semi' is for classes": {"data.name": "diabetes"},
    "learns strong views, and tokens have none": {
        "data.name": "headlines",
        "augment.pad": 0,
    },
    "seen='both' is unknown; choose one of": {"baseline.fixmatch.seen": "both"},
}


@pytest.mark.parametrize(("message", "fields"), BAD.items(), ids=str)
def test_bad_input_is_told_in_one_line(message, fields, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        assemble(config_of(**fields), tmp_path / "run")
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()
