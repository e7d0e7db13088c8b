"""Inception-ResNet-v2, the classifier of the WebVision experiments."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmwjax.core.initializers import torch_uniform
from cmwjax.models import heads
from cmwjax.models.initializers import torch_kernel
from cmwjax.models.layers import conv_and_norm

SMALLEST_IMAGE = 75  # pixels; of anything less the last reduction leaves nothing

# A branch is a chain of layers, a layer (features, kernel) or, where it halves the
# feature map, (features, kernel, 2).
K1, K3, K5 = (1, 1), (3, 3), (5, 5)
MIXED_5B = (
    ((96, K1),),
    ((48, K1), (64, K5)),
    ((64, K1), (96, K3), (96, K3)),
)
BLOCK_35 = (
    ((32, K1),),
    ((32, K1), (32, K3)),
    ((32, K1), (48, K3), (64, K3)),
)
MIXED_6A = (
    ((384, K3, 2),),
    ((256, K1), (256, K3), (384, K3, 2)),
)
BLOCK_17 = (
    ((192, K1),),
    ((128, K1), (160, (1, 7)), (192, (7, 1))),
)
MIXED_7A = (
    ((256, K1), (384, K3, 2)),
    ((256, K1), (288, K3, 2)),
    ((256, K1), (288, K3), (320, K3, 2)),
)
BLOCK_8 = (
    ((192, K1),),
    ((192, K1), (224, (1, 3)), (256, (3, 1))),
)


class ConvNorm(nn.Module):
    """Convolution, norm, ReLU; by default padded unless it strides.

    Attributes:
      features: channels, before they are divided by `shrink`.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: int = 1
    padding: str | None = None
    shrink: int = 1
    train: bool = False
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, in]` -> `[B, H', W', features / shrink]`."""
        conv, norm = conv_and_norm(
            self.train,
            axis_name=self.axis_name,
            dtype=self.dtype,
            kernel_init=torch_kernel,
        )
        x = conv(
            self.features // self.shrink,
            kernel_size=self.kernel_size,
            strides=self.strides,
            padding=self.padding or ("SAME" if self.strides == 1 else "VALID"),
            name="conv",
        )(x)
        return nn.relu(norm(epsilon=1e-3, name="bn")(x))


class Mixed(nn.Module):
    """Branches side by side, the last of which pools.

    Attributes:
      branches: of convolutions.
      layer: `ConvNorm` with what is the same everywhere.
      pooled: features of the 1x1 convolution behind an average pool that keeps the
        size; 0 means max pooling that halves it, and no convolution.
    """

    branches: Sequence[Any]
    layer: Callable[..., nn.Module]
    pooled: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, in]` -> `[B, H', W', sum of the branches' features]`."""
        outputs = _chains(x, self.branches, self.layer)
        if self.pooled:
            pool = nn.avg_pool(x, K3, padding="SAME", count_include_pad=False)
            name = f"branch{len(self.branches)}_1"
            # Flax divides by counts of its own type.
            pool = pool.astype(x.dtype)
            outputs.append(self.layer(self.pooled, K1, name=name)(pool))
        else:
            outputs.append(nn.max_pool(x, K3, strides=(2, 2)))
        return jnp.concatenate(outputs, axis=-1)


class Block(nn.Module):
    """Adds `scale` times a 1x1 convolution of its branches to the input."""

    branches: Sequence[Any]
    scale: float
    layer: Callable[..., nn.Module]
    relu: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, features]` to the same."""
        y = jnp.concatenate(_chains(x, self.branches, self.layer), axis=-1)
        y = nn.Conv(
            x.shape[-1],
            K1,
            kernel_init=torch_kernel,
            bias_init=torch_uniform(y.shape[-1]),
            dtype=self.dtype,
            name="conv2d",
        )(y)
        x = x + self.scale * y
        return nn.relu(x) if self.relu else x


