"""RandAugment: every operation against Pillow's, and how operations are drawn."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from cmwjax.data import randaugment, view
from cmwjax.data.augment import sample_keys
from cmwjax.data.randaugment import NAMES, operation

RNG = np.random.default_rng(0)
APPLY = jax.jit(jax.vmap(operation, in_axes=(0, None, None)))


def pictures(channels):
    """Smooth, noisy, dark, flat and two-valued images, of unlike sides."""
    size = 21, 18, channels
    smooth = np.add.outer(np.arange(21), np.arange(18))[..., None] * 6
    flat = np.full(size, 77)
    two = np.where(RNG.random(size) < 0.1, 200, 30)
    noise = RNG.integers(0, 256, size)
    some = [noise, smooth + np.zeros(size), noise // 5, flat, two]
    return [np.clip(x, 0, 255).astype(np.uint8) for x in some]


def by_pillow(name, picture, strength):
    """The operation by Pillow, float64 ranges as FixMatch has them."""
    image = Image.fromarray(picture.squeeze())
    signed, share = 0.3 * (2 * strength - 1), 0.05 + 0.9 * strength
    width, height = image.size

    def moved(*matrix):
        return image.transform(image.size, Image.Transform.AFFINE, matrix)

    found = {
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(share),
        "color": lambda: ImageEnhance.Color(image).enhance(share),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(share),
        "equalize": lambda: ImageOps.equalize(image),
        "identity": lambda: image,
        "posterize": lambda: ImageOps.posterize(image, min(8, 4 + int(5 * strength))),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(share),
        "solarize": lambda: ImageOps.solarize(image, math.ceil(256 * strength)),
        "rotate": lambda: image.rotate(30 * (2 * strength - 1)),
        "shear_x": lambda: moved(1, signed, 0, 0, 1, 0),
        "shear_y": lambda: moved(1, 0, 0, signed, 1, 0),
        "translate_x": lambda: moved(1, 0, signed * width, 0, 1, 0),
        "translate_y": lambda: moved(1, 0, 0, 0, 1, signed * height),
    }[name]()
    return np.asarray(found).reshape(picture.shape)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_operations_are_those_of_pillow(name, channels):
    images, changed = np.stack(pictures(channels)), 0
    for strength in (0.03, 0.31, 0.5, 0.77, 0.99):
        got = np.asarray(APPLY(images, NAMES.index(name), strength)).astype(int)
        want = np.stack([by_pillow(name, x, strength) for x in images]).astype(int)
        off = np.abs(got - want)
        if name in randaugment.GEOMETRIC:  # where a rounding decides, another pixel
            assert np.mean(off > 0) < 0.01
        else:
            assert off.max() <= 1 and np.mean(off > 0) < 0.01
        changed += np.mean(want != images)
    alone = name == "identity" or (name, channels) == ("color", 1)
    assert (changed == 0) == alone


def test_each_image_has_its_own_operations_wherever_it_lies():
    images = np.repeat(np.stack(pictures(3)), 60, axis=0)
    keys = sample_keys(jax.random.key(0), jnp.arange(len(images)))
    augment = jax.jit(randaugment.rand_augment)
    strong = np.asarray(augment(images, keys))
    assert strong.dtype == np.uint8 and strong.shape == images.shape
    np.testing.assert_array_equal(augment(images[9:12], keys[9:12]), strong[9:12])
    noisy = strong[:60].reshape(60, -1)
    assert len(np.unique(noisy, axis=0)) > 50  # 2 of 196 pairs leave it as it is


def test_all_operations_are_drawn_equally_often(monkeypatch):
    """By an operation that counts in place of those that change."""

    def count(image, kind, strength):
        del strength
        return image.at[kind, 0, 0].add(1)

    monkeypatch.setattr(randaugment, "operation", count)
    blank = np.zeros((4000, len(NAMES), 1, 1), np.uint8)
    keys = sample_keys(jax.random.key(1), jnp.arange(4000))
    counts = np.asarray(randaugment.rand_augment(blank, keys))[..., 0, 0].astype(int)
    assert (counts.sum(axis=1) == randaugment.OPERATIONS).all()
    share = counts.sum(axis=0) / counts.sum()
    np.testing.assert_allclose(share, 1 / len(NAMES), atol=0.01)
    assert (counts.max(axis=1) == 2).any()  # an operation may come twice


def test_cutout_is_a_square_of_at_most_half_a_side():
    ones = np.ones((400, 12, 16, 2), np.float32)
    keys = sample_keys(jax.random.key(2), jnp.arange(400))
    cut = np.asarray(randaugment.cutout(ones, keys)) == 0
    assert (cut[..., 0] == cut[..., 1]).all()
    tall, wide = cut[..., 0].any(axis=2), cut[..., 0].any(axis=1)
    np.testing.assert_array_equal(cut[..., 0], tall[:, :, None] & wide[:, None])
    assert tall.sum(axis=1).max() == wide.sum(axis=1).max() == 6
    assert wide.any(axis=0).all()
    assert 0.03 < cut.mean() < 0.1


def test_a_strong_view_of_rows_loses_some_and_is_noisy():
    rows = np.ones((500, 40), np.float32)
    keys = sample_keys(jax.random.key(3), jnp.arange(500))
    strong = np.asarray(view.rows().strong(rows, None, keys))
    gone = strong == 0
    assert gone.mean() == pytest.approx(view.DROPPED, abs=0.01)
    assert strong[~gone].mean() == pytest.approx(1, abs=0.01)
    assert strong[~gone].std() == pytest.approx(view.NOISE, rel=0.03)
    assert view.tokens().strong is None
