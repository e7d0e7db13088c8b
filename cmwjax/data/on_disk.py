"""Image sets that stay on disk: labels in memory, images read one by one when needed.

Two kinds, told apart by the name of the data: `folder:PATH` with files as
`PATH/train/CLASS/NAME.jpg`, in folders below CLASS or not, or without `train` where
there is no test set, or those that a list `PATH.csv` names, from its own folder on; and
`tfds:NAME`, a data set prepared by TensorFlow Datasets in the array_record format
(`NAME` may also be the folder that it was prepared in).
"""

import hashlib
import importlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from numpy.typing import NDArray
from PIL import Image

from cmwjax.core.labels import check_labels
from cmwjax.data import csv_files
from cmwjax.data.csv_labels import class_numbers
from cmwjax.files import expanded, replacing

Reader = Callable[[int], bytes]  # position -> file; pickled to worker processes

# Formats that Pillow knows but cannot read, or leaves to another program.
UNREAD = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")
OWN_BUILDERS = ("webvision",)  # `NAME/CONFIG`: packages in `cmwjax.data.builders`
CHUNK = 256  # records read at once when only their labels are wanted


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


def is_name(name: str | os.PathLike[str]) -> bool:
    """Whether data of this name stay on disk."""
    name = os.fspath(name)
    return name.startswith(("folder:", "tfds:")) or name.split("/")[0] in OWN_BUILDERS


def is_list(name: str | os.PathLike[str]) -> bool:
    """Whether data of this name are a list of files."""
    name = os.fspath(name)
    is_table = Path(name).suffix.lower() in csv_files.READERS
    return name.startswith("folder:") and is_table


def load(
    name: str | os.PathLike[str],
    *,
    tests: Sequence[str],
    text: str = "",
    label: str = "",
) -> Encoded:
    """Opens a data set and reads its labels.

    Those of a TFDS data set are kept beside it as `labels-SPLIT.npy`, for without this
    file all images must be read along with them.

    Args:
      name: see above.
      tests: names of the test sets, folders or splits beside 'train'.
      text: of a list of files, the column that names them.
      label: of a list of files, the column of labels; see `csv_files.read_csv`.

    Raises:
      ValueError: if there is no such data set, one of its sets or features is missing,
        it has another format, or a test set has classes that are not trained.
    """
    name = os.fspath(name)
    if name in ("folder:", "tfds:"):
        raise ValueError(
            f"data {name!r} names nothing: write folder:PATH or tfds:NAME as "
            "config.data.name."
        )
    if is_list(name):
        return _from_list(Path(name.removeprefix("folder:")), tests, text, label)
    if name.startswith("folder:"):
        return _from_folder(expanded(name.removeprefix("folder:")), tests)
    if name.startswith("tfds:"):
        return _from_tfds(_builder(name.removeprefix("tfds:")), tests)
    package, _, config = name.partition("/")
    own = importlib.import_module(f"cmwjax.data.builders.{package}")
    return _from_tfds(own.prepare(config), tests)


def splits(name: str) -> tuple[str, ...]:
    """The splits of a data set `tfds:NAME`.

    Raises:
      ValueError: if there is no such data set.
    """
    short = name.removeprefix("tfds:")
    return tuple(_builder(short).info.splits) if short else ()


### Folders


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


def _from_folder(folder: Path, tests: Sequence[str]) -> Encoded:
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
                found = images if path.suffix.lower() in suffixes else others
                found.append("/".join((*below, name)))

    look((), frozenset())
    return images, others


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
        "%d files in %s are left out, for their names are none of images in a class: "
        "%s.",
        len(others),
        in_text(folder),
        ", ".join(f"{number} of {suffix}" for suffix, number in counts.most_common(5)),
    )


def _from_list(path: Path, tests: Sequence[str], text: str, label: str) -> Encoded:
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
    absent = [name for name in names if not (path.parent / name).is_file()]
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


### TensorFlow Datasets


class RecordReader(NamedTuple):
    """Reads the images of a split, as they are encoded."""

    directory: str
    split: str

    def __call__(self, position: int) -> bytes:
        """The image at a position."""
        return _source(self.directory, self.split)[position]["image"]


@lru_cache
def _source(directory: str, split: str) -> Any:
    """The records of a split, opened once in every process."""
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder_from_directory(directory)
    return builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})


class _Keys(Sequence[str]):
    """What TFDS calls the records of a split: 'FILE__NUMBER', as its `tfds_id`."""

    def __init__(self, shards: Sequence[Any]) -> None:
        self._files = [Path(shard.filename).name for shard in shards]
        self._ends = np.cumsum([shard.examples_in_shard for shard in shards])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, position: Any) -> Any:
        shard = np.searchsorted(self._ends, position, side="right")
        begin = self._ends[shard - 1] if shard else 0
        return f"{self._files[shard]}__{position - begin}"


def _builder(name: str) -> Any:
    import tensorflow_datasets as tfds

    if expanded(name).is_dir():
        return tfds.builder_from_directory(expanded(name))
    try:
        return tfds.builder(name)
    except tfds.core.DatasetNotFoundError:  # which lists all that there are
        raise ValueError(
            f"data: TFDS knows no data set {name!r}: correct config.data.name, or "
            "prepare it first and set TFDS_DATA_DIR."
        ) from None


def _from_tfds(builder: Any, tests: Sequence[str]) -> Encoded:
    info, directory = builder.info, str(builder.data_path)
    for split in ("train", *tests):
        if split not in info.splits:
            raise ValueError(
                f"data: {info.full_name} in {directory} has the splits "
                f"{sorted(info.splits)}, but no {split!r}: prepare it, or correct "
                "config.data.stream.tests."
            )
    missing = {"image", "label"} - set(info.features)
    if missing or not hasattr(info.features["label"], "names"):
        raise ValueError(
            f"data: {info.full_name} has the features {sorted(info.features)}: an "
            "'image' and a 'label' of a class are needed."
        )
    if info.file_format.value != "array_record":
        raise ValueError(
            f"data: {directory} is in the format {info.file_format.value!r}, which has "
            "no random access: prepare it with file_format='array_record'."
        )
    names = (info.metadata or {}).get("class_names") or info.features["label"].names
    sets = {}
    for split in ("train", *tests):
        labels = _labels(directory, split, info.splits[split].num_examples)
        labels = check_labels(labels, len(names), name=f"{info.full_name}: {split}")
        keys = _Keys(info.splits[split].file_instructions)
        sets[split] = EncodedSet(RecordReader(directory, split), labels, keys)
    identity = f"{info.full_name} {[len(part.labels) for part in sets.values()]}"
    return Encoded(sets.pop("train"), sets, tuple(names), identity)


def _labels(directory: str, split: str, size: int) -> NDArray[np.int32]:
    path = Path(directory, f"labels-{split}.npy")
    if path.is_file():
        labels = np.load(path)
        if labels.shape == (size,):
            return labels
    logging.info("Reading the labels of %d images of %s, once.", size, directory)
    source, labels = _source(directory, split), np.zeros(size, np.int32)
    for start in range(0, size, CHUNK):
        chunk = list(range(start, min(start + CHUNK, size)))
        labels[chunk] = [record["label"] for record in source.__getitems__(chunk)]
    try:
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.save(file, labels)
    except OSError as error:
        logging.warning("Labels cannot be kept in %s: %s", path, error)
    return labels
