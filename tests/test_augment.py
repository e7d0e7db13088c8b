"""Crops and flips against NumPy slices, and what they depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmwjax.data.augment import crop_and_flip, sample_keys

IMAGES = np.random.default_rng(0).integers(1, 256, (200, 6, 7, 2), np.uint8)
KEYS = sample_keys(jax.random.key(0), jnp.arange(200))


def candidates(image, *, pad, mode, flip):
    """Every image that there can be: (row, column, flipped) -> image."""
    how = {"reflect": "reflect", "zero": "constant"}[mode]
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), how)
    for row in range(2 * pad + 1):
        for column in range(2 * pad + 1):
            part = padded[row : row + 6, column : column + 7]
            yield (row, column, 0), part
            if flip:
                yield (row, column, 1), part[:, ::-1]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("mode", ["reflect", "zero"])
def test_every_image_is_a_crop_of_the_padded_one(mode, flip):
    changed = crop_and_flip(IMAGES, KEYS, pad=2, mode=mode, flip=flip)
    assert changed.dtype == np.uint8
    found = []
    for image, new in zip(IMAGES, np.asarray(changed), strict=True):
        options = candidates(image, pad=2, mode=mode, flip=flip)
        (which,) = [how for how, option in options if np.array_equal(option, new)]
        found.append(which)
    # All shifts come up, about as often, and half of the images are mirrored.
    rows, columns, flips = np.transpose(found)
    for shifts in (rows, columns):
        counts = np.bincount(shifts, minlength=5)
        assert counts.sum() == 200 and counts.min() > 20
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.25
    assert 70 < flips.sum() < 130 if flip else flips.sum() == 0


def test_pad_zero_without_flip_changes_nothing():
    same = crop_and_flip(IMAGES, KEYS, pad=0, mode="zero", flip=False)
    np.testing.assert_array_equal(same, IMAGES)


def test_a_sample_depends_on_its_index_and_the_moment_alone():
    def augmented(index, epoch):
        keys = sample_keys(jax.random.fold_in(jax.random.key(7), epoch), index)
        return np.asarray(
            crop_and_flip(IMAGES[index], keys, pad=2, mode="zero", flip=True)
        )

    index = np.array([5, 11, 80, 33])
    together = augmented(index, 2)
    for i, image in zip(index, together, strict=True):
        np.testing.assert_array_equal(augmented(np.array([i]), 2)[0], image)
    np.testing.assert_array_equal(augmented(index[::-1], 2), together[::-1])
    assert np.any(augmented(index, 3) != together)


def test_unfit_settings_are_named():
    with pytest.raises(ValueError, match="augment.mode='wrap' is unknown"):
        crop_and_flip(IMAGES, KEYS, pad=2, mode="wrap", flip=True)
    with pytest.raises(ValueError, match="augment.pad=6 reflects more than .* 6x7"):
        crop_and_flip(IMAGES, KEYS, pad=6, mode="reflect", flip=True)
