"""How inputs of one kind become what a model sees: the one place that standardises.

Inputs lie on the devices as a view places them: images as they were read, uint8, rows
of a table standardised, float32, texts as tokens. A view turns a batch of them into
`batch['input']`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cmwjax.data import augment, randaugment

STANDARDS = ("own", "imagenet")  # by whose pixels images are standardised
# ImageNet's channel means and deviations, as pretrained nets expect.
IMAGENET = (
    np.array([0.485, 0.456, 0.406], np.float32),
    np.array([0.229, 0.224, 0.225], np.float32),
)

# The strong view of rows, in standard deviations and as a share of the columns.
NOISE, DROPPED = 0.3, 0.3

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
      strong: as `prepare`, always with keys: a view that is much harder to recognise;
        None where there is no such view.
    """

    statistics: Callable[[Any], Statistics]
    prepare: Callable[[Any, Statistics, jax.Array | None], Any]
    blends: bool
    place: Callable[[Any, Statistics], Any] = lambda raw, statistics: raw
    strong: Callable[[Any, Statistics, jax.Array], Any] | None = None

    def strong_by(self, strong_keys: jax.Array) -> Callable[..., Any]:
        """As `prepare`, of the strong view.

        Args:
          strong_keys: one per sample, `[B]`, in place of those that `prepare` is given.

        Raises:
          ValueError: if inputs of this kind have none.
        """
        strong = self.strong
        if strong is None:
            raise ValueError("view: inputs of this kind have no strong view.")
        return lambda raw, statistics, keys: strong(raw, statistics, strong_keys)

    def pair(self, strong_keys: jax.Array) -> Callable[..., Any]:
        """As `prepare`, of two views: what the model sees, and `strong_by`."""
        strong = self.strong_by(strong_keys)
        return lambda *given: (self.prepare(*given), strong(*given))


def images(augmentation: Any, standard: str = STANDARDS[0]) -> View:
    """Images uint8 `[B, H, W, C]`, standardised per channel, cropped and flipped.

    The strong view is cropped and flipped too, then RandAugment's, with a square cut
    out; see `randaugment`.

    Args:
      augmentation: fields `pad`, `mode` and `flip`; see `augment.crop_and_flip`.
      standard: `'own'`, by the training pixels; or `'imagenet'`.
    """
    pad, flip = augmentation.pad, augmentation.flip

    def moved(raw, keys):
        if keys is None or not (pad or flip):
            return raw
        return augment.crop_and_flip(
            raw, keys, pad=pad, mode=augmentation.mode, flip=flip
        )

    def standardised(raw, statistics):
        mean, std = (x.reshape(1, 1, 1, -1) for x in statistics)
        return (raw.astype(jnp.float32) / 255 - mean) / std

    def prepare(raw, statistics, keys):
        return standardised(moved(raw, keys), statistics)

    def strong(raw, statistics, keys):
        first, second, third = jax.vmap(partial(jax.random.split, num=3), out_axes=1)(
            keys
        )
        raw = randaugment.rand_augment(moved(raw, first), second)
        return randaugment.cutout(standardised(raw, statistics), third)

    def statistics(raw):
        return IMAGENET if standard == "imagenet" else pixel_statistics(raw)

    return View(statistics, prepare, blends=True, strong=strong)


def rows() -> View:
    """Rows of a table `[B, D]`, standardised per column before they become float32.

    A column of large numbers that differ little, such as times in seconds, would lose
    its differences in float32. The strong view is our own choice: Gaussian noise of
    `NOISE` of each column's deviation is added, and a share `DROPPED` of the columns of
    every row replaced by the mean.
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

    def strong(placed, statistics, keys):
        del statistics

        def one(row, key):
            noise, drop = jax.random.split(key)
            row = row + NOISE * jax.random.normal(noise, row.shape, row.dtype)
            return jnp.where(jax.random.bernoulli(drop, DROPPED, row.shape), 0, row)

        return jax.vmap(one)(placed, keys)

    return View(statistics, prepare, blends=True, place=place, strong=strong)


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
