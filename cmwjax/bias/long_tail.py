"""Long tails: training sets whose classes shrink exponentially (paper 5.1)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmwjax.core.labels import check_labels
from cmwjax.randomness import Purpose, Seed, generator


def class_sizes(
    largest: int, *, num_classes: int, imbalance_factor: float
) -> NDArray[np.int64]:
    """Sizes of the classes, from `largest` down to `largest / imbalance_factor`.

    `n_c = floor(largest * imbalance_factor ** (-c / (C - 1)))`, in the order of the
    class numbers (paper 5.1).

    Args:
      largest: size of class 0.
      num_classes: number of classes C.
      imbalance_factor: size of the largest class over that of the smallest, at least 1.

    Returns:
      The sizes, `[C]`.

    Raises:
      ValueError: if `imbalance_factor` is below 1, or leaves a class empty.
    """
    if not 1 <= imbalance_factor < np.inf:
        raise ValueError(
            f"imbalance_factor is {imbalance_factor}, not a number from 1 (balanced) "
            "on: it is the size of the largest class over that of the smallest."
        )
    power = np.arange(num_classes) / max(num_classes - 1, 1)
    # The tolerance is for products that miss a whole number by rounding.
    sizes = np.floor(largest * imbalance_factor**-power + 1e-9).astype(np.int64)
    if not sizes.all():
        raise ValueError(
            f"imbalance_factor is {imbalance_factor}, which leaves class "
            f"{np.argmin(sizes)} empty when class 0 has {largest} samples: choose at "
            f"most {largest}."
        )
    return sizes


def select(
    labels: ArrayLike,
    index: ArrayLike,
    *,
    num_classes: int,
    imbalance_factor: float,
    seed: Seed,
) -> NDArray[np.int32]:
    """Draws a long-tailed part of the samples.

    Class 0 gets as many samples as the smallest class has, so every class can give its
    share. Under one seed, a larger factor selects a subset of what a smaller one does.

    Args:
      labels: classes in [0, C), integers `[N]`.
      index: positions to draw from, integers in [0, N).
      num_classes: number of classes C.
      imbalance_factor: size of the largest class over that of the smallest, at least 1.
      seed: seed of the draw.

    Returns:
      The positions drawn, int32, ascending.

    Raises:
      ValueError: for a label outside [0, C), a class without samples, an
        `imbalance_factor` below 1, or one that leaves a class empty.
    """
    labels, index = check_labels(labels, num_classes), np.asarray(index)
    counts = np.bincount(labels[index], minlength=num_classes)
    if not counts.all():
        raise ValueError(
            f"class {np.argmin(counts)} has no samples to draw a long tail from: add "
            "some, or number the classes without gaps."
        )
    sizes = class_sizes(
        int(counts.min()), num_classes=num_classes, imbalance_factor=imbalance_factor
    )
    rng = generator(seed, Purpose.LONG_TAIL)
    chosen = [
        rng.permutation(index[labels[index] == label])[:size]
        for label, size in enumerate(sizes)
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int32)
