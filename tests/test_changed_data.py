"""A file that changes under a run: refused before anything is written."""

import json

import numpy as np
import pytest

from cmwjax import compare
from cmwjax.bias.problem import prepare
from cmwjax.config import base_config
from cmwjax.randomness import DRAWS
from cmwjax.report.problem import data_digest
from cmwjax.stopping import Interrupted
from cmwjax.training.workdir import is_finished
from runs import run, stop_after

CHANGED = "data are not what the run in .* began with: the data set has changed; bring"


def write_table(path, seed=0):
    """Two classes that are told apart by the first of three columns."""
    rows = np.random.default_rng(seed).normal(size=(120, 3)).round(3)
    lines = [",".join(map(str, row)) + f",{'ab'[int(row[0] > 0)]}" for row in rows]
    path.write_text("\n".join(["x,y,z,label", *lines]) + "\n")


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    write_table(path)
    return path


def of_table(path, **fields):
    config = base_config()
    given = {
        "data.name": str(path),
        "data.batch_size": 20,
        "meta_set.per_class": 4,
        "meta_set.batch_size": 8,
        "model.name": "mlp",
        "weighting.num_families": 1,
        "model.options": {"hidden": (4,)},
        "method": "erm",
        "epochs": 2,
        "checkpoint.every_steps": 2,
    }
    config.update_from_flattened_dict(given | fields)
    return config.lock()


def compared(path):
    return of_table(
        path, **{"compare.methods": ("erm", "mw_net"), "compare.seeds": (0,)}
    )


def contents(folder):
    """Every file and folder, its content and when it was written."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in [folder, *folder.rglob("*")]
    }


def assert_refused_untouched(start, workdir):
    before = contents(workdir)
    with pytest.raises(ValueError, match=CHANGED):
        start()
    assert contents(workdir) == before


@pytest.mark.parametrize("ends", ["within", "finished"])
def test_a_run_of_a_changed_file(tmp_path, monkeypatch, table, ends):
    workdir, config = tmp_path / "run", of_table(table)
    with monkeypatch.context() as patch:
        if ends == "within":
            stop_after(patch, 3)
            with pytest.raises(Interrupted):
                run(config, workdir)
        else:
            run(config, workdir)
    original = table.read_text()
    write_table(table, seed=1)
    assert_refused_untouched(lambda: run(config, workdir), workdir)
    table.write_text(original)
    run(config, workdir)
    assert is_finished(workdir)


def test_a_checkpoint_is_compared_before_a_file_is_written(
    tmp_path, monkeypatch, table
):
    """As it was begun by a version that left no digest."""
    workdir, config = tmp_path / "run", of_table(table)
    stop_after(monkeypatch, 3)
    with pytest.raises(Interrupted):
        run(config, workdir)
    monkeypatch.undo()
    forget_digest(workdir)
    write_table(table, seed=1)
    assert_refused_untouched(lambda: run(config, workdir), workdir)


def forget_digest(workdir):
    problem = json.loads((workdir / "problem.json").read_text())
    del problem["data_sha256"]
    (workdir / "problem.json").write_text(json.dumps(problem))


def test_a_finished_run_that_left_no_digest_is_used_with_a_warning(
    tmp_path, table, caplog
):
    result = run(of_table(table), tmp_path / "run")
    forget_digest(tmp_path / "run")
    assert run(of_table(table), tmp_path / "run").seconds == result.seconds
    assert "does not say which data it is about" in caplog.text


class Stop(Exception):
    """Between two runs."""


@pytest.mark.slow
def test_a_comparison_does_not_mix_two_versions_of_a_file(tmp_path, table):
    workdir = tmp_path / "runs"

    def stop(method, seed, result):
        raise Stop

    with pytest.raises(Stop):
        compare.run(compared(table), workdir, on_run=stop)
    assert [p.name for p in workdir.iterdir() if p.is_dir()] == ["erm"]
    original = table.read_text()
    write_table(table, seed=1)
    assert_refused_untouched(lambda: compare.run(compared(table), workdir), workdir)
    table.write_text(original)
    compare.run(compared(table), workdir)
    assert (workdir / "erm" / "seed_0" / "suspects.png").exists()
    write_table(table, seed=2)  # would be drawn in place of the samples that were
    assert_refused_untouched(lambda: compare.run(compared(table), workdir), workdir)


def test_a_run_of_another_configuration_is_found_before_the_first_trains(
    tmp_path, table
):
    workdir = tmp_path / "runs"
    run(of_table(table, epochs=1), workdir / "mw_net" / "seed_0")
    (workdir / "config.json").write_text(
        json.dumps({"draws": DRAWS, **compared(table).to_dict()})
    )
    before = contents(workdir)
    with pytest.raises(ValueError, match="mw_net/seed_0 belongs to another config"):
        compare.run(compared(table), workdir)
    assert contents(workdir) == before


def test_every_part_that_is_learned_from_is_in_the_digest(table):
    data = prepare(of_table(table)).dataset
    others = {
        "train_inputs": data.train_inputs + np.float32(1),
        "train_labels": 1 - data.train_labels,
        "test_inputs": data.test_inputs[::-1],
        "test_labels": 1 - data.test_labels,
        "observed_labels": 1 - data.train_labels,
        "trusted_index": np.arange(3, dtype=np.int32),
        "class_names": ("u", "v"),
        "shown": ["rows of no columns"],
    }
    digests = {data_digest(data._replace(**{k: v})) for k, v in others.items()}
    assert len(digests | {data_digest(data)}) == len(others) + 1
