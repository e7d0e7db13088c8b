"""What is compiled is kept for the next run, and how long it takes is known."""

import argparse
import logging
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from benchmarks import train_loop
from cmwjax import compilation
from cmwjax.compilation import Clock, forget_oldest, keep_programs
from cmwjax.report.facts import step_seconds
from cmwjax.report.result import duration
from cmwjax.training.run import Progress, assemble
from runs import lines, metrics, run, some, tiny

ROOT = Path(__file__).parents[1]
NAMES = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """As in a process of its own: the folder of what is compiled, if it is kept."""
    before = {name: getattr(jax.config, name) for name in NAMES}
    handlers = list(logging.getLogger("py.warnings").handlers)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CMWJAX_CACHE_DIR", raising=False)
    monkeypatch.setattr(compilation, "MIN_SECONDS", 0.0)
    monkeypatch.delenv(NAMES[1].upper(), raising=False)
    jax.config.update(NAMES[0], None)
    reset_cache()
    yield tmp_path / "cache" / "cmwjax" / "compiled"
    for name, value in before.items():
        jax.config.update(name, value)
    reset_cache()
    logging.getLogger("py.warnings").handlers = handlers


def hits():
    """How often a program was found that is compiled here; each is a function anew."""
    found = []

    def listener(event, **_):
        found.append(event)

    jax.monitoring.register_event_listener(listener)
    try:
        for power in (2, 3):
            number = jax.jit(lambda x, power=power: np.float32(7) * x**power)(2.0)
            assert number == 7 * 2**power
    finally:
        jax.monitoring.unregister_event_listener(listener)
    return sum(event.endswith("cache_hits") for event in found)


def entries(folder):
    """Programs that are kept, by name, without what JAX compiles beside them."""
    return {p.name: p for p in folder.iterdir() if "lambda" in p.name}


def test_what_was_compiled_is_found_again(folder):
    keep_programs()
    assert hits() == 0 and len(entries(folder)) == 2
    assert hits() == 2 and len(entries(folder)) == 2


def test_what_is_damaged_is_compiled_and_kept_anew(folder, monkeypatch):
    keep_programs()
    hits()
    whole = {name: path.read_bytes() for name, path in entries(folder).items()}
    for path in entries(folder).values():  # as by a full disk
        path.write_bytes(path.read_bytes()[:100])

    def show(message, *_, **__):  # as `logging.captureWarnings` does, whoever is first
        logging.getLogger("py.warnings").warning("%s", message)

    with warnings.catch_warnings(), monkeypatch.context() as patch:
        warnings.simplefilter("always")
        patch.setattr(warnings, "showwarning", show)
        assert hits() == 0
    assert {n: len(p.read_bytes()) for n, p in entries(folder).items()} == {
        name: pytest.approx(len(content), rel=0.1) for name, content in whole.items()
    }
    assert hits() == 2


def test_a_folder_and_a_refusal_of_the_user_stand(folder, tmp_path, monkeypatch):
    own = str(tmp_path / "own")
    jax.config.update(NAMES[0], own)
    keep_programs()
    assert jax.config.jax_compilation_cache_dir == own
    jax.config.update(NAMES[0], None)
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        keep_programs()
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    assert jax.config.jax_compilation_cache_dir is None and not folder.exists()
    monkeypatch.setenv(NAMES[1].upper(), "3")
    jax.config.update(NAMES[1], 3.0)
    keep_programs()
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 3


def test_a_folder_that_cannot_be_made_is_told_and_no_error(folder, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="absl")
    (tmp_path / "cache").write_text("no folder")
    keep_programs()
    assert jax.config.jax_compilation_cache_dir is None
    assert f"not kept in {folder}" in caplog.text


