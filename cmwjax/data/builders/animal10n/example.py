"""A small made-up ANIMAL-10N, in the layout of the real one."""

import os
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmwjax.data.builders.animal10n import layout
from cmwjax.data.builders.pictures import (
    break_some,
    check_ranges,
    draw,
    save,
    with_wrong,
    write_once,
)
from cmwjax.randomness import Purpose, generator


class Example(NamedTuple):
    """What the example is like."""

    # Training images of the rarest and of the most frequent class; the others lie
    # evenly between them, in random order.
    train_per_class: tuple[int, int] = (30, 70)
    test_per_class: int = 20
    wrong: float = 0.2  # share of the training images with the label of another class
    # Training images replaced in turn by an empty file, half a file, an image in CMYK
    # and an image of one pixel; of binaries none.
    broken: int = 4
    binaries: bool = False  # whether it has the form of the binaries
    seed: int = 0


def write_example(
    folder: str | os.PathLike[str],
    settings: Example = Example(),  # noqa: B008  (it cannot be changed)
) -> None:
    """Writes the example; does nothing if it is there already, made in the same way.

    Args:
      folder: a new folder, or an empty one.
      settings: what it is like.

    Raises:
      ValueError: if the folder holds something else, or a setting is out of range.
    """
    check_ranges(settings, (("test_per_class", 1, 1000), ("wrong", 0, 1)))
    write_once(folder, settings, partial(_write, settings=settings))


def _write(folder: Path, settings: Example) -> None:
    random = generator(settings.seed, Purpose.EXAMPLE)
    classes = len(layout.CLASSES)
    counts = np.linspace(*settings.train_per_class, classes).astype(int)
    true = np.repeat(np.arange(classes), random.permutation(counts))
    given = with_wrong(true, classes, settings.wrong, random)
    _write_split(folder, "train", true, given, settings, random)
    true = random.permutation(np.repeat(np.arange(classes), settings.test_per_class))
    _write_split(folder, "test", true, true, settings, random)
    files = sorted(folder.glob(f"{layout.FOLDERS['train']}/*.jpg"))
    break_some(files, settings.broken, random)


def _write_split(folder, split, true, given, settings, random):
    """Images with the given labels, whatever they show."""
    side = layout.SIDE
    pixels = np.stack([draw(label, side, random)[:side, :side] for label in true])
    if settings.binaries:
        records = np.zeros(len(true), layout.RECORD)
        records["number"], records["label"] = np.arange(len(true)), given
        records["pixels"] = pixels.transpose(0, 3, 1, 2)
        folder.mkdir(parents=True, exist_ok=True)
        records.tofile(folder / layout.BINARIES[split].replace("*", "1"))
        return
    for number, (label, image) in enumerate(zip(given, pixels, strict=True)):
        save(folder / layout.FOLDERS[split] / f"{label}_{number}.jpg", image)
