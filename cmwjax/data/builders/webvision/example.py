"""A small made-up WebVision, in the layout of the real one."""

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
from cmwjax.data.builders.webvision import ilsvrc2012, layout, lists
from cmwjax.randomness import Purpose, generator


class Example(NamedTuple):
    """What the example is like."""

    classes: int = 10  # the first so many have images
    # Training images, of each source, of the rarest and of the most frequent class; the
    # other classes lie evenly between them, in random order.
    train_per_class: tuple[int, int] = (20, 60)
    validation_per_class: int = 10
    ilsvrc_per_class: int = 0  # for the split 'ilsvrc2012', at most 50
    wrong: float = 0.2  # share of the training images listed under another class
    # Training images replaced in turn by an empty file, half a file, an image in CMYK
    # and an image of one pixel.
    broken: int = 0
    size: int = 80  # shorter side in pixels; the longer has up to a quarter more
    sources: tuple[str, ...] = ("google",)  # 'full' needs 'flickr' as well
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
    check_ranges(
        settings,
        (
            ("classes", 1, 1000),
            ("validation_per_class", 1, 1_000_000),
            ("ilsvrc_per_class", 0, 50),
            ("wrong", 0, 1),
            ("size", 2, 1000),
        ),
    )
    write_once(folder, settings, partial(_write, settings=settings))


def _write(folder: Path, settings: Example) -> None:
    random = generator(settings.seed, Purpose.WEBVISION)
    _write_synsets(folder, settings)
    for source in layout.VARIANTS["full"].sources:
        _write_train(folder, source, settings, random)
    _write_validation(folder, settings, random)
    if settings.ilsvrc_per_class:
        _write_ilsvrc2012(folder, settings, random)
    break_some(sorted(folder.glob("[gf]*/q*/*.jpg")), settings.broken, random)


def _write_synsets(folder: Path, settings: Example) -> None:
    names = [class_name(label) for label in range(settings.classes)]
    names += ["not in this example"] * (lists.NUM_SYNSETS - len(names))
    lines = map(" ".join, zip(ilsvrc2012.synsets(), names, strict=True))
    write_lines(folder / "info/synsets.txt", lines)


def _write_train(
    folder: Path, source: str, settings: Example, random: np.random.Generator
) -> None:
    """Images filed under the class in the list, whatever they show."""
    classes = settings.classes if source in settings.sources else 0
    counts = np.linspace(*settings.train_per_class, classes).astype(int)
    true = np.repeat(np.arange(classes), random.permutation(counts))
    listed = with_wrong(true, classes, settings.wrong, random)
    lines = []
    for position in np.argsort(listed, kind="stable"):
        name = f"{source}/q{listed[position] + 1:04d}/{position:06d}.jpg"
        save(folder / name, draw(true[position], settings.size, random))
        lines.append(f"{name} {listed[position]}")
    write_lines(folder / f"info/train_filelist_{source}.txt", lines)


def _write_validation(
    folder: Path, settings: Example, random: np.random.Generator
) -> None:
    labels = np.repeat(np.arange(settings.classes), settings.validation_per_class)
    lines = []
    for number, label in enumerate(random.permutation(labels), start=1):
        name = f"val{number:06d}.jpg"
        save(folder / "val_images_256" / name, draw(label, settings.size, random))
        lines.append(f"{name} {label}")
    write_lines(folder / "info/val_filelist.txt", lines)


def _write_ilsvrc2012(
    folder: Path, settings: Example, random: np.random.Generator
) -> None:
    published = np.array(ilsvrc2012.validation_labels())
    lines = []
    for label in range(settings.classes):
        for index in np.flatnonzero(published == label)[: settings.ilsvrc_per_class]:
            name = ilsvrc2012.file_name(index + 1)
            place = folder / ilsvrc2012.FOLDERS[0] / ilsvrc2012.synsets()[label]
            save(place / name, draw(label, settings.size, random))
            lines.append(f"{name} {label}")
    write_lines(folder / ilsvrc2012.LIST, lines)
