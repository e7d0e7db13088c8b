"""The meta set: which samples the weighting net is judged by (paper 3).

Labels are those of the whole training set, an index is a subset of its positions, and
what comes back are positions too: int32, ascending. A seed is a whole number from 0, or
several; other functions draw something else from it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging
from numpy.typing import ArrayLike, NDArray

from cmwjax.core.labels import check_labels
from cmwjax.randomness import Purpose, Seed, generator

OTHER = 10  # times as much of a class among the trusted as elsewhere is worth a word
POLICIES = ("held_out", "external", "labelled", "balanced", "lowest_loss", "none")
TRUSTED = ("held_out", "external")  # of which the labels are known to be right
LABELLED = "labelled"  # where others have none; training learns these as well


def held_out(
    labels: ArrayLike,
    *,
    per_class: int,
    num_classes: int,
    seed: Seed,
    names: Sequence[str] = (),
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Sets random samples of each class aside, out of reach of training.

    Args:
      labels: the labels to trust, in [0, C), integers `[N]`.
      per_class: samples to set aside in each class, at least 1.
      num_classes: number of classes C.
      seed: seed of the draw.
      names: what an error calls each class, C; (): by its number.

    Returns:
      The meta index `[C * per_class]`, and the training index with the rest.

    Raises:
      ValueError: for a label outside [0, C), or a class without a sample to spare.
    """
    rng = generator(seed, Purpose.META_SET)
    everyone = np.arange(len(np.asarray(labels)))
    chosen = []
    for label, members in enumerate(_members(labels, everyone, num_classes)):
        # One more than asked for: training needs a sample of every class as well.
        name = names[label] if names else _name(label)
        _check_size(name, members, per_class, spare=1)
        chosen.append(rng.permutation(members)[:per_class])
    meta_index = _ascending(chosen)
    return meta_index, np.setdiff1d(everyone, meta_index).astype(np.int32)


def balanced(
    labels: ArrayLike, index: ArrayLike, *, num_classes: int, seed: Seed, epoch: int
) -> NDArray[np.int32]:
    """Sub-samples every observed class to the size of the rarest one, per epoch anew.

    Args:
      labels: observed labels in [0, C), integers `[N]`.
      index: positions to draw from, integers in [0, N).
      num_classes: number of classes C.
      seed: seed of the run.
      epoch: number of the epoch, which draws its own samples.

    Returns:
      The meta index, `[C * size of the rarest class]`.

    Raises:
      ValueError: for a label outside [0, C), or a class without samples.
    """
    classes = _members(labels, index, num_classes)
    rarest = min(map(len, classes))
    rng = generator(seed, Purpose.BALANCED, moment=epoch)
    return _ascending([rng.permutation(members)[:rarest] for members in classes])


def lowest_loss(
    losses: ArrayLike,
    labels: ArrayLike,
    index: ArrayLike,
    *,
    per_class: int,
    num_classes: int,
    or_fewer: bool = False,
) -> NDArray[np.int32]:
    """Takes the samples of each observed class that the classifier agrees with most.

    Among equal losses, the one that comes first in `index` wins.

    Args:
      losses: loss of each sample with its observed label, `[N]`.
      labels: observed labels in [0, C), integers `[N]`.
      index: positions to choose from, integers in [0, N).
      per_class: samples to take of each class, at least 1.
      num_classes: number of classes C.
      or_fewer: whether a class may have fewer samples, even none, all of which are
        taken then.

    Returns:
      The meta index `[C * per_class]`.

    Raises:
      ValueError: for a label outside [0, C), a class smaller than `per_class`, or a
        NaN among the losses to choose from.
    """
    losses, labels, index = np.asarray(losses), np.asarray(labels), np.asarray(index)
    if losses.shape != labels.shape:
        raise ValueError(
            f"losses must have the shape {list(labels.shape)} of the labels, got "
            f"{list(losses.shape)}: pass one loss per training sample."
        )
    chosen = []
    for label, members in enumerate(_members(labels, index, num_classes, or_fewer)):
        if not or_fewer:
            _check_size(_name(label), members, per_class)
        if np.isnan(losses[members]).any():
            raise ValueError(
                f"losses of class {label} contain NaN: evaluate every sample of the "
                "index, with a model that has not diverged."
            )
        order = np.argsort(losses[members], kind="stable")
        chosen.append(members[order[:per_class]])
    return _ascending(chosen)


