"""The thin residual nets for CIFAR: ResNet-20, -32, -44, -56, -110."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmwjax.core.initializers import torch_uniform
from cmwjax.models import heads
from cmwjax.models.initializers import kaiming_normal
from cmwjax.models.layers import conv_and_norm


class ResNetCifar(nn.Module):
    """Three stages of basic blocks with parameter-free shortcuts; 464,154 parameters.

    Attributes:
      num_classes: C.
      depth: 6n + 2, for n blocks per stage.
      head: `'linear'`, or `'cosine'` as margin losses like LDAM want it.
      scale: of the cosine head's logits.
      axis_name: mapped axis over which batch statistics are averaged.
      dtype: of the computation, e.g. `'bfloat16'`; parameters stay float32.

    References:
      He et al., Deep Residual Learning (https://arxiv.org/abs/1512.03385), section
      4.2; initial values as in CMW-Net (https://arxiv.org/abs/2202.05613), on
      long-tailed CIFAR.
    """

    num_classes: int
    depth: int = 32
    head: str = "linear"
    scale: float = 30.0
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images `[B, H, W, channels]` -> logits `[B, C]`."""
        if self.depth < 8 or self.depth % 6 != 2:
            raise ValueError(f"depth={self.depth} must be 6n + 2: 8, 14, 20, 26, 32...")
        conv, norm = conv_and_norm(
            train,
            axis_name=self.axis_name,
            dtype=self.dtype,
            kernel_init=kaiming_normal,
        )
        x = nn.relu(norm()(conv(16)(x)))
        for stage, features in enumerate((16, 32, 64)):
            for block in range(self.depth // 6):
                strides = 2 if stage and not block else 1
                y = nn.relu(norm()(conv(features, strides=strides)(x)))
                y = norm()(conv(features)(y))
                x = nn.relu(y + pad_shortcut(x, features, strides))
        x = jnp.mean(x, axis=(1, 2))
        return heads.build(
            self.head,
            self.num_classes,
            self.scale,
            kernel_init=kaiming_normal,
            bias_init=torch_uniform(x.shape[-1]),
        )(x)


def pad_shortcut(x: jax.Array, features: int, strides: int) -> jax.Array:
    """Option A: every `strides`-th pixel, and zero channels equally on both sides."""
    pad = (features - x.shape[-1]) // 2
    return jnp.pad(x[:, ::strides, ::strides], ((0, 0), (0, 0), (0, 0), (pad, pad)))
