"""Encoded images to pixels on the host: decoding, crops and flips, by Pillow.

Everything is a pure function of the file, the view and a generator of random numbers.
What cannot be decoded does not raise: it gives black pixels and the reason.
"""

import errno
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

# Why an image has no pixels; its position here is the code that travels with it.
REASONS = (
    "",
    "missing",
    "empty",
    "not an image",
    "damaged",
    "too large",
    "unsupported depth",
    "no file",
)
# A folder, what is below a file, a link to itself, a name that is too long. A disk that
# fails, or permission that is lacking, is another matter.
NO_FILE = (errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)

CROPS = ("centre", "random_crop", "random_resized_crop")
# Of the area and of the aspect ratio of a random resized crop, and how often to draw.
SCALE, RATIO, ATTEMPTS = (0.08, 1.0), (3 / 4, 4 / 3), 10
# Numbers that stand for white in images of one channel: floats in [0, 1], 8 bits,
# 12 bits in 16, 16 bits.
WHITES = (1, 255, 4095, 65535)
# JPEG files may be decoded at half, quarter or eighth size, if that leaves at least so
# many pixels for each one wanted, per side: several times faster for large photographs,
# and after resizing hardly any different.
SPARE = 2


class UnsupportedDepth(ValueError):
    """Numbers of which nobody says what is white."""


class View(NamedTuple):
    """What of an image a classifier gets to see.

    Attributes:
      size: pixels per side of what comes out.
      resize: pixels of the shorter side before the crop; 0: as it is, and where it is
        too short for a crop of that size, `size`.
      crop: one of `CROPS`; `'random_resized_crop'` is a random part of random shape,
        brought to `size`.
      flip: whether to mirror left and right, with probability 1/2.
      upright: whether the orientation tag of cameras is obeyed.
    """

    size: int
    resize: int
    crop: str = "centre"
    flip: bool = False
    upright: bool = False


def load(
    read: Callable[[int], bytes], position: int, view: View, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], int]:
    """Reads and decodes an image, and takes a view of it.

    Args:
      read: content of the file at a position; `FileNotFoundError` if it has gone.
      position: position of the image.
      view: what to see of it.
      rng: decides on crop and flip.

    Returns:
      Pixels uint8 `[size, size, 3]` and a code, the position in `REASONS`: 0 if all is
      well, else the pixels are black.
    """
    try:
        content, reason = read(position), ""
    except FileNotFoundError:
        content, reason = b"", "missing"
    except OSError as error:
        if error.errno not in NO_FILE:
            raise
        content, reason = b"", "no file"
    if not (content or reason):
        reason = "empty"
    if content:
        try:
            return look(content, view, rng), 0
        except UnidentifiedImageError:
            reason = "not an image"
        except Image.DecompressionBombError:
            reason = "too large"
        except UnsupportedDepth:
            reason = "unsupported depth"
        except Exception:  # decoders of broken files raise whatever they like
            reason = "damaged"
    return np.zeros((view.size, view.size, 3), np.uint8), REASONS.index(reason)


def look(content: bytes, view: View, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Decodes an image and takes a view of it, uint8 `[size, size, 3]`.

    Any colour mode becomes RGB, without transparency. One channel deeper than 8 bits is
    brought to 8 by the least of `WHITES` that no pixel exceeds, which for integers is
    not 1: files with 12 bits in 16 do not say so, and so a dark image of 16 bits gets
    brighter. Orientation tags are not obeyed unless the view says so: hardly any loader
    does, so published results are of images as they are stored.

    Raises:
      UnsupportedDepth: for one channel with negative numbers, or beyond 65535, or NaN.
      Exception: whatever Pillow raises for a file that it cannot decode.
    """
    with Image.open(BytesIO(content)) as image:
        target = _resized(image.size, view)
        image.draft(None, (SPARE * target[0], SPARE * target[1]))
        rgb = _to_rgb(image)
    if view.upright:
        with suppress(Exception):  # tags are at times damaged where the image is not
            turned = ImageOps.exif_transpose(rgb)
            target = target if turned.size == rgb.size else target[::-1]
            rgb = turned
    return _seen(rgb, target, view, rng)


def look_at_pixels(
    pixels: NDArray[np.uint8], view: View, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The view of an image in memory, uint8 `[size, size, 3]`.

    Args:
      pixels: uint8 `[H, W, C]`, C of 1, 3 or 4: grey, RGB, or RGB and transparency.
      view: what to see of it.
      rng: decides on crop and flip.
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return _seen(image.convert("RGB"), _resized(image.size, view), view, rng)


def _seen(
    rgb: Image.Image, target: tuple[int, int], view: View, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """What is left of an image after resizing it to `target`, cropping and flipping."""
    left, top, width, height = _box(target, view, rng)
    if rgb.size == target:
        part = rgb.crop((left, top, left + width, top + height))
    else:  # of the resized image, no more than is needed
        x, y = rgb.width / target[0], rgb.height / target[1]
        box = (left * x, top * y, (left + width) * x, (top + height) * y)
        part = rgb.resize((width, height), Image.Resampling.BILINEAR, box)
    if part.size != (view.size, view.size):
        part = part.resize((view.size, view.size), Image.Resampling.BILINEAR)
    if view.flip and rng.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(part)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode[0] in "IF":  # integers or floats, that Pillow would cut off at 255
        return Image.fromarray(_to_bytes(np.asarray(image))).convert("RGB")
    if "transparency" in image.info:  # else there is a warning for palettes
        image = image.convert("RGBA")
    return image.convert("RGB")


def _to_bytes(deep: np.ndarray) -> NDArray[np.uint8]:
    """Numbers of one channel as 8 bits; see `look`."""
    largest = deep.max()
    whites = WHITES[1:] if np.issubdtype(deep.dtype, np.integer) else WHITES
    white = next((one for one in whites if largest <= one), 0)
    if not (white and deep.min() >= 0):
        raise UnsupportedDepth
    return np.rint(deep * (255 / white)).astype(np.uint8)


def _resized(size: tuple[int, int], view: View) -> tuple[int, int]:
    """Width and height that an image is brought to before the crop."""
    shorter = min(size)
    wanted = view.resize or shorter
    if view.crop != "random_resized_crop":
        wanted = max(wanted, view.size)
    if wanted == shorter:
        return size
    longer = int(wanted * max(size) / shorter)
    return (wanted, longer) if size[0] <= size[1] else (longer, wanted)


def _box(
    size: tuple[int, int], view: View, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Left, top, width and height of the crop."""
    if view.crop == "random_resized_crop":
        width, height = _random_shape(size, rng)
    else:
        width = height = view.size
    room = size[0] - width, size[1] - height
    if view.crop == "centre":
        left, top = (round(free / 2) for free in room)
    else:
        left, top = (int(rng.integers(free + 1)) for free in room)
    return left, top, width, height


def _random_shape(size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """Width and height of a random resized crop, as Inception's authors draw it.

    References:
      Szegedy et al., `Going deeper <https://arxiv.org/abs/1409.4842>`_, 2014.
    """
    for _ in range(ATTEMPTS):
        area = size[0] * size[1] * rng.uniform(*SCALE)
        ratio = np.exp(rng.uniform(*np.log(RATIO)))
        width, height = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < width <= size[0] and 0 < height <= size[1]:
            return width, height
    # An image of an extreme shape: as much of it as the ratio allows.
    low, high = RATIO
    return (
        min(size[0], max(1, round(size[1] * high))),
        min(size[1], max(1, round(size[0] / low))),
    )
