"""Candidate sets that are made on purpose: wrong classes beside the label of a sample.

A set is a row of a bool `[N, C]` array; the label is always in it.
"""

from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict
from numpy.typing import ArrayLike, NDArray

from cmwjax.core.labels import check_labels
from cmwjax.data.dataset import Dataset
from cmwjax.randomness import Purpose, Seed, generator
from cmwjax.tasks.catalogue import TASKS


def one_hot(labels: ArrayLike, num_classes: int) -> NDArray[np.bool_]:
    """Sets of the label alone, `[N]` -> bool `[N, C]`."""
    return np.asarray(labels)[:, None] == np.arange(num_classes)


def binomial(
    labels: NDArray[np.int32],
    num_classes: int,
    rate: float,
    smallest: int,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Every wrong class joins with probability `rate`, by itself.

    Then wrong classes are drawn into sets of fewer than `smallest` classes, each as
    likely as any other.
    """
    size = len(labels), num_classes
    sets = one_hot(labels, num_classes) | (rng.random(size) < rate)
    wanting = np.flatnonzero(sets.sum(axis=1) < smallest)
    # The members come first, then the others in a random order.
    turn = np.where(sets[wanting], -1.0, rng.random((len(wanting), num_classes)))
    first = np.argsort(turn, axis=1)[:, :smallest]
    sets[wanting[:, None], first] = True
    return sets


def pair(
    labels: NDArray[np.int32],
    num_classes: int,
    rate: float,
    smallest: int,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """The class after the label joins with probability `rate`; the last has the first.

    No set has more than two classes, so `smallest` means nothing here.
    """
    del smallest
    joins = rng.random(len(labels)) < rate
    following = (labels + 1) % num_classes
    return one_hot(labels, num_classes) | (
        one_hot(following, num_classes) & joins[:, None]
    )


Maker = Callable[
    [NDArray[np.int32], int, float, int, np.random.Generator], NDArray[np.bool_]
]
KINDS: dict[str, Maker | None] = {"none": None, "binomial": binomial, "pair": pair}


def make(
    labels: ArrayLike,
    *,
    kind: str,
    rate: float,
    num_classes: int,
    smallest: int = 2,
    seed: Seed,
) -> NDArray[np.bool_]:
    """Candidate sets around labels.

    Args:
      labels: classes in [0, C), integers `[N]`.
      kind: one of `KINDS`, but for 'none'.
      rate: probability q with which a wrong class joins, in [0, 1].
      num_classes: C.
      smallest: classes that a set has at least, in [1, C]. 2 is what the experiments of
        PRODEN have, and with it those of CMW-Net.
      seed: seed of the draw.

    Returns:
      bool `[N, C]`.

    Raises:
      ValueError: for another kind, rate or size, or a label outside [0, C).

    References:
      Lv et al., `PRODEN <https://arxiv.org/abs/2002.08053>`_, 2020, section 4.
    """
    labels = check_labels(labels, num_classes)
    maker = KINDS.get(kind)
    if maker is None:
        raise ValueError(
            f"candidates.kind={kind!r} makes no candidates; choose one of "
            f"{tuple(KINDS)[1:]}."
        )
    if not 0 <= rate <= 1:
        raise ValueError(f"candidates.rate={rate} must lie in [0, 1]: correct it.")
    if not 1 <= smallest <= num_classes:
        raise ValueError(
            f"candidates.smallest={smallest} must lie in [1, {num_classes}], the "
            "number of classes: correct it."
        )
    return maker(
        labels, num_classes, rate, smallest, generator(seed, Purpose.CANDIDATES)
    )


def stand_ins(candidates: NDArray[np.bool_], *, seed: Seed) -> NDArray[np.int32]:
    """One candidate of each set, drawn at random: bool `[N, C]` -> int32 `[N]`.

    What knows nothing of sets has this for a label, and never the right one by design.
    """
    rng = generator(seed, Purpose.STAND_IN)
    turn = np.where(candidates, rng.random(candidates.shape), -1.0)
    return np.argmax(turn, axis=1).astype(np.int32)


def class_sizes(candidates: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Sizes of classes where labels are sets, `[N, C]` -> `[C]`.

    A sample counts for each of its candidates by their share of the set; all sizes
    together are N.
    """
    return (candidates / candidates.sum(axis=1, keepdims=True)).sum(axis=0)


def of(
    dataset: Dataset, labels: NDArray[np.int32], config: ConfigDict, *, seed: int
) -> NDArray[np.bool_] | None:
    """Candidates of samples: those of the data, or made around their labels `[N]`.

    Returns:
      bool `[N, C]`; None for a task in which a sample has one label, or none.
    """
    if not TASKS[config.task].has_sets or TASKS[config.task].semi:
        return None
    if dataset.candidates is not None:
        return np.array(dataset.candidates, bool)
    return make(
        labels,
        kind=config.candidates.kind,
        rate=config.candidates.rate,
        smallest=config.candidates.smallest,
        num_classes=dataset.num_classes,
        seed=seed,
    )


def check_config(config: ConfigDict) -> None:
    """Refuses candidates where labels are no sets, and a rate where none are made."""
    kind, rate = config.candidates.kind, config.candidates.rate
    if kind != "none" and not TASKS[config.task].has_sets:
        raise ValueError(
            f"config.candidates.kind={kind!r} makes sets of labels, and config.task="
            f"{config.task!r} has none: set it to 'none', or task='partial'."
        )
    if kind == "none" and rate:
        raise ValueError(
            f"config.candidates.rate={rate} has no effect with config.candidates.kind="
            f"'none': choose one of {tuple(KINDS)[1:]}, or set the rate to "
            "0."
        )
    if TASKS[config.task].has_sets and not config.data.csv.separator:
        raise ValueError(
            "config.data.csv.separator='' separates no candidates: choose what stands "
            "between them, such as '|'."
        )


def check_data(dataset: Dataset, config: ConfigDict) -> None:
    """Refuses a task of sets without any, sets made twice, and sets for other tasks."""
    name, kind = config.data.name, config.candidates.kind
    if TASKS[config.task].semi:
        return
    if not TASKS[config.task].has_sets:
        if dataset.candidates is not None:
            raise ValueError(
                f"config.task={config.task!r} is for one label per sample, but those "
                f"of {name!r} are sets of candidates: set it to 'partial'."
            )
        return
    if (dataset.candidates is None) == (kind == "none"):
        has = "no sets of candidates" if kind == "none" else "sets of candidates"
        remedy = f"choose one of {tuple(KINDS)[1:]}, or give sets as labels"
        if kind != "none":
            remedy = "set it to 'none'"
        raise ValueError(
            f"config.candidates.kind={kind!r}, but data {name!r} come with {has}: "
            f"{remedy}."
        )
    if dataset.candidates is None:
        return
    if config.noise.kind != "none":
        raise ValueError(
            f"config.noise.kind={config.noise.kind!r} is for labels, but those of "
            f"{name!r} are sets of candidates: set it to 'none'."
        )
    if config.meta_set.policy == "held_out" and not dataset.knows_true_labels:
        raise ValueError(
            "config.meta_set.policy='held_out' trusts the labels that it holds out, "
            f"and of the candidates of {name!r} nobody knows which are right: choose "
            "'lowest_loss', or 'external' with a file of trusted samples in "
            "config.data.csv.trusted."
        )
