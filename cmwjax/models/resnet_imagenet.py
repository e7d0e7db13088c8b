"""ResNet-50 and its relatives for large images."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmwjax.models import heads
from cmwjax.models.initializers import kaiming_normal_fan_out
from cmwjax.models.layers import conv_and_norm


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution with norms; the 3x3 one strides ("version 1.5")."""

    features: int
    strides: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, in]` -> `[B, H / strides, W / strides, 4 * features]`."""
        wide = 4 * self.features
        y = nn.relu(self.norm(name="bn1")(self.conv(self.features, name="conv1")(x)))
        y = self.conv(
            self.features,
            kernel_size=(3, 3),
            strides=self.strides,
            padding=1,
            name="conv2",
        )(y)
        y = nn.relu(self.norm(name="bn2")(y))
        y = self.norm(name="bn3")(self.conv(wide, name="conv3")(y))
        if self.strides > 1 or x.shape[-1] != wide:
            x = self.conv(wide, strides=self.strides, name="downsample_0")(x)
            x = self.norm(name="downsample_1")(x)
        return nn.relu(x + y)


class ResNetImageNet(nn.Module):
    """ResNet of bottlenecks behind a 7x7 stem; 25,557,032 parameters of 1,000 classes.

    Its parts are named as torchvision names them; see `cmwjax.models.torch_names`.

    Attributes:
      num_classes: C.
      stage_sizes: number of blocks per stage; `(3, 4, 23, 3)` gives 101 layers.
      width: channels of the stem; the first stage has four times as many, doubled by
        each later one.
      axis_name: mapped axis over which batch statistics are averaged.
      dtype: of the computation, e.g. `'bfloat16'`; parameters stay float32.

    References:
      He et al., Deep Residual Learning (https://arxiv.org/abs/1512.03385); with the
      stride in the 3x3 convolution and initial values as in torchvision.
    """

    num_classes: int
    stage_sizes: Sequence[int] = (3, 4, 6, 3)
    width: int = 64
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images `[B, H, W, channels]` -> logits `[B, C]`."""
        conv, norm = conv_and_norm(
            train,
            axis_name=self.axis_name,
            dtype=self.dtype,
            kernel_size=(1, 1),
            padding=0,
            kernel_init=kaiming_normal_fan_out,
        )
        x = conv(self.width, kernel_size=(7, 7), strides=2, padding=3, name="conv1")(x)
        x = nn.relu(norm(name="bn1")(x))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage, blocks in enumerate(self.stage_sizes):
            for block in range(blocks):
                strides = 2 if stage and not block else 1
                name = f"layer{stage + 1}_{block}"
                x = Bottleneck(self.width * 2**stage, strides, conv, norm, name=name)(x)
        x = jnp.mean(x, axis=(1, 2))
        return heads.torch_linear(self.num_classes, x.shape[-1])(x)
