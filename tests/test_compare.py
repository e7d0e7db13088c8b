import json
import shutil
import statistics

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmwjax import compare, train
from cmwjax.config import base_config
from cmwjax.config_check import check_config
from cmwjax.report.read import read_metrics
from cmwjax.report.samples import read_samples
from cmwjax.training.health import Diverged
from configs import regression, tabular


@pytest.fixture(scope="module")
def config():
    config = base_config()
    config.compare.methods = ("erm", "cmw_net")
    config.compare.seeds = (3, 5)
    config.compare.tuned = {"erm": {"optim": {"learning_rate": 0.02}}}
    config.data.train_size = 400
    config.epochs = 3
    config.noise.kind = "asymmetric"
    config.noise.rate = 0.5
    config.noise.class_map = ((9, 1), (2, 0), (4, 7), (3, 5))
    return config.lock()


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("comparison") / "runs"
    return workdir, compare.run(config, workdir)


def test_numbers_are_those_of_single_runs(config, finished, tmp_path):
    workdir, table = finished
    single = compare.one_run(config, "cmw_net", 5)
    result = train.run(single, tmp_path / "run")
    summary = json.loads((workdir / "summary.json").read_text())
    values = summary["methods"]["cmw_net"]
    assert values["last_epoch"][1] == 100 * result.test_score
    assert values["selected_epoch"][1] == 100 * result.selected_score
    assert values["wrong_label_auroc"][1] == result.auroc
    accuracies = values["last_epoch"]
    mean, spread = np.mean(accuracies), statistics.stdev(accuracies)
    assert f"| CMW-Net | {mean:.1f} ± {spread:.1f} |" in table


def test_selected_epoch_maximises_the_meta_accuracy_not_the_test_accuracy(finished):
    workdir, _ = finished
    folder = workdir / "erm" / "seed_3"
    epochs = read_metrics(folder)
    best = np.argmax([e["meta_accuracy"] for e in epochs])  # the first of equals
    result = train.summarise(folder)
    assert result.selected_score == epochs[best]["test_accuracy"]
    assert result.test_score == epochs[-1]["test_accuracy"]


def test_auroc_is_over_the_noisy_training_set(finished):
    workdir, _ = finished
    samples = read_samples(workdir / "cmw_net" / "seed_3" / "samples.csv")
    wrong = samples["given_label"] != samples["true_label"]
    assert len(wrong) == 300  # the hundred held out are not in it
    assert 0 < wrong.mean() < 0.5
    pairs = samples["quality"][wrong][:, None] - samples["quality"][~wrong]
    want = np.mean(pairs < 0) + np.mean(pairs == 0) / 2
    result = train.summarise(workdir / "cmw_net" / "seed_3")
    np.testing.assert_allclose(result.auroc, want, rtol=1e-12)


def test_tuned_fields_reach_their_method_only(config):
    assert compare.one_run(config, "erm", 3).optim.learning_rate == 0.02
    assert compare.one_run(config, "cmw_net", 3).optim.learning_rate == 0.1


def test_running_again_repeats_nothing(config, finished):
    workdir, table = finished
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob("metrics.jsonl")}
    assert compare.run(config, workdir) == table
    assert before == {p: p.stat().st_mtime_ns for p in workdir.rglob("metrics.jsonl")}


def test_figures_are_there(finished):
    workdir, _ = finished
    names = {p.relative_to(workdir).as_posix() for p in workdir.rglob("*.*")}
    assert {"training_curves.png", "animation.gif"} <= names
    assert "cmw_net/seed_3/weight_curves.png" in names
    assert "cmw_net/seed_3/suspects.png" in names


def test_of_several_processes_only_the_first_one_writes(
    config, finished, tmp_path, monkeypatch
):
    shutil.copytree(finished[0], tmp_path / "runs")
    for name in ("summary.json", "training_curves.png"):
        (tmp_path / "runs" / name).unlink()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*.*")}
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    assert compare.run(config, tmp_path / "runs") == finished[1]

    def diverge(*arguments, **others):
        raise Diverged("all is lost")

    monkeypatch.setattr(train, "run", diverge)
    assert compare.run_or_diverge(config, tmp_path / "runs" / "other") is None
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*.*")}
    assert after == before


def test_another_configuration_is_refused_with_the_difference(config, finished):
    workdir, _ = finished
    config = config.copy_and_resolve_references()
    config.noise.rate = 0.4
    with pytest.raises(ValueError, match="noise.rate is 0.5 there and 0.4 here"):
        compare.run(config, workdir)


def test_a_missing_value_gives_a_dash():
    assert compare.mean_and_std([1.0, None], 1) == "–"
    assert compare.mean_and_std([1.0, 2.0, None], 2) == "–"


