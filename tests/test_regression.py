"""Regression: families of targets, noise on them, and a run from end to end."""

import csv
import json

import jax
import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.metrics import mean_absolute_error, r2_score

from cmwjax import train
from cmwjax.bias import problem, targets
from cmwjax.config_check import check_config
from cmwjax.data import datasets
from cmwjax.data.dataset import Dataset
from cmwjax.report import plots
from cmwjax.report.problem import write_problem
from cmwjax.stopping import Interrupted, Signals
from cmwjax.tasks.regression import REGRESSION
from cmwjax.training import checkpoints
from cmwjax.training.run import assemble
from configs import regression

RNG = np.random.default_rng(0)
DRAWS = {
    "distinct": RNG.normal(size=100),
    "ties": RNG.integers(6, size=101).astype(float),
    "mostly one": np.r_[np.zeros(80), np.arange(20.0)],
    "few": np.array([2.0, 1.0, 3.0]),
    "one": np.ones(5),
}


def tiny(**fields):
    config = regression.get_config()
    config.unlock()
    config.compare.methods, config.compare.seeds = (), ()
    given = {"epochs": 2, "model.options.hidden": (8,), "meta_set.per_class": 11}
    config.update_from_flattened_dict(given | fields)
    return config.lock()


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("num_ranges", [1, 2, 3, 7])
def test_ranges_begin_where_a_walk_through_the_sorted_targets_says(draw, num_ranges):
    values = DRAWS[draw]
    ordered, want = sorted(values), []
    for part in range(1, num_ranges):
        position = part * (len(values) - 1) / num_ranges  # of NumPy's quantile
        border = ordered[int(np.ceil(position - 1e-9))]
        if border > ordered[0] and border not in want:
            want.append(border)
    borders = targets.borders(values, num_ranges)
    assert borders.tolist() == want
    groups = problem.group_of(values, borders)
    assert groups.tolist() == [sum(b <= v for b in want) for v in values]
    assert np.bincount(groups, minlength=len(want) + 1).min() > 0


def test_ranges_of_distinct_targets_are_alike_in_size():
    groups = problem.group_of(DRAWS["distinct"], targets.borders(DRAWS["distinct"], 3))
    sizes = np.bincount(groups)
    assert len(sizes) == 3 and sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.333, 1.0])
def test_noise_draws_that_many_from_the_targets_there_are(rate):
    values = np.arange(300, dtype=np.float32) ** 2
    counts = []
    for seed in range(20):
        noisy = targets.corrupt(values, kind="symmetric", rate=rate, seed=seed)
        assert set(noisy) <= set(values) and noisy.dtype == np.float64
        counts.append((noisy != values).sum())
    most = int(np.floor(rate * 300))
    # One in 300 draws its own target again.
    assert max(counts) <= most and np.mean(counts) >= 0.98 * most
    same = targets.corrupt(values, kind="symmetric", rate=rate, seed=19)
    np.testing.assert_array_equal(same, noisy)
    clean = targets.corrupt(values, kind="none", rate=0.0, seed=0)
    np.testing.assert_array_equal(clean, values)


def test_metrics_are_those_of_scikit_learn():
    labels = RNG.normal(50, 20, 200)
    found = {"prediction": (labels + RNG.normal(0, 9, 200)).astype(np.float32)}
    metrics = REGRESSION.summary(found, labels)
    want = r2_score(labels, found["prediction"])
    np.testing.assert_allclose(metrics["r2"], want, rtol=1e-6)
    want = mean_absolute_error(labels, found["prediction"])
    np.testing.assert_allclose(metrics["mae"], want, rtol=1e-6)


# --------------------------------------------------------------------------- whole runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("regression") / "run"
    train.run(tiny(), workdir, devices=tuple(jax.devices()[:1]))
    return workdir


def arrays_of(workdir):
    newest = max((workdir / "checkpoints").iterdir(), key=lambda p: int(p.name))
    arrays = checkpoints.read(newest)
    return {name: values for name, values in arrays.items() if name != "seconds"}


