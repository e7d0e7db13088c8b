import json

import numpy as np
import pytest
from absl import logging

from cmwjax.bias import meta_set, noise, problem
from cmwjax.config import base_config
from cmwjax.config_check import check_config
from cmwjax.data import datasets
from cmwjax.report.problem import (
    describe_problem,
    log_header,
    summarise_problem,
    write_problem,
)

CLASSES, SIZE = 4, 2000
RNG = np.random.default_rng(0)
TRUE = RNG.permutation(np.repeat(np.arange(CLASSES), SIZE // CLASSES))
HUMAN = np.where(RNG.random(SIZE) < 0.3, (TRUE + 1) % CLASSES, TRUE)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "set.npz"
    pixels = np.zeros((SIZE, 2, 2, 1), np.uint8)
    test = {"x_test": pixels[:8], "y_test": TRUE[:8]}
    np.savez(path, x_train=pixels, y_train=TRUE, y_train_human=HUMAN, **test)
    return str(path)


@pytest.fixture
def configured(archive):
    """A configuration with the fields given."""

    def make(**fields):
        config = base_config()
        config.data.name = archive
        config.meta_set.policy = "lowest_loss"
        config.weighting.num_families = 2
        config.noise.class_map = ((0, 1),)
        config.update_from_flattened_dict(fields)
        check_config(config)
        return config

    return make


@pytest.fixture
def prepared(configured):
    """A problem with the fields given."""
    return lambda **fields: problem.prepare(configured(**fields))


@pytest.fixture
def pmd_like(monkeypatch):
    """Leaves the last 200 samples without an observed label, as PMD does."""
    load = datasets.load

    def loaded(*args, **kwargs):
        dataset = load(*args, **kwargs)
        observed = np.where(np.arange(SIZE) < SIZE - 200, HUMAN, -1).astype(np.int32)
        return dataset._replace(observed_labels=observed)

    monkeypatch.setattr(datasets, "load", loaded)


def noisy(**fields):
    return {"noise.kind": "pair_flip", "noise.rate": 0.2} | fields


def test_without_bias_everyone_trains_with_the_true_label(prepared):
    got = prepared()
    np.testing.assert_array_equal(got.train_index, np.arange(SIZE))
    np.testing.assert_array_equal(got.labels, TRUE)
    assert got.meta_index is None and not got.validation_index.size
    assert got.validation_index.dtype == np.int32 and not got.is_wrong.any()


def test_noise_acts_on_the_labels_observed_so_far(prepared):
    got = prepared(**noisy(**{"data.labels": "human", "seed": 3}))
    want = noise.pair_flip(HUMAN, rate=0.2, num_classes=CLASSES, seed=3)
    np.testing.assert_array_equal(got.labels, want.labels)
    np.testing.assert_array_equal(got.true_labels, TRUE)
    np.testing.assert_array_equal(got.is_wrong, want.labels != TRUE)


def test_noise_acts_on_the_long_tail(prepared):
    tail = prepared(**{"data.imbalance_factor": 10.0})
    both = prepared(**noisy(**{"data.imbalance_factor": 10.0}))
    assert np.bincount(TRUE[tail.train_index]).tolist() == [500, 232, 107, 50]
    np.testing.assert_array_equal(both.train_index, tail.train_index)
    assert both.is_wrong.sum() == int(0.2 * 889)
    assert set(np.flatnonzero(both.is_wrong)) <= set(both.train_index)
    # The families are those of the observed sizes, not of the true ones.
    counts = np.bincount(both.labels[both.train_index])
    order = np.argsort(counts)
    assert (np.diff(both.families.family[order]) >= 0).all()
    weighted = np.bincount(both.families.family, weights=counts)
    np.testing.assert_allclose(
        both.families.centres, weighted / np.bincount(both.families.family)
    )


def test_held_out_samples_are_clean_and_shape_the_tail(prepared):
    got = prepared(
        **noisy(
            **{
                "meta_set.policy": "held_out",
                "data.labels": "human",
                "data.imbalance_factor": 10.0,
            }
        )
    )
    assert np.bincount(TRUE[got.meta_index]).tolist() == [10] * 4
    assert not got.is_wrong[got.meta_index].any()
    assert not set(got.meta_index) & set(got.train_index)
    sizes = [int(490 * 10 ** (-c / 3)) for c in range(4)]
    assert np.bincount(TRUE[got.train_index]).tolist() == sizes


@pytest.mark.parametrize(("amount", "size"), [(0.1, 200), (150, 150), (1, 1)])
def test_validation_keeps_its_observed_labels(prepared, amount, size):
    everyone = prepared(**noisy())
    got = prepared(**noisy(**{"data.validation": amount}))
    assert len(got.validation_index) == size
    both = np.concatenate([got.train_index, got.validation_index])
    assert sorted(both) == list(range(SIZE))
    np.testing.assert_array_equal(got.labels, everyone.labels)
    if size > 1:
        assert 0.05 < got.is_wrong[got.validation_index].mean() < 0.35
    assert list(got.train_index) == sorted(got.train_index)


@pytest.mark.usefixtures("pmd_like")
def test_samples_without_observed_label_validate(prepared):
    got = prepared(**noisy())
    assert got.validation_index.tolist() == list(range(SIZE - 200, SIZE))
    assert not got.is_wrong[got.validation_index].any()
    np.testing.assert_array_equal(got.train_index, np.arange(SIZE - 200))
    with pytest.raises(ValueError, match=r"validation=0\.1, but .* leave 200 clean"):
        prepared(**{"data.validation": 0.1})


@pytest.mark.usefixtures("pmd_like")
def test_held_out_samples_are_among_those_without_observed_label(prepared):
    got = prepared(**{"meta_set.policy": "held_out"})
    np.testing.assert_array_equal(got.train_index, np.arange(SIZE - 200))
    assert len(got.meta_index) == 40 and len(got.validation_index) == 160
    both = np.concatenate([got.meta_index, got.validation_index])
    assert sorted(both) == list(range(SIZE - 200, SIZE))


def test_seeds_follow_the_run_unless_fixed(prepared):
    biased = noisy(
        **{
            "meta_set.policy": "held_out",
            "data.imbalance_factor": 5.0,
            "data.validation": 0.1,
        }
    )

    def draw(seed, **fixed):
        got = prepared(**biased, seed=seed, **fixed)
        return [got.train_index.tolist(), got.validation_index.tolist()], got

    data_fixed, both_fixed = {"data.seed": 7}, {"data.seed": 7, "noise.seed": 8}
    assert draw(0)[0] == draw(0)[0] != draw(1)[0]
    sets_0, a = draw(0, **data_fixed)
    sets_1, b = draw(1, **data_fixed)
    assert sets_0 == sets_1 and (a.labels != b.labels).any()
    assert a.meta_index.tolist() == b.meta_index.tolist()
    sets_0, a = draw(0, **both_fixed)
    sets_1, b = draw(1, **both_fixed)
    assert sets_0 == sets_1 and (a.labels == b.labels).all()
    assert problem.seeds(base_config()) == (0, 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data.labels": "humans"}, "labels 'humans' are unknown.*'human'"),
        ({"data.imbalance_factor": 501.0}, "leaves class 3 empty"),
        ({"data.imbalance_factor": 100.0}, "per_class=10, but class 3 has only 5 sam"),
        ({"noise.kind": "pair_flip", "noise.rate": 1.5}, r"noise.rate=1\.5 is out of"),
        ({"noise.kind": "asymmetric", "noise.class_map": ((0, 4),)}, r"sends 0 to 4"),
        (
            {"noise.kind": "asymmetric", "noise.class_map": ("cifar10",)},
            "the 4 classes",
        ),
        (
            {"noise.kind": "asymmetric", "noise.rate": 1.0},
            r"class 0 has no observed sample.*noise.rate=1\.0",
        ),
        ({"noise.kind": "superclass", "noise.rate": 0.1}, "is for CIFAR-100"),
        ({"data.validation": 2.5}, r"data.validation=2\.5 must be a share"),
        ({"data.validation": 2000}, r"data.validation=2000.* the 2000 training"),
        ({"data.validation": 0.0001}, "data.validation=0.0001 must"),
        ({"data.imbalance_factor": 0.5}, "imbalance_factor=0.5 is out of range"),
        ({"noise.seed": -2}, "noise.seed=-2 is out of range"),
    ],
)
def test_bad_input_is_named(prepared, fields, message):
    with pytest.raises(ValueError, match=message):
        prepared(**fields)


# ---- what is written about it


@pytest.mark.parametrize(
    ("policy", "size"), [("held_out", 40), ("balanced", 200), ("lowest_loss", 40)]
)
def test_summary_counts_what_training_sees(configured, policy, size):
    config = configured(
        **noisy(
            **{
                "meta_set.policy": policy,
                "data.labels": "human",
                "data.imbalance_factor": 2.0,
                "data.validation": 100,
                "noise.seed": 5,
            }
        )
    )
    got = problem.prepare(config)
    summary = summarise_problem(config, got)
    index = [int(i) for i in got.train_index]
    wrong = [i for i in index if got.labels[i] != TRUE[i]]
    assert summary["wrong_share"] == pytest.approx(len(wrong) / len(index))
    for label in range(CLASSES):
        members = [i for i in index if got.labels[i] == label]
        assert summary["class_counts"][label] == len(members)
        share = len(set(members) & set(wrong)) / len(members)
        assert summary["wrong_share_of_class"][label] == pytest.approx(share)
        true_members = [i for i in index if TRUE[i] == label]
        assert summary["true_class_counts"][label] == len(true_members)
    for k, centre in enumerate(summary["family_centres"]):
        classes = [c for c in range(4) if summary["family_of_class"][c] == k]
        sizes = [summary["class_counts"][c] for c in classes]
        assert centre == pytest.approx(np.mean(sizes))
        members = [i for i in index if got.labels[i] in classes]
        share = len(set(members) & set(wrong)) / len(members)
        assert summary["wrong_share_of_family"][k] == pytest.approx(share)
    assert summary["seeds"] == {"run": 0, "data": 0, "noise": 5}
    assert summary["samples"] == {
        "train": len(index),
        "meta": summary["samples"]["meta"],
        "validation": 100,
        "test": 8,
    }
    if policy == "balanced":
        chosen = meta_set.balanced(got.labels, index, num_classes=4, seed=0, epoch=0)
        size = len(chosen)
    assert summary["samples"]["meta"] == size
    assert summary["validation_is_clean"] is False


def test_files_and_log_tell_the_problem(configured, tmp_path, monkeypatch):
    config = configured(**noisy(**{"data.validation": 0.1}))
    got, logged = problem.prepare(config), []
    monkeypatch.setattr(logging, "info", lambda text, *args: logged.append(text % args))
    log_header("ERM", config, got)
    write_problem(tmp_path, config, got)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labels.npz", "problem.json"]
    summary = json.loads((tmp_path / "problem.json").read_text())
    assert summary == summarise_problem(config, got)
    with np.load(tmp_path / "labels.npz") as saved:
        np.testing.assert_array_equal(saved["observed"], got.labels)
        np.testing.assert_array_equal(saved["changed"], got.labels != TRUE)
        np.testing.assert_array_equal(saved["train_index"], got.train_index)
        np.testing.assert_array_equal(saved["validation_index"], got.validation_index)
        assert saved["meta_index"].size == 0
    text = "\n".join(logged)
    assert "1800 to train on, 40 in the meta set (lowest_loss), 200 to valid" in text
    assert "long tail 1, labels true, noise pair_flip 0.2; seeds: run 0" in text
    assert f"wrong labels: {100 * summary['wrong_share']:.1f}%" in text
    assert "family 1: " in text
    # An observed set can be trained on again: what was saved is a label set.
    again = configured(**{"data.labels": f"{tmp_path / 'labels.npz'}:observed"})
    np.testing.assert_array_equal(problem.prepare(again).labels, got.labels)


def test_of_labels_as_given_nobody_knows_which_are_wrong(configured):
    """With noise on top: what is changed is known, not what is wrong."""
    noisy = {"noise.kind": "asymmetric", "noise.rate": 0.4}
    meant = {"data.labels": "given", "noise.on_given": True}
    config = configured(**meant, **noisy)
    got, known = problem.prepare(config), problem.prepare(configured(**noisy))
    np.testing.assert_array_equal(got.labels, known.labels)
    assert (got.true_labels == -1).all() and not got.is_wrong.any()
    assert known.is_wrong.sum() == (got.labels != TRUE).sum() > 0
    summary = summarise_problem(config, got)
    assert summary["class_counts"] == np.bincount(got.labels).tolist()
    for name in ("wrong_share", "true_class_counts", "wrong_share_of_family"):
        assert summary[name] is None
    lines = describe_problem(json.loads(json.dumps(summary)))
    assert "wrong labels: unknown" in lines and "of them wrong" not in lines[-1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"meta_set.policy": "held_out"}, "held_out' trusts .* nobody knows"),
        (
            {"method": "forward"},
            "baseline.forward is for known labels, but .* nobody knows them",
        ),
    ],
)
def test_what_takes_true_labels_is_refused_without_them(configured, fields, message):
    with pytest.raises(ValueError, match=message):
        configured(**fields, **{"data.labels": "given"})


