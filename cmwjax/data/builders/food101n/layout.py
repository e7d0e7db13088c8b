"""The user's folder with Food-101N: its lists, its images, and Food-101's to test with.

`meta/imagelist.tsv` has a line for each image, `CLASS/NAME.jpg` below `images/`; its
class is what was searched for. `meta/verified_train.tsv` and `meta/verified_val.tsv`
say of some whether a person agreed, 1 or 0. The first line of each file names its
columns. Images to test with are those that Food-101 tests with, `food-101/`, in which
`meta/test.txt` lists them without a suffix.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import logging
from numpy.typing import NDArray

from cmwjax.data.builders import images, lists
from cmwjax.data.builders.contents import Contents, Part, checksum, report

NUM_CLASSES = 101
CONFIGS = ("full", "unverified")
CLASS_LIST, IMAGE_LIST = "meta/classes.txt", "meta/imagelist.tsv"
VERIFIED = {
    "verified": "meta/verified_train.tsv",
    "validation": "meta/verified_val.tsv",
}
TEST_LIST = "food-101/meta/test.txt"
PUBLISHED = {"full": {"train": 310_009, "test": 25_250}, "unverified": {"test": 25_250}}
RIGHT, WRONG, UNVERIFIED = 1, 0, -1  # the feature `verification`
# Share of the verified images that the list of all images may lack: one is known to.
STRANGERS = 0.01
PATH = r"[^/\s]+/[^/\s]+"
REMEDY = "restore it from Food-101N"

INSTRUCTIONS = """\
Food-101N has to be downloaded by hand, into one folder, and unpacked there, from
https://kuanghuei.github.io/Food-101N/ (or Kaggle):

  Food-101N_release.zip  310,009 images; unpacks to images/ and meta/, also in a folder
                         Food-101N_release/

Its test images are those of Food-101, unpacked in the same folder, from
https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/:

  food-101.tar.gz        5 GB; unpacks to food-101/, of which 25,250 images are needed

