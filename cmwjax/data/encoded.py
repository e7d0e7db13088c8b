"""Sets of images as files: labels in memory, images read one by one when needed."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Reader = Callable[[int], bytes]  # position -> file; pickled to worker processes


class EncodedSet(NamedTuple):
    """Images of one split."""

    read: Reader
    labels: NDArray[np.int32]  # [N]
    names: Sequence[str]  # N: files below the folder, or the keys that TFDS gives


class Encoded(NamedTuple):
    """A training set and at least one test set, as files."""

    train: EncodedSet
    tests: dict[str, EncodedSet]  # the first one is *the* test set
    class_names: tuple[str, ...]
    identity: str  # changes when the data do
    archive: Path | None = (
        None  # further labels of 'train', as `label_sets.read` has it
    )

    def with_more(self, other: "Encoded", name: str) -> "Encoded":
        """The same with the training images of another set behind its own.

        Args:
          other: a set of these classes, or some of them.
          name: of the other one, which its files are listed under.

        Raises:
          ValueError: if it has another class.
        """
        unknown = [c for c in other.class_names if c not in self.class_names]
        if unknown:
            raise ValueError(
                f"data: {name} has images of {unknown[0]!r}, which is none of the "
                f"classes {list(self.class_names)}: leave them out, or correct it."
            )
        numbers = np.array([self.class_names.index(c) for c in other.class_names])
        mine, theirs = self.train, other.train
        train = EncodedSet(
            JoinedReader(mine.read, theirs.read, len(mine.labels)),
            np.append(mine.labels, numbers[theirs.labels]).astype(np.int32),
            (*mine.names, *(f"{name}/{file}" for file in theirs.names)),
        )
        return self._replace(train=train, identity=f"{self.identity}\n{other.identity}")

    def subset(self, positions: NDArray[np.int64]) -> "Encoded":
        """The same with fewer training images, which are numbered anew."""
        reader, labels, names = self.train
        train = EncodedSet(
            PartReader(reader, positions),
            labels[positions],
            tuple(names[i] for i in positions),
        )
        return self._replace(train=train)


class PartReader(NamedTuple):
    """Reads some images of a larger set."""

    read: Reader
    positions: NDArray[np.int64]

    def __call__(self, position: int) -> bytes:
        """The image at a position of the part."""
        return self.read(self.positions[position])


class JoinedReader(NamedTuple):
    """Reads the images of one set, and then those of another one."""

    first: Reader
    second: Reader
    size: int  # of the first

    def __call__(self, position: int) -> bytes:
        """The image at a position of both."""
        if position < self.size:
            return self.first(position)
        return self.second(position - self.size)


class FileReader(NamedTuple):
    """Reads files below a folder."""

    folder: Path
    names: Sequence[str]

    def __call__(self, position: int) -> bytes:
        """Content of a file.

        Raises:
          FileNotFoundError: if it has gone.
        """
        return (self.folder / self.names[position]).read_bytes()


def file_of(read: Reader, position: int) -> tuple[Path, str] | None:
    """The folder and the name of an image that is a file of its own; else None."""
    while not isinstance(read, FileReader):
        if isinstance(read, PartReader):
            read, position = read.read, read.positions[position]
        elif isinstance(read, JoinedReader):
            behind = position >= read.size
            position -= read.size * behind
            read = read.second if behind else read.first
        else:
            return None
    return read.folder, read.names[position]


def are_copies(
    read: Reader, positions: NDArray[Any], of: NDArray[Any]
) -> NDArray[np.bool_]:
    """Whether images are files of the same bytes as one of others.

    Only files of equal size are read. What is no file of its own, or has gone, is the
    copy of none.

    Args:
      read: reads the images.
      positions: of those that may be copies, `[N]`.
      of: positions of the others.

    Returns:
      bool `[N]`.
    """

    def size_of(position: int) -> int | None:
        file = file_of(read, position)
        try:
            return None if file is None else (file[0] / file[1]).stat().st_size
        except OSError:
            return None

    def content_of(position: int) -> bytes | None:
        try:
            return hashlib.sha256(read(position)).digest()
        except OSError:
            return None

    others: dict[int | None, list[int]] = {}  # by their sizes
    for position in of.tolist():
        others.setdefault(size_of(position), []).append(position)
    others.pop(None, None)
    contents: dict[int, set[bytes | None]] = {}
    same = np.zeros(len(positions), bool)
    for i, position in enumerate(positions.tolist()):
        size = size_of(position)
        if size is None or size not in others:
            continue
        if size not in contents:
            contents[size] = {content_of(other) for other in others[size]} - {None}
        same[i] = content_of(position) in contents[size]
    return same
