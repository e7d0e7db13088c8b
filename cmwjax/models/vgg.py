"""VGG, with and without batch norm."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cmwjax.models.initializers import kaiming_normal_fan_out
from cmwjax.models.layers import conv_and_norm

POOLED = 7  # pixels per side of what the linear layers see, whatever the image's
MULTIPLES = (1, 2, 4, 8, 8)  # channels of a stage, in widths
small_normal = nn.initializers.normal(0.01)


class VGG(nn.Module):
    """VGG-19 with batch norm; 143,678,248 parameters of 1,000 classes.

    Stages of 3x3 convolutions, each ending in a max pool, an average pool to 7x7 pixels
    and three linear layers. Its parts are named as torchvision names them; see
    `cmwjax.models.torch_names`.

    Attributes:
      num_classes: C.
      stage_sizes: number of convolutions per stage, of at most five; `(2, 2, 3, 3, 3)`
        gives 16 layers.
      width: channels of the first stage.
      hidden: units of each of the two hidden linear layers.
      dropout: probability of dropping one of these units; needs the rng `'dropout'`.
      batch_norm: whether there is one behind each convolution.
      axis_name: mapped axis over which batch statistics are averaged.
      dtype: type that is computed in, e.g. `'bfloat16'`; parameters stay float32.

    References:
      Simonyan and Zisserman, Very Deep Convolutional Networks
      (https://arxiv.org/abs/1409.1556); with initial values as in torchvision. On
      ANIMAL-10N in SELFIE (https://proceedings.mlr.press/v97/song19b.html) and CMW-Net
      (https://arxiv.org/abs/2202.05613).
    """

    num_classes: int
    stage_sizes: Sequence[int] = (2, 2, 4, 4, 4)
    width: int = 64
    hidden: int = 4096
    dropout: float = 0.5
    batch_norm: bool = True
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images `[B, H, W, channels]` -> logits `[B, C]`.

        Raises:
          ValueError: for images too small, or more than five stages.
        """
        x = features(
            x,
            train,
            stage_sizes=self.stage_sizes,
            width=self.width,
            batch_norm=self.batch_norm,
            axis_name=self.axis_name,
            dtype=self.dtype,
        )
        x = adaptive_average_pool(x, POOLED)
        # Channels first, as the first linear layer of torchvision's sees them.
        x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
        for place in (0, 3):
            x = nn.Dense(
                self.hidden,
                dtype=self.dtype,
                kernel_init=small_normal,
                name=f"classifier_{place}",
            )(x)
            x = nn.Dropout(self.dropout, deterministic=not train)(nn.relu(x))
        return nn.Dense(self.num_classes, kernel_init=small_normal, name="head")(x)


def features(
    x: jax.Array,
    train: bool,
    *,
    stage_sizes: Sequence[int],
    width: int = 64,
    batch_norm: bool = False,
    last_pool: bool = True,
    axis_name: str | None = None,
    dtype: Any = None,
) -> jax.Array:
    """The convolutions of VGG; to be called within a module's `__call__`.

    Args:
      x: images `[B, H, W, channels]`.
      train: whether norms use and record the statistics of the batch.
      stage_sizes: number of convolutions per stage, of at most five.
      width: channels of the first stage.
      batch_norm: whether there is one behind each convolution.
      last_pool: whether the last stage ends in a max pool as well.
      axis_name: mapped axis over which batch statistics are averaged.
      dtype: type that is computed in.

    Returns:
      `[B, H / 2**stages, W / 2**stages, channels of the last stage]`, twice the size
      without `last_pool`.

    Raises:
      ValueError: for images too small, or more than five stages.
    """
    stages = len(stage_sizes)
    if not 1 <= stages <= len(MULTIPLES):
        raise ValueError(
            f"stage_sizes={stage_sizes} must be one to {len(MULTIPLES)} numbers of "
            "convolutions."
        )
    smallest = 2 ** (stages - 1 + last_pool)
    if min(x.shape[1:3]) < smallest:
        raise ValueError(
            f"images of {x.shape[1]}x{x.shape[2]} pixels are too small; give at least "
            f"{smallest}x{smallest}."
        )
    conv, norm = conv_and_norm(
        train,
        axis_name=axis_name,
        dtype=dtype,
        use_bias=True,
        kernel_init=kaiming_normal_fan_out,
    )
    place = 0  # of a layer in torchvision's sequence, where ReLU and pools count
    for stage, convolutions in enumerate(stage_sizes):
        for _ in range(convolutions):
            x = conv(width * MULTIPLES[stage], name=f"features_{place}")(x)
            if batch_norm:
                x = norm(name=f"features_{place + 1}")(x)
            x = nn.relu(x)
            place += 2 + batch_norm
        if last_pool or stage < stages - 1:
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
            place += 1
    return x


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
    """Means of `size` x `size` parts that cover an image, as PyTorch cuts them.

    Part i of n pixels goes from `floor(i n / size)` to `ceil((i + 1) n / size)`, so
    that parts overlap where that is no whole number, and of fewer pixels some are
    repeated.

    Args:
      x: `[B, H, W, C]`.
      size: parts per side.

    Returns:
      `[B, size, size, C]`.
    """
    rows, columns = (_shares(n, size) for n in x.shape[1:3])
    return jnp.einsum(
        "ih,bhwc,jw->bijc", jnp.asarray(rows, x.dtype), x, jnp.asarray(columns, x.dtype)
    )


def _shares(pixels: int, size: int) -> np.ndarray:
    """Of each pixel in each part, `[size, pixels]`."""
    shares = np.zeros((size, pixels))
    for part in range(size):
        start, end = part * pixels // size, -(-(part + 1) * pixels // size)
        shares[part, start:end] = 1 / (end - start)
    return shares
