"""The user's folder with Clothing1M: its lists of keys, its labels, and its images.

A key is the path of an image, `images/0/00/NAME.jpg`. `noisy_label_kv.txt` and
`clean_label_kv.txt` have lines of a key and a label; which images train, validate and
test is in the four `*_key_list.txt`. An image may have labels of both kinds: these
pairs say how often, and how, the noisy ones are wrong.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmwjax.data.builders import images, lists
from cmwjax.data.builders.contents import Contents, Part, checksum, report

CLASSES = (
    *("T-Shirt", "Shirt", "Knitwear", "Chiffon", "Sweater", "Hoodie", "Windbreaker"),
    *("Jacket", "Downcoat", "Suit", "Shawl", "Dress", "Vest", "Underwear"),
)
CONFIGS = ("full", "pairs")
NOISY, CLEAN = "noisy_label_kv.txt", "clean_label_kv.txt"
KEY_LISTS = {  # of the splits of 'full'
    "train": "noisy_train_key_list.txt",
    "clean_train": "clean_train_key_list.txt",
    "validation": "clean_val_key_list.txt",
    "test": "clean_test_key_list.txt",
}
CLEAN_SPLITS = ("clean_train", "validation", "test")
PUBLISHED = {
    "full": {
        "train": 1_000_000,
        "clean_train": 47_570,
        "validation": 14_313,
        "test": 10_526,
    },
    "pairs": {"train": 24_637, "validation": 14_313, "test": 10_526},
}
NO_LABEL = -1  # in the feature `noisy_label`, of an image without
KEY = r"images/[^/\s]+/[^/\s]+/[^/\s]+"
EXAMPLE_KEY = "images/0/00/NAME.jpg"
REMEDY = "restore it from Clothing1M"

INSTRUCTIONS = """\
Clothing1M has to be asked for, as https://github.com/Cysu/noisy_label says, and
downloaded by hand, into one folder:

  noisy_label_kv.txt, clean_label_kv.txt          key and label of each image
  noisy_train_key_list.txt                        1,000,000 keys
  clean_train_key_list.txt                           47,570
  clean_val_key_list.txt                             14,313
  clean_test_key_list.txt                            10,526
  0.tar to 9.tar, or unpacked to images/          images/0/00/NAME.jpg and so on

