"""Labels as they are written in files: classes by their names, and targets."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FLOAT32_MAX = float(np.finfo(np.float32).max)


def class_numbers(
    labels: Sequence[str],
    names: Sequence[str] | None = None,
    *,
    name: str = "labels",
    lines: Sequence[int | str] = (),
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Numbers classes in the order of their names.

    Args:
      labels: the class of each sample by name, N.
      names: of the classes 0, 1, ...; None: the labels that occur, sorted by value if
        all of them are numbers, else by alphabet.
      name: what an error calls the labels.
      lines: of the file, where each label stands, N; (): an error tells its position.

    Returns:
      Classes in [0, C), int32 `[N]`, and the C names.

    Raises:
      ValueError: for a label that is not among the names; without names, for one number
        that is written in two ways, as 1 and 1.0, or one among numbers that is not
        finite.
    """
    if names is None:
        names = _names_of_classes(labels, name, lines)
    numbers = {label: c for c, label in enumerate(names)}
    for position, label in enumerate(labels):
        if label not in numbers:
            raise ValueError(
                f"{name}: {label!r} {_where(position, lines)} is none of the classes "
                f"{list(names)}: correct the label, or add the class."
            )
    return np.array([numbers[label] for label in labels], np.int32), tuple(names)


def _names_of_classes(
    labels: Sequence[str], name: str, lines: Sequence[int | str]
) -> list[str]:
    """The labels that occur, in order; each class must be written in one way."""
    first: dict[str, int] = {}
    for position, label in enumerate(labels):
        first.setdefault(label, position)
    numeric = all(map(is_number, first))
    written: dict[float, str] = {}
    for label, position in first.items():
        if not is_number(label):
            continue
        here = f"{name}: {label!r} {_where(position, lines)}"
        if numeric and not math.isfinite(float(label)):
            raise ValueError(
                f"{here} is no finite number, but all labels are numbers: correct it, "
                "or remove the row."
            )
        other = written.setdefault(float(label), label)
        if other != label:
            raise ValueError(
                f"{here} is the number {other!r} {_where(first[other], lines)}, and "
                "would be another class: write it in one way."
            )
    return sorted(first, key=lambda label: (float(label) if numeric else 0, label))


def _where(position: int, lines: Sequence[int | str]) -> str:
    return f"in line {lines[position]}" if lines else f"at position {position}"


def target_numbers(
    labels: Sequence[str], *, name: str = "labels", lines: Sequence[int | str] = ()
) -> NDArray[np.float64]:
    """The targets of a regression.

    Args:
      labels: as written, N.
      name: what an error calls them.
      lines: as for `class_numbers`.

    Returns:
      Finite numbers within float32's range, float64 `[N]`.

    Raises:
      ValueError: for a label that is no finite number of float32.
    """
    values = [number(label) for label in labels]
    for position, value in enumerate(values):
        if value is None:
            raise ValueError(
                f"{name}: {labels[position]!r} {_where(position, lines)} is no finite "
                "number, as the target of a regression must be: correct it, or set "
                "config.task='classification'."
            )
    return np.array(values, np.float64)


def number(cell: str) -> float | None:
    """The cell's number, if it is one that float32 holds."""
    if not is_number(cell):
        return None
    value = float(cell)
    return value if abs(value) <= FLOAT32_MAX else None


def is_number(cell: str) -> bool:
    """Whether it is a number at all, be it NaN or infinite."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # 1_000 is one in Python alone
