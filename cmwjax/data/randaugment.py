"""RandAugment on the device: strong views of images, one key per image.

Two operations drawn with their strengths are applied to an image one after the other,
then a square of it is cut out. Operations are those of Pillow's `ImageOps` and
`ImageEnhance`, to the level but where a rounding decides; what is moved in is black.

References:
  Cubuk et al., `RandAugment <https://arxiv.org/abs/1909.13719>`_, 2020; operations and
  their ranges as in Sohn et al., `FixMatch <https://arxiv.org/abs/2001.07685>`_, 2020,
  appendix D.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from jax import lax

OPERATIONS = 2  # applied to an image
LARGEST_CUT = 0.5  # side of the square that is cut out, in those of the image
# ITU-R 601-2 luma of 255 levels, in fixed point as Pillow has it.
LUMA = (19595, 38470, 7471)

Operation = Callable[[jax.Array, jax.Array], jax.Array]


def rand_augment(images: jax.Array, keys: jax.Array) -> jax.Array:
    """Two random operations on each image.

    Args:
      images: uint8 `[B, H, W, C]`.
      keys: one per image, `[B]`.

    Returns:
      Images of the same shape and type.

    Raises:
      AssertionError: for images of another rank or type.
    """
    chex.assert_rank(images, 4)
    chex.assert_type(images, jnp.uint8)

    def one(image, key):
        for part in jax.random.split(key, OPERATIONS):
            which, how = jax.random.split(part)
            kind = jax.random.randint(which, (), 0, len(NAMES))
            image = operation(image, kind, jax.random.uniform(how))
        return image

    return jax.vmap(one)(images, keys)


def operation(image: jax.Array, kind: jax.Array, strength: jax.Array) -> jax.Array:
    """The operation `NAMES[kind]` on an image.

    Args:
      image: uint8 `[H, W, C]`.
      kind: int `[]`.
      strength: in [0, 1], where in its range the operation is; those that have none
        ignore it.
    """
    # Under vmap every branch is computed, so all that move pixels are one gather.
    moves = [move(strength, image.shape) for move in GEOMETRIC.values()]
    still = _matrix(1, 0, 0, 0, 1, 0)
    matrices = jnp.stack([*moves, *[still] * len(COLOURS)])
    image = affine(image, matrices[kind])
    branches = [_same, *COLOURS.values()]
    return lax.switch(
        jnp.maximum(kind - len(GEOMETRIC) + 1, 0), branches, image, strength
    )


def cutout(inputs: jax.Array, keys: jax.Array) -> jax.Array:
    """Makes a random square of each image zero, the mean of standardised ones.

    Its side is uniform between 0 and half of the shorter one of the image, and its
    centre anywhere in it.

    Args:
      inputs: `[B, H, W, C]`.
      keys: one per image, `[B]`.
    """
    height, width = inputs.shape[1:3]
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None]

    def one(image, key):
        side, *centre = jax.random.uniform(key, (3,))
        half = side * LARGEST_CUT * min(height, width) / 2
        y, x = centre[0] * height, centre[1] * width
        inside = (jnp.abs(rows + 0.5 - y) < half) & (jnp.abs(columns + 0.5 - x) < half)
        return jnp.where(inside[..., None], jnp.zeros((), image.dtype), image)

    return jax.vmap(one)(inputs, keys)


def affine(image: jax.Array, matrix: jax.Array) -> jax.Array:
    """Moves pixels: each of the result is the one that `matrix` points to, or black.

    Args:
      image: `[H, W, C]`.
      matrix: `[2, 3]`; pixel centres (x, y) of the result -> coordinates in the image.
    """
    height, width = image.shape[:2]
    y, x = jnp.mgrid[:height, :width] + 0.5
    ones = jnp.ones_like(x)
    at = jnp.floor(jnp.einsum("ij,jhw->ihw", matrix, jnp.stack([x, y, ones])))
    column, row = at.astype(jnp.int32)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    found = image[jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)]
    return jnp.where(inside[..., None], found, jnp.zeros((), image.dtype))


def autocontrast(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Stretches every channel to all levels."""
    del strength
    levels = image.astype(jnp.float32)
    low, high = (f(levels, (0, 1), keepdims=True) for f in (jnp.min, jnp.max))
    scale = 255 / jnp.maximum(high - low, 1)
    return jnp.where(high > low, _levels(levels * scale - low * scale), image)


