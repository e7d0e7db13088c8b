"""The user's folder with WebFG-496: three data sets from the web, and clean images.

`web-bird/train/CLASS/NAME.jpg` are images that a search for the class found, and
`web-bird/val/CLASS/NAME.jpg` the test images of CUB-200-2011; `web-aircraft` and
`web-car` have those of FGVC-Aircraft and Stanford Cars. Their training sets, which
people have labelled, give a clean meta set where they are in the same folder.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmwjax.data.builders import images, lists
from cmwjax.data.builders.contents import Contents, Part, checksum, report

META = "meta"  # the optional split of clean images
META_PER_CLASS = 10  # the first ones of each class, as the authors of CMW-Net take them
FOLDERS = {"train": "train", "test": "val"}
SUFFIXES = (".jpg", ".jpeg", ".png")

INSTRUCTIONS = """\
WebFG-496 has to be downloaded by hand and unpacked, into one folder, as
https://github.com/NUST-Machine-Intelligence-Laboratory/weblyFG-dataset says:

  web-bird.tar.gz      unpacks to web-bird/      200 classes, 18,388 + 5,794 images
  web-aircraft.tar.gz  unpacks to web-aircraft/  100 classes, 13,503 + 3,333 images
  web-car.tar.gz       unpacks to web-car/       196 classes, 21,448 + 8,041 images

Only the one that is trained on is needed. Optional, for a clean meta set, unpacked in
the same folder, the data set that the test images are from:

  CUB_200_2011/            for birds, https://www.vision.caltech.edu/datasets/cub_200_2011/
  fgvc-aircraft-2013b/     https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/
  cars_train/ and devkit/  Stanford Cars

