"""Sets of candidate labels: those that are made, and those that data come with."""

import csv

import numpy as np
import pytest

from cmwjax.bias import candidates, meta_set
from cmwjax.bias.problem import prepare
from cmwjax.config_check import check_config
from cmwjax.report.problem import describe_problem, summarise_problem
from runs import tiny

C = 10
LABELS = np.repeat(np.arange(C), 4000).astype(np.int32)
EVERY = np.arange(len(LABELS))


def make(rate, kind="binomial", **options):
    options = {"num_classes": C, "seed": 0} | options
    return candidates.make(LABELS, kind=kind, rate=rate, **options)


# ------------------------------------------------------------------------ on purpose


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 0.7, 1.0])
def test_every_wrong_class_joins_by_itself(rate):
    sets = make(rate, smallest=1)
    assert sets.dtype == bool and sets[EVERY, LABELS].all()
    sizes = sets.sum(axis=1) - 1
    assert sizes.mean() == pytest.approx(9 * rate, abs=0.04)
    assert sizes.var() == pytest.approx(9 * rate * (1 - rate), abs=0.06)
    for label in (0, 7):
        joined = sets[label == LABELS].mean(axis=0)
        np.testing.assert_allclose(np.delete(joined, label), rate, atol=0.035)


@pytest.mark.parametrize("smallest", [2, 4])
def test_small_sets_are_filled_with_any_class_alike(smallest):
    plain, sets = make(0.1, smallest=1), make(0.1, smallest=smallest)
    enough = plain.sum(axis=1) >= smallest
    np.testing.assert_array_equal(sets[enough], plain[enough])
    assert (sets[~enough].sum(axis=1) == smallest).all() and not enough.all()
    assert (sets | ~plain).all()  # nobody leaves
    if smallest == 2:
        # A lone label has one more class, each of the nine with the same probability.
        assert (~enough).mean() == pytest.approx(0.9**9, abs=0.01)
        more = (sets & ~plain)[(LABELS == 3) & ~enough].mean(axis=0)
        np.testing.assert_allclose(np.delete(more, 3), 1 / 9, atol=0.03)


def test_pairs_are_of_the_label_and_the_next_class():
    sets = make(0.3, kind="pair")
    assert sets[EVERY, LABELS].all() and sets.sum(axis=1).max() == 2
    assert sets[EVERY, (LABELS + 1) % C].mean() == pytest.approx(0.3, abs=0.01)


def test_a_draw_follows_its_seed():
    np.testing.assert_array_equal(make(0.3), make(0.3))
    assert np.mean(make(0.3) != make(0.3, seed=1)) > 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "none"}, "candidates.kind='none' makes no candidates; choose one of"),
        ({"rate": 1.2}, "candidates.rate=1.2 must lie in"),
        ({"smallest": 11}, r"candidates.smallest=11 must lie in \[1, 10\]"),
        ({"num_classes": 9}, "labels must lie in"),
    ],
)
def test_what_cannot_be_made_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**{"rate": 0.1} | options)


def test_any_candidate_may_stand_for_its_set():
    sets = np.tile(np.array([[1, 0, 1, 1]], bool), (9000, 1))
    drawn = candidates.stand_ins(sets, seed=3)
    np.testing.assert_allclose(
        np.bincount(drawn, minlength=4) / 9000, [1 / 3, 0, 1 / 3, 1 / 3], atol=0.02
    )


def test_the_size_of_a_class_adds_up_shares_of_sets():
    sets = make(0.3)
    want = np.zeros(C)
    for row in sets[::40]:
        for label in np.flatnonzero(row):
            want[label] += 1 / row.sum()
    np.testing.assert_allclose(candidates.class_sizes(sets[::40]), want)
    assert want.sum() == pytest.approx(1000)


def test_the_lowest_losses_of_a_class_that_has_few():
    losses, labels = np.array([3.0, 1.0, 2.0, 5.0]), np.array([0, 0, 0, 2])
    found = meta_set.lowest_loss(
        losses, labels, np.arange(4), per_class=2, num_classes=3, or_fewer=True
    )
    assert found.tolist() == [1, 2, 3]


# ---------------------------------------------------------------------------- in a run


