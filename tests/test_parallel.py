"""One run, laid over devices and processes in every way, ends the same."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from cmwjax import train
from cmwjax.config import base_config
from cmwjax.core import weighting_file
from cmwjax.core.parallel import layout

ROOT = Path(__file__).parents[1]


def small_config(parallel):
    """Batch norm, two families at least, and a wrong label here and there."""
    config = base_config()
    config.data.train_size = 300
    config.data.batch_size = 40
    config.epochs = 2
    config.meta_set.batch_size = 40
    config.noise.kind = "asymmetric"
    config.noise.rate = 0.5
    config.noise.class_map = ((9, 1), (2, 0), (4, 7), (3, 5))
    config.weighting.normalisation = "weights"
    config.model.name = "small_conv"
    config.model.options = {}
    config.parallel = parallel
    return config


def learned(workdir):
    """Everything that a run learned, as one vector, and what it measured."""
    function = weighting_file.load_weighting(workdir / "weighting.safetensors")
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    samples = np.genfromtxt(workdir / "samples.csv", delimiter=",", skip_header=1)
    by_index = samples[np.argsort(samples[:, 0])]
    return np.concatenate(
        [np.ravel(x) for x in jax.tree.leaves(function.params)]
        + [losses, by_index[:, 5], by_index[:, 6]]  # loss and weight of each sample
    )


@pytest.fixture(scope="module")
def on_four_devices(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("four") / "run"
    train.run(small_config("pmap"), workdir)
    return learned(workdir)


@pytest.mark.parametrize(
    ("mode", "num_devices"), [("pmap", 1), ("jit", 4), ("pmap", 2)]
)
def test_devices_and_modes(tmp_path, on_four_devices, mode, num_devices):
    devices = tuple(jax.devices()[:num_devices])
    train.run(small_config(mode), tmp_path / "run", devices=devices)
    np.testing.assert_allclose(learned(tmp_path / "run"), on_four_devices, rtol=2e-3)


PROCESS = """
import sys, jax
sys.path[:0] = ["tests"]
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from test_parallel import small_config, train
train.run(small_config(sys.argv[3]), sys.argv[4])
"""


@pytest.mark.parametrize("mode", ["pmap", "jit"])
def test_two_processes_of_two_devices(tmp_path, on_four_devices, mode):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, address, str(i), mode, tmp_path / "run"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [p.returncode for p in processes] == [0, 0], "\n".join(outputs)
    np.testing.assert_allclose(learned(tmp_path / "run"), on_four_devices, rtol=2e-3)


def test_devices_must_divide_the_shards(tmp_path):
    with pytest.raises(ValueError, match="data.shards=4 is not a multiple of the 3"):
        devices = tuple(jax.devices()[:3])
        train.run(small_config("pmap"), tmp_path / "run", devices=devices)
    assert not (tmp_path / "run").exists()


def test_rows_go_to_devices_in_order():
    rows = np.arange(8)
    for mode in ("pmap", "jit"):
        spread = layout(mode, jax.devices())
        double = spread.map(lambda s, x: s + x, num_tables=0, num_batches=1)
        if mode == "pmap":
            np.testing.assert_array_equal(spread.split(rows), rows.reshape(4, 2))
        else:
            shards = spread.split(rows).addressable_shards
            parts = {shard.device: shard.data.tolist() for shard in shards}
            assert [parts[d] for d in spread.devices] == rows.reshape(4, 2).tolist()
            np.testing.assert_array_equal(
                double(spread.replicate(np.zeros(8, int)), spread.split(rows)), rows
            )


def test_replicated_state_shares_no_buffer_with_its_source():
    source = np.zeros(3)
    placed = layout("pmap").replicate({"a": source, "b": source})
    source += 1
    assert all(np.all(np.asarray(x) == 0) for x in placed.values())
