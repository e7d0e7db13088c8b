"""Arrays of NumPy archives, and one clear error for a file that cannot be read."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np


def read_arrays(
    path: Path, keys: Iterable[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Reads some arrays of an archive.

    Args:
      path: an `.npz` file of plain arrays.
      keys: the arrays to read; those that are not there are left out.

    Returns:
      The arrays by key, and the names of everything in the archive.

    Raises:
      ValueError: if the file cannot be read.
    """
    try:
        # Opened here: np.load leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = list(archive.files)
            return {key: archive[key] for key in keys if key in names}, names
    # A damaged archive raises any of a dozen types, from zipfile, zlib and numpy.
    except Exception as error:
        raise ValueError(
            f"data: {path} cannot be read as a NumPy archive of plain arrays "
            f"({error}): write it anew with numpy.savez."
        ) from error
