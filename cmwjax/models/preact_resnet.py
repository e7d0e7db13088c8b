"""Pre-activation ResNet-18 as the noisy-label literature has it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmwjax.models import heads
from cmwjax.models.initializers import torch_kernel
from cmwjax.models.layers import conv_and_norm


class PreActBlock(nn.Module):
    """Norm, ReLU, convolution, twice; the projection starts from the activation."""

    features: int
    strides: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    dropout: Callable[..., nn.Module] = partial(nn.Dropout, 0.0, deterministic=True)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, in]` -> `[B, H / strides, W / strides, features]`."""
        y = nn.relu(self.norm()(x))
        if self.strides > 1 or x.shape[-1] != self.features:
            x = self.conv(
                self.features, kernel_size=(1, 1), strides=self.strides, padding=0
            )(y)
        y = self.conv(self.features, strides=self.strides)(y)
        y = self.dropout()(nn.relu(self.norm()(y)))
        return x + self.conv(self.features)(y)


class PreActResNet(nn.Module):
    """PreAct ResNet of the DivideMix family; 11,171,274 parameters.

    Unlike the original it has batch norm and ReLU after the stem and none at the end.

    Attributes:
      num_classes: C.
      stage_sizes: number of blocks per stage; `(3, 4, 6, 3)` gives 34 layers.
      width: channels of the first stage, doubled by each later one.
      axis_name: mapped axis over which batch statistics are averaged.
      dtype: of the computation, e.g. `'bfloat16'`; parameters stay float32.

    References:
      He et al., Identity Mappings (https://arxiv.org/abs/1603.05027); this form in
      DivideMix (https://arxiv.org/abs/2002.07394) and, with feature-independent
      label noise, in CMW-Net (https://arxiv.org/abs/2202.05613).
    """

    num_classes: int
    stage_sizes: Sequence[int] = (2, 2, 2, 2)
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
            kernel_init=torch_kernel,
        )
        x = nn.relu(norm()(conv(self.width)(x)))
        for stage, blocks in enumerate(self.stage_sizes):
            for block in range(blocks):
                strides = 2 if stage and not block else 1
                x = PreActBlock(self.width * 2**stage, strides, conv, norm)(x)
        x = jnp.mean(x, axis=(1, 2))
        return heads.torch_linear(self.num_classes, x.shape[-1])(x)
