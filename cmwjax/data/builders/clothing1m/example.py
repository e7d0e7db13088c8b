"""A small made-up Clothing1M, in the layout of the real one."""

import os
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmwjax.data.builders.clothing1m import layout
from cmwjax.data.builders.pictures import (
    break_some,
    check_ranges,
    draw,
    save,
    with_wrong,
    write_lines,
    write_once,
)
from cmwjax.randomness import Purpose, generator


class Example(NamedTuple):
    """What the example is like."""

    # Training images with noisy labels of the rarest and of the most frequent class;
    # the others lie evenly between them, in random order.
    train_per_class: tuple[int, int] = (10, 50)
    clean_per_class: int = 12  # in the other three lists
    paired: float = 0.5  # share of these that have a noisy label as well
    wrong: float = 0.3  # share of the noisy labels that are of another class
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
    ranges = ("clean_per_class", 1, 1000), ("paired", 0, 1), ("wrong", 0, 1)
    check_ranges(settings, (*ranges, ("size", 2, 1000)))
    write_once(folder, settings, partial(_write, settings=settings))


def _write(folder: Path, settings: Example) -> None:
    random = generator(settings.seed, Purpose.EXAMPLE)
    classes = len(layout.CLASSES)
    counts = np.linspace(*settings.train_per_class, classes).astype(int)
    noisy, clean, first = [], [], 0  # lines; number of the first image of a list
    for split, name in layout.KEY_LISTS.items():
        if split == "train":
            true = np.repeat(np.arange(classes), random.permutation(counts))
        else:
            true = np.repeat(np.arange(classes), settings.clean_per_class)
        true = random.permutation(true)
        keys = [_key(first + i) for i in range(len(true))]
        first += len(true)
        for key, label in zip(keys, true, strict=True):
            save(folder / key, draw(label, settings.size, random))
        write_lines(folder / name, keys)
        given = with_wrong(true, classes, settings.wrong, random)
        lines = [f"{key} {label}" for key, label in zip(keys, given, strict=True)]
        if split == "train":
            noisy += lines
            files = [folder / key for key in keys]
            break_some(files, settings.broken, random)
            continue
        clean += [f"{key} {label}" for key, label in zip(keys, true, strict=True)]
        noisy += lines[: round(settings.paired * len(lines))]
    write_lines(folder / layout.NOISY, noisy)
    write_lines(folder / layout.CLEAN, clean)


def _key(number: int) -> str:
    return f"images/{number % 10}/{number % 100:02d}/{number},{7 * number}.jpg"
