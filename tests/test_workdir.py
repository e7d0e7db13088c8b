"""The folder of a run: what can be one, and that one process at a time runs in it."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cmwjax import compare
from cmwjax.config import base_config
from cmwjax.training.run import assemble
from cmwjax.training.workdir import check_folder, check_free, claim_folder, running_in
from runs import ROOT, STEPS, assert_same, lines, run, tiny, two_processes

BUSY = "another process is running in .*; wait for it, or use another workdir"

# ---------------------------------------------------------------- what can be a folder


@pytest.fixture
def impossible(tmp_path):
    """Names by why they cannot be folders."""
    (tmp_path / "file").write_text("years of work")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    return {
        "under a file": tmp_path / "file" / "sub",
        "far under a file": tmp_path / "file" / "sub" / "run",
        "a link to nothing": tmp_path / "link",
        "a name too long": tmp_path / ("x" * 300),
        "not to be made": Path("/proc/foo"),
        "not a name": tmp_path / "a\0b",
    }


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        ("under a file", "Not a directory"),
        ("far under a file", "Not a directory"),
        ("a link to nothing", "it is a link to nothing"),
        ("a name too long", "File name too long"),
        ("not to be made", "No such file or directory|Permission denied|Operation not"),
        ("not a name", "null"),
    ],
)
def test_a_name_that_cannot_be_a_folder_is_one_clear_error(
    impossible, tmp_path, why, reason
):
    workdir = impossible[why]
    if why == "not to be made" and not Path("/proc").is_dir():
        pytest.skip("takes a folder in which nobody can make one")
    before = sorted(tmp_path.iterdir())
    several = tiny(**{"compare.methods": ("erm",), "compare.seeds": (0,)})
    for start in (lambda: run(tiny(), workdir), lambda: compare.run(several, workdir)):
        with pytest.raises(ValueError) as error:
            start()
        message = str(error.value)
        assert "\n" not in message and repr(str(workdir)) in message
        assert "Use another workdir." in message
        assert any(part in message for part in reason.split("|")), message
    assert sorted(tmp_path.iterdir()) == before


def test_what_a_killed_process_leaves_makes_no_folder_one_of_others(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".config.json.host-123-0ab.tmp").touch()
    check_folder(tmp_path, tiny())
    (tmp_path / ".locked").touch()
    with pytest.raises(ValueError, match="is not the folder of a run"):
        check_folder(tmp_path, tiny())


# --------------------------------------------------------------------- one at a time


def test_the_second_one_is_refused_and_writes_nothing(tmp_path):
    workdir, inner = tmp_path / "run", []

    def second(metrics):
        before = {p: p.stat().st_mtime_ns for p in workdir.iterdir()}
        with pytest.raises(ValueError, match=BUSY):
            run(tiny(), workdir)
        assert {p: p.stat().st_mtime_ns for p in workdir.iterdir()} == before
        inner.append(metrics["epoch"])

    run(tiny(), workdir, on_epoch=second)
    assert inner == [1, 2, 3]
    check_free(workdir)
    with pytest.raises(ZeroDivisionError), running_in(workdir):
        raise ZeroDivisionError
    check_free(workdir)  # released after an error, too


def test_it_is_refused_as_well_where_both_found_an_empty_folder(tmp_path, monkeypatch):
    """Nothing was there to be locked when the second one looked."""
    monkeypatch.setattr("cmwjax.train.check_free", lambda workdir: None)
    with (
        running_in(tmp_path / "run"),
        pytest.raises(ValueError, match=BUSY),
    ):
        run(tiny(), tmp_path / "run")
    assert [p.name for p in (tmp_path / "run").iterdir()] == [".lock"]


def test_to_look_writes_nothing(tmp_path):
    check_free(tmp_path / "run")
    check_free(tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_gives_a_warning(
    tmp_path, monkeypatch, caplog, number
):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with running_in(tmp_path / "run"):
        claim_folder(tmp_path / "run", tiny())
    assert f"cannot be locked ([Errno {number}]" in caplog.text
    assert (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
def test_a_comparison_waits_for_nobody_and_its_runs_not_for_it(tmp_path):
    fields = {"compare.methods": ("erm", "mw_net"), "compare.seeds": (0,)}
    config, workdir = tiny(**fields), tmp_path / "runs"
    claim_folder(workdir, config)
    with (
        running_in(workdir / "mw_net" / "seed_0"),
        pytest.raises(ValueError, match=BUSY),
    ):
        compare.run(config, workdir)
    assert not (workdir / "erm").exists()  # found before the first one trained

    def second(method, seed, result):
        with pytest.raises(ValueError, match=BUSY):
            compare.run(config, workdir)

    assert "| MW-Net |" in compare.run(config, workdir, on_run=second)


# Says when an epoch has ended, and waits to be killed or told to go on.
WAIT = """
import sys
sys.path[:0] = ["tests"]
from runs import run, tiny

def on_epoch(metrics):
    print("epoch", metrics["epoch"], flush=True)
    sys.stdin.readline()

run(tiny(method="erm"), sys.argv[1], on_epoch=on_epoch)
"""


def start(workdir):
    return subprocess.Popen(
        [sys.executable, "-c", WAIT, str(workdir)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_processes_and_one_that_is_killed(tmp_path):
    workdir, config = tmp_path / "run", tiny(method="erm")
    first = start(workdir)
    try:
        for line in first.stdout:
            if line == "epoch 1\n":
                break
        with pytest.raises(ValueError, match=BUSY):
            run(config, workdir)
        while not (workdir / "checkpoints" / "4").exists():  # written meanwhile
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
        assert first.wait(60) == -signal.SIGKILL
    finally:
        first.kill()
        first.communicate()
    run(config, workdir)  # no lock is left
    run(config, tmp_path / "once")
    assert_same(workdir, tmp_path / "once")
    assert [line["step"] for line in lines(workdir)] == [5, 10, STEPS]


LOCKS = """
from pathlib import Path
from cmwjax.training.workdir import check_free, running_in

workdir = Path(sys.argv[1])
check_free(workdir)
with running_in(workdir):
    print("runs", flush=True)
"""


@pytest.mark.slow
def test_processes_of_one_run_take_one_lock_and_are_refused_together(tmp_path):
    for code, output in two_processes(LOCKS, tmp_path / "run"):
        assert code == 0 and output.endswith("runs\n"), output
    with running_in(tmp_path / "run"):
        refused = two_processes(LOCKS, tmp_path / "run")
    for (code, output), reason in zip(
        refused, ("another process is running", "process 0 cannot run"), strict=True
    ):
        assert code == 1 and f"ValueError: {reason} in" in output, output


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in ("~/runs/a", Path("~/runs/a")):
        assert assemble(tiny(), folder).workdir == tmp_path / "runs" / "a"


def test_fields_that_a_run_did_not_know_have_their_defaults(tmp_path):
    claim_folder(tmp_path, tiny())
    path = tmp_path / "config.json"
    found = json.loads(path.read_text())
    del found["memory"], found["optim"]["accumulate"]  # as an older version wrote it
    path.write_text(json.dumps(found))
    check_folder(tmp_path, tiny())
    with pytest.raises(ValueError, match="optim.accumulate is 1 there and 2 here"):
        check_folder(tmp_path, tiny(**{"optim.accumulate": 2}))
    # What a model is told is no field: without it, the model does as it likes.
    assert base_config().model.options.hidden
    found["model"]["options"] = {}
    path.write_text(json.dumps(found))
    with pytest.raises(ValueError, match="model.options.hidden is None there"):
        check_folder(tmp_path, tiny())