# ---- samples that are trusted


def tables(write_to, *, trusted, test=None, seed=0):
    """Writes 60 rows of two classes to train on, and others; returns the fields."""
    rng = np.random.default_rng(seed)
    rows = [f"{a:.6f},{b:.6f},{'cat' if a > 0 else 'dog'}" for a, b in draw_60(rng)]
    files = {"train": rows, "trusted": trusted(rows), "test": test and test(rows)}
    for name, lines in files.items():
        if lines:
            (write_to / f"{name}.csv").write_text("\n".join(["a,b,label", *lines]))
    fields = {"data.name": str(write_to / "train.csv"), "meta_set.policy": "external"}
    fields["data.csv.trusted"] = str(write_to / "trusted.csv")
    if test:
        fields["data.csv.test"] = str(write_to / "test.csv")
    return fields


def draw_60(rng):
    return np.sign(np.arange(60) % 2 - 0.5)[:, None] * rng.uniform(0.1, 1, (60, 2))


OTHERS = ["9,9,cat", "-9,-9,dog", "8,8,cat", "-8,-8,dog"]


@pytest.fixture
def warned(monkeypatch):
    """The warnings that are logged."""
    lines = []
    monkeypatch.setattr(
        logging, "warning", lambda text, *args: lines.append(text % args)
    )
    return lines


