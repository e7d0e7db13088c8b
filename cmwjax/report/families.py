"""What classes and families are called, in the log and in figures."""

import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cmwjax.files import PROBLEM, WEIGHTING, read_json


def family_names(
    num_families: int, borders: Sequence[float] | None = None, *, short: bool = False
) -> list[str]:
    """Names of the families, in ascending order.

    Args:
      num_families: K.
      borders: of a regression, the targets at which one range ends and the next begins,
        ascending, in the units of the data; None: families are classes of like size.
      short: ranges alone, as "below 94", where it is clear that they are of targets.

    Returns:
      K names. If there are several families, but not one for each range, they have
      numbers.
    """
    if num_families == 1:
        return ["all classes" if borders is None else "all targets"]
    if borders is None and num_families == 2:
        return ["small classes", "large classes"]
    if borders is None and num_families == 3:
        return ["small classes", "moderate classes", "large classes"]
    if borders is None or len(borders) != num_families - 1:
        return [f"family {k + 1}" for k in range(num_families)]
    ends = _apart(borders)
    inner = [f"{low} to {high}" for low, high in itertools.pairwise(ends)]
    ranges = [f"below {ends[0]}", *inner, f"from {ends[-1]}"]
    return ranges if short else [f"targets {name}" for name in ranges]


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
    if len(centres) != num_families:
        return names
    pairs = zip(names, centres, strict=True)
    return [f"{name} (~{size:.0f} samples each)" for name, size in pairs]


def _apart(numbers: Sequence[float]) -> list[str]:
    """Distinct numbers in as few digits as tell them apart, but at least six."""
    for digits in range(6, 18):
        texts = [f"{number:.{digits}g}" for number in numbers]
        if len(set(texts)) == len(texts):
            break
    return texts


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
