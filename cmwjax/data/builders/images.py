"""Where the images of a list are: files in a folder, or members of packed archives.

Both ways first make sure that all of them are there. The bytes of an image are handed
on as they are, whatever they may hold: the reader of the prepared data decodes them,
and skips what it cannot decode.
"""

import os
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

Read = Callable[[int], bytes]  # position in the list -> content of the file


def from_folder(root: Path, names: Sequence[str], *, listed: str) -> Read:
    """Reads files below a folder.

    Args:
      root: the folder that the names start from.
      names: paths of the files, with '/'.
      listed: what errors call the list of names.

    Returns:
      A function from position to content.

    Raises:
      ValueError: if files are absent.
    """
    # One listing per folder is much faster than a question per file, of 2.4 million.
    by_folder = defaultdict(list)
    for name in names:
        folder, _, file = name.rpartition("/")
        by_folder[folder].append(file)
    absent = []
    for folder, files in by_folder.items():
        present = _files(root / folder)
        absent += [os.path.join(folder, f) for f in files if f not in present]
    if absent:
        raise ValueError(
            f"data: {len(absent)} of {len(names)} images of {listed} are absent from "
            f"{root}, the first is {absent[0]}: unpack the archive again; it may have "
            "been interrupted, or downloaded in part."
        )
    return lambda position: (root / names[position]).read_bytes()


def from_archives(
    archives: Sequence[Path], names: Sequence[str], *, listed: str
) -> Read:
    """Reads members of `.tar` archives, which stay packed.

    A member belongs to a name if its path ends with it, so it does not matter in which
    folder the archive was made. Only their places in the archive are kept in memory.

    Args:
      archives: the files, uncompressed.
      names: paths, all with the same number of '/'.
      listed: what errors call the list of names.

    Returns:
      A function from position to content.

    Raises:
      ValueError: if an archive is damaged or images are absent.
    """
    depth = names[0].count("/") + 1
    positions = {name: position for position, name in enumerate(names)}
    archive_of = np.full(len(names), -1, np.int16)
    places = np.zeros((len(names), 2), np.int64)  # offset and size
    for number, path in enumerate(archives):
        for member in _members(path):
            name = "/".join(member.name.split("/")[-depth:])
            position = positions.get(name)
            if position is not None:
                archive_of[position] = number
                places[position] = member.offset_data, member.size
    absent = np.flatnonzero(archive_of < 0)
    if absent.size:
        sizes = [f"{path} ({path.stat().st_size:,} bytes)" for path in archives]
        raise ValueError(
            f"data: {len(absent)} of {len(names)} images of {listed} are absent from "
            f"{', '.join(sizes)}, the first is {names[absent[0]]}: the download may be "
            "incomplete; download it again."
        )

    def read(position: int) -> bytes:
        offset, size = map(int, places[position])
        with archives[archive_of[position]].open("rb") as file:
            file.seek(offset)
            return file.read(size)

    return read


def _files(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return set()


def _members(path: Path) -> Iterator[tarfile.TarInfo]:
    """The regular files of an archive."""
    try:
        with tarfile.open(path, "r:") as archive:
            while (member := archive.next()) is not None:
                # Otherwise it keeps a kilobyte for each of a million files.
                archive.members.clear()  # pyrefly: ignore[missing-attribute]
                if member.isfile():
                    yield member
    except tarfile.TarError as error:
        raise ValueError(
            f"data: {path} is damaged or incomplete at {path.stat().st_size:,} bytes "
            f"({error}): download it again."
        ) from error
