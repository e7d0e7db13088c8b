"""Images that could not be read: each is listed once, in `unreadable.csv`."""

import csv
from pathlib import Path

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from cmwjax.data.decode import REASONS
from cmwjax.files import UNREADABLE, replacing

COLUMNS = ("set", "index", "reason")


class Unreadable:
    """The list of a run. Sources add to it, `write` brings it to its file.

    A run that goes on takes up the file that it finds; each image has one line, however
    often it was met.

    Args:
      workdir: folder of the run.
      sets: names of all sets, in the same order on all processes.
    """

    def __init__(self, workdir: Path, sets: tuple[str, ...]) -> None:
        self._path, self._sets = workdir / UNREADABLE, sets
        self._known: set[tuple[str, int, str]] = set()
        self._new: list[tuple[int, int, int]] = []  # set, index and reason as numbers
        if self._path.exists():
            with self._path.open(newline="") as file:
                for row in csv.DictReader(file):
                    self._known.add((row["set"], int(row["index"]), row["reason"]))

    def add(self, name: str, index: np.ndarray, codes: np.ndarray) -> None:
        """Notes the images of set `name` whose code, see `decode.load`, is not 0."""
        for position in np.flatnonzero(codes):
            self._new.append(
                (self._sets.index(name), int(index[position]), int(codes[position]))
            )

    def write(self) -> None:
        """Writes what is new on any process; all have to call it."""
        new = _of_all_processes(np.array(self._new, np.int32).reshape(-1, 3))
        self._new = []
        rows = {(self._sets[s], int(i), REASONS[code]) for s, i, code in new}
        if rows <= self._known:
            return
        self._known |= rows
        if jax.process_index() == 0:
            logging.warning(
                "%d images could not be read; %s lists them.",
                len(self._known),
                self._path,
            )
            with replacing(self._path) as path, path.open("w", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows([COLUMNS, *sorted(self._known)])


def _of_all_processes(rows: np.ndarray) -> np.ndarray:
    """Rows `[n, 3]` of every process, one after the other; n may differ."""
    if jax.process_count() == 1:
        return rows
    counts = np.ravel(multihost_utils.process_allgather(np.array(len(rows))))
    if not counts.any():
        return rows
    padded = np.zeros((counts.max(), 3), np.int32)
    padded[: len(rows)] = rows
    gathered = multihost_utils.process_allgather(padded).reshape(-1, *padded.shape)
    parts = [part[:n] for part, n in zip(gathered, counts, strict=True)]
    return np.concatenate(parts)
