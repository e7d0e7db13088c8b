"""Samples that the owner of arrays sets aside to validate, and no samples to test."""

import csv

import numpy as np
import pytest

from cmwjax.bias.problem import prepare
from cmwjax.classifier import load_classifier
from cmwjax.data import datasets
from cmwjax.data.dataset import validate
from cmwjax.report.problem import data_digest
from runs import metrics, run, tiny

GIVEN = {
    "method": "erm",
    "data.name": "mine",
    "data.train_size": 0,
    "data.labels": "given",
    "noise.kind": "none",
    "noise.rate": 0.0,
    "meta_set.policy": "lowest_loss",
}
PART = np.arange(0, 300, 6)


@pytest.fixture(scope="module")
def mine():
    """Digits without any to test with, of which every sixth validates."""
    digits = datasets.load("digits", train_size=300)
    return digits._replace(
        test_inputs=digits.test_inputs[:0],
        test_labels=digits.test_labels[:0],
        validation_index=PART,
        rows=None,
    )


def test_they_validate_with_their_given_labels_and_are_not_trained_on(mine):
    problem = prepare(tiny(**GIVEN), mine)
    np.testing.assert_array_equal(problem.validation_index, PART)
    assert not set(problem.train_index) & set(PART)
    assert len(problem.train_index) == 250
    np.testing.assert_array_equal(problem.labels, mine.train_labels)


def test_what_is_known_of_them_is_in_a_file_of_their_own(mine, tmp_path):
    config = tiny(**GIVEN | {"epochs": 1, "audit_every": 0})
    run(config, tmp_path / "run", arrays=mine)
    with (tmp_path / "run" / "validation.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["row"]))
    np.testing.assert_array_equal([int(r["row"]) for r in rows], PART)
    inputs, labels = mine.train_inputs[PART], mine.train_labels[PART]
    classifier = load_classifier(tmp_path / "run", which="last")
    probabilities = classifier.predict_proba(inputs).astype(np.float64)
    trained = np.setdiff1d(np.arange(300), PART)
    shares = np.bincount(mine.train_labels[trained]) / len(trained)
    want = []
    for p, label in zip(probabilities / np.sqrt(shares), labels, strict=True):
        odds = p[label] / max(np.delete(p, label))
        want.append(odds / (1 + odds))
    quality = [float(r["quality"]) for r in rows]
    np.testing.assert_allclose(quality, want, rtol=1e-3)
    names = np.array([int(r["suggested_label"]) for r in rows])
    np.testing.assert_array_equal(names, classifier.predict(inputs))
    (line,) = metrics(tmp_path / "run")
    hits = [r["given_label"] == r["suggested_label"] for r in rows]
    assert line["validation_accuracy"] == pytest.approx(np.mean(hits))
    assert not [name for name in line if name.startswith("test")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validation_index": [300]}, r"validation_index has 300 at position 0, outsi"),
        ({"validation_index": [1, 1]}, "validation_index has 1 more than once"),
        ({"validation_index": [0.5]}, "validation_index is float64 of shape"),
        ({"trusted_index": [5, 6]}, "trusted_index and validation_index both have 6"),
    ],
)
def test_bad_positions_are_refused(mine, change, message):
    with pytest.raises(ValueError, match=f"mine: {message}"):
        validate(mine._replace(**change), name="mine")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data.validation": 0.1}, "50 samples to validate with, and there is conf"),
        ({"data.train_size": 200}, "comes with validation samples, which must not"),
    ],
)
def test_what_does_not_go_together_is_refused(mine, fields, message):
    with pytest.raises(ValueError, match=message):
        prepare(tiny(**GIVEN | fields), mine)


def test_who_is_set_aside_is_part_of_the_data(mine):
    digests = {
        data_digest(mine._replace(validation_index=index, trusted_index=trusted))
        for index, trusted in (
            (None, None),
            (PART, None),
            (PART[1:], None),
            (None, PART),
        )
    }
    assert len(digests) == 4
