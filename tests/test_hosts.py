"""Several processes, started as a user starts them: by `run.py`."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cmwjax import hosts
from runs import assert_same, finish, lines

ROOT = Path(__file__).parents[1]
CONFIG = """
from cmwjax.config import base_config

def get_config():
    config = base_config()
    config.method = "cmw_net_sl"  # with a teacher and a memory of soft labels
    config.epochs, config.warmup_epochs, config.meta_every = 12, 2, 2
    config.checkpoint.every_steps = 5
    config.data.train_size, config.data.batch_size = 240, 40
    config.meta_set.batch_size = 20
    config.noise.kind, config.noise.rate = "symmetric", 0.3
    config.model.options = {"hidden": (20,), "batch_norm": True}
    return config
"""


def start(workdir, *, rank, port):
    """Process `rank` of two, with two devices."""
    config = workdir.parent / "config.py"
    config.write_text(CONFIG)
    return subprocess.Popen(
        [
            sys.executable,
            ROOT / "run.py",
            f"--config={config}",
            f"--workdir={workdir}",
            f"--coordinator=localhost:{port}",
            "--num_processes=2",
            f"--process_id={rank}",
        ],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_both(workdir):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    return [start(workdir, rank=rank, port=port) for rank in (0, 1)]


def wait_for_epoch(workdir, epoch, processes):
    """Until its metrics are there."""
    for _ in range(1200):
        if (workdir / "metrics.jsonl").exists() and len(lines(workdir)) >= epoch:
            return
        assert all(process.poll() is None for process in processes)
        time.sleep(0.1)
    raise TimeoutError


@pytest.mark.slow
def test_who_is_left_alone_ends_and_both_go_on(tmp_path):
    whole = [finish(process) for process in start_both(tmp_path / "whole")]
    assert [code for code, _ in whole] == [0, 0], whole
    assert "epochs on digits, by 4 x cpu" in whole[0][1]
    assert "Results are in" in whole[0][1] and "Results" not in whole[1][1]

    for victim in (1, 0):
        processes = start_both(tmp_path / "run")
        wait_for_epoch(tmp_path / "run", 3 if victim else 6, processes)
        processes[victim].send_signal(signal.SIGKILL)
        begin = time.monotonic()
        ended = [finish(process) for process in processes]
        code, output = ended[1 - victim]
        assert code not in (0, 75), output
        assert time.monotonic() - begin < 2 * hosts.HEARTBEAT_SECONDS
        # Whoever notices first: this program, by a step that failed, or JAX's service.
        ways = ("another process is gone", "another task died")
        assert any(said in output for said in ways) and "Traceback" not in output
    assert any((tmp_path / "run" / "checkpoints").iterdir())
    ended = [finish(process) for process in start_both(tmp_path / "run")]
    assert [code for code, _ in ended] == [0, 0], ended
    assert_same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_an_error_of_one_ends_the_other(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "theirs.txt").write_text("no run put this here")
    begin = time.monotonic()
    ended = [finish(process) for process in start_both(tmp_path / "run")]
    assert [code for code, _ in ended] == [1, 1], ended
    assert time.monotonic() - begin < 100
    assert "is not the folder of a run" in ended[0][1], ended
    assert os.listdir(tmp_path / "run") == ["theirs.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("here",), "--coordinator=here is not HOST:PORT"),
        (("here:99999", 2, 0), "--coordinator=here:99999 is not HOST:PORT"),
        (("here:1234",), "--num_processes is missing"),
        (("here:1234", 2), "--process_id is missing"),
        (("here:1234", 0, 0), "--num_processes=0 must be at least 1"),
        (("here:1234", 2, 2), "--process_id=2 must be from 0 to 1"),
        ((None, 2), "--num_processes is read with --coordinator=HOST:PORT alone"),
        (("auto", None, 1), "--process_id is read with --coordinator=HOST:PORT alone"),
        (("auto",), "--coordinator=auto: the processes did not find each other"),
    ],
)
def test_bad_addresses_and_numbers(arguments, message):
    with pytest.raises(ValueError, match=message):
        hosts.join(*arguments)
    assert not hosts.are_several()
