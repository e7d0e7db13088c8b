"""The ranked list of training samples whose labels look wrong."""

import csv
import os
import re
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from cmwjax.core.labels import UNKNOWN
from cmwjax.files import replacing

COLUMNS = {
    "index": np.int64,
    "given_label": None,  # int32 classes, or float64 targets of a regression
    "suggested_label": None,
    "true_label": None,
    "family": np.int32,
    "loss": np.float64,
    "weight": np.float64,
    "rank": np.int64,
}
_INTEGER = re.compile(r"-?\d+")


def write_samples(
    path: str | os.PathLike,
    *,
    index: ArrayLike,
    given_label: ArrayLike,
    suggested_label: ArrayLike,
    true_label: ArrayLike | None = None,
    family: ArrayLike | None = None,
    losses: ArrayLike,
    weights: ArrayLike,
) -> None:
    """Writes `samples.csv`, the most suspicious sample first.

    Rank 1 has the lowest weight; among equal weights the highest loss comes first, so
    that a run without a weighting function (all weights 1, or 0 where only trusted
    samples were learned from) is ranked by loss.

    Args:
      path: the file, replaced atomically.
      index: position of each sample in the training set, distinct integers [N].
      given_label: the label it was trained with, [N].
      suggested_label: the label the model would give it, [N].
      true_label: its true label where known, [N]; a negative class, a target that is
        NaN, or `None`: unknown.
      family: the family of its given class, [N]; negative or `None`: no families.
      losses: its training loss, finite, [N].
      weights: its weight, finite, [N].

    Raises:
      ValueError: for a column of another length, repeated indices, or a loss or weight
        that is not finite.
    """
    columns = {
        "index": np.asarray(index),
        "given_label": np.asarray(given_label),
        "suggested_label": np.asarray(suggested_label),
        "true_label": _or_unknown(true_label, np.size(index)),
        "family": _or_unknown(family, np.size(index)),
        "loss": np.asarray(losses),
        "weight": np.asarray(weights),
    }
    _check(columns)
    order = np.lexsort((columns["index"], -columns["loss"], columns["weight"]))
    columns = {name: column[order] for name, column in columns.items()}
    columns["rank"] = np.arange(1, order.size + 1)
    # str of a numpy scalar is the shortest text that reads back to the same value.
    cells = {name: columns[name].astype(str) for name in COLUMNS}
    if is_regression(columns):
        for name in ("given_label", "suggested_label", "true_label"):
            cells[name] = _decimals(columns[name], exact=name != "suggested_label")
    for name in ("true_label", "family"):
        cells[name] = np.where(is_known(columns[name]), cells[name], "")
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(zip(*cells.values(), strict=True))


def read_samples(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads `samples.csv` in the order of its ranks.

    Args:
      path: a file by `write_samples`; further columns are ignored.

    Returns:
      One array [N] per column, under the names of `COLUMNS`. A `true_label` or `family`
      that is not known is -1 (`UNKNOWN`), a target NaN.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it lacks a column, holds no sample, or a cell is not a number.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: give the folder of a finished run, or finish it by "
            "running its command again"
        )
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing or not rows:
        lack = f"the columns {missing}" if missing else "samples"
        raise ValueError(f"{path} lacks {lack}: write it again with write_samples")
    samples = {}
    is_class = all(_INTEGER.fullmatch(row["given_label"]) for row in rows)
    label, unknown = (np.int32, UNKNOWN) if is_class else (np.float64, np.nan)
    for name, dtype in COLUMNS.items():
        optional = name in ("true_label", "family")
        missing = unknown if dtype is None else UNKNOWN
        dtype = dtype or label
        cells = [missing if optional and not row[name] else row[name] for row in rows]
        try:
            samples[name] = np.array(cells, str).astype(dtype)
        except ValueError as error:
            raise ValueError(
                f"{path}: column {name!r} holds something that is not a number "
                f"({error}): write the file again with write_samples"
            ) from None
    order = np.argsort(samples["rank"], kind="stable")
    return {name: column[order] for name, column in samples.items()}


