"""A weighting function that was learned elsewhere, applied as it is."""

import jax
import numpy as np
import pytest

from cmwjax import train
from cmwjax.config import base_config
from cmwjax.core.weighting import CMWNet
from cmwjax.core.weighting_file import WeightingFunction, read_weighting, save_weighting
from cmwjax.report.samples import read_samples
from cmwjax.training.run import Progress, assemble
from runs import metrics, run, saved, some


def config_for(path, **fields):
    """A long tail, so that there are three families; no meta set of any kind."""
    config = base_config()
    given = {
        "epochs": 2,
        "warmup_epochs": 1,
        "checkpoint.every_steps": 0,
        "data.imbalance_factor": 10.0,
        "data.batch_size": 40,
        "noise.kind": "symmetric",
        "noise.rate": 0.2,
        "meta_set.policy": "none",
        "model.options": {"hidden": (16,)},
        "weighting.load": str(path),
    }
    config.update_from_flattened_dict(given | fields)
    return config.lock()


@pytest.fixture
def function(tmp_path):
    losses = np.zeros(1, np.float32)
    params = CMWNet(3, 9).init(jax.random.key(3), losses, losses.astype(int))["params"]
    params["heads"]["bias"] += np.array([2.0, 0.0, -2.0])  # well apart
    function = WeightingFunction(params, np.array([1.0, 2.0, 3.0]))
    save_weighting(tmp_path / "learned.safetensors", function)
    return function


def test_a_file_that_was_written_anew_is_read_anew(tmp_path, function):
    def biases():
        config = config_for(path, **{"method": "cmw_net"})
        program = assemble(config, tmp_path / "run", devices=some(1)).program
        return np.array(program.parts.function.params["heads"]["bias"])

    path = tmp_path / "learned.safetensors"
    np.testing.assert_array_equal(biases(), function.params["heads"]["bias"])
    function.params["heads"]["bias"] += 1
    save_weighting(path, function)
    np.testing.assert_array_equal(biases(), function.params["heads"]["bias"])


@pytest.mark.parametrize(
    "method", ["cmw_net", pytest.param("cmw_net_sl", marks=pytest.mark.slow)]
)
def test_it_stays_as_it_is_and_weights_by_the_rank_of_the_class_size(
    tmp_path, function, method
):
    config = config_for(
        tmp_path / "learned.safetensors",
        **{"method": method, "checkpoint.every_steps": 14},
    )
    run(config, tmp_path / "run")
    for arrays in (saved(tmp_path / "run", step) for step in (14, 28)):
        for part, value in jax.tree.leaves_with_path(function.params):
            name = jax.tree_util.keystr(part, simple=True, separator="/")
            found = arrays[f"run/learner/meta_params/params/{name}"]
            np.testing.assert_array_equal(found, value)
        assert not any("meta_opt_state" in name for name in arrays)
    assert not (tmp_path / "run" / "weighting.safetensors").exists()
    samples = read_samples(tmp_path / "run" / "samples.csv")
    given = samples["given_label"].astype(int)  # digits are called by their numbers
    sizes = np.bincount(given, minlength=10)
    order = np.argsort(sizes[given], kind="stable")  # families grow with the size
    assert np.all(np.diff(samples["family"][order]) >= 0)
    assert set(samples["family"]) == {0, 1, 2}
    want = function(samples["loss"].astype(np.float32), samples["family"])
    np.testing.assert_allclose(samples["weight"], want, rtol=1e-4)
    last = metrics(tmp_path / "run")[-1]
    assert "meta_loss" not in last and len(last["weight_mean"]) == 3


def test_a_function_knows_the_loss_that_it_was_learned_on(tmp_path, caplog):
    learned = tmp_path / "run" / "weighting.safetensors"
    fields = {"method": "cmw_net", "loss": "focal"}
    fields["weighting.normalisation"] = "mean"
    config = config_for("", **fields, **{"meta_set.policy": "balanced"})
    train.run(config, tmp_path / "run")
    assert read_weighting(learned).loss == "focal"
    applied = {"epochs": 1, "warmup_epochs": 0, "weighting.normalisation": "weights"}
    train.run(config_for(learned, **fields | applied), tmp_path / "applied")
    assert "normalisation='mean' and is applied with 'weights'" in caplog.text
    with pytest.raises(ValueError, match="weights by focal, .* 'cross_entropy'"):
        train.run(config_for(learned, method="cmw_net"), tmp_path / "other")


