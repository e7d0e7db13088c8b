"""One run, laid over devices and processes in every way, ends the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmwjax.config import base_config
from cmwjax.config_check import check_config
from cmwjax.core import weighting_file
from cmwjax.core.parallel import MODES, layout
from cmwjax.training.run import Progress, assemble
from runs import metrics, run, samples, some, two_processes


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
    losses = [line["loss"] for line in metrics(workdir)]
    return np.concatenate(
        [np.ravel(x) for x in jax.tree.leaves(function.params)]
        + [losses, *samples(workdir).T]
    )


@pytest.fixture(scope="module")
def on_four_devices(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("four") / "run"
    run(small_config("pmap"), workdir, devices=4)
    return learned(workdir)


@pytest.mark.parametrize(
    ("mode", "num_devices"), [("pmap", 1), ("jit", 4), ("pmap", 2), ("shard_map", 2)]
)
def test_devices_and_modes(tmp_path, on_four_devices, mode, num_devices):
    run(small_config(mode), tmp_path / "run", devices=num_devices)
    found = learned(tmp_path / "run")
    np.testing.assert_allclose(found, on_four_devices, rtol=2e-3, atol=1e-4)


TRAIN = """
from runs import train
from test_parallel import small_config
train.run(small_config(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_two_processes_of_two_devices(tmp_path, on_four_devices, mode):
    outputs = two_processes(TRAIN, mode, tmp_path / "run")
    assert [code for code, _ in outputs] == [0, 0], outputs
    np.testing.assert_allclose(learned(tmp_path / "run"), on_four_devices, rtol=2e-3)


def test_devices_must_divide_the_shards(tmp_path):
    with pytest.raises(ValueError, match="data.shards=4 is not a multiple of the 3"):
        run(small_config("pmap"), tmp_path / "run", devices=3)
    assert not (tmp_path / "run").exists()


def test_rows_go_to_devices_in_order():
    rows = np.arange(8)
    for mode in MODES:
        spread = layout(mode, jax.devices())
        parts = {}
        cut = spread.split(rows)
        if mode != "pmap":
            for shard in cut.addressable_shards:
                parts[shard.device] = shard.data.tolist()
        else:  # pmap places it, the first part on the first device
            parts = dict(zip(spread.devices, cut.tolist(), strict=True))
        assert [parts[d] for d in spread.devices] == rows.reshape(4, 2).tolist()


@pytest.mark.parametrize("mode", MODES)
def test_a_mapped_step_sees_its_rows_and_reduces_over_all(mode):
    """Sums of rows and of rows by device, which differ unless the order is kept."""
    spread, rows = layout(mode, jax.devices()), np.arange(8.0)
    place = np.repeat(np.arange(4.0), 2)  # of the device that should have the row

    def step(state, table, rows):
        total = jnp.sum(table[rows["index"].astype(int)] * rows["place"])
        if spread.axis_name is not None:
            total = jax.lax.psum(total, spread.axis_name)
        return state + total

    mapped = spread.map(step, num_tables=1, num_batches=1)
    state, table = spread.replicate(np.ones(3)), spread.replicate(rows**2)
    got = mapped(state, table, spread.split({"index": rows, "place": place}))
    assert got.shape == (3,)
    for shard in got.addressable_shards:
        np.testing.assert_array_equal(shard.data, 1 + np.sum(rows**2 * place))


def test_replicated_state_shares_no_buffer_with_its_source():
    source = np.zeros(3)
    placed = layout("pmap").replicate({"a": source, "b": source})
    source += 1
    assert all(np.all(np.asarray(x) == 0) for x in placed.values())


@pytest.mark.parametrize("mode", ["pmap", "shard_map"])
@pytest.mark.parametrize("num_parts", [1, 2])
def test_batch_norm_of_all_devices_or_of_each(tmp_path, mode, num_parts):
    """What it remembers of the first batch, against that of each part by itself."""
    config = small_config(mode)
    config.method, config.model.name = "erm", "mlp"
    config.model.options = {"hidden": (5,), "batch_norm": True}
    config.synchronise_batch_norm = num_parts == 1
    this = assemble(config, tmp_path / "run", devices=some(2))
    state, table = Progress.of(this, this.start).state, this.sets.train.table
    mean, std = map(np.asarray, table.statistics)
    index = this.problem.train_index[:40]
    x = (np.asarray(table.inputs)[index] / 255.0 - mean) / std
    hidden = x.reshape(40, -1) @ np.asarray(state.learner.params["Dense_0"]["kernel"])
    parts = hidden.reshape(num_parts, -1, 5)
    wanted = {
        "mean": 0.1 * parts.mean(1).mean(0),
        "var": 0.9 + 0.1 * parts.var(1, ddof=1).mean(0),
    }
    rows = this.program.layout.split({"index": index})
    state = this.program.step.weighted(state, table, rows)
    (found,) = state.learner.model_state["batch_stats"].values()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5)


def test_jit_has_no_parts_to_normalise():
    config = small_config("jit")
    config.synchronise_batch_norm = False
    with pytest.raises(ValueError, match="synchronise_batch_norm=False with config"):
        check_config(config)
