"""What a data set is: inputs and labels in memory, checked.

Inputs are images, rows of a table or tokens of texts; labels are classes, or targets of
a regression.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmwjax.core.labels import (
    CLASSES,
    TARGETS,
    UNLABELLED,
    check_labels,
    check_spread,
    check_targets,
    class_counts,
)
from cmwjax.data import label_sets, on_disk
from cmwjax.data.text import Vocabulary
from cmwjax.data.view import Spec
from cmwjax.randomness import Purpose, generator

LARGEST = 1e38  # in rows of a table; the difference of two such numbers is finite


class Dataset(NamedTuple):
    """Inputs and labels of a training and a test set.

    Attributes:
      train_inputs: `[N, ...]`, by `kind`: 'images', uint8 `[N, H, W, C]`, or `[0, H, W,
        C]` if they are on disk; 'rows' of a table, float32 `[N, D]`; 'tokens' of texts,
        int32 `[N, L]`, padded with 0.
      train_labels: classes int32 `[N]`, or targets float64 as the data have them; the
        true ones unless nobody knows them.
      test_inputs: as `train_inputs`.
      test_labels: as `train_labels`.
      num_classes: C; 0 where labels are targets.
      class_names: C of them.
      observed_labels: another label set of the training samples, as `train_labels`;
        class UNLABELLED (-1) where it has none.
      knows_true_labels: whether `train_labels` are right.
      files: where images are, if on disk.
      kind: kind of the inputs, one of `view.KINDS`.
      trusted_index: positions of samples whose labels are trusted, if some are.
      shown: what a person sees of each training sample: images, or texts; None: the
        inputs themselves.
      vocabulary: tokens of texts, where inputs are texts.
      units: mean and deviation of the targets that a model learns from, which it sees
        standardised by them: of the observed training targets.
    """

    train_inputs: NDArray[Any]
    train_labels: NDArray[Any]
    test_inputs: NDArray[Any]
    test_labels: NDArray[Any]
    num_classes: int
    class_names: tuple[str, ...]
    observed_labels: NDArray[Any] | None = None
    knows_true_labels: bool = True
    files: on_disk.Encoded | None = None
    kind: str = "images"
    trusted_index: NDArray[np.int32] | None = None
    shown: Sequence[Any] | None = None
    vocabulary: Vocabulary | None = None
    units: tuple[float, float] | None = None

    @property
    def label_kind(self) -> str:
        """'classes' or 'targets', see `cmwjax.core.labels`."""
        return CLASSES if self.num_classes else TARGETS

    @property
    def spec(self) -> Spec:
        """Kind, shapes and types of the inputs."""
        size = 0 if self.vocabulary is None else self.vocabulary.size
        return Spec.of(self.kind, self.train_inputs, size)

    def standardised(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Labels as a model sees them: classes as they are, targets float32."""
        if self.units is None:
            return labels
        mean, deviation = self.units
        return ((labels - mean) / deviation).astype(np.float32)

    def in_units(self, predictions: NDArray[Any]) -> NDArray[Any]:
        """Predictions as the data have labels: the way back, up to rounding."""
        if self.units is None:
            return predictions
        mean, deviation = self.units
        return np.asarray(predictions, np.float64) * deviation + mean


