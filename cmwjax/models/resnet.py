"""ResNet-34 in its form for small images."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmwjax.models import heads
from cmwjax.models.initializers import torch_kernel
from cmwjax.models.layers import conv_and_norm


class BasicBlock(nn.Module):
    """Convolution and norm, twice; ReLU after the sum with the (projected) input."""

    features: int
    strides: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, in]` -> `[B, H / strides, W / strides, features]`."""
        y = nn.relu(self.norm()(self.conv(self.features, strides=self.strides)(x)))
        y = self.norm()(self.conv(self.features)(y))
        if self.strides > 1 or x.shape[-1] != self.features:
            project = self.conv(
                self.features, kernel_size=(1, 1), strides=self.strides, padding=0
            )
            x = self.norm()(project(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    """ResNet of basic blocks behind a 3x3 stem; 21,282,122 parameters at 34 layers.

    Attributes:
      num_classes: C.
      stage_sizes: number of blocks per stage; `(2, 2, 2, 2)` gives 18 layers.
      width: channels of the first stage, doubled by each later one.
      stem_padding: 0 as in the CMW-Net authors' runs, which takes 32x32 images to
        30, 30, 15, 8 and 4 pixels, or the usual 1.
      axis_name: mapped axis over which batch statistics are averaged.
      dtype: of the computation, e.g. `'bfloat16'`; parameters stay float32.

    References:
      He et al., Deep Residual Learning (https://arxiv.org/abs/1512.03385); this form
      in CMW-Net (https://arxiv.org/abs/2202.05613), feature-dependent noise.
    """

    num_classes: int
    stage_sizes: Sequence[int] = (3, 4, 6, 3)
    width: int = 64
    stem_padding: int = 0
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images `[B, H, W, channels]` -> logits `[B, C]`."""
        conv, norm = conv_and_norm(
            train,
            axis_name=self.axis_name,
            dtype=self.dtype,
            kernel_init=torch_kernel,
        )
        x = nn.relu(norm()(conv(self.width, padding=self.stem_padding)(x)))
        for stage, blocks in enumerate(self.stage_sizes):
            for block in range(blocks):
                strides = 2 if stage and not block else 1
                x = BasicBlock(self.width * 2**stage, strides, conv, norm)(x)
        x = jnp.mean(x, axis=(1, 2))
        return heads.torch_linear(self.num_classes, x.shape[-1])(x)