def test_targets_and_metrics_are_in_the_units_of_the_data(finished):
    with (finished / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    data = datasets.load("diabetes", label_kind="targets")
    targets = [int(target) for target in load_diabetes().target]  # all are whole
    written = set(map(str, targets))
    changed = 0
    for row in rows:
        assert {row["given_label"], row["true_label"]} <= written  # to the last digit
        assert row["true_label"] == str(targets[int(row["row"])])
        changed += row["given_label"] != row["true_label"]
    assert 0.3 < changed / len(rows) <= 0.4
    assert len(rows) == len(data.train_labels) - 33
    last = json.loads((finished / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["test_r2"] < 1 and 20 < last["test_mae"] < 120  # of 25 to 346
    assert {"meta_r2", "meta_mae"} <= last.keys() and "test_accuracy" not in last


def test_figures_of_a_run(finished):
    data = datasets.load("diabetes", label_kind="targets")
    paths = plots.run_figures(finished, images=data.shown, rows=data.rows)
    names = {path.name for path in paths}
    assert names == {
        *("weight_curves.png", "weight_histogram.png", "targets.png", "suspects.png")
    }


def test_a_stopped_run_ends_at_the_same_bits(finished, tmp_path, monkeypatch):
    def check(self, step):
        if step in (3, 11):
            raise Interrupted

    monkeypatch.setattr(Signals, "check", check)
    one = tuple(jax.devices()[:1])
    for step in (3, 11):
        with pytest.raises(Interrupted, match=f"continues from step {step}[.]"):
            train.run(tiny(), tmp_path / "run", devices=one)
    train.run(tiny(), tmp_path / "run", devices=one)
    ours, theirs = arrays_of(tmp_path / "run"), arrays_of(finished)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].tobytes() == theirs[name].tobytes(), name
    samples = [(path / "samples.csv").read_bytes() for path in (tmp_path / "run",)]
    assert samples == [(finished / "samples.csv").read_bytes()]


def test_two_devices_agree_with_one(finished, tmp_path):
    train.run(tiny(), tmp_path / "run", devices=tuple(jax.devices()[:2]))
    ours, theirs = arrays_of(tmp_path / "run"), arrays_of(finished)
    for name in theirs:
        np.testing.assert_allclose(
            ours[name], theirs[name], rtol=1e-3, atol=1e-4, err_msg=name
        )


# ---------------------------------------------------------- what a user has is observed


@pytest.fixture
def with_truth(tmp_path):
    """Files of 90 samples with outliers among the targets, and with the right ones."""
    rng = np.random.default_rng(3)
    inputs = rng.normal(size=(90, 2)).round(3)
    true = (10 * inputs.sum(axis=1) + 91).round(2)
    given = true.copy()
    given[::5] += 400
    paths = {}
    for name, column in (("given", given), ("truth", true)):
        paths[name] = tmp_path / f"{name}.csv"
        lines = [f"{a},{b},{t}" for (a, b), t in zip(inputs, column, strict=True)]
        paths[name].write_text("\n".join(["a,b,target", *lines]) + "\n")
    return paths, given, true


def of_files(paths, **fields):
    given = {
        "data.name": str(paths["given"]),
        "data.csv.truth": str(paths["truth"]),
        "data.csv.test": str(paths["truth"]),
        "noise.kind": "none",
        "noise.rate": 0.0,
        "meta_set.per_class": 2,
    }
    return tiny(**given | fields)


def test_units_and_ranges_are_those_of_observed_targets(with_truth):
    paths, given, true = with_truth
    got = problem.prepare(of_files(paths))
    assert got.dataset.units == pytest.approx((given.mean(), given.std()))
    ordered = sorted(given)  # 90 of them: each range has 30
    assert got.borders.tolist() == [ordered[30], ordered[60]]
    held_out = np.isin(np.arange(90), got.meta_index)
    np.testing.assert_array_equal(got.labels, np.where(held_out, true, given))
    np.testing.assert_array_equal(got.true_labels, true)
    assert got.is_wrong.sum() == (given != true)[~held_out].sum() > 10
    # Trusted are two of each range by their right targets.
    places = [sum(t >= b for b in got.borders) for t in true[got.meta_index]]
    assert sorted(places) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("with_observed", [True, False])
def test_observed_targets_are_a_copy_and_everyone_has_one(with_observed):
    true, other = np.arange(5.0), np.array([0.0, -1.0, 7.5, 3.0, 4.0])
    rows = np.ones((5, 2), np.float32)
    data = Dataset(rows, true, rows, true, 0, (), kind="rows")
    if with_observed:
        data = data._replace(observed_labels=other)
    labels, with_label, without = problem._observe(data)
    assert labels.tolist() == (other if with_observed else true).tolist()
    # The target -1 is a target, and no sample without a label.
    assert with_label.tolist() == [0, 1, 2, 3, 4] and without.tolist() == []
    assert with_label.dtype == without.dtype == np.int32
    labels[0] = 99  # of a copy
    assert true[0] == other[0] == 0


def test_labels_file_has_the_targets_as_observed(with_truth, tmp_path):
    paths, given, true = with_truth
    config = of_files(paths)
    got = problem.prepare(config)
    write_problem(tmp_path, config, got)
    with np.load(tmp_path / "labels.npz") as saved:
        np.testing.assert_array_equal(saved["observed"], got.labels)
        np.testing.assert_array_equal(saved["changed"], got.labels != true)


# --------------------------------------------------- targets that differ nowhere


def table(path, targets):
    """A file with these targets."""
    lines = [f"{i},{i % 7},{target}" for i, target in enumerate(targets)]
    path.write_text("\n".join(["a,b,target", *lines]) + "\n")
    return str(path)


VARIED, SAME = range(40), [91.5] * 40


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"name": SAME}, r"train_labels are 30, all of them 91\.5, but R².*: add"),
        ({"name": VARIED, "test": SAME}, "test_labels are 40, all of them 91"),
        ({"name": VARIED, "test": [3]}, "test_labels are 1, all of them 3, but"),
        ({"name": SAME, "truth": VARIED}, "observed_labels are 30, all of them 91"),
    ],
)
def test_targets_that_are_all_equal_are_refused(tmp_path, files, message):
    paths = {part: table(tmp_path / f"{part}.csv", t) for part, t in files.items()}
    name = paths.pop("name")
    with pytest.raises(ValueError, match=rf"name.csv: {message}"):
        datasets.load(name, label_kind="targets", csv=paths)
    fields = {f"data.csv.{part}": path for part, path in paths.items()}
    with pytest.raises(ValueError, match=message):
        assemble(tiny(**{"data.name": name}, **fields), tmp_path / "never")
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data.validation": 1}, r"targets of config.data.validation are 1, all of t"),
        (
            {"weighting.num_families": 1, "meta_set.per_class": 1},
            "targets of config.meta_set are 1, all of them",
        ),
    ],
)
def test_an_epoch_cannot_be_selected_by_targets_that_are_all_equal(fields, message):
    with pytest.raises(ValueError, match=message):
        problem.prepare(tiny(**fields))


