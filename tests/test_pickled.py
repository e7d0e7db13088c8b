"""Pickles and PyTorch files: arrays come out, and nothing is executed."""

import io
import os
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from cmwjax import pickled

RNG = np.random.default_rng(0)
ARRAYS = {
    "weight": RNG.normal(size=(3, 4)).astype(np.float32),
    "bias": RNG.normal(size=3),
    "steps": np.array(7, np.int64),
}


class Storage:
    """What PyTorch keeps the numbers of a tensor in."""

    def __init__(self, values):
        self.values = values


def _rebuild_tensor_v2(*args):
    raise AssertionError("a function that a file names was called")


class FloatStorage:
    pass


class DoubleStorage:
    pass


class LongStorage:
    pass


TYPES = {"f": FloatStorage, "d": DoubleStorage, "l": LongStorage}


class Tensor:
    def __init__(self, values, shape, strides, offset=0):
        self.storage = Storage(values)
        self.args = (self.storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self):
        return _rebuild_tensor_v2, self.args


def tensor(array):
    steps = tuple(step // array.itemsize for step in array.strides)
    return Tensor(array.ravel(), array.shape, steps)


@pytest.fixture
def torch(monkeypatch):
    """Names under which PyTorch's own would be pickled."""
    module, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for one in TYPES.values():
        monkeypatch.setattr(one, "__module__", "torch")
        setattr(module, one.__name__, one)
    monkeypatch.setattr(_rebuild_tensor_v2, "__module__", "torch._utils")
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", module)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


class Pickler(pickle.Pickler):
    def __init__(self, file, *, legacy):
        super().__init__(file, protocol=2)
        self.storages, self._legacy = {}, legacy

    def persistent_id(self, obj):
        if not isinstance(obj, Storage):
            return None
        key = str(len(self.storages))
        self.storages[key] = obj.values
        kind = TYPES[obj.values.dtype.char]
        last = (None,) if self._legacy else ()
        return ("storage", kind, key, "cpu", obj.values.size, *last)


def write_zip(path, content):
    """As `torch.save` does."""
    file = io.BytesIO()
    pickler = Pickler(file, legacy=False)
    pickler.dump(content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", file.getvalue())
        archive.writestr("archive/byteorder", "little")
        for key, values in pickler.storages.items():
            archive.writestr(f"archive/data/{key}", values.tobytes())


def write_legacy(path, content):
    """As `torch.save` did up to PyTorch 1.5."""
    with path.open("wb") as file:
        pickle.dump(pickled._MAGIC, file, protocol=2)
        pickle.dump(1001, file, protocol=2)
        pickle.dump({"little_endian": True}, file, protocol=2)
        pickler = Pickler(file, legacy=True)
        pickler.dump(content)
        pickle.dump(list(pickler.storages), file, protocol=2)
        for values in pickler.storages.values():
            file.write(struct.pack("<q", values.size) + values.tobytes())


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_state_dicts(torch, tmp_path, write):
    state = OrderedDict((name, tensor(value)) for name, value in ARRAYS.items())
    state._metadata = OrderedDict(version=1)
    write(tmp_path / "net.pth", state)
    assert_equal(pickled.read(tmp_path / "net.pth"), ARRAYS)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_tensors_that_are_a_part_of_their_storage(torch, tmp_path, write):
    values = np.arange(24.0)
    part = values.reshape(4, 6).T[1:3]
    view = Tensor(values, (2, 4), (1, 6), offset=1)
    write(tmp_path / "net.pth", {"part": view})
    assert_equal(pickled.read(tmp_path / "net.pth"), {"part": part})
    for offset, shape, strides in ((1, (2, 5), (1, 6)), (-1, (2,), (1,))):
        write(tmp_path / "net.pth", {"part": Tensor(values, shape, strides, offset)})
        with pytest.raises(ValueError, match="reaches beyond its storage"):
            pickled.read(tmp_path / "net.pth")


@pytest.mark.parametrize("protocol", [2, 4])
def test_arrays_in_a_pickle(tmp_path, protocol):
    content = ARRAYS | {"text": np.array(["a", "bc"]), "big": np.arange(3, dtype=">i4")}
    content["fortran"] = np.asfortranarray(ARRAYS["weight"])
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol))
    assert_equal(pickled.read(tmp_path / "a.pkl"), content)
    nested = {"labels": {"few": [1, 2, 3]}, "one": np.float32(0.5), 3: "three"}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(nested, protocol))
    found = pickled.read(tmp_path / "a.pkl")
    assert found["labels"]["few"].tolist() == [1, 2, 3]
    assert found["one"] == 0.5 and found["3"] == "three"


def test_arrays_of_numpy_save(tmp_path):
    np.save(tmp_path / "a.npy", ARRAYS["weight"])
    np.testing.assert_array_equal(pickled.read(tmp_path / "a.npy"), ARRAYS["weight"])
    np.save(tmp_path / "a.npy", ARRAYS)  # which pickles it
    assert_equal(pickled.read(tmp_path / "a.npy"), ARRAYS)


def test_the_layout_of_cifar_10n(torch, tmp_path):
    write_zip(tmp_path / "human.pt", {"worse_label": np.arange(9), "x": [1, 2]})
    found = pickled.read(tmp_path / "human.pt")
    assert found["worse_label"].tolist() == list(range(9))


class Evil:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "call",
    [
        (os.system, "touch hacked"),
        (eval, "1"),
        (np.load, "x"),
        (getattr, ARRAYS, "pop"),
    ],
)
def test_nothing_is_executed(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    for write in (
        lambda path, x: path.write_bytes(pickle.dumps(x)),
        write_zip,
        write_legacy,
    ):
        write(tmp_path / "evil.pt", {"labels": Evil(*call)})
        with pytest.raises(ValueError, match="it asks for .*, no array"):
            pickled.read(tmp_path / "evil.pt")
    np.save(tmp_path / "evil.npy", np.array(Evil(*call), object))
    with pytest.raises(ValueError, match="it asks for .*, no array"):
        pickled.read(tmp_path / "evil.npy")
    assert not (tmp_path / "hacked").exists()


def test_functions_that_are_allowed_cannot_be_changed(tmp_path):
    content = b"ccollections\nOrderedDict\n}b."  # BUILD on the function itself
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(ValueError, match="changes a function"):
        pickled.read(tmp_path / "a.pkl")
    (tmp_path / "a.pkl").write_bytes(b"ccollections\nOrderedDict\n.")
    with pytest.raises(ValueError, match="a function in place of an array"):
        pickled.read(tmp_path / "a.pkl")


def test_damaged_files_are_named(torch, tmp_path):
    path = tmp_path / "net.pth"
    for write in (write_zip, write_legacy):
        write(path, {"w": tensor(ARRAYS["weight"])})
        whole = path.read_bytes()
        for end in (0, 10, len(whole) // 2, len(whole) - 8):
            path.write_bytes(whole[:end])
            with pytest.raises(ValueError, match="net.pth cannot be read .*savez"):
                pickled.read(path)
    with pytest.raises(ValueError, match="nowhere.pt cannot be read"):
        pickled.read(tmp_path / "nowhere.pt")