def test_what_is_trusted_is_not_trained_on_whatever_its_label(
    prepared, tmp_path, warned
):
    """Ten rows of the training file are trusted, two of them with another label."""

    def trusted(rows):
        other = {"cat": "dog", "dog": "cat"}
        flipped = [row[:-3] + other[row[-3:]] for row in rows[:2]]
        return [*flipped, *rows[2:10], *OTHERS]

    fields = tables(tmp_path, trusted=trusted, test=lambda rows: ["5,5,cat", rows[30]])
    got = prepared(**fields)
    inputs = got.dataset.train_inputs.tolist()
    meta = [inputs[i] for i in got.meta_index]
    assert got.train_index.tolist() == list(range(10, 60)) and len(meta) == 14
    assert not any(inputs[i] in meta for i in got.train_index)
    assert "10 of 60 training samples have the inputs of a trusted one" in warned[-1]
    assert warned[0].startswith("1 of 2 samples to test with have the inputs of a samp")
    assert "to train on" in warned[0] and len(warned) == 2


def test_test_samples_that_are_trusted_are_counted(prepared, tmp_path, warned):
    prepared(**tables(tmp_path, trusted=lambda rows: [*rows[:20], *OTHERS]))
    counts = [int(line.split()[0]) for line in warned[:2]]
    assert sum(counts) == 20 and counts[0] > 0  # each is in the test or left out
    assert "15 samples to test with have the inputs of a sample to trust" in warned[0]


