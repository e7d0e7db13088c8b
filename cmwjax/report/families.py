"""What classes and families of a run are called, by its files."""

import json
import os
from pathlib import Path
from typing import Any

from cmwjax.core.families import family_names, with_sizes
from cmwjax.files import PROBLEM, WEIGHTING, read_json


def read_family_names(
    run_dir: str | os.PathLike,
    num_families: int,
    *,
    sizes: bool = False,
    short: bool = False,
) -> list[str]:
    """Names of the families of a run, by its files.

    Args:
      run_dir: folder of the run.
      num_families: K.
      sizes: whether to add the mean size of a family's classes, where the run's
        weighting file tells it.
      short: as for `family_names`.
    """
    borders = read_borders(run_dir)
    names = family_names(num_families, borders, short=short)
    centres = _read_centres(run_dir) if sizes and borders is None else []
    return with_sizes(names, centres if len(centres) == num_families else None)


def read_borders(run_dir: str | os.PathLike) -> list[float] | None:
    """Where the ranges of targets of a regression meet, if the run's files tell."""
    return _read_problem(run_dir).get("borders")


def read_classes(run_dir: str | os.PathLike) -> list[str]:
    """Names of the classes in the order of the data; [] if no file of the run tells."""
    return _read_problem(run_dir).get("classes", [])


def _read_problem(run_dir: str | os.PathLike) -> dict[str, Any]:
    return read_json(Path(run_dir) / PROBLEM)


def _read_centres(run_dir: str | os.PathLike) -> list[float]:
    path = Path(run_dir) / WEIGHTING
    if not path.is_file():
        return []
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return json.loads((file.metadata() or {}).get("centres", "null")) or []
