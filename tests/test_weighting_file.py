"""The portable weighting function: what was saved is what is loaded."""

import pickle
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
import safetensors.numpy

from cmwjax.core.weighting import CMWNet
from cmwjax.core.weighting_file import (
    WeightingFunction,
    import_weighting,
    load_weighting,
    read_weighting,
    save_weighting,
)

LOSSES = np.linspace(0, 12, 30, dtype=np.float32)
REAL = Path(__file__).parents[2] / "shared" / "data" / "vnet"


def learned(num_families=3, hidden=100, **kwargs):
    net = CMWNet(num_families, hidden)
    params = net.init(jax.random.key(7), LOSSES, np.zeros(30, int))["params"]
    centres = np.cumsum(np.random.default_rng(0).random(num_families)) * 1000 / 3
    return WeightingFunction(params, centres, **kwargs)


# --- save and load -------------------------------------------------------------------


@pytest.mark.parametrize(("families", "kind"), [(1, "mw_net"), (3, "cmw_net")])
def test_round_trip_is_exact(tmp_path, families, kind):
    function = learned(
        families,
        hidden=17,
        loss="soft_cross_entropy",
        normalisation="weights",
        provenance={"data": "digits", "noise": [0.6, "asymmetric"], "note": "größer"},
    )
    save_weighting(tmp_path / "f.safetensors", function)
    again = load_weighting(tmp_path / "f.safetensors")
    assert jax.tree.structure(again.params) == jax.tree.structure(function.params)
    for a, b in zip(
        *map(jax.tree.leaves, (again.params, function.params)), strict=True
    ):
        assert a.dtype == b.dtype and np.array_equal(a, b)
    assert again.centres.dtype == np.float64
    np.testing.assert_array_equal(again.centres, function.centres)
    assert again[2:] == function[2:]
    assert again.kind == kind and again.num_families == families
    family = np.arange(30) % families
    np.testing.assert_array_equal(again(LOSSES, family), function(LOSSES, family))
    assert [f.name for f in tmp_path.iterdir()] == ["f.safetensors"]


def test_the_function_is_the_net():
    function, family = learned(), np.arange(30) % 3
    wanted = CMWNet(3, 100).apply({"params": function.params}, LOSSES, family)
    np.testing.assert_array_equal(function(LOSSES, family), wanted)


def test_layout_of_the_file(tmp_path):
    save_weighting(tmp_path / "f.safetensors", learned()._replace(centres=None))
    with safetensors.safe_open(tmp_path / "f.safetensors", "numpy") as file:
        shapes = {k: file.get_slice(k).get_shape() for k in file.keys()}
        metadata = file.metadata()
    assert shapes == {
        "shared.kernel": [1, 100],
        "shared.bias": [100],
        "heads.kernel": [100, 3],
        "heads.bias": [3],
    }
    assert metadata["kind"] == "cmw_net" and metadata["normalisation"] == "mean"
    assert load_weighting(tmp_path / "f.safetensors").centres is None


def test_the_same_function_is_the_same_bytes(tmp_path):
    paths = [tmp_path / name for name in "abcdef"]
    for path in paths:
        save_weighting(path, learned())
    assert len({path.read_bytes() for path in paths}) == 1


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "f.safetensors"
    save_weighting(path, learned())
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_weighting(path, learned(provenance={"not JSON": object()}))
    assert path.read_bytes() == before


def test_another_number_of_families_is_refused(tmp_path):
    path = tmp_path / "f.safetensors"
    save_weighting(path, learned(3))
    assert load_weighting(path, num_families=3).num_families == 3
    with pytest.raises(ValueError, match="f.safetensors tells 3 .*but 1 are there"):
        load_weighting(path, num_families=1)


def test_foreign_and_damaged_files_are_refused(tmp_path):
    path = tmp_path / "f.safetensors"
    with pytest.raises(FileNotFoundError, match="no weighting file at"):
        load_weighting(path)
    safetensors.numpy.save_file({"x": np.ones(3)}, path)
    with pytest.raises(ValueError, match="format None.*cmwjax.save_weighting"):
        load_weighting(path)
    safetensors.numpy.save_file({"x": np.ones(3)}, path, {"format": "pt"})
    with pytest.raises(ValueError, match="format 'pt'"):
        load_weighting(path)
    save_weighting(path, learned())
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole[:50], b"", b"not a tensor in sight"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="f.safetensors is not a weighting file"):
            load_weighting(path)


