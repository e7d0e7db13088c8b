"""Wide residual nets, WRN-depth-width."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmwjax.models.initializers import kaiming_normal_fan_out
from cmwjax.models.layers import conv_and_norm
from cmwjax.models.preact_resnet import PreActBlock


class WideResNet(nn.Module):
    """Three stages of wide pre-activation blocks; WRN-28-10 has 36,479,194 parameters.

    Attributes:
      num_classes: C.
      depth: 6n + 4, for n blocks per stage.
      width: factor on the channels 16, 32, 64.
      dropout: probability of dropping an activation between the convolutions of a
        block; needs the rng `'dropout'`.
      axis_name: mapped axis over which batch statistics are averaged.
      dtype: of the computation, e.g. `'bfloat16'`; parameters stay float32.

    References:
      Zagoruyko and Komodakis, Wide Residual Networks
      (https://arxiv.org/abs/1605.07146).
    """

    num_classes: int
    depth: int = 28
    width: int = 10
    dropout: float = 0.0
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images `[B, H, W, channels]` -> logits `[B, C]`."""
        if self.depth < 10 or self.depth % 6 != 4:
            raise ValueError(f"depth={self.depth} must be 6n + 4: 10, 16, 22, 28...")
        conv, norm = conv_and_norm(
            train,
            axis_name=self.axis_name,
            dtype=self.dtype,
            kernel_init=kaiming_normal_fan_out,
        )
        dropout = partial(nn.Dropout, self.dropout, deterministic=not train)
        x = conv(16)(x)
        for stage, features in enumerate((16, 32, 64)):
            for block in range(self.depth // 6):
                strides = 2 if stage and not block else 1
                x = PreActBlock(features * self.width, strides, conv, norm, dropout)(x)
        x = jnp.mean(nn.relu(norm()(x)), axis=(1, 2))
        return nn.Dense(self.num_classes, name="head")(x)
