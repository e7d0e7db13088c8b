"""Regression: noise on targets, and the ranges of targets that are its families."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmwjax.bias.noise import draw
from cmwjax.randomness import Seed

KINDS = ("none", "symmetric")


def borders(targets: ArrayLike, num_ranges: int) -> NDArray[np.float64]:
    """Targets at which ranges of like many samples begin, but for the first.

    Args:
      targets: `[N]`, finite.
      num_ranges: number of ranges; fewer where equal targets fill more than one.

    Returns:
      Ascending and distinct; range g is `borders[g - 1] <= target < borders[g]`.
    """
    targets = np.asarray(targets, np.float64)
    shares = np.arange(1, num_ranges) / num_ranges
    inner = np.unique(np.quantile(targets, shares, method="higher"))
    return inner[inner > targets.min()]  # else the first range would be empty


def corrupt(
    targets: ArrayLike, *, kind: str, rate: float, seed: Seed
) -> NDArray[np.float64]:
    """Redraws the targets of a random part of the samples.

    Args:
      targets: `[N]`.
      kind: one of `KINDS`; 'symmetric' draws from the targets of all samples, as the
        symmetric noise of labels draws from all classes.
      rate: share of samples to redraw, in [0, 1]; exactly `floor(rate * N)` are.
      seed: seed of the draw.

    Returns:
      The targets, `[N]`.

    Raises:
      ValueError: for another kind, or a rate outside [0, 1].
    """
    if kind not in KINDS:
        raise ValueError(
            f"noise.kind={kind!r} is for classes; choose one of {KINDS} for targets."
        )
    noisy = np.array(targets, np.float64)
    if kind == "symmetric":
        chosen, rng = draw(len(noisy), rate, seed)
        noisy[chosen] = rng.choice(noisy, size=len(chosen))
    return noisy