def test_a_truth_that_is_constant_is_no_reason_to_refuse(tmp_path):
    name = table(tmp_path / "given.csv", VARIED)
    files = {"truth": table(tmp_path / "truth.csv", SAME)}
    files["test"] = table(tmp_path / "test.csv", VARIED)
    data = datasets.load(name, label_kind="targets", csv=files)
    assert data.train_labels.tolist() == SAME


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "gce"}, "config.method='gce' is not for config.task='reg"),
        ({"method": "elr"}, "config.method='elr' is not for config.task='reg"),
        ({"loss": "cross_entropy"}, r"loss='cross_entropy' is not .*\['squared_error'"),
        ({"task": "classification"}, "loss='squared_error' is not .*='class"),
    ],
)
def test_methods_and_losses_for_another_task_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        check_config(tiny(**fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"noise.kind": "asymmetric"}, "noise.kind='asymmetric' is for classes"),
        (
            {"data.name": "breast_cancer"},
            "labels of 'breast_cancer' are classes: set",
        ),
        (
            {"task": "classification", "loss": "cross_entropy"},
            r"labels of 'diabetes' are targets: set it to one of \['regression'\]",
        ),
        ({"data.imbalance_factor": 10.0}, "data.imbalance_factor=10.0 .*regression"),
        ({"data.labels": "human"}, "data.labels='human' .*regression"),
    ],
)
def test_data_and_biases_for_another_task_are_refused(fields, message):
    config = tiny(**fields)
    with pytest.raises(ValueError, match=message):
        check_config(config)
        problem.prepare(config)
