"""The scikit-learn front: what it takes, what it says, and what it leaves to others."""

import pickle

import flax.linen as nn
import numpy as np
import pytest
from flax import nnx
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, PredefinedSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import cmwjax
from cmwjax import CMWClassifier, defaults, find_label_errors, fitting, label_errors
from cmwjax.classifier import load_classifier
from cmwjax.config import base_config
from cmwjax.data import arrays

ROWS, CLASSES = make_blobs(240, centers=3, n_features=4, random_state=0)
ROWS = ROWS.astype(np.float32)
NOISY = np.where(np.arange(240) % 6, CLASSES, (CLASSES + 1) % 3)  # a sixth is wrong
WRONG = NOISY != CLASSES
FAST = {
    "method": "erm",  # compiles in a moment
    "epochs": 3,
    "random_state": 0,
    "config": {"model.options": {"hidden": (8,)}, "data.batch_size": 40},
}


class Tiny(nn.Module):
    """A module of one's own."""

    num_classes: int = 3

    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(self.num_classes)(x.reshape(x.shape[0], -1))


class OwnNNX(nnx.Module):
    """Another one."""

    def __init__(self, features, num_classes, rngs):
        self.linear = nnx.Linear(features, num_classes, rngs=rngs)

    def __call__(self, x, train):
        return self.linear(x)


def fast(**others):
    return CMWClassifier(**FAST | others)


@pytest.fixture(scope="module")
def fitted():
    return fast(method="cmw_net", epochs=8).fit(ROWS, NOISY)


def test_it_learns_in_spite_of_wrong_labels_and_ranks_them_first(fitted):
    assert np.mean(fitted.predict(ROWS) == CLASSES) > 0.95
    assert fitted.score(ROWS, CLASSES) > 0.95
    assert fitted.label_quality_.shape == fitted.sample_weight_.shape == (240,)
    assert roc_auc_score(WRONG, -fitted.label_quality_) > 0.95
    assert np.mean(fitted.suggested_label_[WRONG] == CLASSES[WRONG]) > 0.9
    assert np.all((fitted.label_quality_ >= 0) & (fitted.label_quality_ <= 1))
    assert fitted.weighting_function_.num_families >= 1
    assert fitted.n_features_in_ == 4 and fitted.classes_.tolist() == [0, 1, 2]


def test_probabilities_are_those_of_a_net_by_hand(fitted):
    params = fitted.classifier_.variables["params"]
    mean, deviation = fitted.classifier_.statistics
    x = (ROWS.astype(np.float64) - mean) / deviation
    first, second = params["Dense_0"], params["head"]
    hidden = np.maximum(x @ first["kernel"] + first["bias"], 0)
    logits = hidden @ second["kernel"] + second["bias"]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    want = odds / odds.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(fitted.predict_proba(ROWS), want, atol=1e-5)


def test_it_goes_home_without_a_pickle_and_through_one(fitted, tmp_path):
    fitted.save(tmp_path / "mine.safetensors")
    loaded = load_classifier(tmp_path / "mine.safetensors")
    np.testing.assert_array_equal(loaded.predict(ROWS), fitted.predict(ROWS))
    assert loaded.classes.dtype.kind == "i"  # as they were given
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(ROWS), fitted.predict(ROWS))


def test_a_temporary_folder_is_removed_and_ones_own_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fast(epochs=1).fit(ROWS, NOISY)
    assert not list(tmp_path.iterdir())
    kept = tmp_path / "kept"
    one = fast(epochs=1, workdir=kept).fit(ROWS, NOISY)
    assert (kept / "samples.csv").is_file() and (kept / "config.json").is_file()
    again = fast(epochs=1, workdir=kept).fit(ROWS, NOISY)  # is finished, and read
    np.testing.assert_array_equal(again.label_quality_, one.label_quality_)
    with pytest.raises(ValueError, match="another configuration: epochs is 1 there"):
        fast(epochs=2, workdir=kept).fit(ROWS, NOISY)


def test_its_page_is_that_of_the_run(fitted, tmp_path):
    page = fitted.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!") and "CMW-Net" in page
    assert len(page) > 10_000 and "test accuracy" not in page.lower()
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def names(label):
    return "abc"[label]


