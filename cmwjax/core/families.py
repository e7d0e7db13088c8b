"""Classes grouped by size: the families that the weighting net tells apart."""

import itertools
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Below this ratio of the largest mean size of a family to the smallest, what a function
# learned elsewhere of small and large classes says nothing.
ALIKE = 2.0


class Families(NamedTuple):
    """Classes grouped by size."""

    family: np.ndarray  # int32 [C], family of each class
    centres: np.ndarray  # float64 [K], mean class size of each family, ascending


def group_classes(counts: np.ndarray, num_families: int = 3) -> Families:
    """Groups classes by their number of samples: exact one-dimensional k-means.

    Families are intervals of the sorted counts, so dynamic programming over their
    borders finds the optimum that random restarts only look for.

    Args:
      counts: samples per class under the observed labels, `[C]`, not negative.
      num_families: K at most; with fewer distinct counts there are fewer families,
        and a warning.

    Returns:
      Families sorted by size, 0 the smallest.

    Raises:
      ValueError: if counts are not a vector of finite non-negative numbers, or
        num_families < 1.

    Examples:
      >>> families = group_classes([50, 500, 48, 480, 210])
      >>> families.family
      array([0, 2, 0, 2, 1], dtype=int32)
      >>> families.centres
      array([ 49., 210., 490.])

    References:
      CMW-Net, the task feature; Wang and Song, Ckmeans.1d.dp, R Journal 3/2, 2011.
    """
    counts = np.asarray(counts, np.float64)
    if counts.ndim != 1 or not counts.size or not np.all(counts >= 0):
        raise ValueError(f"counts={counts} must be a vector of class sizes >= 0.")
    if not np.all(np.isfinite(counts)):
        raise ValueError(f"counts={counts} must be finite.")
    if num_families < 1:
        raise ValueError(f"num_families={num_families} must be at least 1.")
    sizes, which, multiplicity = np.unique(
        counts, return_inverse=True, return_counts=True
    )
    if len(sizes) < num_families:
        warnings.warn(
            f"only {len(sizes)} distinct class sizes for {num_families} families: "
            f"using {len(sizes)}.",
            stacklevel=2,
        )
        num_families = len(sizes)
    borders = _optimal_borders(sizes, multiplicity, num_families)
    family_of_size = np.searchsorted(borders, np.arange(len(sizes)), side="right")
    family = family_of_size[which].astype(np.int32)
    centres = np.bincount(family, weights=counts) / np.bincount(family)
    return Families(family, centres)


def family_names(
    num_families: int, borders: Sequence[float] | None = None, *, short: bool = False
) -> list[str]:
    """Names of the families, in ascending order.

    Args:
      num_families: K.
      borders: of a regression, the targets at which one range ends and the next begins,
        ascending, in the units of the data; None: families are classes of like size.
      short: ranges alone, as "below 94", where it is clear that they are of targets.

    Returns:
      K names. If there are several families, but not one for each range, they have
      numbers.
    """
    if num_families == 1:
        return ["all classes" if borders is None else "all targets"]
    if borders is None and num_families == 2:
        return ["small classes", "large classes"]
    if borders is None and num_families == 3:
        return ["small classes", "moderate classes", "large classes"]
    if borders is None or len(borders) != num_families - 1:
        return [f"family {k + 1}" for k in range(num_families)]
    ends = _apart(borders)
    inner = [f"{low} to {high}" for low, high in itertools.pairwise(ends)]
    ranges = [f"below {ends[0]}", *inner, f"from {ends[-1]}"]
    return ranges if short else [f"targets {name}" for name in ranges]


def with_sizes(
    names: Sequence[str], centres: Sequence[float] | np.ndarray | None
) -> list[str]:
    """Names `[K]` of families, each with the mean size of its classes, if known."""
    if centres is None:
        return list(names)
    pairs = zip(names, centres, strict=True)
    return [f"{name} (~{size:.0f} samples each)" for name, size in pairs]


def _optimal_borders(sizes, multiplicity, k):
    """First position of families 1..k-1 in the sorted distinct sizes."""
    n = len(sizes)
    centred = sizes - np.average(sizes, weights=multiplicity)  # against cancellation
    mass = np.concatenate([[0.0], np.cumsum(multiplicity)])
    first = np.concatenate([[0.0], np.cumsum(multiplicity * centred)])
    second = np.concatenate([[0.0], np.cumsum(multiplicity * centred**2)])

    def within(starts, end):  # squared deviations of sizes[start:end], every start
        m, s, q = (a[end] - a[starts] for a in (mass, first, second))
        return q - s * s / m

    cost = np.array([0.0] + [within(np.array([0]), e)[0] for e in range(1, n + 1)])
    choices = []
    for j in range(1, k):
        new_cost, choice = np.full(n + 1, np.inf), np.zeros(n + 1, int)
        for end in range(j + 1, n + 1):
            starts = np.arange(j, end)
            total = cost[starts] + within(starts, end)
            best = np.argmin(total)
            new_cost[end], choice[end] = total[best], starts[best]
        cost = new_cost
        choices.append(choice)
    borders, end = [], n
    for choice in reversed(choices):
        end = choice[end]
        borders.append(end)
    return np.array(borders[::-1], int)


def _apart(numbers: Sequence[float]) -> list[str]:
    """Distinct numbers in as few digits as tell them apart, but at least six."""
    for digits in range(6, 18):
        texts = [f"{number:.{digits}g}" for number in numbers]
        if len(set(texts)) == len(texts):
            break
    return texts
