"""What became of the rows that a run neither learns from nor validates with."""

import os
from collections.abc import Container, Iterator
from pathlib import Path

import numpy as np

from cmwjax.bias.problem import Problem
from cmwjax.files import SET_ASIDE, write_csv

COLUMNS = ("row", "file", "reason")
TRUSTED = "trusted"  # by the owner
HELD_OUT = "held out for the meta set"
REPEATED = "repeats a trusted sample"
DROPPED = "long tail"


def write_set_aside(
    workdir: str | os.PathLike, problem: Problem, unread: Container[int]
) -> None:
    """Writes `set_aside.csv`, in the order of rows, if there are such.

    With it each row that the owner gave is in one file of the run: `samples.csv` if it
    was trained on, `validation.csv` if it validates, `unreadable.csv` if nobody could
    read it, or here, with the reason: 'trusted', 'held out for the meta set', 'repeats
    a trusted sample', 'long tail', 'test', or 'data.train_size' for what that leaves
    out, whose files are not named.

    Args:
      workdir: folder of the run.
      problem: what it learned from.
      unread: rows of training samples in `unreadable.csv`.
    """
    lines = sorted(line for line in _lines(problem) if line[0] not in unread)
    if lines:
        write_csv(Path(workdir) / SET_ASIDE, COLUMNS, lines)


def _lines(problem: Problem) -> Iterator[tuple[int, str, str]]:
    """Row, file and reason, in any order."""
    dataset = problem.dataset
    rows, files = dataset.row_numbers, dataset.file_names
    meta = np.zeros(0, np.int32) if problem.meta_index is None else problem.meta_index
    parts = {
        TRUSTED if dataset.trusted_index is not None else HELD_OUT: meta,
        REPEATED: problem.repeats,
    }
    known = [problem.train_index, problem.validation_index, *parts.values()]
    parts[DROPPED] = np.setdiff1d(np.arange(len(rows)), np.concatenate(known))
    for reason, index in parts.items():
        for position in index.tolist():
            file = "" if files is None else files[position]
            yield int(rows[position]), file, reason
    for reason, others in dataset.unused:
        for row in others.tolist():
            yield row, "", reason
