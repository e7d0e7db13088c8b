"""The ranked list of training samples whose labels look wrong."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cmwjax.core.labels import BETWEEN, UNKNOWN
from cmwjax.files import SAMPLES, read_csv_columns, write_csv
from cmwjax.report.families import read_borders

COLUMNS = {
    "row": np.int64,
    "file": None,  # text
    "given_label": None,  # text, or float64 targets of a regression
    "suggested_label": None,
    "true_label": None,
    "family": np.int32,
    "quality": np.float64,
    "weight": np.float64,
    "loss": np.float64,
    "rank": np.int64,
}
LABELS = ("given_label", "suggested_label", "true_label")


def write_samples(
    path: str | os.PathLike,
    *,
    row: ArrayLike,
    file: Sequence[str] | None = None,
    given_label: ArrayLike,
    suggested_label: ArrayLike,
    true_label: ArrayLike | None = None,
    family: ArrayLike | None = None,
    quality: ArrayLike,
    weights: ArrayLike,
    losses: ArrayLike,
) -> None:
    """Writes `samples.csv`, the most suspicious sample first.

    Rank 1 has the lowest quality; among equal ones the highest loss comes first.

    Args:
      path: the file, replaced atomically.
      row: where each sample is in what its owner gave, distinct integers [N].
      file: its file as the owner knows it, N; `None`: there are none.
      given_label: the label it was trained with, [N]: a class by its name, those of a
        set of candidates with `BETWEEN` between them, '' where there is none, or a
        target as float32 or float64.
      suggested_label: the label the model would give it, [N].
      true_label: its true label where known, [N]; the name '', a target that is NaN, or
        `None`: unknown.
      family: the family of its given class, [N]; negative or `None`: no families.
      quality: how well the given label suits it, finite, [N]; low is suspicious.
      weights: its weight, finite, [N].
      losses: its training loss, finite, [N].

    Raises:
      ValueError: for a column of another length, repeated rows, or a quality, weight or
        loss that is not finite.
    """
    row, given = np.asarray(row), _labels(given_label)
    if true_label is None:
        true_label = np.full(row.size, np.nan if given.dtype.kind == "f" else "")
    columns = {
        "row": row,
        "file": _labels([""] * row.size if file is None else file),
        "given_label": given,
        "suggested_label": _labels(suggested_label),
        "true_label": _labels(true_label),
        "family": np.full(row.size, UNKNOWN) if family is None else np.asarray(family),
        "quality": np.asarray(quality),
        "weight": np.asarray(weights),
        "loss": np.asarray(losses),
    }
    _check(columns)
    order = ranking(columns["quality"], columns["loss"], columns["row"])
    columns = {name: column[order] for name, column in columns.items()}
    columns["rank"] = np.arange(1, order.size + 1)
    # str of a numpy scalar is the shortest text that reads back to the same value.
    cells = {
        name: columns[name] if dtype is None else columns[name].astype(str)
        for name, dtype in COLUMNS.items()
    }
    if is_regression(columns):
        cells |= _decimals(columns)
    for name in ("true_label", "family"):
        cells[name] = np.where(is_known(columns[name]), cells[name], "")
    write_csv(path, list(COLUMNS), zip(*cells.values(), strict=True))


def ranking(quality: ArrayLike, losses: ArrayLike, row: ArrayLike) -> np.ndarray:
    """Positions of samples `[N]`, the most suspicious first; see `write_samples`."""
    return np.lexsort((np.asarray(row), -np.asarray(losses), np.asarray(quality)))


def read_samples(
    path: str | os.PathLike, *, targets: bool = False
) -> dict[str, np.ndarray]:
    """Reads `samples.csv` in the order of its ranks.

    Args:
      path: a file by `write_samples`; further columns are ignored.
      targets: whether labels are the targets of a regression.

    Returns:
      One array [N] per column, under the names of `COLUMNS`: labels are text, dtype
      object, or float64 if they are targets. A `true_label` that is not known is '', or
      NaN; a `family` -1 (`UNKNOWN`).

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
    types = COLUMNS | dict.fromkeys(LABELS if targets else (), np.float64)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS}
    names: dict[str, str] = {}  # of classes: one string each, however many samples
    for columns in read_csv_columns(path, list(COLUMNS)):
        for (name, dtype), cells in zip(types.items(), columns, strict=True):
            try:
                parts[name].append(_column(name, dtype, cells, names))
            except ValueError as error:
                raise ValueError(
                    f"{path}: column {name!r} holds something that is not a number "
                    f"({error}): write the file again with write_samples"
                ) from None
    if not parts["rank"]:
        raise ValueError(f"{path} lacks samples: write it again with write_samples")
    samples = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    order = np.argsort(samples["rank"], kind="stable")
    return {name: column[order] for name, column in samples.items()}


