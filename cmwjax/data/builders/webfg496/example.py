"""A small made-up Web-aircraft with clean images, in the layout of the real one."""

import os
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmwjax.data.builders.pictures import (
    break_some,
    check_ranges,
    class_name,
    draw,
    save,
    with_wrong,
    write_lines,
    write_once,
)
from cmwjax.data.builders.webfg496 import layout
from cmwjax.randomness import Purpose, generator


class Example(NamedTuple):
    """What the example is like."""

    # Training images of the rarest and of the most frequent class; the others lie
    # evenly between them, in random order.
    train_per_class: tuple[int, int] = (4, 12)
    test_per_class: int = 2
    clean_per_class: int = 3  # images that people labelled
    wrong: float = 0.25  # share of the training images that show another class
    # Training images replaced in turn by an empty file, half a file, an image in CMYK
    # and an image of one pixel.
    broken: int = 4
    size: int = 72  # shorter side in pixels; the longer has up to a quarter more
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
    ranges = ("test_per_class", 1, 100), ("clean_per_class", 1, 100), ("wrong", 0, 1)
    check_ranges(settings, (*ranges, ("size", 2, 1000)))
    write_once(folder, settings, partial(_write, settings=settings))


def _write(folder: Path, settings: Example) -> None:
    random = generator(settings.seed, Purpose.EXAMPLE)
    classes = layout.WEBS["aircraft"].num_classes
    names = [class_name(label) for label in range(classes)]
    counts = np.linspace(*settings.train_per_class, classes).astype(int)
    true = np.repeat(np.arange(classes), random.permutation(counts))
    found = with_wrong(true, classes, settings.wrong, random)
    root = folder / "web-aircraft"
    for number, (label, shown) in enumerate(zip(found, true, strict=True)):
        place = root / "train" / names[label] / f"{number:04d}.jpg"
        save(place, draw(int(shown), settings.size, random))
    for label in range(classes):
        for number in range(settings.test_per_class):
            place = root / "val" / names[label] / f"{number:04d}.jpg"
            save(place, draw(label, settings.size, random))
    clean = folder / "fgvc-aircraft-2013b" / "data"
    lines = []
    of_clean = np.repeat(np.arange(classes), settings.clean_per_class)
    for number, label in enumerate(random.permutation(of_clean)):
        image = draw(int(label), settings.size, random)
        save(clean / "images" / f"{number:07d}.jpg", image)
        # Their names have marks that names of folders do not.
        lines.append(f"{number:07d} {names[label].replace(' on ', '/on ')}")
    write_lines(folder / layout.WEBS["aircraft"].lists[0], lines)
    break_some(sorted(root.glob("train/*/*.jpg")), settings.broken, random)
