"""Image sets as arrays: uint8 images and int32 labels, checked.

Images of sets that do not fit in memory stay encoded on disk; see `on_disk`.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmwjax.core.labels import UNLABELLED, check_labels, class_counts
from cmwjax.data import label_sets, on_disk
from cmwjax.data.archive import read_arrays
from cmwjax.data.view import Spec

CLASS_NAMES = {
    "cifar10": (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
    "fashion_mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
}
ARCHIVE_KEYS = ("x_train", "y_train", "x_test", "y_test")


class Dataset(NamedTuple):
    """Images and labels of a training and a test set."""

    train_inputs: NDArray[np.uint8]  # [N, H, W, C]; [0, H, W, C] if they are on disk
    train_labels: NDArray[np.int32]  # [N], the true ones unless nobody knows them
    test_inputs: NDArray[np.uint8]
    test_labels: NDArray[np.int32]
    num_classes: int  # 0: labels are targets of a regression, float32
    class_names: tuple[str, ...]
    # [N], another label set of the training images; UNLABELLED (-1) where it has none
    observed_labels: NDArray[np.int32] | None = None
    knows_true_labels: bool = True
    files: on_disk.Encoded | None = None  # where the images are, if on disk
    kind: str = "images"  # of the inputs, see `view.KINDS`
    trusted_index: NDArray[np.int32] | None = None  # samples whose labels are trusted
    shown: Sequence[Any] | None = None  # what a person sees of each; None: the inputs
    vocabulary: Any = None  # of texts, see `text.Vocabulary`

    @property
    def spec(self) -> Spec:
        """Kind, shapes and types of the inputs."""
        return Spec.of(self.kind, self.train_inputs)


def load(
    name: str | os.PathLike[str],
    *,
    train_size: int | None = None,
    labels: str = "true",
    tests: Sequence[str] = (),
    image_size: int = 0,
) -> Dataset:
    """Reads a data set and checks it.

    An archive holds `x_train, y_train, x_test, y_test`. Images are `[N, H, W]` or
    `[N, H, W, C]`, uint8 or floats in [0, 1], which are scaled to 0..255 and rounded.
    Labels are integers, `[N]` or `[N, 1]`; without a name for the set, there are as
    many classes as the largest training label says.

    Args:
      name: 'digits' (1437 training and 360 test images, from scikit-learn), the path
        of an `.npz` archive, or 'cifar10' / 'fashion_mnist' for the archive of that
        name in the folder that the environment variable `CMWJAX_DATA_DIR` names; or
        one of `on_disk.load`, whose images stay on disk.
      train_size: take only that many training images, the first of a fixed random order
        in which every class advances at the pace of its size. A smaller set is thus the
        beginning of a larger one.
      labels: the label set to observe, see `label_sets.read`; 'true' if the data
        set's own labels are correct, 'given' if nobody knows which of them are.
      tests: test sets of data on disk.
      image_size: pixels per side that images on disk are to have.

    Returns:
      The data set.

    Raises:
      ValueError: if there is no such set, its file is missing, damaged or incomplete,
        `train_size` is not in [1, N], `validate` rejects the arrays, or the label set
        is missing or not one of these images.
    """
    name, archive = os.fspath(name), None
    if on_disk.is_name(name):
        dataset = _on_disk(on_disk.load(name, tests=tests), image_size)
    elif name == "digits":
        dataset = _digits()
    else:
        dataset, archive = _from_archive(name), _archive_path(name)
    return select(
        dataset, name=name, train_size=train_size, labels=labels, archive=archive
    )


def select(
    dataset: Dataset,
    *,
    name: str,
    train_size: int | None = None,
    labels: str = "true",
    archive: Path | None = None,
) -> Dataset:
    """Checks a data set, and takes of it the images and the label set that are wanted.

    Args:
      dataset: images and labels from anywhere.
      name: what an error calls the data set.
      train_size: as for `load`.
      labels: as for `load`. 'true' keeps the `observed_labels` that there are.
      archive: the file that may hold the label set, if there is one.

    Returns:
      The data set, with labels int32, or float32 if they are targets.

    Raises:
      ValueError: as `load`.
    """
    validate(dataset, name=name)
    dtype: Any = np.int32 if dataset.num_classes else np.float32
    dataset = dataset._replace(
        train_labels=np.asarray(dataset.train_labels, dtype),
        test_labels=np.asarray(dataset.test_labels, dtype),
        knows_true_labels=dataset.knows_true_labels and labels != "given",
    )
    if labels not in ("true", "given"):
        observed = label_sets.read(
            labels,
            archive=archive,
            true_labels=dataset.train_labels,
            num_classes=dataset.num_classes,
        )
        dataset = dataset._replace(observed_labels=observed)
    if train_size is None:
        return dataset
    if not 1 <= train_size <= len(dataset.train_labels):
        raise ValueError(
            f"train_size is {train_size}, but {name} has {len(dataset.train_labels)} "
            "training images: choose a size from 1 to that, or None for all."
        )
    first = _stratified_order(dataset.train_labels)[:train_size]
    dataset = dataset._replace(
        train_inputs=dataset.train_inputs[first if dataset.files is None else []],
        train_labels=dataset.train_labels[first],
        files=dataset.files and dataset.files.subset(first),
    )
    if dataset.observed_labels is not None:
        dataset = dataset._replace(observed_labels=dataset.observed_labels[first])
    validate(dataset, name=f"{name} with train_size={train_size}")
    return dataset


def validate(dataset: Dataset, *, name: str) -> None:
    """Raises one clear error if training on this data set cannot go well.

    Args:
      dataset: what `load` returns, or arrays from elsewhere.
      name: what the error calls the data set.

    Raises:
      ValueError: if images are not uint8 `[N, H, W, C]`, contain NaN or differ in
        shape between training and test; if a label is not an integer in [0, C); if
        images and labels differ in number, or there are none; if a class has no
        training sample; if observed labels are not one per training image, each a
        class or `UNLABELLED`; or if there is not one name per class.
    """
    for split in ("train", "test"):
        images, labels = (
            np.asarray(getattr(dataset, f"{split}_{part}"))
            for part in ("inputs", "labels")
        )
        if dataset.files is None:
            _check_images(images, name=f"{name}: {split}_inputs")
        check_labels(labels, dataset.num_classes, name=f"{name}: {split}_labels")
        if dataset.files is None and len(images) != len(labels):
            raise ValueError(
                f"{name}: {len(images)} {split}_inputs, but {len(labels)} "
                f"{split}_labels: give every image one label."
            )
    if dataset.train_inputs.shape[1:] != dataset.test_inputs.shape[1:]:
        raise ValueError(
            f"{name}: train_inputs are {list(dataset.train_inputs.shape[1:])}, but "
            f"test_inputs {list(dataset.test_inputs.shape[1:])}: resize one of them."
        )
    empty = np.flatnonzero(class_counts(dataset.train_labels, dataset.num_classes) == 0)
    if empty.size:
        raise ValueError(
            f"{name}: no training sample of class {empty[0]} (of "
            f"{dataset.num_classes}): add samples, or number the classes without gaps."
        )
    if dataset.observed_labels is not None:
        _check_observed(dataset, name=f"{name}: observed_labels")
    if len(dataset.class_names) != dataset.num_classes:
        raise ValueError(
            f"{name}: {len(dataset.class_names)} class_names for "
            f"{dataset.num_classes} classes: give every class one name."
        )


def _check_observed(dataset: Dataset, *, name: str) -> None:
    observed = np.asarray(dataset.observed_labels)
    if observed.shape != np.shape(dataset.train_labels):
        raise ValueError(
            f"{name} have shape {list(observed.shape)}, but there are "
            f"{len(dataset.train_labels)} training labels: give one for each."
        )
    check_labels(
        np.where(observed == UNLABELLED, 0, observed), dataset.num_classes, name=name
    )


def _digits() -> Dataset:
    # Here, because scikit-learn takes a second to import.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
    images = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    train_inputs, test_inputs, train_labels, test_labels = train_test_split(
        images, labels.astype(np.int32), test_size=360, stratify=labels, random_state=0
    )
    names = tuple(str(label) for label in range(10))
    return Dataset(train_inputs, train_labels, test_inputs, test_labels, 10, names)


def _from_archive(name: str) -> Dataset:
    path = _archive_path(name)
    if not path.is_file():
        raise ValueError(
            f"data: there is no file {path}. It must be a NumPy archive of "
            f"{', '.join(ARCHIVE_KEYS)}: put it there, or correct the path or "
            "CMWJAX_DATA_DIR."
        )
    arrays, _ = read_arrays(path, ARCHIVE_KEYS)
    missing = [key for key in ARCHIVE_KEYS if key not in arrays]
    if missing:
        raise ValueError(
            f"data: {path} has no {', '.join(missing)}: an archive holds "
            f"{', '.join(ARCHIVE_KEYS)}."
        )
    x_train, y_train, x_test, y_test = (arrays[key] for key in ARCHIVE_KEYS)
    train_inputs = _as_images(x_train, name=f"{name}: x_train")
    test_inputs = _as_images(x_test, name=f"{name}: x_test")
    y_train, y_test = _one_axis(y_train), _one_axis(y_test)
    names = CLASS_NAMES.get(name)
    if names is None:
        # N samples cannot fill more than N classes, so a label from N on is an error.
        labels = check_labels(y_train, y_train.size, name=f"{name}: y_train")
        names = tuple(str(label) for label in range(labels.max(initial=0) + 1))
    return Dataset(
        train_inputs,
        check_labels(y_train, len(names), name=f"{name}: y_train"),
        test_inputs,
        check_labels(y_test, len(names), name=f"{name}: y_test"),
        len(names),
        names,
    )


def _on_disk(files: on_disk.Encoded, image_size: int) -> Dataset:
    none = np.zeros((0, image_size, image_size, 3), np.uint8)
    return Dataset(
        none,
        files.train.labels,
        none,
        next(iter(files.tests.values())).labels,
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
        return Path(folder, f"{name}.npz")
    if not name.endswith(".npz"):
        raise ValueError(
            f"data {name!r} is unknown: choose 'digits', "
            f"{', '.join(map(repr, CLASS_NAMES))}, or the path of an .npz archive."
        )
    return Path(name)


def _as_images(images: np.ndarray, *, name: str) -> NDArray[np.uint8]:
    """Brings an archive's images to uint8 `[N, H, W, C]` by the rules of `load`."""
    if images.ndim == 3:
        images = images[..., None]
    floats = np.issubdtype(images.dtype, np.floating)
    if floats and np.all((images >= 0) & (images <= 1)):
        images = np.rint(images * 255).astype(np.uint8)
    _check_images(images, name=name)
    return images


