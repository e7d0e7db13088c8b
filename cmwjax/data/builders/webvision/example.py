"""A small made-up WebVision, in the layout of the real one.

Classes are coloured shapes and textures, easy enough for a small net to learn in a few
epochs; some training labels are wrong, as in the real set. It takes the place of the
download where the whole path from files to trained model is to be tried out.
"""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cmwjax.data.builders.webvision import ilsvrc2012, layout, lists
from cmwjax.randomness import Purpose, generator

COLOURS = {
    "red": (220, 40, 40),
    "green": (50, 160, 60),
    "blue": (45, 80, 200),
    "yellow": (235, 220, 40),
    "pink": (240, 130, 190),
    "cyan": (50, 200, 210),
    "orange": (245, 140, 20),
    "violet": (130, 60, 180),
    "brown": (120, 75, 40),
    "lime": (160, 230, 60),
}
BACKGROUNDS = {
    "white": (245, 245, 245),
    "black": (15, 15, 15),
    "grey": (128, 128, 128),
    "navy": (20, 20, 80),
    "sand": (210, 190, 150),
    "olive": (90, 95, 30),
    "mint": (180, 235, 205),
    "maroon": (80, 10, 30),
    "lilac": (205, 185, 230),
    "teal": (10, 80, 85),
}
SHAPES = {  # where there is colour, for x and y in about [-1, 1]
    "disc": lambda x, y: x**2 + y**2 < 0.5,
    "columns": lambda x, y: np.sin(9 * x) > 0,
    "cross": lambda x, y: np.minimum(abs(x), abs(y)) < 0.22,
    "checks": lambda x, y: np.sin(7 * x) * np.sin(7 * y) > 0,
    "triangle": lambda x, y: (y < 0.6) & (y > 2 * abs(x) - 0.8),
    "rows": lambda x, y: np.sin(9 * y) > 0,
    "ring": lambda x, y: abs(x**2 + y**2 - 0.5) < 0.22,
    "diagonals": lambda x, y: np.sin(6 * (x + y)) > 0,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) < 0.6,
    "dots": lambda x, y: np.sin(8 * x) ** 2 + np.sin(8 * y) ** 2 > 1.3,
}
BROKEN = ("empty", "cut", "cmyk", "one pixel")


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
    _check(settings)
    folder = Path(folder)
    note = json.dumps(settings._asdict(), indent=1) + "\n"
    made = folder / "example.json"
    if made.is_file() and made.read_text() == note:
        return
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(
            f"{folder} is not empty and not this example: give the example another "
            "folder, or remove that one."
        )
    # Written beside it and renamed, so that nobody takes half of it for the example.
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    random = generator(settings.seed, Purpose.WEBVISION)
    _write_synsets(unfinished, settings)
    for source in layout.VARIANTS["full"].sources:
        _write_train(unfinished, source, settings, random)
    _write_validation(unfinished, settings, random)
    if settings.ilsvrc_per_class:
        _write_ilsvrc2012(unfinished, settings, random)
    _break(unfinished, settings.broken, random)
    (unfinished / made.name).write_text(note)
    if folder.exists():
        folder.rmdir()
    unfinished.rename(folder)


def class_name(label: int) -> str:
    """What the images of a class show, for example 'red disc on white'."""
    colour, shape, background = _look(label)
    return f"{colour} {shape} on {background}"


