"""The user's folder with WebVision 1.0: what has to be where, and what is there.

The layout is that of the data set's own archives, packed or unpacked: `info/`,
`google/q0001/...`, `flickr/q0001/...` and `val_images_256/` for the images resized to
256 pixels; the originals have the same paths, and `val_images/`. Everything is checked
before anything is prepared.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmwjax.data.builders import images
from cmwjax.data.builders.contents import Contents, Part, checksum, report
from cmwjax.data.builders.webvision import ilsvrc2012, lists

ILSVRC2012 = "ilsvrc2012"  # the optional split
SOURCES = ("google", "flickr", "validation", ILSVRC2012)


class Variant(NamedTuple):
    """A selection of WebVision."""

    num_classes: int  # the first ones
    sources: tuple[str, ...]  # of its training images


VARIANTS = {
    "full": Variant(1000, ("google", "flickr")),
    "mini": Variant(50, ("google",)),
}

# Images of the published lists, as far as we know them exactly.
PUBLISHED = {
    "full": {"validation": 50_000, ILSVRC2012: 50_000},
    "mini": {"train": 65_944, "validation": 2_500, ILSVRC2012: 2_500},
}

# Bytes of google, info and val_images_256: 16,980,316,160, 190,914,560, 873,574,400.
INSTRUCTIONS = """\
WebVision 1.0 has to be downloaded by hand, into one folder, from
https://data.vision.ee.ethz.ch/cvl/webvision/download.html
(WebVision Dataset 1.0: "Resized Images (small version)" and "Metadata"):

  info.tar                 0.2 GB       lists and labels; unpacks to info/
  google_resized_256.tar   17 GB        unpacks to google/
  flickr_resized_256.tar   about 30 GB  unpacks to flickr/; not for 'mini'
  val_images_256.tar       0.9 GB       unpacks to val_images_256/

Optional, as a second test set, from https://image-net.org/download-images:

  ILSVRC2012_img_val.tar   6.7 GB       or unpacked to ILSVRC2012_img_val/ or
                                        imagenet/val/, with or without class folders

The archives may stay packed, or be unpacked there with `tar -xf`. Images of original
size (google/, flickr/, val_images/) work as well. A prepared copy needs space as well:
about 1.2 GB for 'mini', 50 GB for 'full'."""


def read(folder: Path, config: str) -> Contents:
    """Checks a folder and finds every image of a variant in it.

    Args:
      folder: where the user has put WebVision.
      config: 'full' or 'mini'.

    Returns:
      The splits 'train', 'validation' and, if its images are there, 'ilsvrc2012'.

    Raises:
      ValueError: if anything is absent, damaged, or not as documented.
    """
    variant = VARIANTS[config]
    texts = _texts(folder, variant)
    file = {name: folder / lists.FOLDER / name for name in texts}
    class_names = lists.read_synsets(
        texts["synsets.txt"], file=file["synsets.txt"], expected=ilsvrc2012.synsets()
    )[: variant.num_classes]

    train = []
    for source in variant.sources:
        name = _train_list(source)
        listing = lists.read_list(
            texts[name],
            file=file[name],
            num_classes=variant.num_classes,
            source=source,
        )
        read_image = _training_images(folder, source, listing.names)
        train.append(_part(source, listing, read_image))
    name = "val_filelist.txt"
    listing = lists.read_list(
        texts[name], file=file[name], num_classes=variant.num_classes
    )
    read_image = _validation_images(folder, listing.names)
    splits = {
        "train": train,
        "validation": [_part("validation", listing, read_image)],
    }

    place = ilsvrc2012.find(folder)
    if place is not None:
        listing, read_image = ilsvrc2012.read(
            folder, place, num_classes=variant.num_classes
        )
        splits[ILSVRC2012] = [_part(ILSVRC2012, listing, read_image)]
    report(f"webvision/{config}", splits, class_names, PUBLISHED[config])
    checksums = {name: checksum(text) for name, text in texts.items()}
    return Contents(splits, class_names, checksums)


def optional(folder: Path, config: str) -> dict[str, Path]:
    """The split that a folder may do without, and where it has it."""
    del config  # both have it
    place = ilsvrc2012.find(folder)
    return {} if place is None else {ILSVRC2012: place}


def _part(source: str, listing: lists.Listing, read_image: images.Read) -> Part:
    number = np.full(len(listing.names), SOURCES.index(source))
    return Part(source, *listing, read_image, {"source": number})


def _train_list(source: str) -> str:
    return f"train_filelist_{source}.txt"


def _texts(folder: Path, variant: Variant) -> dict[str, str]:
    """The text files, all of them."""
    texts, absent = {}, []
    train_lists = map(_train_list, variant.sources)
    for name in ("synsets.txt", *train_lists, "val_filelist.txt"):
        text = lists.read_text(folder, name)
        if text is None:
            absent.append(f"{lists.FOLDER}/{name}")
        else:
            texts[name] = text
    if not texts:
        raise ValueError(f"data: there is no WebVision in {folder}.\n\n{INSTRUCTIONS}")
    if absent:
        raise ValueError(
            f"data: {folder} has no {', '.join(absent)}: unpack {lists.ARCHIVE} there "
            "again, or download it again."
        )
    return texts


def _training_images(folder: Path, source: str, names: Sequence[str]) -> images.Read:
    listed = f"{lists.FOLDER}/{_train_list(source)}"
    # train_images_256 is the organizers' own code's name for the place.
    for root in (folder, folder / "train", folder / "train_images_256"):
        if (root / source).is_dir():
            return images.from_folder(root, names, listed=listed)
    archives = sorted(folder.glob(f"{source}*.tar"))
    if not archives:
        raise ValueError(
            f"data: {folder} has neither {source}_resized_256.tar nor the folder "
            f"{source}/ with its images.\n\n{INSTRUCTIONS}"
        )
    return images.from_archives(archives, names, listed=listed)


def _validation_images(folder: Path, names: Sequence[str]) -> images.Read:
    listed = f"{lists.FOLDER}/val_filelist.txt"
    for root in (folder / "val_images_256", folder / "val_images"):
        if root.is_dir():
            return images.from_folder(root, names, listed=listed)
    archives = sorted(folder.glob("val_images*.tar"))
    if not archives:
        raise ValueError(
            f"data: {folder} has neither val_images_256.tar nor the folder "
            f"val_images_256/ with its images.\n\n{INSTRUCTIONS}"
        )
    return images.from_archives(archives, names, listed=listed)