def _chains(x, branches, layer):
    """The output of each branch."""
    outputs = []
    for i, layers in enumerate(branches):
        y = x
        for j, arguments in enumerate(layers):
            name = f"branch{i}_{j}" if len(layers) > 1 else f"branch{i}"
            y = layer(*arguments, name=name)(y)
        outputs.append(y)
    return outputs


class InceptionResNetV2(nn.Module):
    """Inception-ResNet-v2 for 299 pixels; 55,843,464 parameters of 1,000 classes.

    As in Cadene's and timm's conversions of the TensorFlow original, which noisy-label
    papers train on WebVision. Like them, and unlike the original's 0.9997, batch norm
    keeps 0.9 of its running statistics per step; its epsilon is the original's 1e-3.
    Its parts are named as theirs; see `cmwjax.models.torch_names`.

    Attributes:
      num_classes: C.
      repeats: number of residual blocks on 35, 17 and 8 pixels (of 299), which scale
        their branches by 0.17, 0.1 and 0.2; one more by 1, and without ReLU.
      shrink: divides all channels: 1, 2, 4, 8 or 16; for trying things out.
      dropout: probability of dropping one of the 1536 features; needs the rng
        `'dropout'`.
      axis_name: mapped axis over which batch statistics are averaged.
      dtype: of the computation, e.g. `'bfloat16'`; parameters stay float32.

    References:
      Szegedy et al., Inception-v4, Inception-ResNet and the Impact of Residual
      Connections on Learning (https://arxiv.org/abs/1602.07261); on WebVision in
      DivideMix (https://arxiv.org/abs/2002.07394) and CMW-Net
      (https://arxiv.org/abs/2202.05613).
    """

    num_classes: int
    repeats: Sequence[int] = (10, 20, 9)
    shrink: int = 1
    dropout: float = 0.0
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images `[B, H, W, channels]` -> logits `[B, C]`.

        Raises:
          ValueError: images too small, or `shrink` or `repeats` out of range.
        """
        self._check(x)
        layer = partial(
            ConvNorm,
            shrink=self.shrink,
            train=train,
            axis_name=self.axis_name,
            dtype=self.dtype,
        )
        x = layer(32, K3, 2, name="conv2d_1a")(x)
        x = layer(32, K3, padding="VALID", name="conv2d_2a")(x)
        x = layer(64, K3, name="conv2d_2b")(x)
        x = nn.max_pool(x, K3, strides=(2, 2))
        x = layer(80, K1, name="conv2d_3b")(x)
        x = layer(192, K3, padding="VALID", name="conv2d_4a")(x)
        x = nn.max_pool(x, K3, strides=(2, 2))
        x = Mixed(MIXED_5B, layer, pooled=64, name="mixed_5b")(x)
        block = partial(Block, layer=layer, dtype=self.dtype)
        for i in range(self.repeats[0]):
            x = block(BLOCK_35, 0.17, name=f"repeat_{i}")(x)
        x = Mixed(MIXED_6A, layer, name="mixed_6a")(x)
        for i in range(self.repeats[1]):
            x = block(BLOCK_17, 0.1, name=f"repeat_1_{i}")(x)
        x = Mixed(MIXED_7A, layer, name="mixed_7a")(x)
        for i in range(self.repeats[2]):
            x = block(BLOCK_8, 0.2, name=f"repeat_2_{i}")(x)
        x = block(BLOCK_8, 1.0, relu=False, name="block8")(x)
        x = jnp.mean(layer(1536, K1, name="conv2d_7b")(x), axis=(1, 2))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return heads.torch_linear(self.num_classes, x.shape[-1])(x)

    def _check(self, x):
        if min(x.shape[1:3]) < SMALLEST_IMAGE:
            raise ValueError(
                f"images of {x.shape[1]}x{x.shape[2]} pixels are too small; "
                f"give at least {SMALLEST_IMAGE}x{SMALLEST_IMAGE}."
            )
        if self.shrink < 1 or 16 % self.shrink:
            raise ValueError(f"shrink={self.shrink} must be 1, 2, 4, 8 or 16.")
        if len(self.repeats) != 3:
            raise ValueError(f"repeats={self.repeats} must be three numbers of blocks.")
