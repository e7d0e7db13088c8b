"""What the samples of a run say of each class, and of pairs of classes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmwjax.report.samples import is_known, is_wrong

Samples = dict[str, np.ndarray]


class ByClass(NamedTuple):
    """Numbers of each class; NaN where there is none.

    Attributes:
      size: samples given it, int `[C]`.
      family: of the class, int `[C]`; -1 where there is none.
      weight: mean weight of these samples, `[C]`.
      estimated_noise: share of them whose label looks wrong, `[C]`.
      noise: share of them that are known to be wrong, among those known, `[C]`.
    """

    size: NDArray[np.int64]
    family: NDArray[np.int64]
    weight: NDArray[np.float64]
    estimated_noise: NDArray[np.float64]
    noise: NDArray[np.float64]


class Suggestions(NamedTuple):
    """How often a class is suggested for another one.

    Attributes:
      given: number of the given class, int `[P]`.
      suggested: of the suggested one, `[P]`.
      count: of the samples, `[P]`; each pair once, the most frequent first.
    """

    given: NDArray[np.int64]
    suggested: NDArray[np.int64]
    count: NDArray[np.int64]


def numbered(labels: np.ndarray, classes: Sequence[str]) -> NDArray[np.int64]:
    """Labels `[N]` as positions among `classes`.

    Raises:
      ValueError: if a label is none of them.
    """
    at = {name: k for k, name in enumerate(classes)}
    numbers = np.fromiter((at.get(x, -1) for x in labels), np.int64, len(labels))
    if (numbers < 0).any():
        stranger = labels[np.argmin(numbers)]
        raise ValueError(
            f"label {stranger!r} is none of the classes of the run: its files are not "
            "of one run; make it again"
        )
    return numbers


def by_class(
    samples: Samples, given: NDArray[np.int64], doubted: NDArray[np.bool_], size: int
) -> ByClass:
    """Numbers of each class, by the samples given it.

    Args:
      samples: see `read_samples`, `[N]`.
      given: number of each given class, or of any other group of samples, `[N]`.
      doubted: whether a label looks wrong, `[N]`.
      size: number of classes, C.
    """
    known = is_known(samples["true_label"])
    family = np.full(size, -1)
    family[given] = samples["family"]
    return ByClass(
        size=np.bincount(given, minlength=size),
        family=family,
        weight=_mean(samples["weight"], given, size),
        estimated_noise=_mean(doubted, given, size),
        noise=_mean(is_wrong(samples)[known], given[known], size),
    )


def suggestions(
    given: NDArray[np.int64], suggested: NDArray[np.int64], size: int
) -> Suggestions:
    """Pairs of given and suggested classes, `[N]` both, with their frequencies."""
    pairs, counts = np.unique(given * size + suggested, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return Suggestions(pairs[order] // size, pairs[order] % size, counts[order])


def _mean(values: np.ndarray, groups: NDArray[np.int64], size: int) -> NDArray:
    counts = np.bincount(groups, minlength=size)
    sums = np.bincount(groups, weights=values, minlength=size)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