def test_the_deviation_is_that_of_a_sample_and_one_value_has_none():
    assert compare.mean_and_std([1.0, 2.0], 2) == "1.50 ± 0.71"  # 1 / sqrt(2)
    values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]
    want = f"5.000 ± {np.sqrt(32 / 7):.3f}"
    assert compare.mean_and_std(values, 3) == want
    assert compare.mean_and_std([93.25], 1) == "93.2"


def test_a_run_that_diverges_is_reported_and_the_others_go_on(config, tmp_path):
    config = config.copy_and_resolve_references()
    config.epochs, config.max_skips_in_a_row = 2, 2
    too_high = {"optim": {"learning_rate": 1e30}}
    config.compare.tuned = {"erm": too_high, "cmw_net": {}}
    ended = []

    def note(method, seed, result):
        ended.append((method, seed, result is None))

    table = compare.run(config, tmp_path / "runs", on_run=note)
    assert ended == [(m, s, m == "erm") for m in ("erm", "cmw_net") for s in (3, 5)]
    assert "| ERM | diverged (2 of 2) | – | – |" in table
    values = json.loads((tmp_path / "runs" / "summary.json").read_text())["methods"]
    assert values["erm"]["last_epoch"] == values["erm"]["seconds"] == [None, None]
    assert f"| CMW-Net | {np.mean(values['cmw_net']['last_epoch']):.1f} ±" in table
    reason = json.loads((tmp_path / "runs/erm/seed_3/diverged.json").read_text())
    assert "lower optim.learning_rate=1e+30" in reason["reason"]
    assert (tmp_path / "runs" / "training_curves.png").exists()
    files = [tmp_path / "runs/erm/seed_3", *(tmp_path / "runs/erm/seed_3").iterdir()]
    before = [path.stat().st_mtime_ns for path in files]
    assert compare.run(config, tmp_path / "runs") == table
    assert [path.stat().st_mtime_ns for path in files] == before


@pytest.mark.slow
@pytest.mark.parametrize("task", ["tabular", "regression"])
def test_a_run_that_overflows_before_updates_are_skipped_diverged(tmp_path, task):
    """Parameters are finite still, but what comes of them is not."""
    configs = {"tabular": tabular, "regression": regression}
    config = configs[task].get_config("smoke,methods=erm+mw_net,seeds=1")
    config.unlock()
    config.epochs = 3
    config.compare.tuned = {"erm": {"optim": {"learning_rate": 1e6}}, "mw_net": {}}
    table = compare.run(config.lock(), tmp_path / "runs")
    assert "| ERM | diverged (1 of 1) |" in table
    assert "| MW-Net | diverged" not in table and "| MW-Net | " in table
    reason = json.loads((tmp_path / "runs/erm/seed_0/diverged.json").read_text())
    assert "lower optim.learning_rate=1000000.0" in reason["reason"]


class OverflowsLate(nn.Module):
    """Not a number for every sample, once it is evaluated."""

    @nn.compact
    def __call__(self, images, train):
        logits = nn.Dense(10)(images.reshape(len(images), -1))
        return logits if train else logits * jnp.nan


def test_scores_that_are_not_finite_are_not_called_an_accuracy(config, tmp_path):
    single = compare.one_run(config, "erm", 3)
    with pytest.raises(Diverged, match="loss is not finite for 360 of 360 .* test set"):
        train.run(single, tmp_path / "run", model=OverflowsLate())
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.slow
def test_a_variant_is_a_method_with_fields_of_its_own(tmp_path):
    config = base_config()
    config.compare.methods = ("erm", "erm@higher_rate")
    config.compare.seeds = (0,)
    config.compare.tuned = {
        "erm": {"optim": {"learning_rate": 0.02, "weight_decay": 0.0}},
        "erm@higher_rate": {"optim": {"learning_rate": 0.05}},
    }
    config.data.train_size, config.epochs = 300, 1
    single = compare.one_run(config, "erm@higher_rate", 0)
    assert single.method == "erm"
    assert single.compare == base_config().compare
    assert (single.optim.learning_rate, single.optim.weight_decay) == (0.05, 0)
    table = compare.run(config.lock(), tmp_path / "runs")
    assert "| ERM | " in table and "| ERM, higher rate | " in table
    folder = tmp_path / "runs" / "erm@higher_rate" / "seed_0"
    assert read_samples(folder / "samples.csv")["row"].size == 200
    for wrong in ("erm@", "erm@../x", "magic@x"):
        with config.unlocked():
            config.compare.methods = (wrong,)
        with pytest.raises(ValueError, match="config.compare.methods="):
            check_config(config)
