"""A small made-up Food-101N, in the layout of the real one."""

import os
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmwjax.data.builders.food101n import layout
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
from cmwjax.randomness import Purpose, generator


class Example(NamedTuple):
    """What the example is like."""

    # Training images of the rarest and of the most frequent class; the others lie
    # evenly between them, in random order.
    train_per_class: tuple[int, int] = (4, 12)
    test_per_class: int = 2
    verified: float = 0.25  # share of the training images that people looked at
    wrong: float = 0.2  # share of the training images listed under another class
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
    ranges = ("test_per_class", 1, 250), ("verified", 0, 1), ("wrong", 0, 1)
    check_ranges(settings, (*ranges, ("size", 2, 1000)))
    write_once(folder, settings, partial(_write, settings=settings))


def _write(folder: Path, settings: Example) -> None:
    random = generator(settings.seed, Purpose.EXAMPLE)
    classes = layout.NUM_CLASSES
    names = [class_name(label).replace(" ", "_") for label in range(classes)]
    write_lines(folder / layout.CLASS_LIST, ["class_name", *names])
    counts = np.linspace(*settings.train_per_class, classes).astype(int)
    true = np.repeat(np.arange(classes), random.permutation(counts))
    listed = with_wrong(true, classes, settings.wrong, random)
    paths = [f"{names[label]}/{number:06x}.jpg" for number, label in enumerate(listed)]
    for path, label in zip(paths, true, strict=True):
        save(folder / "images" / path, draw(int(label), settings.size, random))
    write_lines(folder / layout.IMAGE_LIST, ["class_name/key", *paths])
    looked_at = random.permutation(len(paths))[: round(settings.verified * len(paths))]
    validating = len(looked_at) // 5
    for file, chosen in zip(
        layout.VERIFIED.values(),
        (looked_at[validating:], looked_at[:validating]),
        strict=True,
    ):
        lines = [f"{paths[i]}\t{int(listed[i] == true[i])}" for i in chosen]
        write_lines(folder / file, ["class_name/key\tverification_label", *lines])
    tested = np.repeat(np.arange(classes), settings.test_per_class)
    tests = [f"{names[label]}/{number}" for number, label in enumerate(tested)]
    for path, label in zip(tests, tested, strict=True):
        place = folder / "food-101/images" / f"{path}.jpg"
        save(place, draw(int(label), settings.size, random))
    write_lines(folder / layout.TEST_LIST, tests)
    files = sorted(folder.glob("images/*/*.jpg"))
    break_some(files, settings.broken, random)
