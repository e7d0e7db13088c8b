"""Semi-supervised learning: who keeps a label, and what stands for no label.

A sample without a label has every class as a candidate, a row of a bool `[N, C]` array;
one with a label has this alone.
"""

import numpy as np
from ml_collections import ConfigDict
from numpy.typing import ArrayLike, NDArray

from cmwjax.bias.candidates import one_hot
from cmwjax.core.labels import check_labels
from cmwjax.data.dataset import Dataset
from cmwjax.randomness import Purpose, Seed, generator
from cmwjax.tasks.catalogue import TASKS


def draw(
    labels: ArrayLike, index: ArrayLike, *, amount: int, num_classes: int, seed: Seed
) -> NDArray[np.int32]:
    """Draws samples that keep their labels, of each class by its share.

    Shares are rounded by largest remainders, and every class has at least one.

    Args:
      labels: classes in [0, C), integers `[N]`.
      index: positions to draw from, integers in [0, N).
      amount: how many to draw in all.
      num_classes: C.
      seed: seed of the draw.

    Returns:
      Positions, int32 `[amount]`, ascending.

    Raises:
      ValueError: unless there are at least as many labels as classes, and fewer than
        samples; or for a class without a sample.
    """
    labels, index = check_labels(labels, num_classes), np.asarray(index)
    if not num_classes <= amount < len(index):
        raise ValueError(
            f"config.semi.labels={amount} must be at least {num_classes}, one for each "
            f"class, and less than the {len(index)} samples to train on: choose "
            "another number (after the colon of --config: labels=N)."
        )
    counts = np.bincount(labels[index], minlength=num_classes)
    if not counts.all():
        raise ValueError(
            f"class {np.argmin(counts)} has no sample to train on, hence none to "
            "label: add some, or leave the class out."
        )
    rng = generator(seed, Purpose.LABELLED)
    chosen = [
        rng.permutation(index[labels[index] == label])[:size]
        for label, size in enumerate(class_shares(counts, amount))
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int32)


def class_shares(counts: NDArray[np.integer], amount: int) -> NDArray[np.int64]:
    """Numbers that sum to `amount`, nearly proportional to `counts`, `[C]`.

    Each is at least 1 and at most the count; the amount is between C and their sum.
    """
    exact = counts * (amount / counts.sum())
    sizes = np.maximum(np.floor(exact).astype(np.int64), 1)
    while sizes.sum() != amount:
        few = sizes.sum() < amount
        can = sizes < counts if few else sizes > 1
        gap = np.where(can, exact - sizes, -np.inf if few else np.inf)
        sizes[np.argmax(gap) if few else np.argmin(gap)] += 1 if few else -1
    return sizes


def of(
    dataset: Dataset,
    labels: NDArray[np.int32],
    train_index: NDArray[np.int32],
    config: ConfigDict,
    *,
    seed: int,
) -> NDArray[np.bool_]:
    """Candidates of all samples, bool `[N, C]`: those of the data, or made by a draw.

    Raises:
      ValueError: as `draw`; if the data leave a class without a label, or no sample
        without one.
    """
    num_classes, amount = dataset.num_classes, config.semi.labels
    if dataset.candidates is None:
        keep = draw(
            labels, train_index, amount=amount, num_classes=num_classes, seed=seed
        )
        sets = one_hot(labels, num_classes)
        sets[np.setdiff1d(train_index, keep)] = True
        return sets
    sets = np.array(dataset.candidates, bool)
    counts = sets[labelled(sets, train_index)].sum(axis=0)
    if not counts.all() or counts.sum() == len(train_index):
        lack = f"class {dataset.class_names[np.argmin(counts)]!r} has no label"
        if counts.all():
            lack = "every sample has one"
        raise ValueError(
            f"data {config.data.name!r}: {lack}, but semi-supervised learning starts "
            "from some labels of each class, and samples without: correct the data."
        )
    return sets


def labelled(sets: NDArray[np.bool_], index: NDArray[np.int32]) -> NDArray[np.int32]:
    """The positions among `index` that have a label."""
    return index[sets[index].sum(axis=1) == 1]


def with_label(dataset: Dataset, index: NDArray[np.int32]) -> NDArray[np.int32]:
    """The positions among `index` of which the data have a label to validate by."""
    if dataset.candidates is None:
        return index
    return labelled(np.asarray(dataset.candidates), index)


def told_apart(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sizes of classes, `[C]`, equal ones told apart by their order.

    So that there are as many families as wanted, though nobody knows yet which classes
    are large. A weighting net that has not learned anything treats them alike.
    """
    return counts * (1 + 1e-9 * np.arange(len(counts)))


def check_config(config: ConfigDict) -> None:
    """Refuses labels to be left out, or a meta set of those left, in other tasks."""
    is_semi = TASKS[config.task].semi
    if config.semi.labels and not is_semi:
        raise ValueError(
            f"config.semi.labels={config.semi.labels} leaves samples without a label, "
            f"and config.task={config.task!r} has none such: set it to 0, or "
            "task='semi'."
        )
    if is_semi and config.candidates.kind != "none":
        raise ValueError(
            f"config.candidates.kind={config.candidates.kind!r} makes sets of labels, "
            "and config.task='semi' has labels or none: set it to 'none'."
        )
    if config.meta_set.policy == "labelled" and not is_semi:
        raise ValueError(
            "config.meta_set.policy='labelled' is for samples without a label beside "
            f"others, and config.task={config.task!r} has none such: choose another, "
            "or task='semi'."
        )


def check_data(dataset: Dataset, config: ConfigDict) -> None:
    """Refuses labels to be left out of data that lack some, or none to be left out."""
    amount, name = config.semi.labels, config.data.name
    if dataset.candidates is None and not amount:
        raise ValueError(
            f"config.semi.labels=0, but every sample of {name!r} has a label: choose "
            "how many keep theirs (after the colon of --config: labels=N), or give an "
            "archive whose y_train is truth values [N, C], all of them true where "
            "there is no label."
        )
    if dataset.candidates is not None and amount:
        raise ValueError(
            f"config.semi.labels={amount}, but data {name!r} say themselves which "
            "samples have a label: set it to 0."
        )