def partial(**fields):
    given = {
        "task": "partial",
        "loss": "proden",
        "candidates.kind": "binomial",
        "candidates.rate": 0.4,
        "noise.kind": "none",
        "noise.rate": 0.0,
    }
    return tiny(**given | fields)


def test_sets_are_made_around_labels_that_noise_made_wrong():
    config = partial(**{"noise.kind": "symmetric", "noise.rate": 0.5})
    problem = prepare(config)
    index, true = problem.train_index, problem.true_labels
    lacks = ~problem.candidates[np.arange(len(true)), true]
    np.testing.assert_array_equal(problem.is_wrong, lacks)
    # A label that was drawn anew is another one in 9 of 10, and the true one joins.
    assert lacks[index].mean() == pytest.approx(0.5 * 0.9 * 0.6, abs=0.1)
    assert problem.candidates[np.arange(len(true)), problem.labels].all()
    meta = problem.meta_index
    np.testing.assert_array_equal(problem.candidates[meta], np.eye(10)[true[meta]])
    shares = problem.candidates[index] / problem.candidates[index].sum(1)[:, None]
    np.testing.assert_allclose(problem.group_counts, shares.sum(axis=0))
    centres, family = problem.families.centres, problem.families.family
    for k in range(3):
        mean = problem.group_counts[family == k].mean()
        assert centres[k] == pytest.approx(mean)
    summary = summarise_problem(config, problem)
    assert summary["wrong_share"] == pytest.approx(lacks[index].mean())
    part = (shares * lacks[index, None]).sum(axis=0) / shares.sum(axis=0)
    np.testing.assert_allclose(summary["wrong_share_of_class"], part)
    assert any("candidates: 4." in line for line in describe_problem(summary))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Rows of four classes whose candidates are truth values."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 4
    sets = candidates.make(labels, kind="binomial", rate=0.3, num_classes=4, seed=0)
    x = rng.normal(size=(200, 5)) + 2 * np.eye(4, 5)[labels]
    folder = tmp_path_factory.mktemp("data")
    test = {"x_test": x[:40], "y_test": labels[:40]}
    np.savez(folder / "sets.npz", x_train=x, y_train=sets, **test)
    np.savez(folder / "true.npz", x_train=x, y_train=labels, y_train_sets=sets, **test)
    names = np.array(["cat", "dog", "eel", "fox"])
    for name, given in (
        ("sets", [" / ".join(names[row]) for row in sets]),
        ("true", names[labels]),
        ("test", names[labels]),
    ):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["a", "b", "c", "d", "e", "label"])
            writer.writerows([*row, y] for row, y in zip(x, given, strict=True))
    return folder, labels, sets


def own(name, **fields):
    given = {
        "data.name": str(name),
        "data.train_size": 0,
        "candidates.kind": "none",
        "candidates.rate": 0.0,
        "meta_set.policy": "lowest_loss",
    }
    return partial(**given | fields)


def test_truth_values_for_labels_are_candidates(archive):
    folder, labels, sets = archive
    problem = prepare(own(folder / "sets.npz"))
    np.testing.assert_array_equal(problem.candidates, sets)
    assert not problem.dataset.knows_true_labels and not problem.is_wrong.any()
    np.testing.assert_array_equal(problem.dataset.test_labels, labels[:40])
    key = f"{folder / 'true.npz'}:y_train_sets"
    for given in ("sets", key):
        fields = {"data.labels": given, "meta_set.policy": "held_out"}
        problem = prepare(own(folder / "true.npz", **fields))
        index = problem.train_index
        np.testing.assert_array_equal(problem.candidates[index], sets[index])
        np.testing.assert_array_equal(problem.true_labels, labels)