A prepared copy needs as much space as the images."""


class Clean(NamedTuple):
    """Images that people labelled, in the order of their list."""

    folder: str  # that their paths start from
    names: list[str]
    classes: list[str]  # name of the class of each


class Web(NamedTuple):
    """One of the three data sets."""

    num_classes: int
    published: dict[str, int]  # images by split
    lists: tuple[str, ...]  # files that say which images are clean
    clean: Callable[[Path], Clean]


def read(folder: Path, config: str) -> Contents:
    """Checks a folder and finds every image of a data set in it.

    Args:
      folder: where the user has put WebFG-496.
      config: 'bird', 'aircraft' or 'car'.

    Returns:
      The splits 'train', 'test' and, if its images are there, 'meta'; images in the
      order of their classes and names, clean ones in that of their list.

    Raises:
      ValueError: if anything is absent, damaged, or not as documented.
    """
    web, root = WEBS[config], folder / f"web-{config}"
    if not root.is_dir():
        raise ValueError(
            f"data: there is no WebFG-496 in {folder}, no folder web-{config}/."
            f"\n\n{INSTRUCTIONS}"
        )
    found = {split: _class_folders(root, name) for split, name in FOLDERS.items()}
    class_names = list(found["train"])
    if len(class_names) != web.num_classes:
        raise ValueError(
            f"data: {root / 'train'} has {len(class_names)} folders of classes, but "
            f"there are {web.num_classes}: unpack web-{config}.tar.gz again."
        )
    for other in set(found["test"]) ^ set(class_names):
        raise ValueError(
            f"data: {root} has {other!r} in one of train/ and val/ alone: unpack "
            f"web-{config}.tar.gz again."
        )
    splits = {
        split: [_part(root, name, found[split])] for split, name in FOLDERS.items()
    }
    checksums = {
        f"web-{config}/{FOLDERS[split]}": checksum(_as_list(found[split]))
        for split in FOLDERS
    }
    if optional(folder, config):
        splits[META] = [_meta(folder, web, class_names)]
        for name in web.lists:
            checksums[name] = checksum(_known_by(folder, name) or "")
    report(f"webfg496/{config}", splits, class_names, web.published)
    return Contents(splits, class_names, checksums)


def read_text(folder: Path, name: str) -> str | None:
    """A list, or the images of a folder, a line each; None if it has gone.

    Args:
      folder: where the user has put WebFG-496.
      name: below it, as in the checksums.

    Raises:
      ValueError: as `read`.
    """
    if not name.startswith("web-"):
        return _known_by(folder, name)
    if not (folder / name).is_dir():
        return None
    root, _, split = name.partition("/")
    return _as_list(_class_folders(folder / root, split))


def optional(folder: Path, config: str) -> dict[str, Path]:
    """The split of clean images, and their list, if all of it is there."""
    files = [folder / name for name in WEBS[config].lists]
    return {META: files[0]} if all(path.is_file() for path in files) else {}


def _known_by(folder: Path, name: str) -> str | None:
    """What a list is known by; not all of them are text."""
    path = folder / name
    return path.read_bytes().hex() if path.is_file() else None


def _as_list(found: dict[str, list[str]]) -> str:
    return "\n".join(f"{c}/{file}" for c, files in found.items() for file in files)


def _class_folders(root: Path, name: str) -> dict[str, list[str]]:
    """Images by folder, both in the order of their names."""
    place = root / name
    if not place.is_dir():
        raise ValueError(
            f"data: {root} has no folder {name}/: unpack {root.name}.tar.gz again."
        )
    found = {}
    for folder in sorted(path for path in place.iterdir() if path.is_dir()):
        files = sorted(path.name for path in folder.iterdir())
        files = [f for f in files if f.lower().endswith(SUFFIXES) and f[0] != "."]
        if not files:
            raise ValueError(
                f"data: {folder} has no images: unpack {root.name}.tar.gz again."
            )
        found[folder.name] = files
    return found


def _part(root: Path, name: str, found: dict[str, list[str]]) -> Part:
    names = [f"{name}/{c}/{file}" for c, files in found.items() for file in files]
    labels = np.repeat(np.arange(len(found)), [len(files) for files in found.values()])
    read_image = images.from_folder(root, names, listed=f"{root.name}/{name}")
    return Part(name, names, labels.astype(np.int32), read_image)


def _meta(folder: Path, web: Web, class_names: Sequence[str]) -> Part:
    """The first clean images of each class."""
    clean = web.clean(folder)
    number = _numbers(clean, class_names, folder / web.lists[0])
    counts = np.zeros(len(class_names), int)
    names, labels = [], []
    for name, their_class in zip(clean.names, clean.classes, strict=True):
        label = number[their_class]
        if counts[label] < META_PER_CLASS:
            counts[label] += 1
            names.append(name)
            labels.append(label)
    read_image = images.from_folder(folder / clean.folder, names, listed=web.lists[0])
    return Part(META, names, np.array(labels, np.int32), read_image)


def _numbers(clean: Clean, class_names: Sequence[str], file: Path) -> dict[str, int]:
    """Class by its name among clean images, which is written in another way."""
    ours = {_letters(name): label for label, name in enumerate(class_names)}
    theirs = dict.fromkeys(clean.classes)
    number = {name: ours.get(_letters(name)) for name in theirs}
    unknown = [name for name, label in number.items() if label is None]
    if unknown or len(set(number.values())) < len(class_names):
        missing = next(iter(unknown), None)
        what = f"class {missing!r} has no folder in train/"
        if missing is None:
            covered = set(number.values())
            lone = next(n for i, n in enumerate(class_names) if i not in covered)
            what = f"no image is of the class of the folder {lone!r}"
        raise ValueError(
            f"data: in {file}, {what}: unpack the whole of it, or remove the clean "
            "images to do without."
        )
    return {name: label for name, label in number.items() if label is not None}


def _letters(name: str) -> str:
    """A name by its letters and digits, without a number before it."""
    return re.sub(r"[^a-z0-9]", "", re.sub(r"^\d+\.", "", name.lower()))


def _lines(folder: Path, name: str, pattern: str, what: str) -> list[tuple[str, ...]]:
    """The parts of each line of a list."""
    remedy = "restore it, or remove the clean images to do without"
    text = lists.read_text(folder / name, remedy) or ""
    found = lists.read_lines(
        text, pattern, file=folder / name, what=what, remedy=remedy
    )
    parts = [match.groups() for _, match in found]
    if not parts:
        raise ValueError(f"data: {folder / name} lists no image: {remedy}.")
    return parts


def _cub(folder: Path) -> Clean:
    """Those to train on of CUB-200-2011."""
    by, root = {}, "CUB_200_2011"
    for name, pattern, what in (
        ("images.txt", r"(\d+) (\S+/\S+)", "a number and a path"),
        ("train_test_split.txt", r"(\d+) ([01])", "a number and 0 or 1"),
    ):
        pairs = _lines(folder, f"{root}/{name}", pattern, what)
        by[name] = {key: value for key, value in pairs}
    trains = by["train_test_split.txt"]
    names = [path for key, path in by["images.txt"].items() if trains.get(key) == "1"]
    return Clean(f"{root}/images", names, [name.split("/")[0] for name in names])


def _aircraft(folder: Path) -> Clean:
    """Those to train on of FGVC-Aircraft, by their variants."""
    what = "a number and a variant such as '0787226 Boeing 717'"
    pairs = _lines(folder, WEBS["aircraft"].lists[0], r"(\d+) (\S.*?)", what)
    names = [f"{number}.jpg" for number, _ in pairs]
    return Clean("fgvc-aircraft-2013b/data/images", names, [c for _, c in pairs])


def _cars(folder: Path) -> Clean:
    """Those to train on of Stanford Cars."""
    from scipy.io import loadmat

    annotations, meta = (folder / name for name in WEBS["car"].lists)
    try:
        cars = loadmat(annotations, squeeze_me=True)["annotations"]
        class_names = loadmat(meta, squeeze_me=True)["class_names"]
        names = [str(name) for name in cars["fname"]]
        numbers: NDArray[np.int64] = cars["class"].astype(int) - 1
        classes = [str(class_names[number]) for number in numbers]
    except Exception as error:  # SciPy raises whatever it likes of a damaged file
        raise ValueError(
            f"data: {annotations} and {meta.name} cannot be read ({error}): restore "
            "them, or remove the clean images to do without."
        ) from error
    return Clean("cars_train", names, classes)


WEBS = {
    "bird": Web(
        200,
        {"train": 18_388, "test": 5_794, META: 2_000},
        ("CUB_200_2011/images.txt", "CUB_200_2011/train_test_split.txt"),
        _cub,
    ),
    "aircraft": Web(
        100,
        {"train": 13_503, "test": 3_333, META: 1_000},
        ("fgvc-aircraft-2013b/data/images_variant_train.txt",),
        _aircraft,
    ),
    "car": Web(
        196,
        {"train": 21_448, "test": 8_041, META: 1_960},
        ("devkit/cars_train_annos.mat", "devkit/cars_meta.mat"),
        _cars,
    ),
}
