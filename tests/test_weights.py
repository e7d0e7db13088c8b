"""Files that a classifier starts from, and a run that does."""

import csv
import json
import logging
import pickle
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict

from cmwjax.config import base_config
from cmwjax.models.catalogue import build
from cmwjax.models.pretrained import load_weights, save_weights
from cmwjax.models.torch_names import torch_name
from cmwjax.training.steps import lookahead_layers
from runs import metrics, run


def variables(seed=0, num_classes=10, name="small_conv", **options):
    """Random ones, of a classifier of digits."""
    options = options or {"features": (4, 8)}
    model = build(name, num_classes=num_classes, **options)
    tree = jax.eval_shape(
        lambda: model.init(jax.random.key(0), np.zeros((1, 8, 8, 1), "f4"), False)
    )
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), dict(tree))


def assert_equal(actual, wanted):
    assert jax.tree.structure(actual) == jax.tree.structure(wanted)
    jax.tree.map(np.testing.assert_array_equal, actual, wanted)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.safetensors"


@pytest.mark.parametrize("name", ["small_conv", "mlp"])
def test_round_trip(path, name):
    options = {"features": (4, 8)} if name == "small_conv" else {"hidden": (4,)}
    saved = variables(name=name, **options)
    save_weights(path, saved)
    assert_equal(load_weights(path, variables(1, name=name, **options)), saved)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    tensors = safetensors.numpy.load_file(path)
    kernel = saved["params"]["head"]["kernel"]
    np.testing.assert_array_equal(tensors["params/head/kernel"], kernel)


def test_a_pth_file_needs_no_pytorch(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    saved = variables(name="mlp", hidden=(4,))
    state = {
        torch_name(path): value.T
        for path, value in flatten_dict(saved, sep="/").items()
    }
    (tmp_path / "net.pth").write_bytes(pickle.dumps(state))
    like = variables(1, name="mlp", hidden=(4,))
    assert_equal(load_weights("~/net.pth", like), saved)
    (tmp_path / "net.pth").write_bytes(pickle.dumps({"model": state}))
    with pytest.raises(ValueError, match=r"weights='~/net.pth' holds .* a state dict"):
        load_weights("~/net.pth", like)
    (tmp_path / "net.pth").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"net.pth'?: .*cannot be read"):
        load_weights("~/net.pth", like)


def test_a_failed_save_leaves_the_old_file(path):
    saved = variables()
    save_weights(path, saved)
    with pytest.raises(Exception, match="complex128|dtype"):
        save_weights(path, {"params": {"head": {"kernel": np.ones(3, complex)}}})
    assert_equal(load_weights(path, variables(1)), saved)


def test_other_types_become_those_of_the_model(path):
    rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16), variables())
    wanted = jax.tree.map(lambda x: x.astype("f4"), rounded)
    for dtype in (jnp.bfloat16, "f8"):
        save_weights(path, jax.tree.map(lambda x, d=dtype: x.astype(d), rounded))
        loaded = load_weights(path, variables(1))
        assert {x.dtype for x in jax.tree.leaves(loaded)} == {np.dtype("f4")}
        assert_equal(loaded, wanted)


def test_a_head_for_other_classes_starts_anew(path, caplog):
    saved, like = variables(num_classes=7), variables(1)
    save_weights(path, saved)
    with caplog.at_level(logging.INFO, logger="absl"):
        loaded = load_weights(path, like)
    assert "the weights have a head for 7 classes: it starts anew" in caplog.text
    assert_equal(loaded["params"].pop("head"), like["params"]["head"])
    del saved["params"]["head"]
    assert_equal(loaded, saved)


def test_no_head_at_all(path, caplog):
    saved, like = variables(), variables(1)
    del saved["params"]["head"]
    save_weights(path, saved)
    with caplog.at_level(logging.INFO, logger="absl"):
        loaded = load_weights(path, like)
    assert "the weights have no head" in caplog.text
    assert_equal(loaded["params"].pop("head"), like["params"]["head"])
    assert_equal(loaded, saved)


