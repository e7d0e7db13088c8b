"""The classifier that is taken home says what the run that trained it says."""

import json
from functools import cache

import flax.linen as nn
import numpy as np
import pytest

import runs
from cmwjax.bias.problem import prepare
from cmwjax.classifier import load_classifier, save_classifier
from cmwjax.models.pretrained import load_weights
from cmwjax.report.result import summarise
from cmwjax.report.samples import samples_of
from cmwjax.stopping import Interrupted

ROWS = {"data.name": "breast_cancer", "weighting.num_families": 2}
TEXTS = {
    "data.name": "headlines",
    "model.name": "text",
    "model.options": {"embedding": 8, "hidden": ()},
    "meta_set.policy": "lowest_loss",
    "meta_set.per_class": 10,
}
TARGETS = {
    "data.name": "diabetes",
    "task": "regression",
    "loss": "squared_error",
    "data.validation": 0.2,
    "optim.learning_rate": 0.01,
}
ORDINAL = {"task": "ordinal", "loss": "task"}
TEACHER = {"method": "cmw_net_sl", "ema.decay": 0.5}
KINDS = {
    "images": {},
    "rows": ROWS,
    "texts": TEXTS,
    "targets": TARGETS,
    "teacher": TEACHER,
    "ordinal": ORDINAL,
    "selective": {"task": "selective", "loss": "task"},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Trains one run of each kind, when it is first asked for."""

    @cache
    def workdir(kind):
        folder = tmp_path_factory.mktemp(kind) / "run"
        runs.run(runs.tiny(**KINDS[kind]), folder)
        return folder

    return workdir


def data_of(kind):
    return prepare(runs.tiny(**KINDS[kind])).dataset


@pytest.mark.parametrize(
    "kind",
    [
        k if k in ("rows", "images") else pytest.param(k, marks=pytest.mark.slow)
        for k in KINDS
    ],
)
def test_it_suggests_what_the_list_of_samples_does(finished, kind):
    workdir, data = finished(kind), data_of(kind)
    samples = samples_of(workdir)
    inputs = data.train_inputs if data.vocabulary is None else np.array(data.shown)
    at = dict(zip(data.rows, range(len(data.rows)), strict=True))
    last = load_classifier(workdir, which="last")
    found = last.predict(inputs[[at[row] for row in samples["row"]]])
    if kind == "targets":
        np.testing.assert_allclose(found, samples["suggested_label"], rtol=1e-5)
        return
    names = np.array(data.class_names).astype(last.classes.dtype)
    np.testing.assert_array_equal(last.classes, names)
    assert (names.dtype.kind == "i") == (data.class_names[0] == "0")
    same = found.astype(str) == samples["suggested_label"]
    assert same.mean() > 0.995  # but for two classes that are level
    likely = last.predict_proba(inputs[:7])
    np.testing.assert_allclose(likely.sum(1), 1, rtol=1e-5)
    best = likely.argmax(1)
    if kind == "ordinal":  # the median
        best = np.sum(np.cumsum(likely, axis=1) < 0.5, axis=1)
    np.testing.assert_array_equal(names[best], last.predict(inputs[:7]))


@pytest.mark.parametrize("kind", ["images", "rows", "targets", "teacher"])
def test_the_selected_one_is_of_the_epoch_that_the_result_selects(finished, kind):
    workdir, data = finished(kind), data_of(kind)
    epochs, result = runs.lines(workdir), summarise(workdir)
    part = "validation" if kind == "targets" else "meta"
    judged = [epoch[f"{part}_{result.criterion}"] for epoch in epochs]
    best = epochs[judged.index(max(judged))]
    for which, epoch, want in (
        ("last", epochs[-1], result.test_score),
        ("selected", best, result.selected_score),
    ):
        one = load_classifier(workdir, which=which)
        assert one.provenance["epoch"] == epoch["epoch"]
        found = one.predict(data.test_inputs)
        if kind == "targets":
            error = np.sum((found - data.test_labels) ** 2)
            score = 1 - error / np.sum(
                (data.test_labels - data.test_labels.mean()) ** 2
            )
        else:
            names = np.array(data.class_names).astype(one.classes.dtype)
            score = np.mean(found == names[data.test_labels])
        assert score == pytest.approx(want, abs=2e-3)


def test_without_a_set_to_select_by_there_is_the_last_one(finished):
    workdir = finished("texts")
    assert not (workdir / "classifier_selected.safetensors").exists()
    assert load_classifier(workdir).provenance["epoch"] == 3


def test_however_often_it_is_stopped_the_files_are_the_same(
    finished, tmp_path, monkeypatch
):
    config = runs.tiny()
    with monkeypatch.context() as patch:
        runs.stop_after(patch, *range(1, runs.STEPS, 3))
        for _ in range(runs.STEPS):
            try:
                runs.run(config, tmp_path / "run")
                break
            except Interrupted:
                continue
    for name in ("classifier.safetensors", "classifier_selected.safetensors"):
        want = (finished("images") / name).read_bytes()
        assert (tmp_path / "run" / name).read_bytes() == want


def test_training_may_start_from_it(finished):
    workdir = finished("images")
    one = load_classifier(workdir, which="last")
    path = workdir / "classifier.safetensors"
    like = {"params": one.variables["params"]}
    got = load_weights(path, like)
    for layer, leaves in got["params"].items():
        for name, value in leaves.items():
            np.testing.assert_array_equal(value, one.variables["params"][layer][name])


def test_a_file_tells_all_that_a_classifier_is(finished, tmp_path):
    """Written once more from what was read, it is the same to the last byte."""
    for kind in ("images", "texts", "targets"):
        path = finished(kind) / "classifier.safetensors"
        save_classifier(tmp_path / "again.safetensors", load_classifier(path))
        assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


class Own(nn.Module):
    """A module of one's own."""

    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(10)(x.reshape(x.shape[0], -1))


def test_a_module_of_ones_own_is_asked_for(tmp_path):
    workdir = tmp_path / "run"
    runs.run(runs.tiny(), workdir, model=Own())
    with pytest.raises(ValueError, match="module of your own, Own: pass it as model="):
        load_classifier(workdir)
    data = data_of("images")
    one = load_classifier(workdir, model=Own(), which="last")
    found = one.predict(data.test_inputs) == data.test_labels  # digits by their names
    assert found.mean() == pytest.approx(runs.lines(workdir)[-1]["test_accuracy"])


# -------------------------------------------------------------------- what is refused


def test_a_folder_without_one_is_refused(tmp_path, finished):
    with pytest.raises(
        FileNotFoundError, match="holds no classifier.safetensors: give"
    ):
        load_classifier(tmp_path)
    run = tmp_path / "cmw_net" / "seed_3"
    run.mkdir(parents=True)
    content = (finished("images") / "classifier.safetensors").read_bytes()
    (run / "classifier.safetensors").write_bytes(content)
    message = "comparison of several runs: give the folder of one.*cmw_net/seed_3"
    with pytest.raises(ValueError, match=message):
        load_classifier(tmp_path)
    with pytest.raises(ValueError, match="which='best' is unknown; choose one of"):
        load_classifier(run, which="best")


@pytest.mark.parametrize("content", [b"", b"\x01" * 99, json.dumps({}).encode()])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="x.safetensors is no classifier"):
        load_classifier(path)


