"""The validation set of ILSVRC-2012, which has the classes of WebVision.

Its archive holds 50,000 files, `ILSVRC2012_val_00000001.JPEG` and so on, which many
people sort into folders by class. The number in the file's name determines the class,
by the list that TFDS ships, so no folder's name needs to be trusted.
"""

import re
from functools import cache
from pathlib import Path

import numpy as np

from cmwjax.data.builders import images
from cmwjax.data.builders.webvision.lists import Listing

ARCHIVE = "ILSVRC2012_img_val.tar"
FOLDERS = ("imagenet/val", "ILSVRC2012_img_val")
# Which files there should be and their classes; optional. All 50,000 without it.
LIST = "imagenet/meta/val.txt"


@cache
def synsets() -> tuple[str, ...]:
    """The 1000 synsets in order of their classes, 'n01440764' first."""
    return tuple(_shipped("labels.txt"))


@cache
def validation_labels() -> tuple[int, ...]:
    """Class of each validation image in order of their numbers, which start at 1."""
    label_of = {synset: label for label, synset in enumerate(synsets())}
    return tuple(label_of[synset] for synset in _shipped("validation_labels.txt"))


def file_name(number: int) -> str:
    """Name of a validation image, 'ILSVRC2012_val_00000001.JPEG' for 1."""
    return f"ILSVRC2012_val_{number:08d}.JPEG"


def find(folder: Path) -> Path | None:
    """The folder or archive with the validation images, if there is one."""
    places = [folder / name for name in (*FOLDERS, ARCHIVE)]
    return next((place for place in places if place.exists()), None)


def read(folder: Path, place: Path, *, num_classes: int) -> tuple[Listing, images.Read]:
    """The validation images of the first classes, in order of their numbers.

    Args:
      folder: the folder with the data set.
      place: what `find` returned.
      num_classes: number of classes to take.

    Raises:
      ValueError: if images are absent, the archive is damaged, or `LIST` is there and
        is malformed or contradicts the published classes.
    """
    numbers = _expected(folder / LIST)
    labels = [validation_labels()[number - 1] for number in numbers]
    taken = [n for n, label in zip(numbers, labels, strict=True) if label < num_classes]
    if not taken:
        raise ValueError(
            f"data: {folder / LIST} lists no image of the first {num_classes} classes: "
            "restore it, or remove it to expect all images."
        )
    names = [file_name(number) for number in taken]
    kept = np.array([label for label in labels if label < num_classes], np.int32)
    if place.is_file():
        return Listing(names, kept), images.from_archives(
            [place], names, listed="ILSVRC-2012"
        )
    inside = {path.name: path for path in place.glob("*/*.JPEG")}
    paths = [
        inside[name].relative_to(place).as_posix() if name in inside else name
        for name in names
    ]
    return Listing(names, kept), images.from_folder(place, paths, listed="ILSVRC-2012")


def _expected(path: Path) -> list[int]:
    """Numbers of the images that should be there, ascending."""
    published = validation_labels()
    if not path.is_file():
        return list(range(1, len(published) + 1))
    numbers = []
    for line_number, line in enumerate(path.read_text().splitlines(), start=1):
        match = re.fullmatch(r"(?:.*/)?ILSVRC2012_val_(\d{8})\.JPEG\s+(\d{1,4})", line)
        number = int(match[1]) if match else 0
        if match is None or not 1 <= number <= len(published):
            raise ValueError(
                f"data: {path}, line {line_number}, is {line[:100]!r}, not a file and "
                f"its class such as '{file_name(1)} 65': restore or remove the list."
            )
        if int(match[2]) != published[number - 1]:
            raise ValueError(
                f"data: {path}, line {line_number}, gives {file_name(number)} the "
                f"class {match[2]}, but it is {published[number - 1]}: use the order "
                "of synsets.txt, or remove the list."
            )
        numbers.append(number)
    return sorted(set(numbers))


def _shipped(name: str) -> list[str]:
    # Here, because TFDS should be imported by those who need it.
    import tensorflow_datasets as tfds

    path = tfds.core.tfds_path(f"datasets/imagenet2012/{name}")
    return path.read_text().split()