def test_nothing_is_said_where_no_sample_repeats(prepared, tmp_path, warned):
    test = {"test": lambda rows: ["5,5,cat", "-5,-5,dog"]}
    got = prepared(**tables(tmp_path, trusted=lambda rows: OTHERS, **test))
    assert len(got.train_index) == 60 and not warned


def test_trusting_all_samples_of_a_class_is_refused(prepared, tmp_path):
    fields = tables(tmp_path, trusted=lambda rows: rows)
    with pytest.raises(ValueError, match="every training sample of class 'cat' has"):
        prepared(**fields)


def test_a_class_that_is_not_trusted_is_named(prepared, tmp_path, warned):
    prepared(**tables(tmp_path, trusted=lambda rows: OTHERS[::2]))
    assert warned == [
        "the trusted samples have none of class 'dog': nothing says how to weight its "
        "samples; add some."
    ]


# ---- what errors and the log call it


def test_errors_call_classes_by_their_names(prepared, tmp_path):
    fields = tables(tmp_path, trusted=lambda rows: OTHERS)
    del fields["data.csv.trusted"]
    with pytest.raises(ValueError, match=r"class 'cat' has 2\d samples, .* needs 40"):
        prepared(**fields | {"meta_set.policy": "held_out", "meta_set.per_class": 40})
    fields["meta_set.policy"] = "lowest_loss"
    with pytest.raises(ValueError, match=r"config.meta_set.per_class=40, but class '"):
        prepared(**fields | {"meta_set.per_class": 40})
    everyone = {"noise.kind": "asymmetric", "noise.rate": 1.0}
    with pytest.raises(ValueError, match="^class 'cat' has no observed sample to t"):
        prepared(**fields | everyone)


@pytest.mark.parametrize(
    ("fields", "families", "lines"),
    [
        ({}, 1, 0),  # balanced: as it should be
        ({"data.imbalance_factor": 10.0}, 4, 0),
        ({"noise.kind": "asymmetric", "noise.rate": 0.2}, 3, 1),
    ],
)
def test_fewer_families_than_wanted_are_a_line_in_the_log(
    prepared, warned, fields, families, lines
):
    """Warnings are errors here, so none comes from the core."""
    got = prepared(**{"weighting.num_families": 4}, **fields)
    assert len(got.families.centres) == families
    assert len(warned) == lines
    assert not lines or "not config.weighting.num_families=4" in warned[0]