def _one_axis(labels: np.ndarray) -> np.ndarray:
    """Drops the second axis of `[N, 1]`."""
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _check_images(images: np.ndarray, *, name: str) -> None:
    if images.ndim != 4 or not images.size:
        raise ValueError(
            f"{name} must have shape [N, H, W, C], all at least 1, got "
            f"{list(images.shape)}: reshape or add images."
        )
    if np.issubdtype(images.dtype, np.floating) and np.isnan(images).any():
        bad = np.flatnonzero(np.isnan(images).any(axis=(1, 2, 3)))
        raise ValueError(
            f"{name} contain NaN in {len(bad)} images, the first at position {bad[0]}: "
            "repair or remove them."
        )
    if images.dtype != np.uint8:
        numeric = images.dtype.kind in "iuf"
        extent = f" from {images.min()} to {images.max()}" if numeric else ""
        raise ValueError(
            f"{name} must be uint8, or in an archive floats in [0, 1], got "
            f"{images.dtype}{extent}: convert them."
        )


def _stratified_order(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """A fixed random order, every beginning of which has nearly the classes' shares."""
    shuffled = np.random.default_rng(0).permutation(len(labels))
    progress = np.empty(len(labels))  # how far through its class a sample comes
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        progress[members] = (np.arange(len(members)) + 0.5) / len(members)
    return shuffled[np.argsort(progress[shuffled], kind="stable")]