@pytest.mark.parametrize(
    ("fields", "is_told"),
    [
        ({"data.imbalance_factor": 1.5}, True),
        ({"data.imbalance_factor": 10.0}, False),
        ({"data.imbalance_factor": 10.0, "method": "mw_net"}, False),
    ],
)
def test_classes_of_like_size_have_the_mean_weight_of_all_families(
    tmp_path, function, caplog, fields, is_told
):
    fields = {"method": "cmw_net", "epochs": 1, **fields}
    fields |= {"noise.kind": "none", "noise.rate": 0.0}
    train.run(config_for(tmp_path / "learned.safetensors", **fields), tmp_path / "run")
    assert ("differ by a factor of 1." in caplog.text) == is_told
    samples = read_samples(tmp_path / "run" / "samples.csv")
    losses = samples["loss"].astype(np.float32)
    if is_told or fields["method"] == "mw_net":
        assert set(samples["family"]) == {0}
        each = [function(losses, np.full(len(losses), k)) for k in range(3)]
        want = sum(each) / 3
    else:
        assert set(samples["family"]) == {0, 1, 2}
        want = function(losses, samples["family"])
    np.testing.assert_allclose(samples["weight"], want, rtol=1e-4)


def test_the_authors_state_dict_is_read_as_well(tmp_path, function):
    heads = function.params["heads"]
    state = {
        "feature.layer.0.weight": np.asarray(function.params["shared"]["kernel"]).T,
        "feature.layer.0.bias": np.asarray(function.params["shared"]["bias"]),
    }
    for branch, family in enumerate((2, 0, 1)):  # large, small, moderate
        name = f"classfier.layers.{branch}.0"
        state[f"{name}.weight"] = np.asarray(heads["kernel"][:, family])[None]
        state[f"{name}.bias"] = np.asarray(heads["bias"][family])[None]
    np.savez(tmp_path / "theirs.npz", **state)
    again = read_weighting(tmp_path / "theirs.npz")
    jax.tree.map(np.testing.assert_array_equal, again.params, dict(function.params))
    with pytest.raises(FileNotFoundError, match="no weighting file at .*none.npz"):
        read_weighting(tmp_path / "none.npz")


def flops(config, tmp_path):
    """Of a step after the warm-up, by XLA's count."""
    begun = assemble(config, tmp_path / "run", devices=some(1))
    program, state = begun.program, Progress.of(begun, begun.start).state
    rows = program.layout.split({"index": np.arange(40, dtype=np.int32)})
    lowered = program.step.weighted.lower(state, begun.sets.train.table, rows)
    return lowered.cost_analysis()["flops"]


@pytest.mark.slow
def test_a_step_costs_what_an_ordinary_one_does_and_the_teachers_forward(
    tmp_path, function
):
    """A forward is a third of an ordinary step; the first layer has no pullback."""
    path = tmp_path / "learned.safetensors"
    conv = {"model.name": "small_conv", "model.options": {"features": (32, 32)}}
    erm = flops(config_for("", method="erm", **conv), tmp_path)
    plain = flops(config_for(path, method="cmw_net", **conv), tmp_path)
    soft = flops(config_for(path, method="cmw_net_sl", **conv), tmp_path)
    assert plain / erm < 1.02
    assert soft / erm < 1.36


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "erm"}, "ERM applies no weighting function"),
        (
            {"weighting.num_families": 2},
            "tells 3 class families apart, but 2",
        ),
        ({"loss": "focal"}, "weights by cross_entropy, and config.loss is 'focal'"),
        ({"weighting.load": ""}, "'none', but CMW-Net learns from a meta set"),
        ({"weighting.load": "gone.safetensors"}, "no weighting file at gone"),
    ],
)
def test_what_cannot_be_applied_is_refused(tmp_path, function, fields, message):
    config = config_for(tmp_path / "learned.safetensors", **fields)
    with pytest.raises(ValueError, match=message):
        train.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
