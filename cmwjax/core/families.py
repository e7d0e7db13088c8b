"""Classes grouped by size: the families that the weighting net tells apart."""

import warnings
from typing import NamedTuple

import numpy as np


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
