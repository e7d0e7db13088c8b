"""Who is trusted: samples that came with the data as such, or are held out of it."""

from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from cmwjax.bias import meta_set
from cmwjax.data.dataset import Dataset, keys_of
from cmwjax.data.encoded import are_copies


def external(dataset: Dataset, config: ConfigDict) -> np.ndarray | None:
    """The trusted samples that came with the data, if they are to be the meta set.

    Raises:
      ValueError: if there are such and the policy is another one, or there are none.
    """
    trusted, policy = dataset.trusted_index, config.meta_set.policy
    if (trusted is None) != (policy != "external"):
        has = "no trusted samples" if trusted is None else "trusted samples"
        remedy = "give config.data.csv.trusted a file, or choose another policy"
        if trusted is not None:
            remedy = "set it to 'external', or give none"
        raise ValueError(
            f"config.meta_set.policy={policy!r}, but data {config.data.name!r} comes "
            f"with {has}: {remedy}."
        )
    return trusted


def hold_out(
    groups: np.ndarray,
    source: np.ndarray,
    config: ConfigDict,
    *,
    names: tuple[str, ...],
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The meta set among the positions `source`, and the rest of them.

    Raises:
      ValueError: as `meta_set.held_out`.
    """
    chosen, rest = meta_set.held_out(
        groups[source],
        per_class=config.meta_set.per_class,
        num_classes=len(names),
        seed=seed,
        names=names,
    )
    return source[chosen], source[rest]


def repeats(dataset: Dataset) -> np.ndarray:
    """Positions of samples that repeat a trusted one, and are not trusted themselves.

    They have the same inputs; on disk, files of the same bytes, wherever they are.
    Records of TFDS, which would all have to be read for it, repeat nothing.

    Args:
      dataset: before a net makes rows of its images or texts.

    Returns:
      int32 `[M]`, ascending.

    Raises:
      ValueError: for trusted samples with the same inputs and not the same label.
    """
    trusted = dataset.trusted_index
    if trusted is None:
        return np.zeros(0, np.int32)
    others = np.setdiff1d(np.arange(len(dataset.train_labels)), trusted)
    if dataset.files is not None:
        same = are_copies(dataset.files.train.read, others, trusted)
    else:
        known = _labels_by_inputs(dataset, trusted)
        same = [key in known for key in keys_of(dataset.train_inputs[others])]
    return others[np.array(same, bool)].astype(np.int32)


def _labels_by_inputs(dataset: Dataset, rows: np.ndarray) -> dict[bytes, Any]:
    """The labels of the trusted samples at these positions, by keys of their inputs."""
    labels = dataset.train_labels
    found: dict[bytes, int] = {}
    for row, key in zip(rows, keys_of(dataset.train_inputs[rows]), strict=True):
        first = found.setdefault(key, row)
        if labels[first] != labels[row]:
            pair = [int(np.searchsorted(rows, r)) for r in (first, row)]
            raise ValueError(
                f"trusted samples {pair[0]} and {pair[1]} have the same inputs and "
                f"labels {dataset.in_words(labels[[first, row]])}: trust one of them."
            )
    return {key: labels[row] for key, row in found.items()}


def without(
    train_index: np.ndarray,
    trusted: np.ndarray,
    repeats: np.ndarray,
    groups: np.ndarray,
    names: tuple[str, ...],
) -> np.ndarray:
    """Positions to train on that are not trusted, and repeat no sample that is.

    The labels of repeats may be wrong, and the meta set would judge by samples that
    training has seen.

    Args:
      train_index: all positions to train on.
      trusted: those of the trusted samples.
      repeats: those to train on that repeat one of them.
      groups: the group of each sample, `[N]`.
      names: of the groups.

    Raises:
      ValueError: if none is left of a group.
    """
    absent = np.setdiff1d(np.arange(len(names)), groups[trusted])
    if absent.size:
        logging.warning(
            "the trusted samples have none of %s: nothing says how to weight its "
            "samples; add some.",
            ", ".join(names[group] for group in absent),
        )
    index = np.setdiff1d(train_index, trusted)
    kept = np.setdiff1d(index, repeats).astype(np.int32)
    lost = np.setdiff1d(groups[index], groups[kept])
    if lost.size:
        raise ValueError(
            f"every training sample of {names[lost[0]]} has the inputs of a trusted "
            "one, and none is left to train on: trust fewer samples, or other ones."
        )
    if len(kept) < len(index):
        logging.warning(
            "%d of %d training samples have the inputs of a trusted one, and are left "
            "out of training.",
            len(index) - len(kept),
            len(index),
        )
    return kept
