"""Images that could not be read: each is listed once, in `unreadable.csv`."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from numpy.typing import NDArray

from cmwjax.data.decode import REASONS
from cmwjax.files import UNREADABLE, read_csv, write_csv

COLUMNS = ("set", "row", "file", "reason")


class Listed(NamedTuple):
    """What the owner calls the samples of a set."""

    rows: NDArray[np.int64]  # [N]
    files: Sequence[str]  # N


class Unreadable:
    """The list of a run. Sources add to it, `write` brings it to its file.

    A run that goes on takes up the file that it finds; each image has one line, however
    often it was met.

    Args:
      workdir: folder of the run.
      sets: all sets by name, in the same order on all processes.
      left_out: images that are in none of them any more, with set, row, file, reason.

    Raises:
      ValueError: if the file is that of an earlier version.
    """

    def __init__(
        self,
        workdir: Path,
        sets: Mapping[str, Listed],
        left_out: Iterable[tuple[str, int, str, str]] = (),
    ) -> None:
        self._left_out = set(left_out)
        self._path, self._sets = workdir / UNREADABLE, sets
        self._names = tuple(sets)
        self._known: set[tuple[str, int, str, str]] = set()
        self._new: list[tuple[int, int, int]] = []  # set, position, reason as numbers
        if self._path.exists():
            for line in read_csv(self._path, COLUMNS):
                name, row, file, reason = (line[column] for column in COLUMNS)
                self._known.add((name, int(row), file, reason))

    def add(self, name: str, index: np.ndarray, codes: np.ndarray) -> None:
        """Notes the images of set `name` whose code, see `decode.load`, is not 0."""
        for position in np.flatnonzero(codes):
            self._new.append(
                (self._names.index(name), int(index[position]), int(codes[position]))
            )

    def rows(self, name: str) -> set[int]:
        """The rows of set `name` that are listed, as of the last `write`."""
        return {row for one, row, _, _ in self._known if one == name}

    def write(self) -> None:
        """Writes what is new on any process; all have to call it."""
        new = _of_all_processes(np.array(self._new, np.int32).reshape(-1, 3))
        self._new = []
        lines = set(self._left_out)
        for number, position, code in new:
            name = self._names[number]
            listed = self._sets[name]
            row, file = int(listed.rows[position]), listed.files[position]
            lines.add((name, row, file, REASONS[code]))
        if lines <= self._known:
            return
        self._known |= lines
        if jax.process_index() == 0:
            logging.warning(
                "%d images could not be read; %s lists them.",
                len(self._known),
                self._path,
            )
            write_csv(self._path, COLUMNS, sorted(self._known))


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
