"""Arrays out of other people's pickles and PyTorch files, without executing any.

A pickle may name any function, to be called when it is read. Here it may name only
those that make arrays, tensors and dicts, and stand-ins of ours are called for them.
"""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

SUFFIXES = (".pt", ".pth", ".pkl", ".pickle", ".npy")
_MAGIC = 0x1950A86A20F9469CFC6C  # begins a PyTorch file that is no zip archive
_NPY = b"\x93NUMPY"
_STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


def read(path: Path) -> Any:
    """Reads what a pickle holds.

    Args:
      path: a file of `torch.save`, whether a zip archive or of the form before, of
        `numpy.save`, or of `pickle.dump`.

    Returns:
      An array, or a dict of such by name, nested as in the file.

    Raises:
      ValueError: if the file is missing or damaged, or holds something else than
        arrays, tensors, numbers, texts, lists and dicts.
    """
    try:
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                return _plain(_read_zip(file))
            file.seek(0)
            if file.read(len(_NPY)) == _NPY:
                file.seek(0)
                return _plain(_read_npy(file))
            file.seek(0)
            first = _Unpickler(file).load()
            return _plain(_read_legacy(file) if first == _MAGIC else first)
    # A damaged pickle raises any of a dozen types.
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as a file of arrays ({error}): correct the path, "
            "or where you trust it, write it anew: numpy.savez('FILE.npz', **content)."
        ) from error


def _read_zip(file: BinaryIO) -> Any:
    """What `torch.save` writes today: a pickle, and a file for each storage."""
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        content = next(name for name in names if name.endswith("/data.pkl"))
        folder = content.removesuffix("data.pkl")
        if f"{folder}byteorder" in names:
            order = archive.read(f"{folder}byteorder")
            if order != b"little":
                raise ValueError(f"its byte order is {order}")

        def storage(dtype: np.dtype, key: str, size: int) -> np.ndarray:
            values = np.frombuffer(archive.read(f"{folder}data/{key}"), dtype)
            if len(values) < size:
                raise ValueError(f"storage {key} has {len(values)} of {size} numbers")
            return values

        with archive.open(content) as pickled:
            return _Unpickler(pickled, storage).load()


def _read_legacy(file: BinaryIO) -> Any:
    """The rest of what `torch.save` wrote before: pickles, and behind them storages."""
    length = file.seek(0, 2)
    file.seek(0)
    storages: dict[str, np.ndarray] = {}

    def storage(dtype: np.dtype, key: str, size: int) -> np.ndarray:
        if size * dtype.itemsize > length:
            raise ValueError(f"storage {key} is larger than the file")
        return storages.setdefault(key, np.zeros(size, dtype))

    _, version, machine = (_Unpickler(file).load() for _ in range(3))
    if version != 1001 or not machine["little_endian"]:
        raise ValueError(f"it is version {version} of {machine}")
    content = _Unpickler(file, storage).load()
    for key in _Unpickler(file).load():
        values = storages[key]
        size = int.from_bytes(file.read(8), "little")
        raw = file.read(size * values.dtype.itemsize)
        values[:] = np.frombuffer(raw, values.dtype)[: len(values)]
    return content


def _read_npy(file: BinaryIO) -> Any:
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        return _Unpickler(file).load()
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


class _Unpickler(pickle.Unpickler):
    """Knows the names in `_MAKERS` and no others."""

    def __init__(
        self,
        file: BinaryIO | Any,
        storage: Callable[[np.dtype, str, int], np.ndarray] | None = None,
    ) -> None:
        super().__init__(file)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in for what a pickle names."""
        if module == "torch" and name in _STORAGES:
            return _Maker(lambda: np.dtype(_STORAGES[name]))
        module = module.replace("numpy._core", "numpy.core")
        if (module, name) not in _MAKERS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, no array")
        return _Maker(_MAKERS[module, name])

    def persistent_load(self, pid: Any) -> np.ndarray:
        """Numbers that lie beside the pickle."""
        if self._storage is None:
            raise pickle.UnpicklingError("it refers to something beside it")
        _, make_dtype, key, _, size = pid[:5]
        return self._storage(make_dtype(), str(key), int(size))


class _Maker:
    """A function that a pickle may call, but not change."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *args: Any) -> Any:
        """What the function makes."""
        return self._make(*args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes a function")


class _Dict(dict):
    """A dict without the attributes that PyTorch's have beside their entries."""

    def __setstate__(self, state: Any) -> None:
        pass


class _DType:
    """The type of an array: a number, a text or an object."""

    def __init__(self, code: str, *_: Any) -> None:
        self._code, self._order = code, ""

    def __setstate__(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self._order = state[1]

    @property
    def plain(self) -> np.dtype:
        """The same of NumPy."""
        dtype = np.dtype(self._code)
        if dtype.kind not in "biufUO":
            raise pickle.UnpicklingError(f"it has an array of {dtype}")
        return np.dtype(self._order + dtype.str[1:])


class _Array:
    """An array, whose content comes later."""

    def __init__(self, *_: Any) -> None:
        self._content: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        self._content = state

    @property
    def plain(self) -> Any:
        """The same of NumPy; what an array of one object holds."""
        *_, shape, dtype, is_fortran, raw = self._content
        dtype = dtype.plain
        if dtype.hasobject:
            return raw[0] if shape == () else list(raw)
        values = np.frombuffer(raw, dtype)
        return values.reshape(shape, order="F" if is_fortran else "C").copy()


def _tensor(
    storage: np.ndarray, offset: int, shape: tuple, strides: tuple, *_: Any
) -> "_Tensor":
    return _Tensor(storage, offset, shape, strides)


class _Tensor:
    """A view of a storage, whose numbers may come later."""

    def __init__(self, storage: Any, offset: int, shape: tuple, strides: tuple) -> None:
        last = offset + sum(
            (n - 1) * step for n, step in zip(shape, strides, strict=True)
        )
        if min((offset, *shape, *strides)) < 0 or (
            np.prod(shape) and last >= len(storage)
        ):
            raise pickle.UnpicklingError("a tensor reaches beyond its storage")
        self._storage, self._offset = storage, offset
        self._shape, self._strides = shape, strides

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes a tensor")

    @property
    def plain(self) -> np.ndarray:
        """The same of NumPy."""
        steps = tuple(step * self._storage.itemsize for step in self._strides)
        rest = self._storage[self._offset :]
        return np.lib.stride_tricks.as_strided(rest, self._shape, steps).copy()


def _bytes(text: str, encoding: str) -> bytes:
    """Bytes as pickles of an old protocol have them."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it has bytes in {encoding}")
    return text.encode("latin1")


def _scalar(dtype: _DType, raw: bytes) -> Any:
    return np.frombuffer(raw, dtype.plain)[0]


_MAKERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _Dict,
    ("_codecs", "encode"): _bytes,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
}


def _plain(value: Any) -> Any:
    """What was read, in Python's and NumPy's own types."""
    if isinstance(value, _Array):
        return _plain(value.plain)
    if isinstance(value, _Tensor):
        return value.plain
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return np.array([_plain(one) for one in value])
    if isinstance(value, _Maker | _DType):
        raise ValueError("it holds a function in place of an array")
    return value
