"""Labels as arrays: what they must be, their counts, and what stands for none.

A label is a class, or the target of a regression.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

CLASSES, TARGETS = "classes", "targets"  # the kinds of labels
# What outputs of a model are: one logit per class, `[B, C]`, whose softmax are the
# probabilities; or the expected target, `[B, 1]`.
LOGITS, PREDICTIONS = "logits", "predictions"
# Logits as well, of samples with several candidate labels, of which one is right.
SETS = "sets"
SEMI = "semi"  # besides, that some samples have a label and others none
# Logits of all classes and, as the last one, of abstention, `[B, C + 1]`.
ABSTENTION = "abstention"
BETWEEN = " | "  # stands between the candidates of a set, where it is a text
UNKNOWN = -1  # a true label or family that nobody knows
UNLABELLED = -1  # an observed label that a label set does not have

_LARGEST = float(np.finfo(np.float32).max)


def check_labels(
    labels: ArrayLike,
    num_classes: int | None = None,
    *,
    name: str = "labels",
    remedy: str = "correct it, or num_classes",
) -> NDArray[np.int32]:
    """Returns labels as int32 `[N]` (a copy), or says what is wrong with them.

    Args:
      labels: classes in [0, C), integers `[N]`.
      num_classes: number of classes C; None: any.
      name: what the error calls them.
      remedy: what it says to do about one outside.

    Raises:
      ValueError: unless they are a vector of integers in [0, C).
    """
    labels = np.asarray(labels)
    check_label_type(labels, name=name)
    end = "..." if num_classes is None else num_classes
    outside = labels < 0
    if num_classes is not None:
        outside |= labels >= num_classes
    if outside.any():
        first = np.argmax(outside)
        raise ValueError(
            f"{name} must lie in [0, {end}), got {labels[first]} at position {first}: "
            f"{remedy}."
        )
    return labels.astype(np.int32)


def check_label_type(labels: Any, *, name: str) -> None:
    """Raises `ValueError` unless an array, even a traced one, is of integers `[N]`."""
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{name} must be integers of shape [N], got {labels.dtype} of shape "
            f"{list(labels.shape)}: pass one class number per sample."
        )


def class_counts(
    labels: ArrayLike, num_classes: int | None = None
) -> NDArray[np.int64]:
    """Number of samples of each class, `[N]` -> `[C]`.

    Args:
      labels: classes in [0, C), integers `[N]`.
      num_classes: number of classes C; by default the largest label plus one.

    Raises:
      ValueError: for a label outside [0, C).
    """
    return np.bincount(check_labels(labels, num_classes), minlength=num_classes or 0)


def check_targets(targets: ArrayLike, *, name: str = "targets") -> None:
    """Says what is wrong with the targets of a regression.

    Args:
      targets: numbers `[N]`.
      name: what the error calls them.

    Raises:
      ValueError: unless they are a vector of finite numbers within float32's range.
    """
    targets = np.asarray(targets)
    if targets.ndim != 1 or targets.dtype.kind not in "iuf":
        raise ValueError(
            f"{name} must be numbers of shape [N], got {targets.dtype} of shape "
            f"{list(targets.shape)}: pass one target per sample."
        )
    bad = np.flatnonzero(~(np.abs(targets.astype(np.float64)) <= _LARGEST))
    if bad.size:
        raise ValueError(
            f"{name} has {targets[bad[0]]} at position {bad[0]}, which is not finite "
            "in float32: correct or remove it."
        )


def check_spread(targets: ArrayLike, *, name: str = "targets") -> None:
    """Refuses targets that are all equal: R² compares errors with their spread.

    Args:
      targets: finite numbers `[N]`.
      name: what the error calls them.

    Raises:
      ValueError: if they differ by no more than float32's least number.
    """
    targets = np.asarray(targets, np.float64)
    if not targets.size or np.ptp(targets) < np.finfo(np.float32).tiny:
        value = f", all of them {targets[0]:.6g}" if targets.size else ""
        raise ValueError(
            f"{name} are {targets.size}{value}, but R² compares errors with the spread "
            "of targets: add samples of other targets."
        )
