"""Arrays of NumPy archives, and one clear error for a file that cannot be read."""

import zipfile
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
        reason = error if zipfile.is_zipfile(path) else "it is none, or damaged"
        raise ValueError(
            f"data: {path} cannot be read as a NumPy archive of plain arrays "
            f"({reason}): write it anew with numpy.savez."
        ) from error