def test_candidates_in_a_cell_of_a_file(archive):
    folder, labels, sets = archive
    fields = {"data.csv.separator": "/", "data.csv.test": str(folder / "test.csv")}
    problem = prepare(own(folder / "sets.csv", **fields))
    np.testing.assert_array_equal(problem.candidates, sets)
    assert problem.dataset.class_names == ("cat", "dog", "eel", "fox")
    assert not problem.dataset.knows_true_labels
    np.testing.assert_array_equal(problem.dataset.test_labels, labels)
    fields["data.csv.truth"] = str(folder / "true.csv")
    fields["data.csv.trusted"] = str(folder / "true.csv")
    fields["meta_set.policy"] = "external"
    with pytest.raises(ValueError, match="every training sample of"):
        prepare(own(folder / "sets.csv", **fields))  # all of them are trusted
    fields |= {"data.csv.trusted": "", "meta_set.policy": "lowest_loss"}
    problem = prepare(own(folder / "sets.csv", **fields))
    np.testing.assert_array_equal(problem.true_labels, labels)
    assert not problem.is_wrong.any() and problem.dataset.knows_true_labels


def test_trusted_samples_have_one_candidate(archive, tmp_path):
    folder, _, sets = archive
    rows = (folder / "true.csv").read_text().splitlines()
    moved = ["9" + row if row[0] != "-" else "-9" + row[1:] for row in rows[1:40]]
    path = tmp_path / "trusted.csv"
    path.write_text("\n".join([rows[0], *moved]) + "\n")
    fields = {"data.csv.separator": "/", "data.csv.test": str(folder / "test.csv")}
    fields |= {"data.csv.trusted": str(path), "meta_set.policy": "external"}
    problem = prepare(own(folder / "sets.csv", **fields))
    np.testing.assert_array_equal(problem.candidates[:200], sets)
    labels = np.arange(39) % 4
    np.testing.assert_array_equal(problem.candidates[200:], np.eye(4)[labels] > 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task": "classification", "loss": "cross_entropy"}, "candidates.kind='binom"),
        ({"candidates.kind": "none"}, "config.candidates.rate=0.4 has no effect"),
        (
            {"candidates.kind": "none", "candidates.rate": 0.0},
            "config.candidates.kind='none', but data 'digits' come with no sets",
        ),
        ({"candidates.rate": 1.5}, "config.candidates.rate=1.5 is out of range"),
        ({"candidates.kind": "triple"}, "config.candidates.kind='triple' is unknown"),
        ({"candidates.smallest": 11}, "candidates.smallest=11 must lie in"),
        ({"loss": "cross_entropy"}, "config.loss='cross_entropy' is not for config.ta"),
        ({"method": "class_balanced"}, "config.method='class_balanced' is not for"),
        ({"method": "cmw_net_sl"}, "config.method='cmw_net_sl' is not for config.task"),
        ({"data.csv.separator": ""}, "config.data.csv.separator='' separates no"),
    ],
)
def test_what_sets_have_no_use_for_is_refused(fields, message):
    config = partial(**fields)
    with pytest.raises(ValueError, match=message):
        check_config(config)
        prepare(config)


@pytest.mark.parametrize(
    ("file", "fields", "message"),
    [
        (
            "sets.npz",
            {"task": "classification", "loss": "focal"},
            "set it to 'partial'",
        ),
        ("sets.npz", {"candidates.kind": "pair"}, "kind='pair', but data .* come with"),
        ("sets.npz", {"noise.kind": "flip", "noise.rate": 0.1}, "noise.kind='flip' is"),
        (
            "sets.npz",
            {"meta_set.policy": "held_out"},
            "policy='held_out' trusts the la",
        ),
        ("sets.csv", {"data.csv.separator": "/"}, "test_share=0.25 would test with"),
    ],
)
def test_what_data_with_sets_cannot_have_is_refused(archive, file, fields, message):
    config = own(archive[0] / file, **fields)
    with pytest.raises(ValueError, match=message):
        check_config(config)
        prepare(config)


def test_sets_that_are_none_are_refused(archive, tmp_path):
    with np.load(archive[0] / "true.npz") as file:
        arrays = dict(file)
    sets = arrays["y_train_sets"]
    for given, message in (
        (sets & (np.arange(200) != 7)[:, None], "no candidate at position 7"),
        (sets[:, :3], r"are bool of shape \[200, 3\], but candidates are truth values"),
        (sets[:150], "150 sets of candidates for 200 training samples"),
        (sets * 0.5, "are float64 of shape"),
    ):
        np.savez(tmp_path / "data.npz", **arrays | {"y_train_sets": given})
        with pytest.raises(ValueError, match=message):
            prepare(own(tmp_path / "data.npz", **{"data.labels": "sets"}))