def select(
    dataset: Dataset,
    *,
    name: str,
    train_size: int | None = None,
    labels: str = "true",
    archive: Path | None = None,
) -> Dataset:
    """Checks a data set, and takes of it the samples and the label set that are wanted.

    Args:
      dataset: inputs and labels from anywhere.
      name: what an error calls the data set.
      train_size: as for `datasets.load`.
      labels: likewise. 'true' keeps the `observed_labels` that there are.
      archive: the file that may hold the label set, if there is one.

    Returns:
      The data set, with classes int32, or targets float64 and their units.

    Raises:
      ValueError: as `datasets.load`.
    """
    validate(dataset, name=name)
    label_type = np.int32 if dataset.num_classes else np.float64
    dataset = dataset._replace(
        train_labels=np.asarray(dataset.train_labels, label_type),
        test_labels=np.asarray(dataset.test_labels, label_type),
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
    if train_size is not None:
        dataset = _first(dataset, train_size, name)
    return dataset if dataset.num_classes else _with_units(dataset)


def _first(dataset: Dataset, train_size: int, name: str) -> Dataset:
    """The data set with that many training samples."""
    if not 1 <= train_size <= len(dataset.train_labels):
        raise ValueError(
            f"train_size is {train_size}, but {name} has {len(dataset.train_labels)} "
            "training samples: choose a size from 1 to that, or None for all."
        )
    if dataset.trusted_index is not None:
        raise ValueError(
            f"train_size is {train_size}, but {name} comes with trusted samples, which "
            "must not be left out: take all samples, or give fewer."
        )
    groups = dataset.train_labels if dataset.num_classes else 0 * dataset.train_labels
    first = _stratified_order(groups)[:train_size]
    observed, shown = dataset.observed_labels, dataset.shown
    dataset = dataset._replace(
        train_inputs=dataset.train_inputs[first if dataset.files is None else []],
        train_labels=dataset.train_labels[first],
        observed_labels=None if observed is None else observed[first],
        files=dataset.files and dataset.files.subset(first),
        shown=None if shown is None else [shown[i] for i in first],
    )
    validate(dataset, name=f"{name} with train_size={train_size}")
    return dataset


def _with_units(dataset: Dataset) -> Dataset:
    """The data set with the units of its targets, from those that were observed."""
    observed = dataset.observed_labels
    if observed is None:
        observed = dataset.train_labels
    observed = np.asarray(observed, np.float64)
    return dataset._replace(
        observed_labels=None if dataset.observed_labels is None else observed,
        units=(float(observed.mean()), float(observed.std())),
    )


def validate(dataset: Dataset, *, name: str) -> None:
    """Raises one clear error if training on this data set cannot go well.

    Args:
      dataset: what `datasets.load` returns, or arrays from elsewhere.
      name: what the error calls the data set.

    Raises:
      ValueError: if inputs are not as `Dataset` says, contain NaN or differ in shape
        between training and test; if a class is not an integer in [0, C), or a target
        not a number of float32; if inputs and labels differ in number, or there are
        none; if a class has no training sample, or all targets of a set are equal; if
        observed labels are not one per training sample, each a class or `UNLABELLED`,
        or a target; or if there is not one name per class.
    """
    for split in ("train", "test"):
        inputs, labels = (
            np.asarray(getattr(dataset, f"{split}_{part}"))
            for part in ("inputs", "labels")
        )
        if dataset.files is None:
            _CHECKS[dataset.kind](inputs, name=f"{name}: {split}_inputs")
        if dataset.num_classes:
            check_labels(labels, dataset.num_classes, name=f"{name}: {split}_labels")
        else:
            check_targets(labels, name=f"{name}: {split}_labels")
        if dataset.files is None and len(inputs) != len(labels):
            raise ValueError(
                f"{name}: {len(inputs)} {split}_inputs, but {len(labels)} "
                f"{split}_labels: give every input one label."
            )
    if dataset.train_inputs.shape[1:] != dataset.test_inputs.shape[1:]:
        raise ValueError(
            f"{name}: train_inputs are {list(dataset.train_inputs.shape[1:])}, but "
            f"test_inputs {list(dataset.test_inputs.shape[1:])}: bring one of them to "
            "the shape of the other."
        )
    if not dataset.num_classes:
        _check_all_targets(dataset, name)
        return
    if dataset.num_classes == 1:
        raise ValueError(
            f"{name}: every label is that of one class, {dataset.class_names}: add "
            "samples of another, or correct the labels."
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


def _check_all_targets(dataset: Dataset, name: str) -> None:
    """Refuses targets that cannot be learned, or tested with."""
    learned = "train_labels"
    if dataset.observed_labels is not None:
        learned = "observed_labels"
        observed = np.asarray(dataset.observed_labels)
        check_targets(observed, name=f"{name}: observed_labels")
        if len(observed) != len(dataset.train_labels):
            raise ValueError(
                f"{name}: {len(observed)} observed_labels, but "
                f"{len(dataset.train_labels)} train_labels: give every sample both."
            )
    for part in (learned, "test_labels"):
        check_spread(getattr(dataset, part), name=f"{name}: {part}")


def _check_rows(rows: np.ndarray, *, name: str) -> None:
    if rows.ndim != 2 or not rows.size or rows.dtype != np.float32:
        raise ValueError(
            f"{name} must be float32 of shape [N, D], both at least 1, got "
            f"{rows.dtype} of shape {list(rows.shape)}: convert, reshape or add rows."
        )
    bad = np.argwhere(~(np.abs(rows) < LARGEST))
    if bad.size:
        row, column = bad[0]
        raise ValueError(
            f"{name} has {rows[row, column]} in row {row}, column {column}, which must "
            f"be finite and below {LARGEST:g}: fill in a number, or remove the row."
        )


def _check_tokens(tokens: np.ndarray, *, name: str) -> None:
    if tokens.ndim != 2 or not tokens.size or tokens.dtype != np.int32:
        raise ValueError(
            f"{name} must be int32 of shape [N, L], both at least 1, got "
            f"{tokens.dtype} of shape {list(tokens.shape)}: convert, reshape or add "
            "texts."
        )
    empty = np.flatnonzero(~(tokens > 0).any(axis=1) | (tokens < 0).any(axis=1))
    if empty.size:
        raise ValueError(
            f"{name} has no tokens, or a negative one, in row {empty[0]}: tokens are "
            "numbers from 1 on, and 0 behind them; correct or remove the row."
        )


def check_images(images: np.ndarray, *, name: str) -> None:
    """Raises `ValueError` unless images are uint8 `[N, H, W, C]`."""
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


_CHECKS = {"images": check_images, "rows": _check_rows, "tokens": _check_tokens}


def _stratified_order(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """A fixed random order, every beginning of which has nearly the classes' shares."""
    shuffled = generator(0, Purpose.SUBSET).permutation(len(labels))
    progress = np.empty(len(labels))  # how far through its class a sample comes
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        progress[members] = (np.arange(len(members)) + 0.5) / len(members)
    return shuffled[np.argsort(progress[shuffled], kind="stable")]
