"""Images in folders: those of a folder for each class, or those that a list names."""

import os
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from absl import logging
from PIL import Image

from cmwjax.data import csv_files
from cmwjax.data.csv_labels import class_numbers
from cmwjax.data.encoded import Encoded, EncodedSet, FileReader

# Formats that Pillow knows but cannot read, or leaves to another program.
UNREAD = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")


def from_folder(folder: Path, tests: Sequence[str]) -> Encoded:
    """The images of a folder with a folder for each class.

    Args:
      folder: has `train` and the test sets; without these, the classes themselves.
      tests: names of the test sets.

    Raises:
      ValueError: as `on_disk.load`.
    """
    train = "train"
    if not tests and not (folder / train).is_dir():
        train = ""  # its classes are in the folder itself
    class_names = _names(folder / train, os.DirEntry.is_dir)
    sets, identity = {}, []
    for split in (train, *tests):
        found = _names(folder / split, os.DirEntry.is_dir)
        unknown = [name for name in found if name not in class_names]
        if unknown:
            raise ValueError(
                f"data: {folder / split / unknown[0]} is a class that {folder}/train "
                "does not have: move its images, or add some to train on."
            )
        files = []
        for name in found:
            images, others = _images(folder / split / name)
            files += [(f"{name}/{file}", class_names.index(name)) for file in images]
            _warn_of_others(folder / split / name, others)
        _warn_of_others(folder / split, _names(folder / split, os.DirEntry.is_file))
        if not files:
            raise ValueError(
                f"data: {folder / split} has no images: they go into CLASS/NAME.jpg "
                "below it."
            )
        names, labels = zip(*files, strict=True)
        reader = FileReader(folder / split, names)
        paths = tuple(f"{split}/{name}" if split else name for name in names)
        sets[split] = EncodedSet(reader, np.array(labels, np.int32), paths)
        identity += names
    own = sets.pop(train)
    shown = tuple(map(in_text, class_names))
    return Encoded(own, sets, shown, "\n".join(identity))


def _images(folder: Path) -> tuple[list[str], list[str]]:
    """Images in a folder and in those below it, and what else is there.

    Paths from the folder, in alphabetical order of their parts; nothing hidden.
    """
    suffixes = suffixes_of_images()
    images, others = [], []

    def look(below: tuple[str, ...], seen: frozenset[str]) -> None:
        here = folder.joinpath(*below)
        real = os.path.realpath(here)
        if real in seen:  # a link to where it came from
            return
        for name in _names(here, lambda entry: True):
            path = here / name
            if path.is_dir():
                look((*below, name), seen | {real})
            else:
                is_image = path.suffix.lower() in suffixes and not _is_special(path)
                found = images if is_image else others
                found.append("/".join((*below, name)))

    look((), frozenset())
    return images, others


def _is_special(path: Path) -> bool:
    """Whether it is a pipe, a socket or a device, which might never end."""
    try:
        mode = path.stat().st_mode
    except OSError:  # will be listed as what cannot be read
        return False
    return not stat.S_ISREG(mode)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


@lru_cache
def suffixes_of_images() -> frozenset[str]:
    """Suffixes of files that Pillow reads, as `.jpg`."""
    known = Image.registered_extensions()
    return frozenset(
        suffix
        for suffix, form in known.items()
        if form in Image.OPEN and form not in UNREAD
    )


def in_text(name: str | Path) -> str:
    """A file's name as text, whatever bytes it is made of."""
    return os.fsencode(name).decode(errors="replace")


def _warn_of_others(folder: Path, others: Sequence[str]) -> None:
    """Says what of a folder is left out, for it changes how large a class is."""
    if not others:
        return
    counts = Counter(Path(name).suffix.lower() or "no suffix" for name in others)
    logging.warning(
        "%s: left out %d of its files, no images in the folder of a class: %s.",
        in_text(folder),
        len(others),
        ", ".join(f"{number} of {suffix}" for suffix, number in counts.most_common(5)),
    )


def from_list(path: Path, tests: Sequence[str], text: str, label: str) -> Encoded:
    """The images that a table names, by their paths from its own folder on.

    Args:
      path: the table.
      tests: must be empty.
      text: the column of paths.
      label: the column of labels; see `csv_files.read_csv`.

    Raises:
      ValueError: as `on_disk.load`.
    """
    if tests:
        raise ValueError(
            f"data: {path} is a list of files to train on, but config.data.stream."
            f"tests={tuple(tests)!r}: set it to ()."
        )
    if not text:
        raise ValueError(
            f"data: which column of {path} names the files? Set config.data.csv.text, "
            "after the colon of configs/own_data.py: image=COLUMN."
        )
    listed = csv_files.read_csv(path, text=text, label=label)
    labels, class_names = class_numbers(
        listed.labels, name=f"data: {path}", lines=listed.lines
    )
    names = tuple(map(str, listed.inputs))
    absent = [name for name in names if not _is_file(path.parent / name)]
    if len(absent) == len(names):
        raise ValueError(
            f"data: no file that {path} lists in {text!r} is there, as "
            f"{path.parent / names[0]}: paths are from the folder of the list on."
        )
    train = EncodedSet(FileReader(path.parent, names), labels, names)
    return Encoded(train, {}, class_names, "\n".join(names))


def _names(folder: Path, wanted: Callable[[os.DirEntry[str]], bool]) -> list[str]:
    """What is in a folder and not hidden, in alphabetical order."""
    if not folder.is_dir():
        raise ValueError(
            f"data: there is no folder {folder}: put images into "
            "train/CLASS/NAME.jpg and, for each test set, TEST/CLASS/NAME.jpg, or "
            "correct config.data.name or config.data.stream.tests."
        )
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if wanted(e) and e.name[0] != ".")