def purity(meta_index: ArrayLike, labels: ArrayLike, true_labels: ArrayLike) -> float:
    """Share of the meta set whose observed label is the true one.

    Args:
      meta_index: positions of the meta set, integers `[M]`.
      labels: observed labels, integers `[N]`.
      true_labels: true labels, integers `[N]`.

    Returns:
      A number in [0, 1].

    Raises:
      ValueError: if the meta set is empty.
    """
    meta_index = np.asarray(meta_index)
    if not meta_index.size:
        raise ValueError("meta_index is empty: choose at least one sample per class.")
    same = np.asarray(labels)[meta_index] == np.asarray(true_labels)[meta_index]
    return float(np.mean(same))


def warn_of_other_shares(
    trusted: NDArray[np.integer], counts: NDArray[Any], names: Sequence[str]
) -> None:
    """Warns where trusted samples have far more of a class than there is to train on.

    Args:
      trusted: trusted samples of each class, `[C]`, at least one.
      counts: samples to train on, `[C]`, positive.
      names: of the classes, C.
    """
    shares, usual = trusted / trusted.sum(), counts / counts.sum()
    worst = int(np.argmax(shares / usual))
    if shares[worst] > OTHER * usual[worst]:
        logging.warning(
            "%.0f %% of the trusted samples are of class %s, and %.2g %% of those to "
            "train on. Weights are judged by how good a classifier is on samples like "
            "the trusted ones, so it will find this class more often than it is there. "
            "If that is not what you want, trust samples as they come.",
            100 * shares[worst],
            names[worst],
            100 * usual[worst],
        )


def _members(
    labels: ArrayLike, index: ArrayLike, num_classes: int, or_none: bool = False
) -> list[NDArray[np.int64]]:
    """The positions of each class among `index`, in its order; one may be empty only
    with `or_none`.
    """
    labels, index = check_labels(labels, num_classes), np.asarray(index)
    if not index.size:
        raise ValueError("index is empty: pass the positions to choose from.")
    if not np.issubdtype(index.dtype, np.integer):
        raise ValueError(f"index is {index.dtype}: pass positions, not a mask.")
    if not 0 <= index.min() <= index.max() < len(labels):
        raise ValueError(
            f"index must lie in [0, {len(labels)}), got {index.min()} to "
            f"{index.max()}: pass positions in the whole training set."
        )
    classes = [index[labels[index] == label] for label in range(num_classes)]
    empty = [label for label, members in enumerate(classes) if not len(members)]
    if empty and not or_none:
        raise ValueError(
            f"no sample of class {empty[0]} (of {num_classes}) to choose for the meta "
            "set: add some, or number the classes without gaps."
        )
    return classes


def _name(label: int) -> str:
    return f"class or target range {label}"


def _check_size(
    name: str, members: NDArray[np.int64], per_class: int, *, spare: int = 0
) -> None:
    """Raises unless a class has `per_class` meta samples, and `spare` beyond them."""
    if per_class < 1:
        raise ValueError(
            f"config.meta_set.per_class={per_class} leaves the meta set empty: raise "
            "it to 1."
        )
    if len(members) < per_class + spare:
        beyond = f" and {spare} to train on" if spare else ""
        remedy = (
            "lower config.meta_set.per_class, or add samples, of which "
            "config.data.train_size may leave some out"
        )
        if len(members) <= spare:  # no number is low enough
            remedy = (
                "add samples, leave the class out, or choose "
                "config.meta_set.policy='balanced'"
            )
        count = "1 sample" if len(members) == 1 else f"{len(members)} samples"
        raise ValueError(
            f"{name} has {count}, but the meta set needs {per_class}{beyond}: {remedy}."
        )


def _ascending(chosen: list[NDArray[np.int64]]) -> NDArray[np.int32]:
    return np.sort(np.concatenate(chosen)).astype(np.int32)
