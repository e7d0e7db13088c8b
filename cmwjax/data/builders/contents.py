"""What the folder of a data set was found to hold, before anything is written."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from numpy.typing import NDArray

from cmwjax.data.builders import images


class Part(NamedTuple):
    """Images of a split that were found in one place; a split has one or more."""

    source: str  # what the progress of the preparation calls it
    names: list[str]
    labels: NDArray[np.int32]  # [N]
    read: images.Read
    columns: Mapping[str, Sequence[Any] | NDArray[Any]] = {}  # further features, [N]


class Contents(NamedTuple):
    """All that a folder holds of a data set."""

    splits: dict[str, list[Part]]
    class_names: list[str]  # [C]
    checksums: dict[str, str]  # SHA-256 of every list that was read, by name
    # Other labels of the images in 'train', int32 [N], by the name that
    # `config.data.labels` chooses them by.
    label_sets: Mapping[str, NDArray[np.int32]] = {}


def checksum(text: str) -> str:
    """SHA-256 of a list, by which a prepared set knows what it was made of."""
    return hashlib.sha256(text.encode()).hexdigest()


def report(
    name: str,
    splits: Mapping[str, Sequence[Part]],
    class_names: Sequence[str],
    published: Mapping[str, int],
) -> None:
    """One line a split on how much there is; a warning if that was not published.

    Args:
      name: what the line calls the data set, 'webvision/mini' for one.
      splits: the images by split.
      class_names: C names.
      published: number of images by split, as far as it is known.
    """
    for split, parts in splits.items():
        labels = np.concatenate([part.labels for part in parts])
        expected = published.get(split, len(labels))
        empty = np.setdiff1d(np.arange(len(class_names)), labels)
        line = f"{name} {split}: {len(labels)} images"
        if len(labels) == expected and not empty.size:
            logging.info("%s.", line)
            continue
        if len(labels) != expected:
            line += f" instead of the {expected} published"
        if empty.size:
            line += f"; {empty.size} of {len(class_names)} classes have none, for "
            line += f"example class {empty[0]} ({class_names[empty[0]]})"
        logging.warning("%s.", line)
