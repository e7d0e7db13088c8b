"""The quality of labels: what it is after one look, and over several."""

import numpy as np
import pytest

from cmwjax.bias.problem import prepare
from cmwjax.classifier import load_classifier
from cmwjax.report.samples import read_samples
from runs import run, tiny

FIELDS = {
    "method": "erm",
    "noise.kind": "asymmetric",
    "noise.rate": 0.6,
    "noise.class_map": ((9, 1), (2, 0)),
    "meta_set.policy": "none",
    "weighting.num_families": 1,
    "optim.schedule.name": "constant",
}


def qualities(folder, **fields):
    """In the order of the samples' rows."""
    run(tiny(**FIELDS, **fields), folder)
    samples = read_samples(folder / "samples.csv")
    order = np.argsort(samples["row"])
    return samples["quality"][order], samples, order


def test_one_look_is_the_margin_to_the_likeliest_other_class(tmp_path):
    quality, samples, order = qualities(tmp_path / "run", epochs=2, audit_every=0)
    problem = prepare(tiny(**FIELDS, epochs=2, audit_every=0))
    rows = problem.dataset.row_numbers[problem.train_index]
    images = problem.dataset.train_inputs[problem.train_index[np.argsort(rows)]]
    classifier = load_classifier(tmp_path / "run", which="last")
    given = samples["given_label"][order].astype(int)
    shares = np.bincount(given, minlength=10) / len(given)
    for suits, label, odds in zip(
        quality, given, classifier.predict_proba(images), strict=True
    ):
        odds = odds / np.sqrt(shares)
        other = np.max(np.delete(odds, label))
        assert suits == pytest.approx(odds[label] / (odds[label] + other), abs=1e-5)


def test_several_looks_are_the_mean_over_shorter_runs(tmp_path):
    """With a constant rate, a shorter run is the beginning of a longer one."""
    alone = [
        qualities(tmp_path / str(n), epochs=n, audit_every=0)[0] for n in (1, 2, 3, 4)
    ]
    every, _, _ = qualities(tmp_path / "every", epochs=4)
    np.testing.assert_allclose(every, np.mean(alone, axis=0), rtol=1e-5)
    second, samples, _ = qualities(tmp_path / "second", epochs=4, audit_every=2)
    np.testing.assert_allclose(second, np.mean([alone[1], alone[3]], 0), rtol=1e-5)
    assert (np.diff(samples["quality"]) >= 0).all()
