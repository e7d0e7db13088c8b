"""Feature-dependent label noise from class probabilities: PMD (paper 5.3).

A network trained on clean labels says how close each image is to its second class; the
closer, the likelier its label moves there. CIFAR's published label arrays are read with
`label_sets.read`; this makes such arrays for other data, to be saved and read likewise.

References:
  Zhang et al., Learning with Feature-Dependent Label Noise: A Progressive Approach,
  ICLR 2021.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmwjax.core.labels import check_labels
from cmwjax.randomness import Purpose, Seed, generator

KINDS = ("type1", "type2", "type3")
# The factors of the published labels: data set, kind, then per cent of wrong labels.
# They belong to the networks that those were made with: `calibrate` for another one.
PUBLISHED_FACTORS = {
    "cifar10": {
        "type1": {35: 1.43, 70: 3.40},
        "type2": {35: 1.32, 70: 3.10},
        "type3": {35: 1.35, 70: 3.20},
    },
    "cifar100": {
        "type1": {35: 1.08, 70: 1.80},
        "type2": {35: 1.02, 70: 2.58},
        "type3": {35: 1.12, 70: 1.20},
    },
}


def generate(
    eta: ArrayLike, *, kind: str, factor: float, seed: Seed
) -> NDArray[np.int32]:
    """Draws labels from the two likeliest classes of each sample.

    The true label is not consulted: the likeliest class is kept with the probability
    of `kind`, divided by `factor`, and is else replaced by the second one.

    Args:
      eta: class probabilities, `[N, C]`.
      kind: 'type1', 'type2' or 'type3'.
      factor: above 0; a higher one makes more labels wrong.
      seed: seed of the draw; under one seed, a higher factor moves a superset.

    Returns:
      The labels, int32 `[N]`.

    Raises:
      ValueError: if `eta` holds no probabilities of at least two classes, `kind` is
        unknown, or `factor` is not above 0.
    """
    first, second, keep = _two_likeliest(eta, kind=kind)
    if not 0 < factor < np.inf:
        raise ValueError(f"factor is {factor}, but must be above 0: correct it.")
    draw = generator(seed, Purpose.PMD).random(len(first))
    return np.where(draw < keep / factor, first, second).astype(np.int32)


def calibrate(
    eta: ArrayLike, true_labels: ArrayLike, *, kind: str, rate: float
) -> float:
    """Finds the factor at which a share `rate` of the labels is expected to be wrong.

    Args:
      eta: class probabilities, `[N, C]`.
      true_labels: true classes in [0, C), integers `[N]`.
      kind: 'type1', 'type2' or 'type3'.
      rate: expected share of wrong labels, between that of the likeliest class and
        that of the second one.

    Returns:
      The factor, by bisection.

    Raises:
      ValueError: if `eta` holds no probabilities of at least two classes, `kind` is
        unknown, the true labels are not one class in [0, C) for each sample, or no
        factor gives this rate.
    """
    first, second, keep = _two_likeliest(eta, kind=kind)
    true_labels = check_labels(true_labels, np.shape(eta)[1], name="true_labels")
    if len(true_labels) != len(first):
        raise ValueError(
            f"true_labels are {len(true_labels)}, but eta has {len(first)} rows: give "
            "one label per row."
        )
    first_wrong, second_wrong = first != true_labels, second != true_labels

    def expected_rate(factor):
        kept = np.minimum(keep / factor, 1)
        return np.mean(kept * first_wrong + (1 - kept) * second_wrong)

    low, high = 1e-9, 1e9
    lowest, highest = expected_rate(low), expected_rate(high)
    if not lowest <= rate <= highest:
        raise ValueError(
            f"rate is {rate}, but with this eta the share of wrong labels can only lie "
            f"in [{lowest:.3f}, {highest:.3f}]: choose one of those."
        )
    for _ in range(64):  # of the 60 octaves in between, down to double precision
        middle = np.sqrt(low * high)
        low, high = (middle, high) if expected_rate(middle) < rate else (low, middle)
    return float(high)


def _two_likeliest(
    eta: ArrayLike, *, kind: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """First and second class, and the probability to keep the first at factor 1."""
    eta = np.asarray(eta, np.float64)
    if eta.ndim != 2 or eta.shape[1] < 2 or not len(eta):
        raise ValueError(
            f"eta has shape {list(eta.shape)}: give the probabilities of at least two "
            "classes for each sample, [N, C]."
        )
    bad = ~((eta >= 0).all(axis=1) & (np.abs(eta.sum(axis=1) - 1) < 1e-3))
    if bad.any():
        raise ValueError(
            f"eta of sample {np.argmax(bad)} is {eta[np.argmax(bad)]}, which are no "
            "probabilities: they must be at least 0 and sum to 1."
        )
    order = np.argsort(-eta, axis=1, kind="stable")[:, :2]
    highest = np.take_along_axis(eta, order, axis=1)
    gap = highest[:, 0] - highest[:, 1]
    match kind:
        case "type1":
            keep = (1 + gap**2) / 2
        case "type2":
            keep = gap**3
        case "type3":
            keep = (gap + gap**2 + gap**3) / 3
        case _:
            raise ValueError(f"PMD kind is {kind!r}; choose one of {KINDS}.")
    return order[:, 0], order[:, 1], keep