def test_the_programs_used_last_stay(tmp_path):
    for i, name in enumerate("abcd"):
        (tmp_path / name).write_bytes(b"x" * 100)
        os.utime(tmp_path / name, (1000 + i, 500))
    os.utime(tmp_path / "a", (2000, 500))  # written first, and read last
    forget_oldest(tmp_path, 250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "d"]
    forget_oldest(tmp_path, 200)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_command_does_not_end_by_what_jax_warns_of():
    """Under `-W error`; any other warning does end it."""
    code = (
        "import warnings, run\n"
        "for verb in ('reading', 'writing'):\n"
        "    warnings.warn(f'Error {verb} persistent compilation cache entry for 1')\n"
        "warnings.warn('another')"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "UserWarning: Error writing" in done.stderr
    assert done.stderr.endswith("UserWarning: another\n") and done.returncode == 1


def span(start, end, event="/jax/core/compile/any"):
    jax.monitoring.record_event_time_span(event, start, end)


def test_the_clock_counts_each_second_once():
    with Clock(10.0) as clock:
        span(2.0, 3.0)  # traced within what comes next
        span(3.5, 3.75)
        span(1.0, 4.0)
        span(5.0, 5.5)
        span(6.0, 9.0, event="/jax/orbax/write")
        other = threading.Thread(target=span, args=(10.0, 20.0))
        other.start()
        other.join()
    span(30.0, 40.0)
    assert clock.seconds == 13.5


def test_epochs_tell_what_of_them_was_compiling(tmp_path):
    result = run(tiny(method="erm", **{"model.options.hidden": (13,)}), tmp_path / "a")
    rows = lines(tmp_path / "a")
    compiling = [row["compile_seconds"] for row in rows]
    assert compiling[0] > 0 and result.compile_seconds == sum(compiling)
    assert all(row["seconds"] > row["compile_seconds"] for row in rows)


def test_steps_are_timed_without_the_compiler():
    rows = [{"step": 10, "seconds": 7.0, "compile_seconds": 6.0}]
    assert step_seconds(rows) == 0.1


def test_a_duration_in_words():
    assert duration(12.34, 2.0) == "12.3 seconds (2.0 of them compiling)"
    assert duration(12.34, 0.01) == "12.3 seconds"


@pytest.mark.parametrize("name", ["erm", "gce", "label_smoothing"])
def test_without_a_warmup_of_its_own_one_step_does_for_both(tmp_path, name):
    """A method says so only where both steps do the same."""
    this = assemble(tiny(method=name), tmp_path / "run", devices=some(1))
    assert not this.program.method.has_warmup
    step, after = this.program.step, []
    for one in (step.warmup, step.weighted):
        state = Progress.of(this, this.start).state
        for number in range(2):
            rows = this.program.layout.split({"index": this.order(number)})
            state = one(state, this.sets.train.table, rows)
        after.append(jax.device_get((state.learner, state.sums)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5), *after)


def test_that_step_is_compiled_once(tmp_path):
    names = []

    def listener(event, start, end, fun_name=None, **_):
        if event.endswith("backend_compile_duration"):
            names.append(fun_name)

    jax.monitoring.register_event_time_span_listener(listener)
    try:
        run(tiny(method="erm", **{"model.options.hidden": (11,)}), tmp_path / "run")
    finally:
        jax.monitoring.unregister_event_time_span_listener(listener)
    assert len(metrics(tmp_path / "run")) == 3  # of which one is a warm-up
    assert sum("_fun" in str(name) for name in names) == 1, names


@pytest.mark.slow
def test_the_benchmark_of_the_loop_accounts_for_an_epoch():
    settings = {"method": "cmw_net_sl", "meta_every": 2, "batch_size": 20}
    args = argparse.Namespace(train=200, test=50, rounds=1, **settings)
    (row,) = train_loop.measure_model("mlp", args)["rounds"]
    parts = ("before the steps", "steps", "after the steps")
    assert sum(row[part] for part in parts) == pytest.approx(row["epoch"])
    assert row["before the steps"] > row["look at all samples"] > 0 < row["meta set"]
    assert row["after the steps"] > row["scores of the test set"] > 0
    assert row["steps"] > row["input"] > 0 == row["compiling"]
    assert row["bare"] > 0
