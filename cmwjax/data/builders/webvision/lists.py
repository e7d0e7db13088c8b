"""What WebVision's text files say: its synsets, and every image with its label.

The files are those of the archive `info.tar`. `synsets.txt` has one line per class,
`n01440764 tench, Tinca tinca`: the 1000 synsets of ILSVRC-2012 in ascending order. A
training list has one line per image, `google/q0001/NAME.jpg 0`: the path below the
data set's folder and the class, from 0 on. The validation list names files alone.
"""

import tarfile
from pathlib import Path

import numpy as np

from cmwjax.data.builders.lists import Listing, check_unique, read_lines

NUM_SYNSETS = 1000
FOLDER, ARCHIVE = "info", "info.tar"


def read_text(folder: Path, name: str) -> str | None:
    """A file of `info/`, unpacked or out of `info.tar`; None if there is neither.

    Args:
      folder: the folder with the data set.
      name: name of the file, for example 'synsets.txt'.

    Raises:
      ValueError: if `info.tar` is damaged or the file is not text.
    """
    path = folder / FOLDER / name
    try:
        if path.is_file():
            return path.read_text(encoding="utf-8")
        path = folder / ARCHIVE
        if not path.is_file():
            return None
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(f"{FOLDER}/{name}"):
                    file = archive.extractfile(member)
                    return file.read().decode("utf-8") if file else None
    except (tarfile.TarError, UnicodeDecodeError) as error:
        raise ValueError(
            f"data: {path} is damaged or incomplete ({error}): download {ARCHIVE} "
            "again."
        ) from error
    return None


def read_synsets(text: str, *, file: Path, expected: tuple[str, ...]) -> list[str]:
    """Names of the classes, after a check that they are those of ILSVRC-2012.

    Args:
      text: content of `synsets.txt`.
      file: what errors call it.
      expected: the synsets in order, as `ilsvrc2012.synsets()` gives them.

    Returns:
      The words of each line, for example 'tench, Tinca tinca'.

    Raises:
      ValueError: if there are not 1000 lines, or one has another synset.
    """
    lines = text.rstrip().split("\n")
    if len(lines) != len(expected):
        raise ValueError(
            f"data: {file} has {len(lines)} lines, but WebVision 1.0 has "
            f"{len(expected)} classes: restore it from {ARCHIVE} of WebVision 1.0."
        )
    names = []
    for number, (line, synset) in enumerate(zip(lines, expected, strict=True), start=1):
        given, _, name = line.strip().partition(" ")
        if given != synset:
            raise ValueError(
                f"data: {file}, line {number}, has the synset {given!r}, but class "
                f"{number - 1} is {synset}: restore it from {ARCHIVE} of WebVision 1.0."
            )
        names.append(name.strip() or synset)
    return names


def read_list(
    text: str, *, file: Path, num_classes: int, source: str | None = None
) -> Listing:
    """The images of the first classes, in the order of a list.

    Args:
      text: content of the list.
      file: what errors call it.
      num_classes: take the images of the first `num_classes` of the 1000 classes.
      source: the folder that paths of a training list begin with, 'google' or
        'flickr'; None for a list of files.

    Raises:
      ValueError: if a line is not a path and a label, a label is not in [0, 1000), an
        image is listed twice, or none is left. The whole list is checked, also the
        classes that are not taken.
    """
    path = r"[^/\s]+" if source is None else rf"{source}/[^/\s]+/[^/\s]+"
    example = "val000001.jpg 0" if source is None else f"{source}/q0001/NAME.jpg 0"
    remedy = f"restore it from {ARCHIVE}"
    names: list[str] = []
    labels: list[int] = []
    for number, match in read_lines(
        text,
        rf"({path})\s+(\d{{1,9}})",
        file=file,
        what=f"a path and a label such as {example!r}",
        remedy=remedy,
    ):
        label = int(match[2])
        if label >= NUM_SYNSETS:
            raise ValueError(
                f"data: {file}, line {number}, has label {label}, outside [0, "
                f"{NUM_SYNSETS}): restore it from {ARCHIVE} of WebVision 1.0."
            )
        if label < num_classes:
            names.append(match[1])
            labels.append(label)
    if not names:
        raise ValueError(
            f"data: {file} lists no image of the first {num_classes} classes: restore "
            f"it from {ARCHIVE}."
        )
    check_unique(names, file=file, remedy=remedy)
    return Listing(names, np.array(labels, np.int32))
