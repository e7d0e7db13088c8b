"""A data set as arrays on the device, and the batches gathered from it there."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Table(NamedTuple):
    """Everything a batch is made of; replicated on all devices."""

    images: Any  # uint8 [N, H, W, C]; None if they come with the rows, ready to use
    labels: Any  # int32 [N], as observed
    family: Any  # int32 [number of classes], family of each class
    mean: Any  # float32 [C], of pixels scaled to [0, 1]
    std: Any  # float32 [C]
    features: Mapping[str, Any] = {}  # more of each class, [number of classes, ...]


STANDARDS = ("own", "imagenet")  # by whose pixels images are standardised
# ImageNet's channel means and deviations, as pretrained nets expect.
IMAGENET = (
    np.array([0.485, 0.456, 0.406], np.float32),
    np.array([0.229, 0.224, 0.225], np.float32),
)


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


def make_batch(
    table: Table,
    rows: Mapping[str, jax.Array],
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
) -> dict[str, jax.Array]:
    """The samples that the host named, as the dict that steps take.

    Args:
      table: where they are.
      rows: which ones, `index` int32 [B]; where the table has no images also their
        `image`, uint8 [B, H, W, C]; and `mask` bool [B], if some have none.
      augment: `(images uint8 [B, H, W, C], index) -> images`, if those of the table are
        to change.

    Returns:
      `image` float32 [B, H, W, C], standardised per channel, of the mean colour where
      there is none; `label` and `family` int32 [B]; the features of the labels,
      [B, ...] each; and `index` and `mask` as they came.
    """
    index = rows["index"]
    label = table.labels[index]
    if table.images is None:
        image = rows["image"]
    else:
        image = table.images[index]
        if augment is not None:
            image = augment(image, index)
    channel = (1, 1, 1, -1)
    image = image.astype(jnp.float32) / 255
    image = (image - table.mean.reshape(channel)) / table.std.reshape(channel)
    if "mask" in rows:
        image = jnp.where(rows["mask"].reshape(-1, 1, 1, 1), image, 0)
    return {
        **rows,
        "image": image,
        "label": label,
        "family": table.family[label],
        **{name: values[label] for name, values in table.features.items()},
    }