The lists may be in annotations/, and the archives in images/. A prepared copy needs as
much space as the images."""


def read(folder: Path, config: str) -> Contents:
    """Checks a folder and finds every image in it.

    Args:
      folder: where the user has put Clothing1M.
      config: 'full', to train on the noisy labels; or 'pairs', to train on the images
        of `clean_train_key_list.txt` that have labels of both kinds.

    Returns:
      Of 'full' the splits 'train', 'clean_train', 'validation' and 'test', of 'pairs'
      three of these, with 'noisy' labels of 'train' as a label set.

    Raises:
      ValueError: if anything is absent, damaged, or not as documented.
    """
    texts = _texts(folder)
    file = {name: place(folder, name) for name in texts}
    noisy = _labels(texts[NOISY], file[NOISY])
    clean = _labels(texts[CLEAN], file[CLEAN])
    keys = {split: _keys(texts[name], file[name]) for split, name in KEY_LISTS.items()}
    labels = {
        split: _labels_of(
            keys[split],
            clean if split in CLEAN_SPLITS else noisy,
            file=file[name],
            labels_file=file[CLEAN if split in CLEAN_SPLITS else NOISY],
        )
        for split, name in KEY_LISTS.items()
    }
    if config == "pairs":
        both = [i for i, key in enumerate(keys["clean_train"]) if key in noisy]
        if not both:
            raise ValueError(
                f"data: no image of {file[KEY_LISTS['clean_train']]} has a label in "
                f"{file[NOISY]}, so there are no pairs: {REMEDY}."
            )
        keys["train"] = [keys["clean_train"][i] for i in both]
        labels["train"] = labels["clean_train"][both]
        del keys["clean_train"]
    splits, given = {}, {}
    for split, of_split in keys.items():
        given[split] = np.array([noisy.get(key, NO_LABEL) for key in of_split])
        part = Part(
            split,
            of_split,
            labels[split],
            _images(folder, of_split, KEY_LISTS[split]),
            {"noisy_label": given[split]},
        )
        splits[split] = [part]
    report(f"clothing1m/{config}", splits, CLASSES, PUBLISHED[config])
    sets = {"noisy": given["train"].astype(np.int32)} if config == "pairs" else {}
    checksums = {name: checksum(text) for name, text in texts.items()}
    return Contents(splits, list(CLASSES), checksums, sets)


def place(folder: Path, name: str) -> Path:
    """Where a list is, or should be."""
    inside = folder / "annotations" / name
    return inside if inside.is_file() else folder / name


def read_text(folder: Path, name: str) -> str | None:
    """One of the lists; None if there is none.

    Args:
      folder: where the user has put Clothing1M.
      name: of the list.

    Raises:
      ValueError: if it is not text.
    """
    return lists.read_text(place(folder, name), REMEDY)


def _texts(folder: Path) -> dict[str, str]:
    """The lists, all of them."""
    texts, absent = {}, []
    for name in (NOISY, CLEAN, *KEY_LISTS.values()):
        text = read_text(folder, name)
        if text is None:
            absent.append(name)
        else:
            texts[name] = text
    if not texts:
        raise ValueError(f"data: there is no Clothing1M in {folder}.\n\n{INSTRUCTIONS}")
    if absent:
        raise ValueError(
            f"data: {folder} has no {', '.join(absent)}: put them there, from "
            "Clothing1M."
        )
    return texts


def _labels(text: str, file: Path) -> dict[str, int]:
    """Label by key."""
    labels: dict[str, int] = {}
    for number, match in lists.read_lines(
        text,
        rf"({KEY})\s+(\d{{1,9}})",
        file=file,
        what=f"a key and a label such as '{EXAMPLE_KEY} 0'",
        remedy=REMEDY,
    ):
        key, label = match[1], int(match[2])
        if label >= len(CLASSES):
            raise ValueError(
                f"data: {file}, line {number}, has label {label}, outside [0, "
                f"{len(CLASSES)}): {REMEDY}."
            )
        if labels.setdefault(key, label) != label:
            raise ValueError(
                f"data: {file}, line {number}, gives {key} the label {label}, and "
                f"another line {labels[key]}: {REMEDY}."
            )
    return labels


def _keys(text: str, file: Path) -> list[str]:
    keys = [
        match[1]
        for _, match in lists.read_lines(
            text,
            f"({KEY})",
            file=file,
            what=f"a key such as {EXAMPLE_KEY!r}",
            remedy=REMEDY,
        )
    ]
    if not keys:
        raise ValueError(f"data: {file} lists no image: {REMEDY}.")
    lists.check_unique(keys, file=file, remedy=REMEDY)
    return keys


def _labels_of(
    keys: Sequence[str], labels: dict[str, int], *, file: Path, labels_file: Path
) -> NDArray[np.int32]:
    for key in keys:
        if key not in labels:
            raise ValueError(
                f"data: {file} lists {key}, which has no label in {labels_file}: "
                f"{REMEDY}."
            )
    return np.array([labels[key] for key in keys], np.int32)


def _images(folder: Path, keys: Sequence[str], listed: str) -> images.Read:
    names = [key.removeprefix("images/") for key in keys]
    first = names[0].split("/")[0]
    for root in (folder / "images", folder):
        if (root / first).is_dir():
            return images.from_folder(root, names, listed=listed)
    archives = [*sorted(folder.glob("*.tar")), *sorted(folder.glob("images/*.tar"))]
    if not archives:
        raise ValueError(
            f"data: {folder} has neither the archives 0.tar to 9.tar nor the folder "
            f"images/ with its images.\n\n{INSTRUCTIONS}"
        )
    return images.from_archives(archives, names, listed=listed)
