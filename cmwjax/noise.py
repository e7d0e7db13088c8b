"""Label noise: symmetric, asymmetric and pair-flip corruption of integer labels.

Noise comes from an integer seed. Under one seed a lower rate touches a subset of the
samples that a higher rate touches, so runs that differ in rate alone are comparable.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

ClassMap = Mapping[int, int] | Iterable[tuple[int, int]]

# truck -> automobile, bird -> airplane, deer -> horse, cat -> dog; dog stays dog.
CIFAR10_MAP = {9: 1, 2: 0, 4: 7, 3: 5}


class NoisyLabels(NamedTuple):
    """Labels after corruption, and where they differ from what they were."""

    labels: NDArray[np.int32]  # [N]
    changed: NDArray[np.bool_]  # [N]


def symmetric(
    labels: ArrayLike, *, rate: float, num_classes: int, seed: int
) -> NoisyLabels:
    """Redraws the labels of a random part of the samples over all classes.

    The draw includes the true class, so the share of wrong labels is
    `rate * (num_classes - 1) / num_classes` (paper 5.2).

    Args:
      labels: true classes in [0, C), integers `[N]`.
      rate: share of samples to redraw, in [0, 1]; exactly `floor(rate * N)` are.
      num_classes: number of classes C.
      seed: seed of the draw.

    Returns:
      The labels, and True where they changed.

    Raises:
      ValueError: for a label outside [0, C) or a rate outside [0, 1].
    """
    labels = check_labels(labels, num_classes)
    chosen, rng = _draw(len(labels), rate, seed)
    noisy = labels.copy()
    noisy[chosen] = rng.integers(num_classes, size=len(chosen))
    return NoisyLabels(noisy, noisy != labels)


def asymmetric(
    labels: ArrayLike,
    *,
    rate: float,
    num_classes: int,
    class_map: ClassMap,
    seed: int,
) -> NoisyLabels:
    """Sends a random part of the samples through a map of classes.

    Classes that the map does not name keep their labels, whoever is drawn: with
    `CIFAR10_MAP` and equal classes, `0.4 * rate` of all labels become wrong, four
    classes shrink, and the four that grow hold `rate / (1 + rate)` wrong labels
    (paper 5.2).

    Args:
      labels: true classes in [0, C), integers `[N]`.
      rate: share of samples to map, in [0, 1]; exactly `floor(rate * N)`, drawn
        from all samples rather than class by class.
      num_classes: number of classes C.
      class_map: true class to wrong class, as a dict or as pairs.
      seed: seed of the draw.

    Returns:
      The labels, and True where they changed.

    Raises:
      ValueError: for a label or a mapped class outside [0, C), or a rate outside
        [0, 1].
    """
    labels = check_labels(labels, num_classes)
    target = np.arange(num_classes, dtype=np.int32)
    for source, wrong in dict(class_map).items():
        for label in (source, wrong):
            if not isinstance(label, int | np.integer) or not 0 <= label < num_classes:
                raise ValueError(
                    f"class_map sends {source!r} to {wrong!r}, but classes are the "
                    f"integers in [0, {num_classes}): correct the map or num_classes."
                )
        target[source] = wrong
    chosen, _ = _draw(len(labels), rate, seed)
    noisy = labels.copy()
    noisy[chosen] = target[labels[chosen]]
    return NoisyLabels(noisy, noisy != labels)


def pair_flip(
    labels: ArrayLike, *, rate: float, num_classes: int, seed: int
) -> NoisyLabels:
    """Moves a random part of the samples to the next class, the last to the first.

    Args:
      labels: true classes in [0, C), integers `[N]`.
      rate: share of samples to move, in [0, 1]; exactly `floor(rate * N)` are.
      num_classes: number of classes C.
      seed: seed of the draw.

    Returns:
      The labels, and True where they changed.

    Raises:
      ValueError: for a label outside [0, C) or a rate outside [0, 1].
    """
    following = {label: (label + 1) % num_classes for label in range(num_classes)}
    return asymmetric(
        labels, rate=rate, num_classes=num_classes, class_map=following, seed=seed
    )


def corrupt(
    labels: ArrayLike,
    *,
    kind: str,
    rate: float,
    num_classes: int,
    seed: int,
    class_map: ClassMap | None = None,
) -> NoisyLabels:
    """Corrupts labels by the name of the noise, as a config gives it.

    Args:
      labels: true classes in [0, C), integers `[N]`.
      kind: 'none', 'symmetric', 'asymmetric' or 'pair_flip'.
      rate: share of samples drawn, in [0, 1]; unused by 'none'.
      num_classes: number of classes C.
      seed: seed of the draw.
      class_map: true class to wrong class; needed by 'asymmetric' and read by it alone.

    Returns:
      The labels, and True where they changed.

    Raises:
      ValueError: for an unknown kind, a missing `class_map`, a label or mapped class
        outside [0, C), or a rate outside [0, 1].
    """
    draw = {"rate": rate, "num_classes": num_classes, "seed": seed}
    if kind == "none":
        clean = check_labels(labels, num_classes)
        return NoisyLabels(clean, np.zeros(len(clean), bool))
    if kind == "symmetric":
        return symmetric(labels, **draw)
    if kind == "pair_flip":
        return pair_flip(labels, **draw)
    if kind != "asymmetric":
        raise ValueError(
            f"noise kind is {kind!r}; choose 'none', 'symmetric', 'asymmetric' or "
            "'pair_flip'."
        )
    if class_map is None:
        raise ValueError(
            "noise kind 'asymmetric' needs class_map, which is None: pass pairs of "
            "(true class, wrong class), for example noise.CIFAR10_MAP."
        )
    return asymmetric(labels, class_map=class_map, **draw)


def check_labels(
    labels: ArrayLike, num_classes: int, *, name: str = "labels"
) -> NDArray[np.int32]:
    """Returns labels as int32 `[N]` (a copy), or says what is wrong with them.

    Args:
      labels: classes in [0, C), integers `[N]`.
      num_classes: number of classes C.
      name: what the error calls them.

    Raises:
      ValueError: unless they are a vector of integers in [0, C).
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{name} must be integers of shape [N], got {labels.dtype} of shape "
            f"{list(labels.shape)}: pass one class number per sample."
        )
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if outside.size:
        raise ValueError(
            f"{name} must lie in [0, {num_classes}), got {labels[outside[0]]} at "
            f"position {outside[0]}: correct it, or num_classes."
        )
    return labels.astype(np.int32)


def _draw(
    size: int, rate: float, seed: int
) -> tuple[NDArray[np.int64], np.random.Generator]:
    """Draws `floor(rate * size)` of `size` positions, and returns the generator."""
    if not 0 <= rate <= 1:
        raise ValueError(f"noise rate must lie in [0, 1], got {rate!r}: correct it.")
    rng = np.random.default_rng(seed)
    # The tolerance is for rates such as 0.29, whose product with 100 is 28.999...
    return rng.permutation(size)[: int(rate * size + 1e-9)], rng
