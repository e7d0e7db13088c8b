"""Arrays, DataFrames and lists as people have them, on their way to a `Dataset`."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmwjax.data.csv_sets import Rows
from cmwjax.data.dataset import Dataset
from cmwjax.data.inputs import check_images
from cmwjax.data.text import FIRST, Vocabulary, build_vocabulary
from cmwjax.data.view import KINDS

TEXTS = "texts"
WANTED = ("auto", *KINDS, TEXTS)
TEXT_LENGTH = 256  # tokens per text
PARTS = ("X", "trusted", "validation")  # of a training set, in this order


def kind_of(inputs: Any, wanted: str = "auto") -> str:
    """What inputs are: one of `WANTED`, but for 'auto'.

    Strings are texts, arrays with three or four axes images, and all else rows of a
    table. That whole numbers are tokens has to be said.

    Args:
      inputs: N samples.
      wanted: what their owner says, one of `WANTED`.

    Raises:
      ValueError: if what is wanted is unknown.
    """
    if wanted not in WANTED:
        raise ValueError(f"inputs={wanted!r} is unknown; choose one of {WANTED}.")
    if wanted != "auto":
        return wanted
    if hasattr(inputs, "shape"):
        dimensions = len(inputs.shape)
        is_text = dimensions == 1 and isinstance(next(iter(inputs), None), str)
    else:
        some = inputs[:1] if isinstance(inputs, list | tuple) else inputs
        dimensions = np.asarray(some).ndim
        is_text = isinstance(some, list | tuple) and any(
            isinstance(x, str) for x in some
        )
    if is_text:
        return TEXTS
    return "images" if dimensions in (3, 4) else "rows"


def as_images(inputs: Any, *, name: str) -> NDArray[np.uint8]:
    """Images `[N, H, W]` or `[N, H, W, C]` as uint8 `[N, H, W, C]`.

    Args:
      inputs: uint8, or floats in [0, 1], which are scaled to 0..255 and rounded.
      name: what an error calls them.

    Raises:
      ValueError: for another type, range or shape.
    """
    images = np.asarray(inputs)
    if images.ndim == 3:
        images = images[..., None]
    is_float = images.dtype.kind == "f"
    if is_float and images.size and np.all((images >= 0) & (images <= 1)):
        images = np.rint(images * 255).astype(np.uint8)
    check_images(images, name=name)
    return images


def as_texts(inputs: Any, *, name: str) -> list[str]:
    """N texts as a list.

    Raises:
      ValueError: if one is no string, or inputs are a single string.
    """
    if isinstance(inputs, str):
        raise ValueError(f"{name} is a single string: give a list of texts.")
    texts = list(inputs)
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(
                f"{name} has {text!r} at position {position}, which is no text: give "
                "strings alone."
            )
    return [str(text) for text in texts]  # not NumPy's own


def as_tokens(inputs: Any, *, name: str) -> NDArray[np.int32]:
    """Tokens int32 `[N, L]`, padded with 0.

    Raises:
      ValueError: if they are no whole numbers of that shape.
    """
    tokens = np.asarray(inputs)
    if tokens.ndim != 2 or tokens.dtype.kind not in "iu":
        raise ValueError(
            f"{name} is {tokens.dtype} of shape {list(tokens.shape)}, but tokens are "
            "whole numbers [N, L], from 1 on, with 0 behind them: convert it."
        )
    return tokens.astype(np.int32)


def check_columns(inputs: Any, *, name: str) -> None:
    """Refuses columns of a DataFrame that are no numbers.

    Raises:
      ValueError: naming the column.
    """
    if not hasattr(inputs, "dtypes") or not hasattr(inputs, "columns"):
        return
    for column, dtype in zip(inputs.columns, inputs.dtypes, strict=True):
        if getattr(dtype, "kind", "O") not in "biuf":
            raise ValueError(
                f"{name} has the column {column!r} of {dtype}: leave it out, or make "
                "numbers of it, as with sklearn.preprocessing.OneHotEncoder."
            )


def as_labels(labels: Any, *, name: str) -> NDArray[Any]:
    """Labels `[N]` as an array, each as it is.

    Raises:
      ValueError: for another shape, or a label that is not finite.
    """
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import column_or_1d

    if isinstance(labels, Sequence) and not isinstance(labels, str):
        kinds = {type(label) for label in labels}
        if len(kinds) > 1 or kinds & {tuple, frozenset}:  # which have no type in common
            return filled(labels)
    try:
        labels = column_or_1d(labels, warn=True)
    except ValueError as error:
        raise ValueError(f"{name}: {_one_line(error)}: give labels [N].") from None
    if labels.dtype.kind in "fc":
        bad = np.flatnonzero(~np.isfinite(labels))
        if bad.size:
            raise ValueError(
                f"{name} has {labels[bad[0]]} (NaN or infinity) at position {bad[0]}: "
                "give every sample a label, or remove those without one."
            )
        try:
            check_classification_targets(labels)
        except ValueError as error:
            raise ValueError(
                f"{name}: {_one_line(error)}: give classes, as numbers or names."
            ) from None
    return labels


def number_classes(
    labels: NDArray[Any], *, name: str
) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Numbers classes of any hashable kind.

    Args:
      labels: `[N]`, of any type.
      name: what an error calls them.

    Returns:
      The classes `[C]`, sorted where they can be, else as they come; and the number of
      each label, int32 `[N]`.

    Raises:
      ValueError: for a label that is missing, or cannot be hashed, or if all are equal.
    """
    if labels.dtype == object:
        for position, label in enumerate(labels):
            _check_label(label, position, name)
    try:
        classes, numbers = np.unique(labels, return_inverse=True)
    except TypeError:  # of several types, which have no order
        first = {label: number for number, label in enumerate(dict.fromkeys(labels))}
        classes = filled(list(first))
        numbers = np.array([first[label] for label in labels])
    if len(classes) < 2:
        raise ValueError(
            f"{name} has one class, {classes.tolist()}: give samples of at least two "
            "classes."
        )
    return classes, numbers.astype(np.int32)


