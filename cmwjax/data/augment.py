"""Random crops and flips on the device, one key per sample.

A key is folded from that of a moment (epoch or step) and the sample's index in the
training set, so a sample looks the same wherever it lies in a batch and on whatever
device.
"""

import chex
import jax
import jax.numpy as jnp
from jax import lax

MODES = ("reflect", "zero")


def sample_keys(key: jax.Array, index: jax.Array) -> jax.Array:
    """One key per sample `[B]`, from the key of a moment and indices `[B]`."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)


def crop_and_flip(
    images: jax.Array, keys: jax.Array, *, pad: int, mode: str, flip: bool
) -> jax.Array:
    """Shifts every image by up to `pad` pixels, and mirrors about half of them.

    Args:
      images: `[B, H, W, C]`; uint8, for zero to mean black.
      keys: one per image, `[B]`.
      pad: pixels added on all sides before a crop to the size there was; 0: no crop.
      mode: what is added: `'reflect'` the image mirrored at its border (which is not
        repeated), or `'zero'`.
      flip: whether to mirror left and right, with probability 1/2.

    Returns:
      Images of the same shape and type.

    Raises:
      ValueError: on an unknown mode, or images too small to reflect.
      AssertionError: for images of another rank, or not one key for each.
    """
    if mode not in MODES:
        raise ValueError(f"augment.mode={mode!r} is unknown; choose one of {MODES}.")
    chex.assert_rank(images, 4)
    chex.assert_shape(keys, images.shape[:1])
    height, width = images.shape[1:3]
    if mode == "reflect" and pad >= min(height, width):
        raise ValueError(
            f"augment.pad={pad} reflects more than images of {height}x{width} have; "
            "choose a smaller one, or augment.mode='zero'."
        )
    border = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    padded = jnp.pad(images, border, "reflect" if mode == "reflect" else "constant")

    def one(image, key):
        crop_key, flip_key = jax.random.split(key)
        row, column = jax.random.randint(crop_key, (2,), 0, 2 * pad + 1)
        image = lax.dynamic_slice(image, (row, column, 0), images.shape[1:])
        if flip:
            mirrored = jax.random.bernoulli(flip_key)
            image = jnp.where(mirrored, image[:, ::-1], image)
        return image

    return jax.vmap(one)(padded, keys)
