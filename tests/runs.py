"""Whole runs, small ones, for the tests of everything that a run is made of."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import chex
import jax
import numpy as np

from cmwjax import train
from cmwjax.config import base_config
from cmwjax.stopping import Interrupted, Signals
from cmwjax.training import checkpoints

ROOT = Path(__file__).parents[1]
STEPS = 15  # of a run of `tiny`


def tiny(**fields):
    """Three epochs of five steps: a warm-up, then meta steps and weighted ones."""
    config = base_config()
    given = {
        "epochs": 3,
        "warmup_epochs": 1,
        "meta_every": 2,
        "checkpoint.every_steps": 4,
        "data.train_size": 240,
        "data.batch_size": 40,
        "noise.kind": "symmetric",
        "noise.rate": 0.3,
        "meta_set.per_class": 4,
        "meta_set.batch_size": 20,
        "model.options": {"hidden": (16,)},
    }
    config.update_from_flattened_dict(given | fields)
    return config.lock()


def semi(**fields):
    """`tiny` with 40 labels in 240 samples: FixMatch and what weights it."""
    given = {
        "task": "semi",
        "loss": "fixmatch",
        "semi.labels": 40,
        "data.batch_size": 48,
        "noise.kind": "none",
        "noise.rate": 0.0,
        "meta_set.policy": "labelled",
        "augment.pad": 1,
        "ema.decay": 0.8,
        "weighting.normalisation": "mean",
        "warmup_epochs": 0,
        "baseline.fixmatch.threshold": 0.3,
    }
    return tiny(**given | fields)


def some(devices):
    """The first devices."""
    return tuple(jax.devices()[:devices])


def run(config, workdir, *, devices=1, report=False, **others):
    """Trains; compiles for one device and draws no page unless told otherwise."""
    return train.run(config, workdir, devices=some(devices), report=report, **others)


def lines(workdir):
    """The metrics of each epoch, all of them."""
    return [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]


def metrics(workdir):
    """The metrics of each epoch, but for how long it took."""
    times = ("seconds", "checkpoint_seconds", "compile_seconds")
    return [{k: v for k, v in x.items() if k not in times} for x in lines(workdir)]


def saved(workdir, step=None):
    """The arrays of a checkpoint by name, by default of the last one."""
    folders = {int(path.name): path for path in (workdir / "checkpoints").iterdir()}
    return checkpoints.read(folders[max(folders) if step is None else step])


def newest(workdir):
    """Those of the last checkpoint, but for how long it took."""
    arrays = saved(workdir)
    del arrays["seconds"]
    return arrays


def assert_same(workdir, other):
    """Parameters, optimizer states, sums, metrics and tables, to the last bit."""
    ours, theirs = newest(workdir), newest(other)
    assert ours.keys() == theirs.keys()
    assert not {
        name: np.max(np.abs(ours[name].astype(float) - theirs[name].astype(float)))
        for name in ours
        if ours[name].tobytes() != theirs[name].tobytes()
    }
    for name in {"samples.csv", "weighting.safetensors"} & set(os.listdir(other)):
        assert (workdir / name).read_bytes() == (other / name).read_bytes(), name
    assert metrics(workdir) == metrics(other)


def assert_close(workdir, other, *, rtol=1e-3, atol=1e-4):
    """Parameters and all equal but for the order of summation."""
    chex.assert_trees_all_close(newest(workdir), newest(other), rtol=rtol, atol=atol)


def samples(workdir):
    """Loss and weight of each sample, `[N, 2]`, in the order of the data."""
    table = np.genfromtxt(workdir / "samples.csv", delimiter=",", names=True)
    return np.stack([table["loss"], table["weight"]], 1)[np.argsort(table["row"])]


def stop_after(monkeypatch, *steps):
    """As a signal would that arrives during the last of these steps."""

    def check(self, step):
        if step in steps:
            raise Interrupted

    monkeypatch.setattr(Signals, "check", check)


def finish(process):
    """Exit code and output of a process."""
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


# Before a script of `two_processes`.
TOGETHER = """
import sys
sys.path[:0] = ["tests"]
import jax
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv.pop(1), 2, int(sys.argv.pop(1)))
"""


def two_processes(script, *arguments):
    """Runs a script in two processes of two devices each, which know of each other.

    Args:
      script: Python code that finds `arguments` in `sys.argv`.
      *arguments: strings or paths.

    Returns:
      Exit code and output of each.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER + script, address, rank]
            + list(map(str, arguments)),
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in "01"
    ]
    return [finish(process) for process in processes]