def pairs(label):
    return (int(label), "x")


def mixed(label):
    return (0, "one", None.__class__)[label]


@pytest.mark.parametrize("kind", [names, pairs, mixed, bool])
def test_labels_of_any_kind_come_back_as_they_are(kind):
    size = 2 if kind is bool else 3
    rows, classes = ROWS[size > CLASSES], CLASSES[size > CLASSES]
    labels = [kind(label) for label in classes]
    found = fast(epochs=4).fit(rows, labels)
    assert set(found.classes_.tolist()) == set(labels)
    predicted = found.predict(rows).tolist()
    assert np.mean([a == b for a, b in zip(predicted, labels, strict=True)]) > 0.9


def test_names_of_classes_are_no_two_alike():
    assert arrays.names_of(np.array([1, 2])) == ("1", "2")
    assert arrays.names_of(arrays.filled([1, "1"])) == ("1", "'1'")
    assert arrays.names_of(np.array(["", "a"])) == ("''", "'a'")


def test_rows_that_validate_are_judged_as_well():
    found = fast().fit(ROWS, NOISY, validation=0.25)
    assert np.isfinite(found.label_quality_).all()
    assert np.count_nonzero(found.sample_weight_ == 0) == 60
    pair = fast().fit(ROWS[:200], NOISY[:200], validation=(ROWS[200:], NOISY[200:]))
    assert pair.label_quality_.shape == (200,) and pair.sample_weight_.all()


def test_trusted_samples_judge_the_rows_that_they_are_a_copy_of():
    trusted = np.r_[0:12]  # rows 0 and 6 have wrong labels
    pair = ROWS[trusted], CLASSES[trusted]
    found = fast().fit(ROWS, NOISY, trusted=pair)
    want = (NOISY == CLASSES)[trusted].astype(float)
    np.testing.assert_array_equal(found.label_quality_[trusted], want)
    np.testing.assert_array_equal(found.suggested_label_[trusted], CLASSES[trusted])
    assert not found.sample_weight_[trusted].any() and found.sample_weight_[12:].all()


def test_images_are_numbers_of_eight_bits_or_shares_of_white():
    images, digits = load_digits(return_X_y=True)
    images, digits = images[:300].reshape(-1, 8, 8), digits[:300]
    one = fast(epochs=2).fit(images / 16, digits)  # floats in [0, 1]
    assert one.classifier_.kind == "images" and one.classifier_.shape == (8, 8, 1)
    other = np.rint(images / 16 * 255).astype(np.uint8)[..., None]
    np.testing.assert_array_equal(one.predict(other), one.predict(images / 16))


@pytest.mark.slow
def test_texts_and_tokens():
    words = np.array([["red", "rose"], ["blue", "sky"], ["green", "leaf"]])
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words[c], 6)) for c in CLASSES]
    small = {"config": None, "epochs": 4}
    read = fast(**small).fit(texts, CLASSES)
    assert np.mean(read.predict(texts) == CLASSES) > 0.95
    vocabulary = read.classifier_.vocabulary
    tokens = vocabulary.encode(texts, 32)
    counted = fast(inputs="tokens", **small).fit(tokens, CLASSES)
    assert np.mean(counted.predict(tokens) == CLASSES) > 0.95
    with pytest.raises(ValueError, match="tokens, whole numbers in"):
        counted.predict(tokens + 10_000)


def test_a_module_of_ones_own_and_any_method():
    found = fast(model=Tiny(), config=None, epochs=4).fit(ROWS, NOISY)
    assert found.classifier_.module == Tiny() and found.classifier_.model is None
    assert np.mean(found.predict(ROWS) == CLASSES) > 0.9
    assert clone(found).get_params()["model"] == Tiny()
    assert found.weighting_function_ is None
    np.testing.assert_array_equal(found.sample_weight_, 1)


def test_a_module_of_nnx_goes_over_a_bridge():
    model = nnx.bridge.to_linen(OwnNNX, 4, 3)
    found = fast(model=model, config=None, epochs=4).fit(ROWS, NOISY)
    assert np.mean(found.predict(ROWS) == CLASSES) > 0.9