def equalize(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Makes the levels of every channel about equally frequent."""
    del strength

    def channel(levels):
        counts = jnp.bincount(levels.ravel(), length=256)
        last = counts[jnp.max(levels)]
        step = (levels.size - last) // 255
        below = jnp.cumsum(counts) - counts
        table = (step // 2 + below) // jnp.maximum(step, 1)
        new = jnp.minimum(table, 255).astype(jnp.uint8)[levels]
        return jnp.where(step > 0, new, levels)

    return jax.vmap(channel, in_axes=2, out_axes=2)(image)


def brightness(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Blends with black; the image's share is in [0.05, 0.95], as in the next three."""
    return _blend(jnp.zeros_like(image), image, strength)


def color(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Blends with the grey image."""
    grey = jnp.broadcast_to(_grey(image)[..., None], image.shape)
    return _blend(grey, image, strength)


def contrast(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Blends with the mean of the grey image."""
    mean = jnp.mean(_grey(image).astype(jnp.float32))
    return _blend(_levels(jnp.full(image.shape, mean + 0.5)), image, strength)


def sharpness(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Blends with the smoothed image, whose border is the image's."""
    levels = image.astype(jnp.float32)
    height, width = image.shape[0] - 2, image.shape[1] - 2
    if min(height, width) < 1:
        return image
    around = sum(
        levels[y : y + height, x : x + width] for y in range(3) for x in range(3)
    )
    inner = _levels((around + 4 * levels[1:-1, 1:-1]) / 13 + 0.5)
    return _blend(image.at[1:-1, 1:-1].set(inner), image, strength)


def posterize(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Keeps the upper 4 to 8 bits."""
    dropped = 4 - jnp.minimum((5 * strength).astype(jnp.uint8), 4)
    return (image >> dropped) << dropped


def solarize(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Inverts all levels from a threshold in [0, 256] on."""
    return jnp.where(image >= 256 * strength, 255 - image, image)


def rotate(strength: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """By up to 30 degrees about the centre, counterclockwise beyond half strength."""
    angle = jnp.deg2rad(30) * (2 * strength - 1)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    y, x = shape[0] / 2, shape[1] / 2
    return _matrix(cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)


def shear_x(strength: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Rows are shifted by up to 0.3 times their number."""
    del shape
    return _matrix(1, _signed(strength), 0, 0, 1, 0)


def shear_y(strength: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Columns likewise."""
    del shape
    return _matrix(1, 0, 0, _signed(strength), 1, 0)


def translate_x(strength: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Shifts by up to 0.3 of the width."""
    return _matrix(1, 0, _signed(strength) * shape[1], 0, 1, 0)


def translate_y(strength: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Shifts by up to 0.3 of the height."""
    return _matrix(1, 0, 0, 0, 1, _signed(strength) * shape[0])


def _same(image: jax.Array, strength: jax.Array) -> jax.Array:
    del strength
    return image


GEOMETRIC = {
    "rotate": rotate,
    "shear_x": shear_x,
    "shear_y": shear_y,
    "translate_x": translate_x,
    "translate_y": translate_y,
}
COLOURS: dict[str, Operation] = {
    "autocontrast": autocontrast,
    "brightness": brightness,
    "color": color,
    "contrast": contrast,
    "equalize": equalize,
    "identity": _same,
    "posterize": posterize,
    "sharpness": sharpness,
    "solarize": solarize,
}
NAMES = (*GEOMETRIC, *COLOURS)


def _signed(strength):
    return 0.3 * (2 * strength - 1)


def _matrix(*numbers):
    return jnp.stack([jnp.asarray(x, jnp.float32) for x in numbers]).reshape(2, 3)


def _grey(image):
    """Luma of an image of three channels, uint8 `[H, W]`; of others the mean."""
    if image.shape[-1] != 3:
        return _levels(jnp.mean(image.astype(jnp.float32), axis=-1))
    luma = image.astype(jnp.int32) @ jnp.array(LUMA, jnp.int32) + 0x8000
    return (luma >> 16).astype(jnp.uint8)


def _blend(other, image, strength):
    share = 0.05 + 0.9 * strength
    first, second = (x.astype(jnp.float32) for x in (other, image))
    return _levels(first + share * (second - first))


def _levels(values):
    """Numbers as levels: what is behind the point is dropped."""
    return jnp.clip(values, 0, 255).astype(jnp.uint8)