def test_the_weighting_function_is_no_classifier(finished):
    path = finished("images") / "weighting.safetensors"
    with pytest.raises(
        ValueError, match="has format 'cmwjax weighting function 1', not"
    ):
        load_classifier(path)


INPUTS = {
    "one image": ("images", np.zeros((8, 8, 1), np.uint8), "shape \\[8, 8, 1\\], but"),
    "floats": (
        "images",
        np.full((2, 8, 8, 1), 7.5),
        "inputs must be uint8, or in memory floats in \\[0, 1\\], got float64",
    ),
    "columns": (
        "rows",
        np.zeros((2, 29)),
        "rows of shape \\[30\\]: give \\['N', 30\\]",
    ),
    "NaN": ("rows", np.full((2, 30), np.nan), "inputs has nan in row 0, column 0"),
    "words": ("rows", np.full((2, 30), "x"), "inputs must be numbers"),
    "a text": ("texts", "one text", "inputs must be texts: give a list of strings"),
    "numbers": ("texts", [1, 2], "inputs must be texts: give a list of strings"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_of_another_kind_are_refused(finished, name):
    kind, inputs, message = INPUTS[name]
    with pytest.raises(ValueError, match=message):
        load_classifier(finished(kind)).predict(inputs)


def test_a_regression_has_no_probabilities(finished):
    one = load_classifier(finished("targets"))
    with pytest.raises(ValueError, match="a regression has no probabilities: use pred"):
        one.predict_proba(data_of("targets").test_inputs)


def test_no_inputs_give_no_predictions(finished):
    one = load_classifier(finished("images"))
    assert one.predict(np.zeros((0, 8, 8, 1), np.uint8)).shape == (0,)
    assert one.predict_proba(np.zeros((0, 8, 8, 1), np.uint8)).shape == (0, 10)
