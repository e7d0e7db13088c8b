"""Configurations for one's own files: what is left alone, and what is said of it."""

import json

import numpy as np
import pytest

from cmwjax import compare
from cmwjax.bias.problem import prepare
from cmwjax.config_check import check_config
from cmwjax.files import write_json
from configs import common, regression, tabular, text

TABLES = {"tabular": tabular, "regression": regression}


def write_rows(path, labels):
    """A table of two columns of numbers."""
    numbers = np.random.default_rng(0).normal(size=(len(labels), 2))
    lines = [f"{a:.3f},{b:.3f},{y}" for (a, b), y in zip(numbers, labels, strict=True)]
    path.write_text("\n".join(["a,b,label", *lines]) + "\n")
    return path


@pytest.fixture
def files(tmp_path):
    """A file for each of the tables: classes, 300 and 100 of them, and targets."""
    classes = ["no"] * 300 + ["yes"] * 100
    targets = np.round(np.random.default_rng(1).uniform(0, 9, 400), 2)
    return {
        "tabular": write_rows(tmp_path / "classes.csv", classes),
        "regression": write_rows(tmp_path / "targets.csv", targets),
    }


def one(name, argument):
    config = TABLES[name].get_config(argument)
    check_config(config)
    return compare.one_run(config, "cmw_net", 0)


@pytest.mark.parametrize("name", TABLES)
def test_the_labels_of_a_file_stay_as_they_are(files, name):
    config = one(name, f"data={files[name]}")
    assert config.data.labels == "given" and config.meta_set.policy == "lowest_loss"
    assert config.warmup_epochs == 1
    problem = prepare(config)
    given = problem.dataset.train_labels
    np.testing.assert_array_equal(problem.labels, given)
    assert len(problem.train_index) == len(given) == 300  # a quarter is tested with
    assert problem.meta_index is None and not problem.dataset.knows_true_labels


@pytest.mark.parametrize("name", TABLES)
def test_a_rate_injects_noise_and_holds_trusted_rows_out(files, name):
    config = one(name, f"data={files[name]},rate=0.2")
    problem = prepare(config)
    assert config.data.labels == "true" and config.meta_set.policy == "held_out"
    train, true = problem.train_index, problem.true_labels
    changed = problem.labels != true
    assert not changed[problem.meta_index].any()
    assert not set(train) & set(problem.meta_index)
    if name == "tabular":  # 0.2 of those who are drawn from all, if they are negative
        assert np.bincount(true[problem.meta_index]).tolist() == [20, 20]
        negative = train[true[train] == 0]
        assert 0.12 < changed[negative].mean() < 0.28
        assert not changed[true == 1].any()
    else:
        assert len(problem.meta_index) == 30
        assert 0.15 < changed[train].mean() <= 0.2


def test_noise_without_a_rate_has_the_usual_one(files):
    config = one("tabular", f"data={files['tabular']},noise=sym")
    assert (config.noise.kind, config.noise.rate) == ("symmetric", 0.2)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("argument", ["", "smoke"])
def test_embedded_data_have_noise_and_known_labels(name, argument):
    config = one(name, argument)
    assert config.noise.rate == {"tabular": 0.2, "regression": 0.4}[name]
    assert config.data.labels == "true" and config.meta_set.policy == "held_out"
    assert config.warmup_epochs == 0


def test_none_after_the_colon_is_no_noise():
    config = one("tabular", "noise=none")
    assert (config.noise.kind, config.noise.rate) == ("none", 0)
    config = tabular.get_config("noise=none,rate=0.2")
    with pytest.raises(ValueError, match=r"noise.kind='none': .*: rate=0\)"):
        check_config(config)


@pytest.mark.parametrize("name", TABLES)
def test_files_of_trusted_and_of_right_labels(files, tmp_path, name):
    labels = ["no", "yes"] * 8 if name == "tabular" else np.arange(16) / 2
    trusted = write_rows(tmp_path / "trusted.csv", labels)
    config = one(name, f"data={files[name]},trusted={trusted},test={files[name]}")
    assert config.meta_set.policy == "external" and config.warmup_epochs == 0
    assert config.data.labels == "given"
    problem = prepare(config)
    np.testing.assert_array_equal(problem.meta_index, 400 + np.arange(16))
    config = one(name, f"data={files[name]},truth={files[name]},label=label")
    assert config.data.labels == "true" and config.meta_set.policy == "lowest_loss"
    assert prepare(config).dataset.knows_true_labels


def test_text_has_the_same_arguments_for_files():
    config = text.get_config("data=a.tsv,trusted=b.tsv,test=c.tsv,label=topic")
    csv = config.data.csv
    assert (csv.trusted, csv.test, csv.label, csv.truth) == (
        "b.tsv",
        "c.tsv",
        "topic",
        "",
    )
    assert config.meta_set.policy == "external" and config.data.labels == "given"
    config = text.get_config()
    assert config.meta_set.policy == "lowest_loss" and config.noise.rate == 0.4


def test_unknown_noise_is_one_error_everywhere():
    with pytest.raises(ValueError, match="noise='foo' is unknown; .*flip"):
        tabular.get_config("noise=foo")


def test_noise_of_other_classes_says_what_fits(files):
    config = one("tabular", f"data={files['tabular']},noise=asym")
    with pytest.raises(ValueError, match="needs class_map for the 2 .*: noise=sym"):
        prepare(config)


def test_names_of_arguments():
    assert common.names_in("data=x,smoke,") == {"data", "smoke"}
    assert common.names_in(None) == common.names_in("") == set()


def test_given_labels_say_what_to_trust_instead(files):
    config = one("tabular", f"data={files['tabular']}")
    config.meta_set.policy = "held_out"
    with pytest.raises(ValueError, match="'external' with a file of trusted .*trusted"):
        check_config(config)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_a_comparison_says_what_nobody_knows(files, tmp_path, name):
    argument = f"data={files[name]},methods=erm+mw_net,seeds=1,smoke"
    config = TABLES[name].get_config(argument)
    config.epochs = 1
    table = compare.run(config, tmp_path / "runs")
    noun = {"tabular": "labels", "regression": "targets"}[name]
    assert f"(given {noun}), last epoch" in table
    assert f"AUROC of wrong {noun}" in table

    def no_such_number(text):
        raise ValueError(f"{text} is not JSON")

    content = (tmp_path / "runs" / "summary.json").read_text()
    summary = json.loads(content, parse_constant=no_such_number)
    assert summary["methods"]["mw_net"]["wrong_label_auroc"] == [None]
    assert summary["test_labels"] == "given"
    ours = write_rows(tmp_path / "test.csv", ["no", "yes"] * 4)
    if name == "tabular":
        config.data.csv.test = str(ours)
        assert "(given" not in compare.run(config, tmp_path / "tested")


def test_numbers_that_json_does_not_have_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"auroc": float("nan")})
    assert not list(tmp_path.iterdir())