def draw(label: int, size: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """A picture of a class, `[H, W, 3]`, its shorter side of that size."""
    colour, shape, background = _look(label)
    height, width = random.integers(size, size + size // 4 + 1, 2)
    height, width = (size, width) if random.random() < 0.5 else (height, size)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    zoom, (shift_x, shift_y) = random.uniform(0.8, 1.3), random.uniform(-0.3, 0.3, 2)
    inside = SHAPES[shape](zoom * x + shift_x, zoom * y + shift_y)
    pixels = np.where(inside[..., None], COLOURS[colour], BACKGROUNDS[background])
    light = random.uniform(0.8, 1.1)
    noise = random.normal(0, 12, pixels.shape)
    return np.clip(light * pixels + noise, 0, 255).astype(np.uint8)


def _look(label: int) -> tuple[str, str, str]:
    """Colour, shape and background: another combination for each of 1000 classes."""
    tens = label // 10
    # Neighbours differ in both, so that ten classes do not all have the same shape.
    return (
        list(COLOURS)[label % 10],
        list(SHAPES)[(label + tens) % 10],
        list(BACKGROUNDS)[tens // 10],
    )


def _check(settings: Example) -> None:
    for name, low, high in (
        ("classes", 1, 1000),
        ("validation_per_class", 1, 1_000_000),
        ("ilsvrc_per_class", 0, 50),
        ("wrong", 0, 1),
        ("size", 2, 1000),
    ):
        value = getattr(settings, name)
        if not low <= value <= high:
            raise ValueError(
                f"example.{name}={value} is out of range: choose from {low} to {high}."
            )


def _write_synsets(folder: Path, settings: Example) -> None:
    names = [class_name(label) for label in range(settings.classes)]
    names += ["not in this example"] * (lists.NUM_SYNSETS - len(names))
    lines = map(" ".join, zip(ilsvrc2012.synsets(), names, strict=True))
    _write_lines(folder / "info/synsets.txt", lines)


def _write_train(
    folder: Path, source: str, settings: Example, random: np.random.Generator
) -> None:
    """Images filed under the class in the list, whatever they show."""
    classes = settings.classes if source in settings.sources else 0
    counts = np.linspace(*settings.train_per_class, classes).astype(int)
    true = np.repeat(np.arange(classes), random.permutation(counts))
    listed = true.copy()
    if classes > 1:
        wrong = random.permutation(len(true))[: round(settings.wrong * len(true))]
        listed[wrong] += random.integers(1, classes, len(wrong))
        listed %= classes
    lines = []
    for position in np.argsort(listed, kind="stable"):
        name = f"{source}/q{listed[position] + 1:04d}/{position:06d}.jpg"
        _save(folder / name, draw(true[position], settings.size, random))
        lines.append(f"{name} {listed[position]}")
    _write_lines(folder / f"info/train_filelist_{source}.txt", lines)


def _write_validation(
    folder: Path, settings: Example, random: np.random.Generator
) -> None:
    labels = np.repeat(np.arange(settings.classes), settings.validation_per_class)
    lines = []
    for number, label in enumerate(random.permutation(labels), start=1):
        name = f"val{number:06d}.jpg"
        _save(folder / "val_images_256" / name, draw(label, settings.size, random))
        lines.append(f"{name} {label}")
    _write_lines(folder / "info/val_filelist.txt", lines)


def _write_ilsvrc2012(
    folder: Path, settings: Example, random: np.random.Generator
) -> None:
    published = np.array(ilsvrc2012.validation_labels())
    lines = []
    for label in range(settings.classes):
        for index in np.flatnonzero(published == label)[: settings.ilsvrc_per_class]:
            name = ilsvrc2012.file_name(index + 1)
            place = folder / ilsvrc2012.FOLDERS[0] / ilsvrc2012.synsets()[label]
            _save(place / name, draw(label, settings.size, random))
            lines.append(f"{name} {label}")
    _write_lines(folder / ilsvrc2012.LIST, lines)


def _break(folder: Path, broken: int, random: np.random.Generator) -> None:
    """Replaces training images by files that cannot be used as they are."""
    files = sorted(folder.glob("[gf]*/q*/*.jpg"))
    for number, file in enumerate(random.permutation(len(files))[:broken]):
        path, kind = files[file], BROKEN[number % len(BROKEN)]
        if kind == "empty":
            path.write_bytes(b"")
        elif kind == "cut":
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])
        else:
            mode, shape = ("CMYK", (64, 64)) if kind == "cmyk" else ("RGB", (1, 1))
            Image.new(mode, shape).save(path)


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=85)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