def numbered(
    labels: NDArray[Any], classes: NDArray[Any], *, name: str
) -> NDArray[np.int32]:
    """The number of each label `[N]` among the classes `[C]`, int32 `[N]`.

    Raises:
      ValueError: for a label that is none of them.
    """
    numbers = {label: number for number, label in enumerate(classes.tolist())}
    for position, label in enumerate(labels.tolist()):
        if label not in numbers:
            raise ValueError(
                f"{name} has {label!r} at position {position}, which is none of the "
                f"{len(classes)} classes of y: correct it, or add samples of it to X."
            )
    return np.array([numbers[label] for label in labels.tolist()], np.int32)


def to_dataset(
    inputs: dict[str, Any],
    labels: dict[str, NDArray[np.int32]],
    *,
    kind: str,
    classes: NDArray[Any],
    columns: Sequence[str] | None = None,
) -> Dataset:
    """The data set of samples in memory, without any to test with.

    Args:
      inputs: those of 'X' and, where there are such, 'trusted' and 'validation', as the
        functions above return them.
      labels: numbers of their classes.
      kind: of the inputs, see `kind_of`.
      classes: `[C]`.
      columns: names of columns, of rows.

    Raises:
      ValueError: for a text without a word, or texts that share none.
    """
    parts, shown, vocabulary = [part for part in PARTS if part in inputs], None, None
    if kind == TEXTS:
        kind, shown = "tokens", [text for part in parts for text in inputs[part]]
        learned = [t for part in parts if part != "validation" for t in inputs[part]]
        vocabulary = build_vocabulary(learned)
        inputs = {p: vocabulary.encode(inputs[p], TEXT_LENGTH) for p in parts}
    every = np.concatenate([inputs[part] for part in parts])
    if kind == "tokens" and vocabulary is None:  # of which nobody told the texts
        tokens = range(FIRST, int(every.max(initial=0)) + 1)
        vocabulary = Vocabulary(tuple(f"<{token}>" for token in tokens), (0, 0))
    if kind == "rows":
        numbers = range(every.shape[1])
        names = [f"column {c}" for c in numbers] if columns is None else list(columns)
        shown = Rows(names, every)
    ends = np.cumsum([len(inputs[part]) for part in parts])
    at = {
        part: np.arange(end - len(inputs[part]), end, dtype=np.int32)
        for part, end in zip(parts, ends, strict=True)
    }
    return Dataset(
        train_inputs=every,
        train_labels=np.concatenate([labels[part] for part in parts]),
        test_inputs=every[:0],
        test_labels=np.zeros(0, np.int32),
        num_classes=len(classes),
        class_names=names_of(classes),
        kind=kind,
        trusted_index=at.get("trusted"),
        validation_index=at.get("validation"),
        shown=shown,
        vocabulary=vocabulary,
    )


def names_of(classes: NDArray[Any]) -> tuple[str, ...]:
    """A name for each class `[C]`, no two alike and none empty."""
    names: list[str] = []
    for write in (str, repr):
        names = [write(c) for c in classes.tolist()]
        if all(names) and len(set(names)) == len(names):
            return tuple(names)
    return tuple(f"{number}: {name}" for number, name in enumerate(names))


def filled(values: Sequence[Any]) -> NDArray[Any]:
    """An array `[N]` of objects as they are, whatever they might be taken for."""
    array = np.empty(len(values), object)
    for position, value in enumerate(values):
        array[position] = value
    return array


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _check_label(label: Any, position: int, name: str) -> None:
    if not isinstance(label, Hashable):
        raise ValueError(
            f"{name} has {label!r} at position {position}, a {type(label).__name__}, "
            "which cannot be hashed: give numbers, strings or tuples of these."
        )
    is_nan = isinstance(label, float) and label != label
    if label is None or is_nan or type(label).__name__ in ("NAType", "NaTType"):
        raise ValueError(
            f"{name} has {label!r} at position {position}: give every sample a label, "
            "or remove those without one."
        )
