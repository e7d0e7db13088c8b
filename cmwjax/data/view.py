"""How inputs of one kind become what a model sees: the one place that standardises.

Inputs lie on the devices as a view places them: images as they were read, uint8, rows
of a table standardised, float32, texts as tokens. A view turns a batch of them into
`batch['input']`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cmwjax.data import augment

STANDARDS = ("own", "imagenet")  # by whose pixels images are standardised
# ImageNet's channel means and deviations, as pretrained nets expect.
IMAGENET = (
    np.array([0.485, 0.456, 0.406], np.float32),
    np.array([0.229, 0.224, 0.225], np.float32),
)

Statistics = Any  # a tree of arrays, empty where nothing is standardised


class View(NamedTuple):
    """How inputs of one kind are prepared; pure functions.

    Attributes:
      statistics: `(inputs [N, ...]) -> Statistics`, of the training set, on the host.
      prepare: `(inputs [B, ...], statistics, keys [B] or None) -> tree`, what the model
        sees; with keys, inputs are augmented as in training.
      blends: whether two inputs can be averaged (MixUp).
      place: `(inputs [N, ...], statistics) -> inputs [N, ...]`, on the host: as they
        are to lie on the devices, and as `prepare` takes them.
    """

    statistics: Callable[[Any], Statistics]
    prepare: Callable[[Any, Statistics, jax.Array | None], Any]
    blends: bool
    place: Callable[[Any, Statistics], Any] = lambda raw, statistics: raw


def images(augmentation: Any, standard: str = STANDARDS[0]) -> View:
    """Images uint8 `[B, H, W, C]`, standardised per channel, cropped and flipped.

    Args:
      augmentation: fields `pad`, `mode` and `flip`; see `augment.crop_and_flip`.
      standard: `'own'`, by the training pixels; or `'imagenet'`.
    """
    pad, flip = augmentation.pad, augmentation.flip

    def prepare(raw, statistics, keys):
        if keys is not None and (pad or flip):
            raw = augment.crop_and_flip(
                raw, keys, pad=pad, mode=augmentation.mode, flip=flip
            )
        mean, std = (x.reshape(1, 1, 1, -1) for x in statistics)
        return (raw.astype(jnp.float32) / 255 - mean) / std

    def statistics(raw):
        return IMAGENET if standard == "imagenet" else pixel_statistics(raw)

    return View(statistics, prepare, blends=True)


def rows() -> View:
    """Rows of a table `[B, D]`, standardised per column before they become float32.

    A column of large numbers that differ little, such as times in seconds, would lose
    its differences in float32.
    """

    def statistics(raw):
        raw = np.asarray(raw, np.float64)
        mean, std = raw.mean(axis=0), raw.std(axis=0)
        # A constant column becomes zero, as does one that differs below float32.
        constant = (raw == raw[:1]).all(axis=0)
        mean = np.where(constant, raw[0], mean)  # which may be off by a rounding
        least = np.finfo(np.float32).tiny
        return mean, np.where(constant | (std < least), 1, std)

    def place(raw, statistics):
        mean, std = statistics
        chex.assert_shape([mean, std], raw.shape[1:])  # one number would fit any row
        return ((np.asarray(raw, np.float64) - mean) / std).astype(np.float32)

    def prepare(placed, statistics, keys):
        del statistics, keys
        return placed

    return View(statistics, prepare, blends=True, place=place)


def tokens() -> View:
    """Tokens int32 `[B, L]`, padded with 0, and a mask bool `[B, L]`.

    The mask is true where there is a token, and false where a row is padded.
    """

    def prepare(raw, statistics, keys):
        del statistics, keys
        return {"tokens": raw, "mask": raw > 0}

    return View(lambda raw: (), prepare, blends=False)


class Spec(NamedTuple):
    """Kind, structure, shapes and types of the inputs of one sample; hashable.

    Attributes:
      kind: one of `KINDS`.
      structure: structure of the tree.
      leaves: shape and type of each array, on the devices.
      vocabulary_size: number of tokens; 0 where there are none.
    """

    kind: str
    structure: Any
    leaves: tuple[tuple[tuple[int, ...], str], ...]
    vocabulary_size: int = 0

    @classmethod
    def of(cls, kind: str, inputs: Any, vocabulary_size: int = 0) -> "Spec":
        """That of inputs, leaves `[N, ...]`."""
        leaves, structure = jax.tree.flatten(inputs)
        arrays = tuple(
            (x.shape[1:], "float32" if x.dtype == np.float64 else str(x.dtype))
            for x in leaves
        )
        return cls(kind, structure, arrays, vocabulary_size)

    @property
    def shapes(self) -> list[list[int]]:
        """Shapes of one sample, for messages."""
        return [list(shape) for shape, _ in self.leaves]

    def zeros(self) -> Any:
        """One sample of zeros, leaves `[1, ...]`, on the host."""
        leaves = [np.zeros((1, *shape), dtype) for shape, dtype in self.leaves]
        return jax.tree.unflatten(self.structure, leaves)


KINDS = ("images", "rows", "tokens")
_VIEWS = {"rows": rows, "tokens": tokens}


def build(kind: str, config: Any) -> View:
    """The view of inputs of a kind, one of `KINDS`, as a configuration wants it.

    Raises:
      ValueError: for a setting of images where inputs are none.
    """
    if kind == "images":
        return images(config.augment, config.data.standardise)
    given = {
        "augment.pad": config.augment.pad,
        "augment.flip": config.augment.flip,
        "augment.meta": config.augment.meta,
        "data.standardise": config.data.standardise,
    }
    without_effect = {"data.standardise": STANDARDS[0]}
    for field, value in given.items():
        if value != without_effect.get(field, 0):
            raise ValueError(
                f"config.{field}={value!r} is for images and has no effect on {kind}: "
                f"set it to {without_effect.get(field, type(value)(0))!r}."
            )
    return _VIEWS[kind]()


def plain(kind: str) -> View:
    """The view of inputs of a kind that are not augmented."""
    augmentation = ConfigDict({"pad": 0, "mode": "reflect", "flip": False})
    return images(augmentation) if kind == "images" else _VIEWS[kind]()


def blank(view: View, spec: Spec) -> Any:
    """What a model sees of one sample without an input, leaves `[1, ...]`."""
    raw = spec.zeros()
    seen = jax.eval_shape(lambda x: view.prepare(x, view.statistics(raw), None), raw)
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), seen)


def pixel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel of `[N, H, W, C]`, scaled to [0, 1]."""
    # By counting levels: exact, and no float copy of the set.
    levels = np.arange(256) / 255
    shares = np.stack(
        [
            np.bincount(images[..., c].ravel(), minlength=256)
            for c in range(images.shape[-1])
        ]
    )
    shares = shares / shares.sum(axis=1, keepdims=True)
    mean = shares @ levels
    std = np.sqrt(shares @ levels**2 - mean**2)
    return mean.astype(np.float32), np.maximum(std, 1e-6).astype(np.float32)