def test_a_state_dict_is_known_by_its_names(path):
    options = {"width": 2, "stage_sizes": (1,)}
    like = variables(name="resnet50", **options)
    rng, state = np.random.default_rng(5), {}
    for name, shape in {
        "conv1": (2, 1, 7, 7),
        "layer1.0.conv1": (2, 2, 1, 1),
        "layer1.0.conv2": (2, 2, 3, 3),
        "layer1.0.conv3": (8, 2, 1, 1),
        "layer1.0.downsample.0": (8, 2, 1, 1),
        "fc": (10, 8),
    }.items():
        state[f"{name}.weight"] = rng.normal(size=shape).astype("f4")
    for name in ("bn1", *(f"layer1.0.{n}" for n in ("bn1", "bn2", "bn3"))):
        state |= {f"{name}.{x}": np.ones(8 if "3" in name else 2, "f4") for x in NORM}
        state[f"{name}.num_batches_tracked"] = np.asarray(3)
    state |= {f"layer1.0.downsample.1.{x}": np.ones(8, "f4") for x in NORM}
    state["fc.bias"] = np.arange(10, dtype="f4")
    safetensors.numpy.save_file(state, path)
    loaded = load_weights(path, like)
    np.testing.assert_array_equal(loaded["params"]["head"]["bias"], np.arange(10))
    np.testing.assert_array_equal(
        loaded["params"]["conv1"]["kernel"][2, 5, 0], state["conv1.weight"][:, 0, 2, 5]
    )


NORM = ("weight", "bias", "running_mean", "running_var")


def test_tensors_that_do_not_fit_are_named(path):
    like = variables(1)
    for spoil, message in [
        (lambda t: t.pop("params/Conv_1/kernel"), "params/Conv_1/kernel is missing"),
        (lambda t: t.update(x=np.ones(3)), "x is not known to the model; give"),
        (
            lambda t: t.update({"params/Conv_1/kernel": np.ones((3, 3, 4, 9))}),
            r"params/Conv_1/kernel has shape \[3, 3, 4, 9\], not \[3, 3, 4, 8\]; give",
        ),
        (
            lambda t: t.update({"params/head/kernel": np.ones((3, 10))}),
            r"params/head/kernel has shape \[3, 10\], not \[32, 10\]",
        ),
    ]:
        save_weights(path, variables())
        tensors = safetensors.numpy.load_file(path)
        spoil(tensors)
        safetensors.numpy.save_file(tensors, path)
        with pytest.raises(
            ValueError, match=f"^config.model.weights='.*safetensors': {message}"
        ):
            load_weights(path, like)


def test_damaged_and_foreign_files_are_refused(path):
    like = variables(1)
    for absent in (path, path.parent):
        with pytest.raises(
            ValueError, match="config.model.weights=.* is not a file; give"
        ):
            load_weights(absent, like)
    save_weights(path, like)
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole[:50], b"", b"not a tensor in sight"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="not a whole safetensors file .*; write"):
            load_weights(path, like)
    header = {"x": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}
    header = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(1))
    with pytest.raises(
        ValueError, match="type NumPy does not have.*; save it as float"
    ):
        load_weights(path, like)


def config_from(path):
    """One epoch in which nothing is learned."""
    c = base_config()
    c.method, c.epochs = "erm", 1
    c.data.train_size, c.data.batch_size = 300, 20
    c.model.name, c.model.options = "small_conv", {"features": (4,)}
    c.model.weights = str(path)
    c.optim.learning_rate = 0.0
    return c


def test_a_run_starts_from_them(path, tmp_path):
    start, bias = variables(features=(4,)), np.linspace(-2, 1, 10)
    start["params"]["head"] = {
        "kernel": np.zeros((64, 10), "f4"),
        "bias": bias.astype("f4"),
    }
    save_weights(path, start)
    run(config_from(path), tmp_path / "run")
    loss = metrics(tmp_path / "run")[0]["loss"]
    with open(tmp_path / "run/samples.csv") as file:
        labels = np.array([int(row["given_label"]) for row in csv.DictReader(file)])
    assert len(labels) % 20 == 0  # so that the epoch shows each of them once
    # The same logits for every image: those of the bias.
    wanted = np.log(np.sum(np.exp(bias))) - np.mean(bias[labels])
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)


def test_a_run_refuses_them_before_it_writes(path, tmp_path):
    start = variables(features=(4,))
    del start["params"]["Conv_0"]
    save_weights(path, start)
    with pytest.raises(ValueError, match="config.model.weights=.*params/Conv_0/kernel"):
        run(config_from(path), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_may_train_the_last_layer_alone(path, tmp_path):
    start = variables(features=(4,))
    save_weights(path, start)
    c = config_from(path)
    c.optim.layers, c.optim.learning_rate = "last", 0.1
    assert lookahead_layers(c) == "last"
    run(c, tmp_path / "run")
    end = load_weights(tmp_path / "run" / "classifier.safetensors", start)["params"]
    moved = end.pop("head")
    assert np.abs(moved["kernel"] - start["params"]["head"]["kernel"]).max() > 1e-3
    del start["params"]["head"]
    assert_equal(end, start["params"])