def foreign(folder):
    """Files of all kinds that are no weighting functions."""
    for suffix in ("safetensors", "msgpack", "txt", "npz", "npy", ""):
        yield folder / f"text.{suffix}", b"not a tensor in sight"
        yield folder / f"empty.{suffix}", b""
    np.savez(folder / "other.npz", x=np.ones(3))
    np.savez(folder / "pickled.npz", x=np.array([{}], object))
    np.save(folder / "one.npy", np.ones(3))
    whole = (folder / "other.npz").read_bytes()
    yield folder / "other.npz", whole
    yield folder / "cut.npz", whole[:60]
    yield folder / "pickled.npz", (folder / "pickled.npz").read_bytes()
    yield folder / "one.npz", (folder / "one.npy").read_bytes()


@pytest.mark.parametrize("read", [load_weighting, read_weighting])
def test_foreign_files_are_named_and_what_to_give_instead(tmp_path, read):
    for path, content in list(foreign(tmp_path)):
        path.write_bytes(content)
        with pytest.raises(ValueError) as info:
            read(path)
        message = str(info.value)
        assert str(path) in message
        assert "cmwjax.save_weighting" in message or path.suffix == ".npz", message


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"heads.bias": np.full(3, np.nan, np.float32)}, "heads.bias is not finite"),
        ({"shared.kernel": np.full((1, 9), np.inf)}, "shared.kernel is not finite"),
        ({"heads.bias": np.zeros(2, np.float32)}, r"heads.bias'?: \(2,\)"),
        ({"heads.kernel": np.zeros((9, 3), int)}, "heads.kernel is of type int64"),
        ({"more.bias": np.zeros(2, np.float32)}, "more.bias"),
        ({"nameless": np.zeros(2, np.float32)}, "not enough values"),
    ],
)
def test_a_file_with_other_tensors_is_refused(tmp_path, tensors, message):
    path = tmp_path / "f.safetensors"
    save_weighting(path, learned(3, hidden=9))
    with safetensors.safe_open(path, "numpy") as file:
        held = {k: file.get_tensor(k) for k in file.keys()}
        metadata = file.metadata()
    safetensors.numpy.save_file(held | tensors, path, metadata)
    with pytest.raises(ValueError, match=message) as info:
        load_weighting(path)
    assert str(path) in str(info.value) and "save_weighting" in str(info.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("centres", "[1.0, 2.0]"), ("centres", "oops"), ("loss", None)],
)
def test_a_file_with_other_metadata_is_refused(tmp_path, field, value):
    path = tmp_path / "f.safetensors"
    save_weighting(path, learned(3, hidden=9))
    with safetensors.safe_open(path, "numpy") as file:
        held = {k: file.get_tensor(k) for k in file.keys()}
        metadata = {k: v for k, v in file.metadata().items() if k != field}
    if value is not None:
        metadata[field] = value
    safetensors.numpy.save_file(held, path, metadata)
    with pytest.raises(ValueError, match="holds no weighting function"):
        load_weighting(path)


def test_a_function_is_read_anew_each_time(tmp_path):
    path = tmp_path / "f.safetensors"
    for families in (3, 2):
        save_weighting(path, learned(families))
        assert load_weighting(path).num_families == families


# --- what is asked of a function -----------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "family", "message"),
    [
        (np.ones(3), [0, 3, 1], r"family must lie in \[0, 3\), got 3 at position 1"),
        (np.ones(3), [0, 1, -1], r"family must lie in \[0, 3\), got -1 at position 2"),
        (np.ones(3), [0.0, 1.0, 2.0], "family is float32"),
        (np.ones(3), [0, 1], r"shape \[3\] and family is int32 of shape \[2\]"),
        (np.ones((3, 1)), [0, 1, 1], r"shape \[3, 1\] and"),
        (np.ones(()), 0, r"shape \[\] and"),
    ],
)
def test_bad_losses_and_families_of_a_function(losses, family, message):
    with pytest.raises(ValueError, match=message):
        learned(3, hidden=9)(losses.astype(np.float32), family)