A prepared copy needs as much space as the images."""


def read(folder: Path, config: str) -> Contents:
    """Checks a folder and finds every image in it.

    Args:
      folder: where the user has put Food-101N, and Food-101.
      config: 'full', or 'unverified' to train without the images that were verified.

    Returns:
      The splits 'train', with images in the order of the list; 'verified' and
      'validation', those that a person said are right; and, if Food-101 is there,
      'test'.

    Raises:
      ValueError: if anything is absent, damaged, or not as documented.
    """
    texts = _texts(folder)
    root = _root(folder)
    class_names = _class_names(texts[CLASS_LIST], root / CLASS_LIST)
    number = {name: label for label, name in enumerate(class_names)}

    names = _image_list(texts[IMAGE_LIST], root / IMAGE_LIST)
    labels = _labels_of(names, number, root / IMAGE_LIST)
    listed, said = set(names), {}
    splits = {}
    for split, file in VERIFIED.items():
        verdicts = _verdicts(texts[file], root / file)
        _warn_of_strangers(verdicts, listed, root / file)
        known = {name: verdict for name, verdict in verdicts.items() if name in listed}
        right = [name for name, verdict in known.items() if verdict == RIGHT]
        if not right:
            raise ValueError(
                f"data: {root / file} says of no image that it is right: {REMEDY}."
            )
        of_right = _labels_of(right, number, root / file)
        splits[split] = [_part(root, split, right, of_right, known)]
        said |= known
    kept = np.array([config == "full" or name not in said for name in names])
    if not kept.any():
        raise ValueError(
            f"data: all images of {root / IMAGE_LIST} were verified, and none is left "
            "to train on: choose 'full'."
        )
    taken = [name for name, keep in zip(names, kept, strict=True) if keep]
    train = _part(root, "train", taken, labels[kept], said)
    splits = {"train": [train], **splits}
    if TEST_LIST in texts:
        splits["test"] = [_test(folder, texts[TEST_LIST], number)]
    report(f"food101n/{config}", splits, class_names, PUBLISHED[config])
    checksums = {name: checksum(text) for name, text in texts.items()}
    return Contents(splits, class_names, checksums)


def read_text(folder: Path, name: str) -> str | None:
    """One of the lists; None if there is none.

    Args:
      folder: where the user has put Food-101N.
      name: of the list, with its folder.

    Raises:
      ValueError: if it is not text.
    """
    return lists.read_text(place(folder, name), REMEDY)


def place(folder: Path, name: str) -> Path:
    """Where a list is, or should be."""
    return (folder if name == TEST_LIST else _root(folder)) / name


def optional(folder: Path, config: str) -> dict[str, Path]:
    """The test set, and where it is, if it is."""
    del config  # both have it
    file = folder / TEST_LIST
    return {"test": file} if file.is_file() else {}


def _root(folder: Path) -> Path:
    inside = folder / "Food-101N_release"
    return inside if inside.is_dir() else folder


def _texts(folder: Path) -> dict[str, str]:
    """The lists: all of Food-101N's, and Food-101's if it is there."""
    texts, absent = {}, []
    for name in (CLASS_LIST, IMAGE_LIST, *VERIFIED.values()):
        text = read_text(folder, name)
        if text is None:
            absent.append(name)
        else:
            texts[name] = text
    if not texts:
        raise ValueError(f"data: there is no Food-101N in {folder}.\n\n{INSTRUCTIONS}")
    if absent:
        raise ValueError(
            f"data: {_root(folder)} has no {', '.join(absent)}: unpack "
            "Food-101N_release.zip there again."
        )
    test = read_text(folder, TEST_LIST)
    return texts if test is None else {**texts, TEST_LIST: test}


def _body(text: str, header: str, file: Path) -> str:
    """A list without its first line, which names the columns."""
    first, _, rest = text.partition("\n")
    if first.split() != header.split():
        raise ValueError(
            f"data: {file}, line 1, is {first[:100]!r}, not {header!r}: {REMEDY}."
        )
    return rest


def _lines(
    text: str, header: str, pattern: str, *, file: Path, what: str
) -> Iterator[tuple[str, ...]]:
    """The parts of each line behind the first."""
    for _, match in lists.read_lines(
        _body(text, header, file), pattern, file=file, what=what, remedy=REMEDY, first=2
    ):
        yield match.groups()


def _class_names(text: str, file: Path) -> list[str]:
    what = "a class such as 'apple_pie'"
    names = [n for (n,) in _lines(text, "class_name", r"(\S+)", file=file, what=what)]
    if len(names) != NUM_CLASSES:
        raise ValueError(
            f"data: {file} has {len(names)} classes, but Food-101N has {NUM_CLASSES}: "
            f"{REMEDY}."
        )
    lists.check_unique(names, file=file, remedy=REMEDY)
    return names


def _image_list(text: str, file: Path) -> list[str]:
    what = "a path such as 'apple_pie/NAME.jpg'"
    header, pattern = "class_name/key", f"({PATH})"
    names = [name for (name,) in _lines(text, header, pattern, file=file, what=what)]
    if not names:
        raise ValueError(f"data: {file} lists no image: {REMEDY}.")
    lists.check_unique(names, file=file, remedy=REMEDY)
    return names


def _verdicts(text: str, file: Path) -> dict[str, int]:
    """What was said of each image, `RIGHT` or `WRONG`, by its path."""
    what = "a path and 0 or 1 such as 'apple_pie/NAME.jpg\\t1'"
    header, pattern = "class_name/key verification_label", rf"({PATH})\s+([01])"
    pairs = list(_lines(text, header, pattern, file=file, what=what))
    lists.check_unique([name for name, _ in pairs], file=file, remedy=REMEDY)
    return {name: int(verdict) for name, verdict in pairs}


def _warn_of_strangers(verdicts: dict[str, int], listed: set[str], file: Path) -> None:
    """A few verified images are not in the list of all, under this class at least."""
    strangers = [name for name in verdicts if name not in listed]
    if not strangers:
        return
    if len(strangers) > max(1, STRANGERS * len(verdicts)):
        raise ValueError(
            f"data: {IMAGE_LIST} lacks {len(strangers)} of the {len(verdicts)} images "
            f"of {file}, for example {strangers[0]}: {REMEDY}, and the list as well."
        )
    logging.warning(
        "%s does not list %d of the images of %s, for example %s: left out.",
        IMAGE_LIST,
        len(strangers),
        file,
        strangers[0],
    )


def _labels_of(
    names: list[str], number: dict[str, int], file: Path
) -> NDArray[np.int32]:
    labels = []
    for name in names:
        label = number.get(name.split("/")[0])
        if label is None:
            raise ValueError(
                f"data: {file} lists {name}, whose class is none of {CLASS_LIST}: "
                f"{REMEDY}."
            )
        labels.append(label)
    return np.array(labels, np.int32)


def _part(
    root: Path,
    split: str,
    names: list[str],
    labels: NDArray[np.int32],
    said: dict[str, int],
) -> Part:
    if not (root / "images").is_dir():
        raise ValueError(
            f"data: {root} has no folder images/ with its images.\n\n{INSTRUCTIONS}"
        )
    listed = VERIFIED.get(split, IMAGE_LIST)
    read_image = images.from_folder(root / "images", names, listed=listed)
    verification = np.array([said.get(name, UNVERIFIED) for name in names])
    return Part(split, names, labels, read_image, {"verification": verification})


def _test(folder: Path, text: str, number: dict[str, int]) -> Part:
    """The images that Food-101 tests with."""
    file = folder / TEST_LIST
    what, remedy = "a path such as 'apple_pie/1011328'", "restore it from Food-101"
    names = [
        f"{match[1]}.jpg"
        for _, match in lists.read_lines(
            text, f"({PATH})", file=file, what=what, remedy=remedy
        )
    ]
    if not names:
        raise ValueError(f"data: {file} lists no image: {remedy}.")
    lists.check_unique(names, file=file, remedy=remedy)
    labels = _labels_of(names, number, file)
    root = folder / "food-101" / "images"
    read_image = images.from_folder(root, names, listed=TEST_LIST)
    verification = np.full(len(names), UNVERIFIED)
    return Part("test", names, labels, read_image, {"verification": verification})