def _column(
    name: str, dtype: Any, cells: Sequence[str], names: dict[str, str]
) -> np.ndarray:
    """Cells of a column as an array; raises `ValueError` if one is no number."""
    if dtype is None:
        texts = np.empty(len(cells), object)
        if name in LABELS:
            texts[:] = [names.setdefault(cell, cell) for cell in cells]
        else:
            texts[:] = cells
        return texts
    if name in ("true_label", "family"):
        unknown = "nan" if name == "true_label" else str(UNKNOWN)
        cells = [cell or unknown for cell in cells]
    number = float if np.issubdtype(dtype, np.floating) else int
    return np.fromiter(map(number, cells), dtype, len(cells))


def samples_of(run_dir: str | os.PathLike) -> dict[str, np.ndarray]:
    """The samples of a run; see `read_samples`."""
    is_regression = read_borders(run_dir) is not None
    return read_samples(Path(run_dir) / SAMPLES, targets=is_regression)


def wrong_label_auroc(quality: ArrayLike, is_wrong: ArrayLike) -> float:
    """How well a low quality tells a wrong label from a right one.

    The area under the ROC curve of the score -quality: the chance that a randomly drawn
    wrong label has a lower one than a randomly drawn right one, ties counting one half.

    Args:
      quality: of each label, or its weight, [N].
      is_wrong: whether it is wrong, bool [N].

    Returns:
      A float in [0, 1], 0.5 for qualities that know nothing; NaN where it is undefined
      because all labels are right or all are wrong.

    Raises:
      ValueError: if the arrays differ in length or hold a value that is not finite.
    """
    from sklearn.metrics import roc_auc_score

    quality, is_wrong = np.asarray(quality), np.asarray(is_wrong, bool)
    if quality.shape != (is_wrong.size,) or not np.isfinite(quality).all():
        raise ValueError(
            f"quality has shape {quality.shape} or holds a value that is not finite: "
            f"give one finite value for each of the {is_wrong.size} samples"
        )
    if is_wrong.all() or not is_wrong.any():
        return float("nan")
    return float(roc_auc_score(is_wrong, -quality))


def is_known(labels: np.ndarray) -> np.ndarray:
    """Where a column of labels or families has a value, bool [N]."""
    if labels.dtype == object:
        return labels != ""
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
    """Where the given label, or every candidate, is known not to be right, bool [N]."""
    true, given = samples["true_label"], samples["given_label"]
    wrong = is_known(true) & (true != given)
    if given.dtype == object:  # one of several candidates is right, or there is none
        wrong &= is_known(given)
        for i in np.flatnonzero(wrong):
            wrong[i] = true[i] not in given[i].split(BETWEEN)
    return wrong


def _decimals(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Targets in the shortest decimals that read back to what their owner has.

    These are whole numbers if all of them are, or else float32, if all of them are held
    by it, and what is suggested was computed in float32; other ones keep all digits of
    float64.
    """
    given, true = columns["given_label"], columns["true_label"]
    owned = np.concatenate([given, true[is_known(true)]])
    with np.errstate(over="ignore"):
        is_short = np.array_equal(owned, owned.astype(np.float32))
        is_whole = np.all((owned == np.rint(owned)) & (np.abs(owned) < 2.0**53))
        cells = {}
        for name in LABELS:
            values = columns[name] + 0.0  # no -0.0
            short = values.astype(np.float32)
            shortened = is_short if name != "suggested_label" else np.isfinite(short)
            cells[name] = np.where(shortened, short.astype(str), values.astype(str))
            if is_whole and name != "suggested_label":
                known = is_known(values)
                whole = np.where(known, values, 0).astype(np.int64).astype(str)
                cells[name] = np.where(known, whole, cells[name])
    return cells


def _labels(labels: ArrayLike) -> np.ndarray:
    """Targets as floats, and everything else as text of any length."""
    labels = np.asarray(labels)
    if labels.dtype.kind == "f":
        return labels
    return labels if labels.dtype == object else labels.astype(str).astype(object)


def _check(columns: dict[str, np.ndarray]) -> None:
    size = columns["row"].size
    for name, column in columns.items():
        if column.shape != (size,) or not size:
            raise ValueError(
                f"{name} has shape {column.shape} beside {size} rows: "
                "give one value per sample, and at least one sample"
            )
    if np.unique(columns["row"]).size != size:
        raise ValueError("row repeats one: give each sample once")
    for name in ("quality", "weight", "loss"):
        bad = ~np.isfinite(columns[name])
        if bad.any():
            raise ValueError(
                f"{name} of row {columns['row'][bad][0]} is "
                f"{columns[name][bad][0]}: audit the last checkpoint before the run "
                "diverged"
            )