def test_a_weight_of_no_family_is_nan_where_its_value_is_not_known():
    function = learned(3, hidden=9)
    weights = jax.jit(lambda *x: function(*x))(LOSSES[:4], np.array([0, -1, 3, 2]))
    np.testing.assert_array_equal(np.isnan(weights), [False, True, True, False])


# --- the authors' nets ---------------------------------------------------------------

SMALL_MODERATE_LARGE = (1, 2, 0)  # their branches, in our order


def authors_state_dict():
    rng = np.random.default_rng(0)
    state = {
        "feature.layer.0.weight": rng.normal(size=(100, 1)),
        "feature.layer.0.bias": rng.normal(size=100),
    }
    for branch in range(3):
        name = f"classfier.layers.{branch}.0"
        state[f"{name}.weight"] = rng.normal(0, 0.1, (1, 100))
        state[f"{name}.bias"] = rng.normal(size=1)
    return {k: v.astype(np.float32) for k, v in state.items()}


def authors_weight(state, loss, branch):
    """Linear, ReLU, the branch's linear, sigmoid, for one sample."""
    hidden = state["feature.layer.0.weight"] @ [loss] + state["feature.layer.0.bias"]
    name = f"classfier.layers.{branch}.0"
    logit = state[f"{name}.weight"] @ np.maximum(hidden, 0) + state[f"{name}.bias"]
    return 1 / (1 + np.exp(-logit[0]))


def test_import_gives_the_authors_weights():
    state = authors_state_dict()
    function = import_weighting(state)
    assert function.kind == "cmw_net" and function.centres is None
    for family, branch in enumerate(SMALL_MODERATE_LARGE):
        weights = function(LOSSES, np.full(30, family))
        wanted = [authors_weight(state, loss, branch) for loss in LOSSES]
        np.testing.assert_allclose(weights, wanted, atol=1e-6)


def test_import_from_a_file_survives_saving(tmp_path):
    state = authors_state_dict()
    np.savez(tmp_path / "theirs.npz", **state)
    function = import_weighting(tmp_path / "theirs.npz")
    save_weighting(tmp_path / "ours.safetensors", function)
    again = load_weighting(tmp_path / "ours.safetensors")
    family = np.arange(30) % 3
    np.testing.assert_array_equal(
        again(LOSSES, family), import_weighting(state)(LOSSES, family)
    )


def test_import_refuses_other_state_dicts():
    state = authors_state_dict()
    del state["classfier.layers.2.0.bias"]
    with pytest.raises(ValueError, match="three-family net has.*layers.2.0.bias"):
        import_weighting(state)
    state = authors_state_dict()
    state["classfier.layers.2.0.bias"][0] = np.nan
    with pytest.raises(ValueError, match="heads.bias is not finite"):
        import_weighting(state)


def test_a_pth_file_without_pytorch(tmp_path):
    path = tmp_path / "vnet.pth"
    path.write_bytes(pickle.dumps(authors_state_dict()))
    wanted = import_weighting(authors_state_dict())
    chex.assert_trees_all_equal(read_weighting(path).params, wanted.params)
    path.write_bytes(pickle.dumps(np.zeros(3)))
    with pytest.raises(ValueError, match="vnet.pth holds a ndarray, not a state dict"):
        import_weighting(path)


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "vnet.pth").write_bytes(pickle.dumps(authors_state_dict()))
    assert read_weighting("~/vnet.pth").num_families == 3
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/none.safetensors"):
        load_weighting("~/none.safetensors")


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the authors' published net")
def test_import_of_the_published_net_gives_the_golden_table():
    function = import_weighting(REAL / "vnet_119.npz")
    assert sum(x.size for x in jax.tree.leaves(function.params)) == 503
    with np.load(REAL / "vnet_119_golden.npz") as golden:
        losses, weights = golden["loss"].astype(np.float32), golden["weight"]
    for family, branch in enumerate(SMALL_MODERATE_LARGE):
        ours = function(losses, np.full(len(losses), family))
        np.testing.assert_allclose(ours, weights[:, branch], rtol=0, atol=1e-6)
    # The figure's three curves: small stays high, moderate halves, large is filtered.
    at_zero_and_two = np.array([0.0, 2.0], np.float32)
    curves = [function(at_zero_and_two, np.full(2, k)) for k in range(3)]
    wanted = [[0.933, 0.977], [0.488, 0.458], [0.819, 0.102]]
    np.testing.assert_allclose(curves, wanted, atol=5e-4)
