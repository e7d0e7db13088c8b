"""What a data set is: inputs and labels in memory, checked.

Inputs are images, rows of a table or tokens of texts; labels are classes, or targets of
a regression.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmwjax.core.labels import (
    BETWEEN,
    CLASSES,
    TARGETS,
    UNLABELLED,
    check_labels,
    check_spread,
    check_targets,
    class_counts,
)
from cmwjax.data import label_sets
from cmwjax.data.encoded import Encoded
from cmwjax.data.inputs import check_inputs
from cmwjax.data.text import Vocabulary
from cmwjax.data.view import KINDS, Spec
from cmwjax.randomness import Purpose, generator

TEST = "test"  # why a row is no training sample: it is one to test with


class Dataset(NamedTuple):
    """Inputs and labels of a training set, and of a test set where there is one.

    Attributes:
      train_inputs: `[N, ...]`, by `kind`: 'images', uint8 `[N, H, W, C]`, or `[0, H, W,
        C]` if they are on disk; 'rows' of a table, float32 or float64 `[N, D]`;
        'tokens' of texts, int32 `[N, L]`, padded with 0.
      train_labels: classes int32 `[N]`, or targets float64 as the data have them; the
        true ones unless nobody knows them.
      test_inputs: as `train_inputs`; `[0, ...]` where nothing is to be tested with.
      test_labels: as `train_labels`.
      num_classes: C; 0 where labels are targets.
      class_names: C of them, all different.
      observed_labels: another label set of the training samples, as `train_labels`;
        class UNLABELLED (-1) where it has none.
      candidates: of samples with a set of labels, of which one is right: the classes in
        it, bool `[N, C]`; None: every sample has one label. `train_labels` are any of
        them then, unless the right ones are known.
      knows_true_labels: whether `train_labels` are right.
      files: where images are, if on disk.
      kind: kind of the inputs, one of `view.KINDS`.
      trusted_index: positions of samples whose labels are trusted, if some are:
        integers in [0, N), each once.
      validation_index: positions of samples to validate with, of nobody's choice but
        the owner's: as `trusted_index`, and none of these.
      shown: what a person sees of each training sample, N images or texts; None: the
        inputs themselves.
      vocabulary: tokens of texts, where inputs are texts.
      units: mean and deviation of the targets that a model learns from, which it sees
        standardised by them: of the observed training targets.
      rows: where each training sample is in what its owner gave, counted from 0:
        distinct integers `[N]`; None: where it is here.
      test_texts: the texts of the test set, where inputs are texts.
      names: the file that each training sample was made of, N, where inputs are no
        files any more; None: there is none, or `files` has it.
      left_out: images that could not be read and are no samples, each with its set,
        row, file and the reason.
      unused: rows of what the owner gave that are none of these training samples: why
        not, and where they are, integers `[M]`.
    """

    train_inputs: NDArray[Any]
    train_labels: NDArray[Any]
    test_inputs: NDArray[Any]
    test_labels: NDArray[Any]
    num_classes: int
    class_names: tuple[str, ...]
    observed_labels: NDArray[Any] | None = None
    knows_true_labels: bool = True
    files: Encoded | None = None
    kind: str = "images"
    trusted_index: NDArray[np.int32] | None = None
    validation_index: NDArray[np.int32] | None = None
    shown: Sequence[Any] | None = None
    vocabulary: Vocabulary | None = None
    units: tuple[float, float] | None = None
    rows: NDArray[np.int64] | None = None
    test_texts: Sequence[str] = ()
    names: Sequence[str] | None = None
    left_out: tuple[tuple[str, int, str, str], ...] = ()
    unused: tuple[tuple[str, NDArray[np.int64]], ...] = ()
    candidates: NDArray[np.bool_] | None = None

    @property
    def label_kind(self) -> str:
        """'classes' or 'targets', see `cmwjax.core.labels`."""
        return CLASSES if self.num_classes else TARGETS

    @property
    def has_test(self) -> bool:
        """Whether there are samples to test with."""
        return len(self.test_labels) > 0

    @property
    def spec(self) -> Spec:
        """Kind, shapes and types of the inputs."""
        size = 0 if self.vocabulary is None else self.vocabulary.size
        return Spec.of(self.kind, self.train_inputs, size)

    @property
    def row_numbers(self) -> NDArray[np.int64]:
        """The rows, int64 `[N]`, even where they are None."""
        if self.rows is None:
            return np.arange(len(self.train_labels))
        return np.asarray(self.rows, np.int64)

    @property
    def file_names(self) -> Sequence[str] | None:
        """The file of each training sample, N; None where there are none."""
        return self.names if self.files is None else self.files.train.names

    def in_words(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Labels as their owner has them: classes by name, targets as they are.

        Args:
          labels: `[N]`; a negative class is unknown, and has the name ''.
        """
        if not self.num_classes:
            return labels
        return np.array([*self.class_names, ""], object)[np.maximum(labels, -1)]

    def sets_in_words(self, candidates: NDArray[np.bool_]) -> NDArray[Any]:
        """Sets of candidates, bool `[N, C]`, as text: their names, `BETWEEN` them.

        A set of all classes says nothing of the sample, and is ''.
        """
        names = np.array(self.class_names, object)
        texts = ["" if row.all() else BETWEEN.join(names[row]) for row in candidates]
        return np.array(texts, object)

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
        train_inputs=np.asarray(dataset.train_inputs),
        test_inputs=np.asarray(dataset.test_inputs),
        train_labels=np.asarray(dataset.train_labels, label_type),
        test_labels=np.asarray(dataset.test_labels, label_type),
        class_names=tuple(dataset.class_names),
        observed_labels=None
        if dataset.observed_labels is None
        else np.asarray(dataset.observed_labels),
        knows_true_labels=dataset.knows_true_labels and labels != "given",
    )
    trusted, validation = dataset.trusted_index, dataset.validation_index
    if trusted is not None:
        dataset = dataset._replace(trusted_index=np.asarray(trusted, np.int32))
    if validation is not None:
        dataset = dataset._replace(validation_index=np.asarray(validation, np.int32))
    if labels not in ("true", "given"):
        observed = label_sets.read(
            labels,
            archive=archive,
            true_labels=dataset.train_labels,
            num_classes=dataset.num_classes,
        )
        if observed.ndim == 2:
            dataset = dataset._replace(candidates=observed)
        else:
            dataset = dataset._replace(observed_labels=observed)
    if train_size is not None:
        dataset = _first(dataset, train_size, name)
    return dataset if dataset.num_classes else _with_units(dataset)


