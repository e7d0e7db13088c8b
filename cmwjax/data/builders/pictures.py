"""Pictures of made-up classes, and files of them in the form of a real data set.

Classes are coloured shapes and textures, easy enough for a small net to learn in a few
epochs; some training labels are wrong, as in the real sets. An example takes the place
of a download where the whole path from files to trained model is to be tried out.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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


def write_once(
    folder: str | os.PathLike[str],
    settings: Any,
    write: Callable[[Path], None],
) -> None:
    """Writes an example; does nothing if it is there already, made in the same way.

    Args:
      folder: a new folder, or an empty one.
      settings: what it is like, a `NamedTuple` of numbers and words.
      write: writes it into a folder that it makes.

    Raises:
      ValueError: if the folder holds something else.
    """
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
    write(unfinished)
    (unfinished / made.name).write_text(note)
    if folder.exists():
        folder.rmdir()
    unfinished.rename(folder)


def check_ranges(settings: Any, ranges: Iterable[tuple[str, float, float]]) -> None:
    """Refuses settings of an example that are out of range.

    Args:
      settings: what it is like.
      ranges: name of a setting, and the least and the greatest value of it.

    Raises:
      ValueError: for a setting outside.
    """
    for name, low, high in ranges:
        value = getattr(settings, name)
        if not low <= value <= high:
            raise ValueError(
                f"example.{name}={value} is out of range: choose from {low} to {high}."
            )


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


def with_wrong(
    true: NDArray[np.integer], classes: int, wrong: float, random: np.random.Generator
) -> NDArray[np.integer]:
    """Labels `[N]` of which a share is that of another class.

    Args:
      true: right labels, `[N]`.
      classes: how many there are; of one alone none can be wrong.
      wrong: the share, in [0, 1].
      random: draws which, and the other class.
    """
    listed = true.copy()
    if classes > 1:
        chosen = random.permutation(len(true))[: round(wrong * len(true))]
        listed[chosen] += random.integers(1, classes, len(chosen))
        listed %= classes
    return listed


def break_some(files: Sequence[Path], broken: int, random: np.random.Generator) -> None:
    """Replaces images by files that cannot be used as they are, of `BROKEN` in turn."""
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


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Writes a picture as JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=85)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Writes a list, a line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