def wrong_label_auroc(
    weights: ArrayLike, is_wrong: ArrayLike, *, losses: ArrayLike | None = None
) -> float:
    """How well a low weight tells a wrong label from a right one.

    The area under the ROC curve of the score -weight: the chance that a randomly drawn
    wrong label weighs less than a randomly drawn right one, ties counting one half.

    Args:
      weights: weight of each sample, [N].
      is_wrong: whether its label is wrong, bool [N].
      losses: if given, [N]: among equal weights a higher loss counts as more
        suspicious, as in the ranks of `write_samples`.

    Returns:
      A float in [0, 1], 0.5 for weights that know nothing; NaN where it is undefined
      because all labels are right or all are wrong.

    Raises:
      ValueError: if the arrays differ in length or hold a value that is not finite.
    """
    from sklearn.metrics import roc_auc_score

    weights, is_wrong = np.asarray(weights), np.asarray(is_wrong, bool)
    losses = np.zeros_like(weights) if losses is None else np.asarray(losses)
    for name, column in dict(weights=weights, is_wrong=is_wrong, losses=losses).items():
        if column.shape != (weights.size,) or not np.isfinite(column).all():
            raise ValueError(
                f"{name} has shape {column.shape} or holds a value that is not finite: "
                f"give one finite value for each of the {weights.size} samples"
            )
    if is_wrong.all() or not is_wrong.any():
        return float("nan")
    # Sorted by (-weight, loss), equal pairs share a row: the row number is the score.
    pairs = np.stack([-weights, losses], axis=1)
    _, score = np.unique(pairs, axis=0, return_inverse=True)
    return float(roc_auc_score(is_wrong, score))


def is_known(labels: np.ndarray) -> np.ndarray:
    """Where a column of labels or families has a value, bool [N]."""
    if np.issubdtype(labels.dtype, np.floating):
        return np.isfinite(labels)
    return labels >= 0


def is_regression(samples: dict[str, np.ndarray]) -> bool:
    """Whether the labels are targets, not classes."""
    return np.issubdtype(samples["given_label"].dtype, np.floating)


def noun(samples: dict[str, np.ndarray]) -> str:
    """What a label is called here: 'label', or 'target' of a regression."""
    return "target" if is_regression(samples) else "label"


def is_wrong(samples: dict[str, np.ndarray]) -> np.ndarray:
    """Where the given label is known not to be the true one, bool [N]."""
    known = is_known(samples["true_label"])
    return known & (samples["true_label"] != samples["given_label"])


def _decimals(targets: np.ndarray, *, exact: bool) -> np.ndarray:
    """Targets in the shortest decimals that read back to the same float32.

    Args:
      targets: `[N]`.
      exact: whether those that float32 does not hold keep all their digits: a given
        target is looked up in the data, a suggested one was computed in float32.
    """
    with np.errstate(over="ignore"):
        short = targets.astype(np.float32)
    is_held = short == targets if exact else np.isfinite(short)
    return np.where(is_held, short.astype(str), targets.astype(str))


def _or_unknown(column: ArrayLike | None, size: int) -> np.ndarray:
    return np.full(size, UNKNOWN) if column is None else np.asarray(column)


def _check(columns: dict[str, np.ndarray]) -> None:
    size = columns["index"].size
    for name, column in columns.items():
        if column.shape != (size,) or not size:
            raise ValueError(
                f"{name} has shape {column.shape} beside an index of {size} entries: "
                "give one value per sample, and at least one sample"
            )
    if np.unique(columns["index"]).size != size:
        raise ValueError("index repeats a position: give each sample once")
    for name in ("loss", "weight"):
        bad = ~np.isfinite(columns[name])
        if bad.any():
            raise ValueError(
                f"{name} of sample {columns['index'][bad][0]} is "
                f"{columns[name][bad][0]}: audit the last checkpoint before the run "
                "diverged"
            )