def test_the_seed_decides_and_nothing_else_does():
    one, same, other = (
        fast(epochs=2, random_state=seed).fit(ROWS, NOISY).label_quality_
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_wrong_labels_by_one_fit_and_out_of_fold(fitted):
    one = find_label_errors(ROWS, NOISY, **FAST | {"method": "cmw_net", "epochs": 8})
    np.testing.assert_array_equal(np.sort(one["row"]), np.arange(240))
    np.testing.assert_array_equal(
        one["label_quality"], np.sort(fitted.label_quality_, kind="stable")
    )
    np.testing.assert_array_equal(one["given_label"], NOISY[one["row"]])
    quality, issue = one["label_quality"], one["is_label_issue"]
    differs = one["given_label"] != one["predicted_label"]
    np.testing.assert_array_equal(issue, (quality < 0.5) & differs)
    assert np.mean(WRONG[one["row"][issue]]) > 0.9 and issue.sum() > 30


def test_out_of_fold_is_the_mean_of_who_has_not_seen_a_row(monkeypatch):
    calls = []

    def fit(settings, config, samples, workdir):
        calls.append(samples.dataset.validation_index)
        quality = np.full(samples.count, len(calls) / 10)
        suggested = np.full(samples.count, len(calls) % 3)
        assert config.data.validation == 0
        return fitting.Fitted(None, None, quality, suggested, quality, {})

    monkeypatch.setattr(fitting, "fit", fit)
    labels = np.append(CLASSES, 3)  # the only one of its class
    rows = np.append(ROWS, ROWS[:1], axis=0)
    found = find_label_errors(rows, labels, cv=3, random_state=0)
    assert len(calls) == 3
    assert sorted(np.concatenate(calls)) == list(range(240))
    by_row = found[np.argsort(found["row"])]
    for number, part in enumerate(calls, start=1):
        np.testing.assert_array_equal(by_row["label_quality"][part], number / 10)
        np.testing.assert_array_equal(by_row["predicted_label"][part], number % 3)
    assert by_row["label_quality"][240] == pytest.approx(0.2)  # of all three
    calls.clear()
    fold = np.arange(240) % 2
    find_label_errors(ROWS, CLASSES, cv=PredefinedSplit(fold))
    np.testing.assert_array_equal(calls[1], np.flatnonzero(fold == 1))


def test_a_data_frame_of_wrong_labels(monkeypatch):
    found = np.zeros(2, [("row", int), ("label_quality", float)])
    found = found.view(label_errors.LabelErrors)

    class Pandas:
        DataFrame = staticmethod(lambda array: array.dtype.names)

    monkeypatch.setitem(__import__("sys").modules, "pandas", Pandas)
    assert found.to_frame() == ("row", "label_quality")


@pytest.mark.parametrize(
    ("parameters", "arguments", "message"),
    [
        ({"method": "cmwnet"}, {}, "method='cmwnet' is unknown; choose"),
        ({"model": "resnet"}, {}, "model='resnet' is unknown; .* a Linen module"),
        ({"model": 3}, {}, "model=3 is a int: give a Linen module"),
        ({"epochs": 1.5}, {}, "epochs=1.5 must be a whole number"),
        ({"inputs": "image"}, {}, "inputs='image' is unknown; choose one"),
        ({"config": [1]}, {}, r"config=\[1\] must be a dict of fields"),
        ({"config": {"optim.lr": 1}}, {}, "config has 'optim.lr', which is no field"),
        ({"config": {"epochs": 0}}, {}, "config.epochs=0 is out of range"),
        ({}, {"y": None}, "requires y to be passed, but the target y is None"),
        ({}, {"y": NOISY[:9]}, "X has 240 samples, but y has 9 labels: give"),
        ({}, {"y": np.zeros(240)}, r"y has one class, \[0.0\]: give"),
        ({}, {"y": NOISY + 0.5 * (NOISY > 1) + 0.3}, "Unknown label type: continuous"),
        ({}, {"y": [None, *NOISY[1:]]}, "y has None at position 0: give every"),
        ({}, {"y": [[1], *NOISY[1:]]}, r"y has \[1\] at position 0, a list, which"),
        ({}, {"X": ROWS * np.nan}, r"X has nan \(NaN or infinity\) in row 0, col"),
        ({}, {"X": ROWS[:, 0]}, "X: Expected 2D array, got 1D .*: give rows"),
        ({}, {"X": ROWS.reshape(240, 2, 2) - 99}, "X must be uint8, or .*floats in"),
        ({"inputs": "texts"}, {"X": [1] * 240}, "X has 1 at position 0, which is no"),
        ({"inputs": "tokens"}, {"X": ROWS}, "X is float32 .* tokens are whole numbers"),
        ({}, {"trusted": ROWS}, r"trusted is a ndarray and must be a pair \(X"),
        ({}, {"trusted": (ROWS, CLASSES + 5)}, r"trusted\[1\] has .* none of the 3 cl"),
        ({}, {"validation": 1.5}, "validation=1.5 must be a pair .*or a share in"),
        ({}, {"trusted": (ROWS[:, :2], CLASSES)}, "X has 2 features, but CMW.* 4"),
    ],
)
def test_bad_input_is_one_error(parameters, arguments, message):
    arguments = {"X": ROWS, "y": NOISY} | arguments
    with pytest.raises(ValueError, match=message):
        CMWClassifier(**parameters).fit(**arguments)


@pytest.mark.parametrize("cv", [1, 1000, True, "five", 0.2])
def test_bad_splits_are_one_error(cv):
    with pytest.raises(ValueError, match="cv=.*a number of"):
        find_label_errors(ROWS, NOISY, cv=cv)


class Column:
    kind = "O"

    def __repr__(self):
        return "object"


def test_a_column_of_words_is_named():
    class Frame:
        columns = ("age", "town")
        dtypes = (np.dtype(float), np.dtype(object))

    with pytest.raises(ValueError, match="X has the column 'town' of object: leave it"):
        arrays.check_columns(Frame, name="X")


@pytest.mark.parametrize("counts", [(2, 2), (1, 90), (5, 5, 5), (700, 30), (60_000, 9)])
@pytest.mark.parametrize("kind", ["rows", "images", "tokens"])
def test_defaults_fit_any_number_of_samples(kind, counts):
    config = base_config()
    shape = {"rows": (4,), "images": (28, 28, 1), "tokens": (16,)}[kind]
    with config.unlocked():
        defaults.fit_to(config, defaults.Size(kind, shape, counts))
    assert config.data.batch_size % config.data.shards == 0
    assert config.data.batch_size <= sum(counts)
    assert 1 <= config.meta_set.per_class <= min(counts)
    assert len(counts) * config.meta_set.per_class >= config.data.shards
    assert 1 <= config.warmup_epochs < config.epochs


@pytest.mark.slow
def test_two_samples_of_each_class_are_enough():
    found = fast(config=None).fit(ROWS[:6], [0, 0, 1, 1, 2, 2])
    assert found.predict(ROWS).shape == (240,)


@pytest.mark.slow
def test_it_is_a_part_of_pipelines_and_searches():
    one = make_pipeline(StandardScaler(), fast(epochs=6))
    scores = cross_val_score(one, ROWS, CLASSES, cv=3)
    assert scores.mean() > 0.9
    grid = {"cmwclassifier__method": ["erm", "cmw_net"]}
    search = GridSearchCV(one, grid, cv=2).fit(ROWS, NOISY)
    assert search.best_params_["cmwclassifier__method"] in ("erm", "cmw_net")
    assert search.predict(ROWS).shape == (240,)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["cmw_net_sl", "elr", "plc", "forward", "l2rw", "mcw", "ldam_drw", "rrm"]
)
def test_methods_that_need_more_than_others_have_it(method):
    config = {**FAST["config"]}
    if method == "ldam_drw":
        config = None
    if method == "forward":
        config["baseline.forward.transition"] = "estimated"
    found = fast(method=method, config=config, epochs=5).fit(ROWS, NOISY)
    assert np.mean(found.predict(ROWS) == CLASSES) > 0.8


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:SCIPY_ARRAY_API")
@parametrize_with_checks([CMWClassifier(epochs=15, random_state=0)])
def test_what_scikit_learn_asks_of_estimators(estimator, check):
    check(estimator)


def test_the_front_is_loaded_when_it_is_asked_for():
    assert cmwjax.CMWClassifier is CMWClassifier
    assert cmwjax.find_label_errors is find_label_errors
