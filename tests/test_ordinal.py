"""Ordinal regression: its formulas as loops, and runs; a made-up task needs no more."""

import csv
import json

import jax.numpy as jnp
import numpy as np
import pytest

from cmwjax import compare
from cmwjax.bias.problem import prepare
from cmwjax.config_check import check_config
from cmwjax.core.labels import CLASSES, TARGETS
from cmwjax.report import plots
from cmwjax.report.read import task_of
from cmwjax.report.samples import read_samples
from cmwjax.tasks import ordinal
from cmwjax.tasks.catalogue import TASKS
from cmwjax.tasks.task import Task
from tests.runs import lines, run, tiny

NAMES = ("poor", "fair", "good", "best")  # not the order of the alphabet
OUTPUTS = np.random.default_rng(0).normal(0, 2, (60, 3))
LABELS = np.arange(60) % 4


def probabilities(outputs):
    """The model read aloud: stay in a class, or go on to the next one."""
    left, p = 1.0, []
    for output in outputs:
        goes_on = 1 / (1 + np.exp(-output))
        p.append(left * (1 - goes_on))
        left *= goes_on
    return [*p, left]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A file of 240 rows, whose class grows with their first number."""
    path = tmp_path_factory.mktemp("data") / "grades.csv"
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(240, 3))
    grades = np.digitize(inputs[:, 0], [-0.8, 0, 0.8])
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["first", "second", "third", "label"])
        for row, grade in zip(inputs, grades, strict=True):
            writer.writerow([*row, NAMES[grade]])
    return str(path)


def config_of(table, **fields):
    given = {
        "task": "ordinal",
        "loss": "task",
        "data.name": table,
        "data.csv.classes": NAMES,
        "data.train_size": 0,
        "data.batch_size": 20,
        "noise.rate": 0.2,
        "epochs": 8,
    }
    return tiny(**given | fields)


def numbers(tree):
    """All numbers in a tree of dictionaries and lists."""
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list):
        return [number for branch in tree for number in numbers(branch)]
    return [tree]


# ----------------------------------------------------------------------------- formulas


def test_losses_are_those_of_the_model_sample_by_sample():
    batch = {"label": jnp.asarray(LABELS)}
    losses = ordinal.losses(jnp.asarray(OUTPUTS, jnp.float32), batch)
    want = [-np.log(probabilities(z)[y]) for z, y in zip(OUTPUTS, LABELS, strict=True)]
    np.testing.assert_allclose(losses, want, rtol=1e-5, atol=1e-6)


def test_losses_far_from_the_label_stay_finite():
    batch = {"label": jnp.array([0, 3, 3])}
    outputs = jnp.array([[200.0] * 3, [-200.0] * 3, [200.0] * 3])
    np.testing.assert_allclose(ordinal.losses(outputs, batch), [200, 600, 0])


def test_the_prediction_is_off_by_least_in_the_mean():
    found = ordinal.scores(jnp.asarray(OUTPUTS, jnp.float32), {})["prediction"]
    for z, prediction in zip(OUTPUTS, found, strict=True):
        off = [
            sum(p * abs(k - c) for k, p in enumerate(probabilities(z)))
            for c in range(4)
        ]
        assert prediction == np.argmin(off)


def test_metrics_by_hand():
    labels = np.random.default_rng(2).integers(4, size=50)
    predicted = np.clip(labels + np.random.default_rng(3).integers(-1, 3, 50), 0, 3)
    metrics = ordinal.summary({"prediction": predicted}, labels)
    chance = np.mean([(a - b) ** 2 for a in labels for b in predicted])
    assert metrics["kappa"] == pytest.approx(
        1 - np.mean((labels - predicted) ** 2) / chance
    )
    assert metrics["mae"] == sum(abs(labels - predicted)) / 50
    assert metrics["accuracy"] == sum(labels == predicted) / 50


def test_metrics_of_one_class_and_of_none():
    same = np.full(5, 2)
    metrics = ordinal.summary({"prediction": same}, same)
    assert np.isnan(metrics.pop("kappa")) and metrics == {"mae": 0, "accuracy": 1}
    none = ordinal.summary({"prediction": same[:0]}, same[:0])
    assert none.keys() == {"kappa", "mae", "accuracy"}
    assert all(map(np.isnan, none.values()))


# --------------------------------------------------------------------------- whole runs


@pytest.mark.slow
def test_a_run_learns_the_order_and_leaves_figures(table, tmp_path):
    config = config_of(table)
    run(config, tmp_path)
    problem = prepare(config)
    assert problem.dataset.class_names == NAMES
    first, *_, last = lines(tmp_path)
    assert last["test_kappa"] > max(0.7, first["test_kappa"])
    assert {"test_mae", "test_accuracy", "meta_kappa"} <= last.keys()
    samples = read_samples(tmp_path / "samples.csv")
    assert set(samples["suggested_label"]) <= set(NAMES)
    given = dict(zip(problem.dataset.rows, problem.labels, strict=True))
    want = [NAMES[given[row]] for row in samples["row"]]
    assert samples["given_label"].tolist() == want
    data = problem.dataset
    figures = plots.run_figures(tmp_path, images=data.shown, rows=data.rows)
    assert {path.stem for path in figures} == {
        *("weight_curves", "weight_histogram", "transition_matrix", "suspects")
    }


@pytest.mark.slow
def test_a_comparison_is_by_its_criterion(table, tmp_path):
    config = config_of(table, epochs=2)
    with config.unlocked():
        config.compare.methods, config.compare.seeds = ("erm", "cmw_net"), (0,)
    assert "test quadratic kappa" in compare.run(config, tmp_path / "runs")
    scores = json.loads((tmp_path / "runs" / "summary.json").read_text())["methods"]
    last = lines(tmp_path / "runs" / "erm" / "seed_0")[-1]
    assert 100 * last["test_kappa"] in numbers(scores["erm"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss": "cross_entropy"}, r"loss='cross_entropy' is not .*\['task'\]"),
        ({"loss": "huber"}, "config.loss='huber' is not for config.task='ordinal'"),
        ({"method": "cmw_net_sl"}, "method='cmw_net_sl' is not for config.task='ord"),
        ({"task": "nominal"}, "config.task='nominal' is unknown; choose .*'ordinal'"),
        ({"task": "regression"}, r"csv.classes=\('poor', .* config.task='regression'"),
        ({"data.name": "digits"}, "config.data.csv.classes=.* is read only with"),
        ({"data.csv.classes": ("poor", "good", "poor")}, "has 'poor' twice: name each"),
        (
            {"data.csv.classes": NAMES[:3]},
            "'best' in line .* is none of the classe",
        ),
        ({"data.csv.classes": (*NAMES, "top")}, "no training sample of class 4"),
    ],
)
def test_what_an_ordinal_task_has_no_use_for_is_refused(table, fields, message):
    config = config_of(table, **fields)
    with pytest.raises(ValueError, match=message):
        check_config(config)
        prepare(config)


# ----------------------------------------------------- tasks that nobody has heard of


def upper_quartile(outputs, batch):
    """The pinball loss."""
    error = batch["label"] - outputs[:, 0]
    return jnp.maximum(0.75 * error, -0.25 * error)


UNHEARD = {
    "stairs": ordinal.ORDINAL._replace(
        summary=lambda found, labels: {"worth": np.mean(found["prediction"]) / 9},
        criterion="worth",
    ),
    "quartile": Task(
        label_kind=TARGETS,
        width=lambda num_classes: 1,
        losses=upper_quartile,
        scores=lambda outputs, batch: {"prediction": outputs[:, 0]},
        summary=lambda found, labels: {"worth": np.mean(labels < found["prediction"])},
        criterion="worth",
        title="worth",
        predict=lambda outputs: outputs[:, 0],
    ),
}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("stairs", "digits"),
        pytest.param("quartile", "diabetes", marks=pytest.mark.slow),
    ],
)
def test_a_task_is_a_row_in_the_catalogue(tmp_path, monkeypatch, name, data):
    task = UNHEARD[name]
    monkeypatch.setitem(TASKS, name, task)
    config = tiny(**{"task": name, "loss": "task", "data.name": data, "epochs": 2})
    run(config, tmp_path)
    assert 0 < lines(tmp_path)[-1]["test_worth"] <= 1
    assert task_of(tmp_path) is task
    drawn = {path.stem for path in plots.run_figures(tmp_path)}
    assert ("transition_matrix" in drawn) == (task.label_kind == CLASSES)
    monkeypatch.delitem(TASKS, name)
    with pytest.raises(ValueError, match=f"has the task '{name}', which is none of"):
        task_of(tmp_path)
