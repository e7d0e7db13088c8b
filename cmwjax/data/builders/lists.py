"""Lists of images, as data sets bring them along in text files."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Listing(NamedTuple):
    """The images of one list."""

    names: list[str]  # as the list writes them
    labels: NDArray[np.int32]  # [N]


def read_text(path: Path, remedy: str) -> str | None:
    """A text file; None if there is none.

    Args:
      path: the file.
      remedy: what the error says to do.

    Raises:
      ValueError: if it is not text.
    """
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else None
    except UnicodeDecodeError as error:
        raise ValueError(f"data: {path} is not text ({error}): {remedy}.") from error


def read_lines(
    text: str, pattern: str, *, file: Path, what: str, remedy: str, first: int = 1
) -> Iterator[tuple[int, re.Match[str]]]:
    """The lines of a list, and their parts.

    Args:
      text: content of the list; white space behind a line does not matter.
      pattern: what each line is to match, as a whole.
      file: what the error calls the list.
      what: what it says that a line should be, with an example.
      remedy: what it says to do.
      first: number of the first line.

    Yields:
      Number of a line, and its match; nothing for an empty list.

    Raises:
      ValueError: for a line that does not match.
    """
    well_formed = re.compile(rf"{pattern}\s*").fullmatch
    if not text.strip():
        return
    for number, line in enumerate(text.rstrip().split("\n"), start=first):
        match = well_formed(line)
        if match is None:
            raise ValueError(
                f"data: {file}, line {number}, is {line[:100]!r}, not {what}: {remedy}."
            )
        yield number, match


def check_unique(names: Sequence[str], *, file: Path, remedy: str) -> None:
    """Refuses a list with an image that comes twice.

    Args:
      names: of the images.
      file: what the error calls the list.
      remedy: what it says to do.

    Raises:
      ValueError: if one comes twice.
    """
    if len(set(names)) == len(names):
        return
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(
                f"data: {file} lists {name} twice ({len(names) - len(set(names))} "
                f"lines are repeated): {remedy}."
            )
        seen.add(name)
