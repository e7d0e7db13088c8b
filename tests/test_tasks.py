"""Tasks and inputs beside images: their numbers, and whole runs through the trainer."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.metrics import mean_absolute_error, r2_score

from cmwjax import compare, train
from cmwjax.bias import targets
from cmwjax.bias.problem import prepare
from cmwjax.config import base_config
from cmwjax.config_check import check_config
from cmwjax.data import view
from cmwjax.data.augment import crop_and_flip
from cmwjax.data.table import Table, make_batch
from cmwjax.stopping import Interrupted, Signals
from cmwjax.tasks.classification import CLASSIFICATION
from cmwjax.tasks.regression import REGRESSION
from configs import regression, tabular, text

RNG = np.random.default_rng(0)
CONFIGS = {"tabular": tabular, "text": text, "regression": regression}


def one(module, method="cmw_net", **fields):
    """A single short run of a configuration."""
    config = compare.one_run(module.get_config("smoke"), method, 0)
    with config.unlocked():
        config.update_from_flattened_dict({"epochs": 2, **fields})
    return config


### Regression


def test_metrics_are_those_of_scikit_learn():
    given, predicted = RNG.normal(size=(2, 40))
    metrics = REGRESSION.summary({"prediction": predicted.astype(np.float32)}, given)
    assert metrics["r2"] == pytest.approx(r2_score(given, predicted), abs=1e-6)
    want = mean_absolute_error(given, predicted)
    assert metrics["mae"] == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("values", [RNG.normal(size=31), RNG.integers(4, size=60)])
@pytest.mark.parametrize("num_ranges", [1, 2, 3, 5])
def test_ranges_hold_like_many_samples_unless_targets_are_equal(values, num_ranges):
    borders = targets.borders(values, num_ranges)
    group = np.searchsorted(borders, values, side="right")
    sizes = [sum(group == g) for g in range(len(borders) + 1)]
    assert min(sizes) > 0 and len(sizes) <= num_ranges
    assert all(b > a for a, b in zip(borders, borders[1:], strict=False))
    if len(set(values)) == len(values):
        assert max(sizes) - min(sizes) <= 1 and len(sizes) == num_ranges
    for g, border in enumerate(borders):  # nothing of a range lies on the other side
        assert values[group == g].max() < border <= values[group == g + 1].min()


def test_redrawn_targets_are_those_of_others():
    given = RNG.normal(size=50).astype(np.float32)
    noisy = targets.corrupt(given, kind="symmetric", rate=0.3, seed=3)
    assert 10 <= np.sum(noisy != given) <= 15 and set(noisy) <= set(given)
    np.testing.assert_array_equal(
        targets.corrupt(given, kind="none", rate=0.9, seed=3), given
    )
    with pytest.raises(ValueError, match="'blocks' is for classes; choose one of"):
        targets.corrupt(given, kind="blocks", rate=0.1, seed=0)


def test_targets_are_standardised_and_reported_in_their_units(tmp_path):
    config = one(regression)
    problem = prepare(config)
    raw = problem.dataset.train_labels
    assert set(raw) <= set(load_diabetes().target)
    seen = problem.dataset.standardised(raw)
    assert seen.dtype == np.float32 and abs(seen.mean()) < 1e-6
    np.testing.assert_allclose(seen.std(), 1, rtol=1e-6)
    np.testing.assert_allclose(problem.dataset.in_units(seen), raw, rtol=1e-6)
    assert problem.num_groups == 3 and 50 < problem.families.centres[0] < 100
    train.run(config, tmp_path / "run")
    with (tmp_path / "run" / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        index = list(problem.dataset.rows).index(int(row["row"]))
        assert float(row["given_label"]) == problem.labels[index]
        assert float(row["true_label"]) == raw[index]
        assert int(row["family"]) == problem.groups[index]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert last["test_r2"] < 1 and 10 < last["test_mae"] < 200  # not in deviations


def test_a_regression_that_is_stopped_ends_at_the_same_bits(tmp_path, monkeypatch):
    config = one(regression)
    train.run(config, tmp_path / "once")

    def check(self, step):
        if step in (3, 9, 14):
            raise Interrupted

    monkeypatch.setattr(Signals, "check", check)
    for _ in range(3):
        with pytest.raises(Interrupted):
            train.run(config, tmp_path / "often")
    train.run(config, tmp_path / "often")
    for name in ("samples.csv", "weighting.safetensors"):
        once, often = (tmp_path / run / name for run in ("once", "often"))
        assert once.read_bytes() == often.read_bytes()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss": "cross_entropy"}, "config.loss='cross_entropy' is not .*'regress"),
        ({"method": "elr"}, "config.method='elr' is not for config.task='reg"),
        ({"method": "cmw_net_sl"}, "config.method='cmw_net_sl' is not for"),
    ],
)
def test_what_a_regression_has_no_use_for_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        check_config(one(regression, **fields))


def test_a_task_that_the_data_do_not_have_is_refused():
    with pytest.raises(ValueError, match=r"are targets: set it to .*\['regression'\]"):
        prepare(one(tabular, **{"data.name": "diabetes"}))
    with pytest.raises(
        ValueError, match="are classes: set it to .*'classification', 'o"
    ):
        prepare(one(regression, **{"data.name": "breast_cancer"}))


### Views


def test_rows_are_standardised_per_column_and_a_constant_one_is_zero():
    raw = RNG.normal(5, 3, (40, 3)).astype(np.float32)
    raw[:, 1] = 7
    rows = view.rows()
    seen = np.asarray(rows.prepare(rows.place(raw, rows.statistics(raw)), (), None))
    np.testing.assert_allclose(seen[:, [0, 2]].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(seen[:, [0, 2]].std(axis=0), 1, rtol=1e-5)
    np.testing.assert_array_equal(seen[:, 1], 0)


def test_a_spec_is_known_by_its_shapes():
    def spec(width):
        return view.Spec.of("rows", np.zeros((5, width), np.float32))

    assert spec(3) == spec(3) and hash(spec(3)) == hash(spec(3)) != hash(spec(4))
    assert view.blank(view.rows(), spec(3)).shape == (1, 3)
    tokens = view.Spec.of("tokens", np.ones((5, 4), np.int32), 9)
    blank = view.blank(view.tokens(), tokens)
    assert blank["tokens"].shape == blank["mask"].shape == (1, 4)
    assert not blank["mask"].any()


def test_texts_are_not_blended(tmp_path):
    with pytest.raises(ValueError, match="blends inputs .*tokens cannot be blended"):
        train.run(one(text, "erm_mixup_ema"), tmp_path / "run")


### What is refused before anything is written


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("net", ["mlp", "small_conv", "text", "inception_resnet_v2"])
def test_a_model_for_other_inputs_is_refused_with_its_name(tmp_path, name, net):
    config = one(CONFIGS[name], **{"model.name": net, "model.options": {}})
    if {"text": "text"}.get(name, "mlp") == net:
        return
    kind = "tokens" if name == "text" else "rows"
    message = f"config.model.name='{net}' .* does not work on {kind}"
    with pytest.raises(ValueError, match=message):
        train.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"meta_set.per_class": 1}, "meta set has 2 samples, fewer than the 4 shards"),
        (
            {"compare.tuned.cmw_net": {"meta_set": {"per_class": 1}}},
            "meta set has 2 samples, fewer than the 4 shards",
        ),
        (
            {"compare.tuned.cmw_net": {"data": {"batch_size": 900}}},
            "shards=4, but .* training samples do not fill one",
        ),
        (
            {"compare.tuned.cmw_net": {"model": {"name": "text"}}},
            "config.model.name='text' with options",
        ),
    ],
)
def test_a_comparison_is_refused_if_any_of_its_runs_is_unfit(tmp_path, fields, message):
    config = tabular.get_config("smoke,methods=erm+cmw_net")
    for field, value in fields.items():
        group, name = field.rsplit(".", 1)
        owner = config.compare.tuned if "tuned" in group else config[group]
        with owner.unlocked():
            owner[name] = value
    with pytest.raises(ValueError, match=message):
        compare.run(config, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("part", ["test", "trusted", "truth", "label", "test_share"])
def test_settings_of_files_for_data_of_another_kind_are_refused(part):
    value = 0.5 if part == "test_share" else "a.csv"
    config = one(tabular, **{f"data.csv.{part}": value})
    message = f"config.data.csv.{part}={value!r} is read only with .*breast_cancer.*: l"
    with pytest.raises(ValueError, match=message):
        check_config(config)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("augment.flip", True),
        ("augment.pad", 2),
        ("augment.meta", True),
        ("data.standardise", "imagenet"),
    ],
)
def test_settings_of_images_are_refused_for_other_inputs(tmp_path, name, field, value):
    config = one(CONFIGS[name], **{field: value})
    kind = "tokens" if name == "text" else "rows"
    message = f"config.{field}={value!r} is for images and has no effect on {kind}: set"
    with pytest.raises(ValueError, match=message):
        train.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


### Configurations


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "tabular",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("text", "regression")),
    ],
)
def test_whole_comparisons(tmp_path, name):
    config = CONFIGS[name].get_config("smoke,methods=erm+cmw_net")
    config.epochs = 2
    table = compare.run(config, tmp_path / "runs")
    folder = tmp_path / "runs" / "cmw_net" / "seed_0"
    figures = {path.stem for path in folder.glob("*.png")}
    matrix = "targets" if name == "regression" else "transition_matrix"
    assert figures == {"weight_curves", "weight_histogram", matrix, "suspects"}
    assert ("average precision" in table) == (name == "tabular")
    assert ("test R²" in table) == (name == "regression")


def test_trusted_texts_are_the_meta_set_and_never_trained_on(tmp_path):
    words = {"sport": "goal match team", "music": "song band choir"}

    def write(name, numbers):
        rows = [
            f"{word} {i} {label}s\t{label}"
            for i in numbers
            for label, text in words.items()
            for word in text.split()
        ]
        path = tmp_path / f"{name}.tsv"
        path.write_text("\n".join(["text\tlabel", *rows]) + "\n")
        return path

    numbers = {"data": range(20), "trusted": range(100, 104)}
    files = {name: write(name, found) for name, found in numbers.items()}
    config = text.get_config(f"data={files['data']},trusted={files['trusted']}")
    problem = prepare(compare.one_run(config, "cmw_net", 0))
    np.testing.assert_array_equal(problem.meta_index, 90 + np.arange(24))
    assert not set(problem.train_index) & set(problem.meta_index)
    assert len(problem.train_index) == 90
    assert problem.dataset.shown[90] == "goal 100 sports"
    with pytest.raises(ValueError, match="comes with trusted samples: set it to 'ext"):
        other = compare.one_run(config, "cmw_net", 0)
        with other.unlocked():
            other.meta_set.policy = "balanced"
        prepare(other)
    bare = base_config()
    bare.meta_set.policy = "external"
    with pytest.raises(ValueError, match="comes with no trusted samples: give conf"):
        prepare(bare)


### Shapes that only a mistake in a program can have


def ones(*shape):
    return jnp.ones(shape, jnp.float32)


@pytest.mark.parametrize(
    "call",
    [
        lambda: CLASSIFICATION.scores(ones(4), {"label": jnp.zeros(4, int)}),
        lambda: CLASSIFICATION.scores(ones(4, 2, 2), {"label": jnp.zeros(4, int)}),
        lambda: CLASSIFICATION.summary({"prediction": np.ones(4)}, np.ones((4, 1))),
        lambda: REGRESSION.scores(ones(4, 2), {}),
        lambda: REGRESSION.summary({"prediction": np.ones(4)}, np.ones((4, 1))),
        lambda: view.rows().place(ones(4, 3), (ones(1), ones(1))),
        lambda: crop_and_flip(ones(4, 5, 5), keys(4), pad=1, mode="zero", flip=True),
        lambda: make_batch(TABLE, {"index": jnp.zeros((2, 2), int)}, as_it_is),
        lambda: make_batch(
            TABLE, {"index": jnp.zeros(4, int), "mask": jnp.ones(1, bool)}, as_it_is
        ),
        lambda: make_batch(
            TABLE._replace(labels=jnp.zeros(3, int)),
            {"index": jnp.arange(4)},
            as_it_is,
        ),
        lambda: make_batch(
            TABLE._replace(features={"soft": ones(4, 2)}),
            {"index": jnp.arange(4)},
            as_it_is,
        ),
    ],
)
def test_shapes_that_would_pass_without_a_word_are_refused(call):
    with pytest.raises(AssertionError, match="assert_(rank|shape|equal_shape)"):
        call()


TABLE = Table(jnp.zeros((5, 3)), jnp.zeros(5, int), jnp.zeros(5, int), ())


def keys(size):
    return jax.random.split(jax.random.key(0), size)


def as_it_is(raw, statistics, keys):
    return raw
