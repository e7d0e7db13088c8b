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
    run(tiny(**FIELDS | fields), folder)
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
    want = margins(classifier.predict_proba(images), given, shares)
    np.testing.assert_allclose(quality, want, atol=1e-5)


def margins(probabilities, given, shares):
    """The given label against the likeliest other one, one sample at a time."""
    found = []
    for label, odds in zip(given, probabilities / np.sqrt(shares), strict=True):
        other = np.max(np.delete(odds, label))
        found.append(odds[label] / (odds[label] + other))
    return np.array(found)


@pytest.mark.parametrize("method", ["cmw_net", "class_balanced", "trusted_only"])
def test_the_next_look_judges_by_what_weights_have_made_of_sizes(tmp_path, method):
    """With a constant rate, the first run is the beginning of the second."""
    fields = {
        "method": method,
        "meta_set.policy": "held_out",
        "weighting.num_families": 2,
        "weighting.optimizer.learning_rate": 0.3,
    }
    first, samples, order = qualities(tmp_path / "1", epochs=1, **fields)
    given = samples["given_label"][order].astype(int)
    sums = np.bincount(given, samples["weight"][order], minlength=10)
    if method == "trusted_only":
        sums = np.ones(10)  # a class of no sample that counts is like any other
    problem = prepare(tiny(**FIELDS | fields, epochs=2))
    rows = problem.dataset.row_numbers[problem.train_index]
    images = problem.dataset.train_inputs[problem.train_index[np.argsort(rows)]]
    quality, _, _ = qualities(tmp_path / "2", epochs=2, **fields)
    classifier = load_classifier(tmp_path / "2", which="last")
    second = margins(classifier.predict_proba(images), given, sums / sums.sum())
    np.testing.assert_allclose(quality, (first + second) / 2, atol=1e-5)


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
