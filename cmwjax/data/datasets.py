"""Data sets by name: archives, image folders, csv files, and those that are embedded.

Images of sets that do not fit in memory stay encoded on disk; see `on_disk`.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmwjax.core.labels import CLASSES, TARGETS, check_labels
from cmwjax.data import csv_sets, on_disk
from cmwjax.data.archive import read_arrays
from cmwjax.data.csv_labels import class_numbers
from cmwjax.data.csv_sets import Rows
from cmwjax.data.dataset import Dataset, select
from cmwjax.data.embedded import EMBEDDED
from cmwjax.data.encoded import Encoded
from cmwjax.data.inputs import check_images
from cmwjax.data.label_sets import check_candidates
from cmwjax.files import expanded

# fmt: off
CLASS_NAMES = {
    "cifar10": (
        "airplane", "automobile", "bird", "cat", "deer",
        "dog", "frog", "horse", "ship", "truck",
    ),
    "fashion_mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
        "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
}
# fmt: on
ARCHIVE_KEYS = ("x_train", "y_train", "x_test", "y_test")


def load(
    name: str | os.PathLike[str],
    *,
    train_size: int | None = None,
    labels: str = "true",
    tests: Sequence[str] = (),
    image_size: int = 0,
    label_kind: str = CLASSES,
    csv: Mapping[str, Any] | None = None,
    has_sets: bool = False,
) -> Dataset:
    """Reads a data set and checks it.

    An archive holds `x_train, y_train, x_test, y_test`; one's own may do without the
    last two. Rows of a table are numbers `[N, D]`. Images are `[N, H, W]` or
    `[N, H, W, C]`, uint8 or floats in [0, 1], which are scaled to 0..255 and rounded.
    Labels are integers or names, `[N]` or `[N, 1]`; without a name for the set, there
    are as many classes as the largest training label says. Those to train on may be
    sets of candidates, truth values `[N, C]`. `Dataset.rows` are those of
    `x_train`, or of the images on disk, which are in the order of their classes and
    then of their names, or of TFDS.

    Args:
      name: 'digits' (1437 training and 360 test images, from scikit-learn) or another
        of `EMBEDDED`, the path of an `.npz` archive or of a `.csv` or `.tsv` file, or
        'cifar10' / 'fashion_mnist' for the archive of that name in the folder that the
        environment variable `CMWJAX_DATA_DIR` names; or one of `on_disk.load`, whose
        images stay on disk.
      train_size: take only that many training images, the first of a fixed random order
        in which every class advances at the pace of its size. A smaller set is thus the
        beginning of a larger one.
      labels: the label set to observe, see `label_sets.read`; 'true' if the data
        set's own labels are correct, 'given' if nobody knows which of them are.
      tests: test sets of data on disk.
      image_size: pixels per side that images on disk are to have.
      label_kind: 'targets' takes labels of csv files and of archives for such.
      csv: arguments of `csv_sets.load`, for such files.
      has_sets: whether labels of a csv file are sets of candidates, with the
        `separator` between them.

    Returns:
      The data set.

    Raises:
      ValueError: if there is no such set, its file is missing, damaged or incomplete,
        `train_size` is not in [1, N], `validate` rejects the arrays, or the label set
        is missing or not one of these images.
    """
    name, archive = os.fspath(name), None
    if on_disk.is_name(name):
        columns = {part: (csv or {}).get(part, "") for part in ("text", "label")}
        files = on_disk.load(name, tests=tests, **columns)
        dataset, archive = _on_disk(files, image_size), files.archive
        trusted = (csv or {}).get("trusted", "")
        if trusted:
            dataset = _with_trusted_images(dataset, name, trusted)
    elif csv_sets.is_name(name):
        csv = {**(csv or {}), **({} if has_sets else {"separator": ""})}
        dataset = csv_sets.load(name, label_kind=label_kind, **csv)
    elif name in EMBEDDED:
        dataset = EMBEDDED[name]()
    else:
        dataset, archive = _from_archive(name, label_kind), _archive_path(name)
        trusted = (csv or {}).get("trusted", "")
        if trusted:
            dataset = _with_trusted(dataset, name, trusted)
    return select(
        dataset, name=name, train_size=train_size, labels=labels, archive=archive
    )


def _from_archive(name: str, label_kind: str) -> Dataset:
    path = _archive_path(name)
    if not path.is_file():
        raise ValueError(
            f"data: there is no file {path}. It must be a NumPy archive of "
            f"{', '.join(ARCHIVE_KEYS)}: put it there, or correct the path or "
            "CMWJAX_DATA_DIR."
        )
    arrays, _ = read_arrays(path, ARCHIVE_KEYS)
    missing = [key for key in ARCHIVE_KEYS if key not in arrays]
    if missing == ["x_test", "y_test"] and name not in CLASS_NAMES:
        twice = {"x_test": arrays["x_train"], "y_test": arrays["y_train"]}
        return _without_test(_of_arrays(arrays | twice, name, label_kind))
    if missing:
        needed = [key for key in missing if name in CLASS_NAMES or "train" in key]
        raise ValueError(
            f"data: {path} has no {', '.join(needed or missing)}: an archive holds "
            f"{', '.join(ARCHIVE_KEYS)}; add it."
        )
    return _of_arrays(arrays, name, label_kind)


def _without_test(dataset: Dataset) -> Dataset:
    inputs, labels = dataset.test_inputs[:0], dataset.test_labels[:0]
    return dataset._replace(test_inputs=inputs, test_labels=labels)


def _of_arrays(arrays: Mapping[str, np.ndarray], name: str, label_kind: str) -> Dataset:
    x_train, y_train, x_test, y_test = (arrays[key] for key in ARCHIVE_KEYS)
    for key, inputs in (("x_train", x_train), ("x_test", x_test)):
        if not inputs.size or not 2 <= inputs.ndim <= 4:
            raise ValueError(
                f"{name}: {key} has shape {list(inputs.shape)}, but rows of a table "
                "are [N, D], and images [N, H, W] or [N, H, W, C], all at least 1: "
                "reshape or add samples."
            )
    kind, shown = "images", None
    if x_train.ndim == x_test.ndim == 2:
        kind, x_train, x_test = "rows", _as_rows(x_train), _as_rows(x_test)
        shown = Rows([f"column {c}" for c in range(x_train.shape[1])], x_train)
    else:
        x_train = _as_images(x_train, name=f"{name}: x_train")
        x_test = _as_images(x_test, name=f"{name}: x_test")
    if y_train.ndim == 2 and y_train.dtype.kind == "b":
        return _of_sets(x_train, y_train, x_test, y_test, name, kind, shown)
    y_train, y_test = _one_axis(y_train), _one_axis(y_test)
    if label_kind == TARGETS:
        return Dataset(x_train, y_train, x_test, y_test, 0, (), kind=kind, shown=shown)
    names = CLASS_NAMES.get(name)
    by_name = all(y.dtype.kind == "U" and y.ndim == 1 for y in (y_train, y_test))
    if names is None and by_name:
        y_train, names = class_numbers(y_train.tolist(), name=f"{name}: y_train")
        y_test, _ = class_numbers(y_test.tolist(), names, name=f"{name}: y_test")
    if names is None:
        # N samples cannot fill more than N classes, so a label from N on is an error.
        remedy = "number the classes from 0 on, without gaps"
        labels = check_labels(
            y_train, y_train.size, name=f"{name}: y_train", remedy=remedy
        )
        names = tuple(str(label) for label in range(labels.max(initial=0) + 1))
    return Dataset(
        x_train,
        check_labels(y_train, len(names), name=f"{name}: y_train"),
        x_test,
        check_labels(
            y_test,
            len(names),
            name=f"{name}: y_test",
            remedy="correct it, or train on samples of that class",
        ),
        len(names),
        names,
        kind=kind,
        shown=shown,
    )


def _of_sets(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    name: str,
    kind: str,
    shown: Any,
) -> Dataset:
    """An archive whose training samples have candidates for a label, bool `[N, C]`."""
    sets = check_candidates(y_train, name=f"{name}: y_train")
    size = sets.shape[1]
    if y_test.ndim == 2 and y_test.dtype.kind == "b":  # of an archive without a test
        y_test = y_test.argmax(axis=1)
    return Dataset(
        x_train,
        sets.argmax(axis=1).astype(np.int32),
        x_test,
        check_labels(_one_axis(y_test), size, name=f"{name}: y_test"),
        size,
        CLASS_NAMES.get(name, tuple(map(str, range(size)))),
        kind=kind,
        shown=shown,
        knows_true_labels=False,
        candidates=sets,
    )


def _with_trusted(dataset: Dataset, name: str, trusted: str) -> Dataset:
    """The data set with the training samples of another archive, which are trusted."""
    other = _from_archive(trusted, dataset.label_kind)
    inputs, labels = other.train_inputs, other.train_labels
    if other.kind != dataset.kind or inputs.shape[1:] != dataset.train_inputs.shape[1:]:
        raise ValueError(
            f"{trusted}: x_train are {other.kind} of shape {list(inputs.shape)}, but "
            f"{name} has {dataset.kind} of shape {list(dataset.train_inputs.shape)}: "
            "trust samples of the same form."
        )
    sets = dataset.candidates
    if sets is not None:
        own = np.arange(dataset.num_classes)
        sets = np.concatenate([sets, labels[:, None] == own])
    if dataset.num_classes:
        remedy = "trust samples of these classes alone"
        name = f"{trusted}: y_train"
        check_labels(labels, dataset.num_classes, name=name, remedy=remedy)
    every = np.concatenate([dataset.train_inputs, inputs])
    shown = dataset.shown
    if isinstance(shown, Rows):
        shown = Rows(shown.names, every)
    return dataset._replace(
        train_inputs=every,
        train_labels=np.concatenate([dataset.train_labels, labels]),
        trusted_index=np.arange(len(dataset.train_labels), len(every), dtype=np.int32),
        shown=shown,
        candidates=sets,
    )


def _with_trusted_images(dataset: Dataset, name: str, trusted: str) -> Dataset:
    """The data set with images that are trusted."""
    assert dataset.files is not None
    more = on_disk.load_trusted(name, trusted)
    files = dataset.files.with_more(more, trusted)
    size = len(dataset.train_labels)
    return dataset._replace(
        train_labels=files.train.labels,
        trusted_index=np.arange(size, len(files.train.labels), dtype=np.int32),
        files=files,
    )


def _on_disk(files: Encoded, image_size: int) -> Dataset:
    none = np.zeros((0, image_size, image_size, 3), np.uint8)
    tests = [part.labels for part in files.tests.values()]
    return Dataset(
        none,
        files.train.labels,
        none,
        tests[0] if tests else files.train.labels[:0],
        len(files.class_names),
        files.class_names,
        files=files,
    )


def _archive_path(name: str) -> Path:
    if name in CLASS_NAMES:
        folder = os.environ.get("CMWJAX_DATA_DIR")
        if not folder:
            raise ValueError(
                f"data {name!r} is read from {name}.npz (a NumPy archive of "
                f"{', '.join(ARCHIVE_KEYS)}) in the folder CMWJAX_DATA_DIR, which is "
                "not set: export CMWJAX_DATA_DIR=FOLDER, or give the archive's path."
            )
        return expanded(folder) / f"{name}.npz"
    if not name.endswith(".npz"):
        raise ValueError(
            f"data {name!r} is unknown: choose one of "
            f"{', '.join(map(repr, (*EMBEDDED, *CLASS_NAMES)))}, or give the path of "
            "an .npz archive, of a .csv or .tsv file, or folder:PATH."
        )
    return expanded(name)


def _as_images(images: np.ndarray, *, name: str) -> NDArray[np.uint8]:
    """Brings an archive's images to uint8 `[N, H, W, C]` by the rules of `load`."""
    if images.ndim == 3:
        images = images[..., None]
    floats = np.issubdtype(images.dtype, np.floating)
    if floats and np.all((images >= 0) & (images <= 1)):
        images = np.rint(images * 255).astype(np.uint8)
    check_images(images, name=name)
    return images


def _as_rows(rows: np.ndarray) -> np.ndarray:
    """Numbers of any type as float64; what is no number stays, to be refused."""
    return rows.astype(np.float64) if rows.dtype.kind in "biuf" else rows


def _one_axis(labels: np.ndarray) -> np.ndarray:
    """Drops the second axis of `[N, 1]`."""
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
