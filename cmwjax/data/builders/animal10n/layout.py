"""The user's folder with ANIMAL-10N: its images, or its binaries, and what they say.

The owners hand out two forms. Images are `training/LABEL_NUMBER.jpg` and the same in
`testing/`; the label is in the name of the file and nowhere else. The binaries
`data_batch_1.bin` and `test_batch.bin` have records of 12,296 bytes: number and label
of an image, four bytes each, the first the most significant, and its red, green and
blue pixels, 64 rows of 64 of each. Of a folder with both, images are read.
"""

import io
import os
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmwjax.data.builders import images
from cmwjax.data.builders.contents import Contents, Part, checksum, report
from cmwjax.data.builders.lists import check_unique

CLASSES = (
    *("cat", "lynx", "wolf", "coyote", "cheetah"),
    *("jaguar", "chimpanzee", "orangutan", "hamster", "guinea pig"),
)
PUBLISHED = {"train": 50_000, "test": 5_000}
FOLDERS = {"train": "training", "test": "testing"}
BINARIES = {"train": "data_batch_*.bin", "test": "test_batch.bin"}
SIDE = 64  # pixels
RECORD = np.dtype(
    [("number", ">u4"), ("label", ">u4"), ("pixels", "u1", (3, SIDE, SIDE))]
)
# What may lie about in a folder of images.
STRAY = re.compile(r"\..*|Thumbs\.db|desktop\.ini", re.IGNORECASE)
WELL_NAMED = re.compile(r"(\d{1,9})_[^/]*\.(?:jpe?g|png)", re.IGNORECASE)

INSTRUCTIONS = """\
ANIMAL-10N has to be asked for and downloaded by hand, into one folder, from
https://dm.kaist.ac.kr/datasets/animal-10n/
Either of its two forms will do, unpacked:

  training/  50,000 images LABEL_NUMBER.jpg, for example training/0_123.jpg
  testing/    5,000 images, named alike

  data_batch_1.bin  614,800,000 bytes  the same 50,000 images, in records
  test_batch.bin     61,480,000 bytes

A prepared copy needs space as well: about 0.2 GB of the images, 0.5 GB of the
binaries."""


def read(folder: Path, config: str = "") -> Contents:
    """Checks a folder and finds every image in it.

    Args:
      folder: where the user has put ANIMAL-10N.
      config: there is one alone.

    Returns:
      The splits 'train' and 'test'; images in the order of their names, or of the
      records.

    Raises:
      ValueError: if anything is absent, damaged, or not as documented.
    """
    del config
    root = _root(folder)
    if root is not None:
        splits = {split: [_images(root, name)] for split, name in FOLDERS.items()}
    else:
        splits = {split: _binaries(folder, split) for split in BINARIES}
    report("animal10n", splits, CLASSES, PUBLISHED)
    checksums = {
        part.source: checksum(_as_list(part))
        for parts in splits.values()
        for part in parts
    }
    return Contents(splits, list(CLASSES), checksums)


def read_text(folder: Path, name: str) -> str | None:
    """The images of a folder or file, a line each; None if it has gone.

    Args:
      folder: where the user has put ANIMAL-10N.
      name: 'training', 'testing', or name of a binary.

    Raises:
      ValueError: as `read`.
    """
    if name.endswith(".bin"):
        path = folder / name
        return _as_list(_binary(path)) if path.is_file() else None
    root = _root(folder)
    if root is None or not (root / name).is_dir():
        return None
    return _as_list(_images(root, name))


def place(folder: Path, name: str) -> Path:
    """Where a folder or file of images is."""
    return (_root(folder) or folder) / name


def _as_list(part: Part) -> str:
    """What a split is known by, as there is no list of it."""
    pairs = zip(part.names, part.labels, strict=True)
    return "\n".join(f"{name} {label}" for name, label in pairs)


def _root(folder: Path) -> Path | None:
    """The folder that `training/` or `testing/` is in: the user's, or one in it."""
    for root in (folder, *sorted(folder.glob("*/"))):
        if any((root / name).is_dir() for name in FOLDERS.values()):
            return root
    return None


def _images(root: Path, name: str) -> Part:
    """The images of one of the two folders."""
    inside = root / name
    if not inside.is_dir():
        raise ValueError(
            f"data: {root} has no folder {name}/: unpack the images of ANIMAL-10N "
            "there again."
        )
    with os.scandir(inside) as entries:
        is_file = {entry.name: entry.is_file() for entry in entries}
    files = sorted(name for name in is_file if not STRAY.fullmatch(name))
    labels = []
    for file in files:
        match = WELL_NAMED.fullmatch(file)
        if match is None or not is_file[file]:
            raise ValueError(
                f"data: {inside / file} is not called LABEL_NUMBER.jpg, such as "
                "0_123.jpg, by which its class is known: restore its name, or remove "
                "it."
            )
        if int(match[1]) >= len(CLASSES):
            raise ValueError(
                f"data: {inside / file} has label {match[1]} in its name, outside [0, "
                f"{len(CLASSES)}): restore its name from ANIMAL-10N."
            )
        labels.append(int(match[1]))
    if not files:
        raise ValueError(
            f"data: {inside} has no images: unpack those of ANIMAL-10N there again."
        )
    return Part(
        name,
        [f"{name}/{file}" for file in files],
        np.array(labels, np.int32),
        images.from_folder(root, [f"{name}/{file}" for file in files], listed=name),
    )


def _binaries(folder: Path, split: str) -> list[Part]:
    pattern = BINARIES[split]
    paths = sorted(folder.glob(pattern), key=lambda path: (len(path.name), path.name))
    if not paths:
        others = [p for p in BINARIES.values() if p != pattern and any(folder.glob(p))]
        if others:
            raise ValueError(
                f"data: {folder} has {others[0]}, but no {pattern}: put both there."
            )
        raise ValueError(f"data: there is no ANIMAL-10N in {folder}.\n\n{INSTRUCTIONS}")
    parts = [_binary(path) for path in paths]
    names = [name for part in parts for name in part.names]
    check_unique(names, file=folder / pattern, remedy="download it again")
    return parts


def _binary(path: Path) -> Part:
    """The records of one file."""
    size = path.stat().st_size
    if not size or size % RECORD.itemsize:
        raise ValueError(
            f"data: {path} is damaged or incomplete: its {size:,} bytes are no records "
            f"of {RECORD.itemsize:,}; download it again."
        )
    records = np.memmap(path, RECORD, mode="r")
    labels = records["label"]
    outside = np.flatnonzero(labels >= len(CLASSES))
    if outside.size:
        raise ValueError(
            f"data: {path}, record {outside[0]}, has label {labels[outside[0]]}, "
            f"outside [0, {len(CLASSES)}): download it again."
        )
    # Named after the file too, as training and test images are numbered separately.
    names = [f"{path.stem.split('_')[0]}/{number}" for number in records["number"]]

    def read_record(position: int) -> bytes:
        return _png(records["pixels"][position])

    return Part(path.name, names, labels.astype(np.int32), read_record)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """An image `[3, H, W]` as a file, without loss."""
    from PIL import Image  # here, as only binaries need it

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(file, "PNG")
    return file.getvalue()
