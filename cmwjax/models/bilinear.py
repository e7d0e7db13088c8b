"""Bilinear CNN: the products of all pairs of channels, for classes that look alike."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmwjax.models import vgg
from cmwjax.models.initializers import kaiming_normal

INSIDE_ROOT = 1e-5  # keeps the slope of the square root finite


class BilinearCNN(nn.Module):
    """B-CNN on the convolutions of VGG-16; 14,714,688 parameters and the last layer.

    Means of the products of channels over the image, their square roots, scaled to
    length one. The convolutions are named as in torchvision's `vgg16`, whose weights it
    starts from without their linear layers; see `cmwjax.models.torch_names`.

    Attributes:
      num_classes: C; of 512 x 512 products, 262,145 parameters for each.
      stage_sizes: number of convolutions per stage, of at most five; no max pool behind
        the last one.
      width: channels of the first stage.
      dtype: type that is computed in, e.g. `'bfloat16'`; parameters stay float32, and
        so do the products.

    References:
      Lin et al., Bilinear CNNs for Fine-grained Visual Recognition
      (https://arxiv.org/abs/1504.07889), with both streams the same. On WebFG-496 in
      Sun et al. (https://arxiv.org/abs/2108.02399) and CMW-Net
      (https://arxiv.org/abs/2202.05613).
    """

    num_classes: int
    stage_sizes: Sequence[int] = (2, 2, 3, 3, 3)
    width: int = 64
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images `[B, H, W, channels]` -> logits `[B, C]`.

        Raises:
          ValueError: for images too small, or more than five stages.
        """
        x = vgg.features(
            x,
            train,
            stage_sizes=self.stage_sizes,
            width=self.width,
            last_pool=False,
            dtype=self.dtype,
        )
        x = bilinear_pool(x.astype(jnp.promote_types(x.dtype, jnp.float32)))
        return nn.Dense(self.num_classes, kernel_init=kaiming_normal, name="head")(x)


def bilinear_pool(x: jax.Array) -> jax.Array:
    """Means of products of channels, as vectors of length one.

    Args:
      x: features `[B, H, W, F]`, none of them negative.

    Returns:
      `[B, F * F]`, not negative.
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height * width, channels)
    x = jnp.einsum("bpf,bpg->bfg", x, x) / (height * width)
    x = jnp.sqrt(x.reshape(batch, channels**2) + INSIDE_ROOT)
    return x / jnp.linalg.norm(x, axis=1, keepdims=True)