def _first(dataset: Dataset, train_size: int, name: str) -> Dataset:
    """The data set with that many training samples."""
    if not 1 <= train_size <= len(dataset.train_labels):
        raise ValueError(
            f"config.data.train_size={train_size}, but {name} has "
            f"{len(dataset.train_labels)} training samples: choose a size from 1 to "
            "that, or leave it out for all."
        )
    for what in ("trusted", "validation"):
        if getattr(dataset, f"{what}_index") is not None:
            raise ValueError(
                f"config.data.train_size={train_size}, but {name} comes with {what} "
                "samples, which must not be left out: take all samples, or give fewer."
            )
    groups = dataset.train_labels if dataset.num_classes else 0 * dataset.train_labels
    order = _stratified_order(groups)
    first, others = order[:train_size], np.sort(order[train_size:])
    observed, shown = dataset.observed_labels, dataset.shown
    dataset = dataset._replace(
        train_inputs=dataset.train_inputs[first if dataset.files is None else []],
        train_labels=dataset.train_labels[first],
        observed_labels=None if observed is None else observed[first],
        candidates=None if dataset.candidates is None else dataset.candidates[first],
        files=dataset.files and dataset.files.subset(first),
        shown=None if shown is None else [shown[i] for i in first],
        rows=dataset.row_numbers[first],
        names=None if dataset.names is None else [dataset.names[i] for i in first],
        unused=(*dataset.unused, ("data.train_size", dataset.row_numbers[others])),
    )
    validate(dataset, name=f"{name} with config.data.train_size={train_size}")
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
      ValueError: if it is no `Dataset`; if inputs are not as `Dataset` says, contain
        NaN or differ in shape between training and test; if a class is not an integer
        in [0, C), or a target not a number of float32; if inputs and labels differ in
        number, or there are none; if a class has no training sample, or all targets of
        a set are equal; if observed labels are not one per training sample, each a
        class or `UNLABELLED`, or a target; if there is not one name per class, each
        another; or if trusted positions, rows, what is shown, or the vocabulary do not
        fit.
    """
    if not isinstance(dataset, Dataset):
        raise ValueError(
            f"{name}: the data set is a {type(dataset).__name__}: pass a "
            "cmwjax.data.dataset.Dataset of inputs and labels."
        )
    if dataset.kind not in KINDS:
        raise ValueError(
            f"{name}: kind={dataset.kind!r} is unknown; choose one of {KINDS}."
        )
    _check_names(dataset, name)
    has_test = np.size(dataset.test_labels) or np.size(dataset.test_inputs)
    splits = ("train", "test") if has_test else ("train",)
    for split in splits:
        inputs, labels = (
            np.asarray(getattr(dataset, f"{split}_{part}"))
            for part in ("inputs", "labels")
        )
        if dataset.files is None:
            check_inputs(dataset.kind, inputs, name=f"{name}: {split}_inputs")
        if dataset.num_classes:
            check_labels(labels, dataset.num_classes, name=f"{name}: {split}_labels")
        else:
            check_targets(labels, name=f"{name}: {split}_labels")
        if dataset.files is None and len(inputs) != len(labels):
            raise ValueError(
                f"{name}: {len(inputs)} {split}_inputs, but {len(labels)} "
                f"{split}_labels: give every input one label."
            )
    train, test = (np.shape(x)[1:] for x in (dataset.train_inputs, dataset.test_inputs))
    if train != test:
        raise ValueError(
            f"{name}: train_inputs are {list(train)}, but test_inputs {list(test)}: "
            "bring one of them to the shape of the other."
        )
    _check_parts(dataset, name)
    if not dataset.num_classes:
        _check_all_targets(dataset, name)
        return
    if dataset.num_classes == 1:
        raise ValueError(
            f"{name}: every label is that of one class, {dataset.class_names}: add "
            "samples of another, or correct the labels."
        )
    counts = class_counts(dataset.train_labels, dataset.num_classes)
    if dataset.candidates is not None:
        sets = label_sets.check_candidates(
            dataset.candidates, dataset.num_classes, name=f"{name}: candidates"
        )
        label_sets.check_length(sets, len(dataset.train_labels), name=name)
        counts = counts + sets.sum(axis=0)
    empty = np.flatnonzero(counts == 0)
    if empty.size:
        given = dataset.class_names[empty[0]]
        which = given if given == str(empty[0]) else f"{empty[0]}, {given!r}"
        remedy = "add samples, or number the classes without gaps"
        if dataset.files is not None:
            remedy = "add images, or remove its folder"
        raise ValueError(
            f"{name}: no training sample of class {which} (of "
            f"{dataset.num_classes}): {remedy}."
        )
    if dataset.observed_labels is not None:
        _check_observed(dataset, name=f"{name}: observed_labels")


def _check_names(dataset: Dataset, name: str) -> None:
    """Refuses a number of classes, or names of them, that cannot be."""
    count, names = dataset.num_classes, dataset.class_names
    if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 0:
        raise ValueError(
            f"{name}: num_classes={count!r} must be a whole number, the number of "
            "classes, or 0 where labels are targets: correct it."
        )
    if not isinstance(names, tuple | list) or not all(
        isinstance(one, str) and one for one in names
    ):
        raise ValueError(
            f"{name}: class_names={names!r} must be a tuple of strings, one for each "
            "class and none of them empty: write them as such."
        )
    if len(names) != count:
        raise ValueError(
            f"{name}: {len(names)} class_names for {count} classes: give every class "
            "one name."
        )
    twice = [one for one, number in Counter(names).items() if number > 1]
    if twice:
        raise ValueError(
            f"{name}: class_names has {twice[0]!r} more than once: give every class "
            "a name of its own."
        )


def _check_parts(dataset: Dataset, name: str) -> None:
    """Refuses what comes beside inputs and labels and does not fit them."""
    size = len(dataset.train_labels)
    if dataset.shown is not None and len(dataset.shown) != size:
        raise ValueError(
            f"{name}: shown has {len(dataset.shown)} entries for {size} training "
            "samples: give one for each, or None."
        )
    if dataset.rows is not None:
        _check_rows(np.asarray(dataset.rows), size, name)
    if dataset.kind == "tokens":
        _check_vocabulary(dataset, name)
    for field in ("trusted_index", "validation_index"):
        if getattr(dataset, field) is not None:
            index = np.asarray(getattr(dataset, field))
            _check_index(index, size, f"{name}: {field}")
    if dataset.trusted_index is not None and dataset.validation_index is not None:
        both = np.intersect1d(dataset.trusted_index, dataset.validation_index)
        if both.size:
            raise ValueError(
                f"{name}: trusted_index and validation_index both have {both[0]}: a "
                "sample is trusted, or one to validate with; choose."
            )


def _check_index(index: NDArray[Any], size: int, name: str) -> None:
    """Refuses what are no positions of training samples."""
    remedy = "give positions of training samples, each once"
    if index.ndim != 1 or not index.size or index.dtype.kind not in "iu":
        raise ValueError(
            f"{name} is {index.dtype} of shape {list(index.shape)} "
            f"and must be integers of shape [M], at least one: {remedy}."
        )
    outside = np.flatnonzero((index < 0) | (index >= size))
    if outside.size:
        raise ValueError(
            f"{name} has {index[outside[0]]} at position "
            f"{outside[0]}, outside of [0, {size}): {remedy}."
        )
    values, counts = np.unique(index, return_counts=True)
    if len(values) < len(index):
        raise ValueError(
            f"{name} has {values[counts > 1][0]} more than once: {remedy}."
        )


def _check_rows(rows: NDArray[Any], size: int, name: str) -> None:
    remedy = "give where each training sample is in the data it comes from, or None"
    if rows.shape != (size,) or rows.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: rows are {rows.dtype} of shape {list(rows.shape)} and must be "
            f"integers of shape [{size}]: {remedy}."
        )
    values, counts = np.unique(rows, return_counts=True)
    if len(values) < size or values.min(initial=0) < 0:
        bad = values[(counts > 1) | (values < 0)][0]
        raise ValueError(
            f"{name}: rows have {bad}, which is {'negative' if bad < 0 else 'twice'}: "
            f"{remedy}."
        )


def _check_vocabulary(dataset: Dataset, name: str) -> None:
    vocabulary = dataset.vocabulary
    if not isinstance(vocabulary, Vocabulary):
        raise ValueError(
            f"{name}: vocabulary={vocabulary!r}, but inputs are tokens: give the "
            "cmwjax.data.text.Vocabulary that they are numbers of."
        )
    largest = max(
        np.max(x, initial=0) for x in (dataset.train_inputs, dataset.test_inputs)
    )
    if largest >= vocabulary.size:
        raise ValueError(
            f"{name}: inputs have token {largest}, but the vocabulary has tokens in "
            f"[0, {vocabulary.size}): give the one that they were encoded by."
        )


def keys_of(inputs: NDArray[Any]) -> list[bytes]:
    """One key for each of the inputs `[N, ...]`, equal where they are."""
    return [np.ascontiguousarray(x + 0).tobytes() for x in inputs]  # no -0.0


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
    for part in (learned, "test_labels") if dataset.has_test else (learned,):
        check_spread(getattr(dataset, part), name=f"{name}: {part}")


def _stratified_order(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """A fixed random order, every beginning of which has nearly the classes' shares."""
    shuffled = generator(0, Purpose.SUBSET).permutation(len(labels))
    progress = np.empty(len(labels))  # how far through its class a sample comes
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        progress[members] = (np.arange(len(members)) + 0.5) / len(members)
    return shuffled[np.argsort(progress[shuffled], kind="stable")]
