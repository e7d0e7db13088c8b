"""Multilayer perceptron."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn

from cmwjax.models import heads
from cmwjax.models.batch_norm import BatchNorm


class MLP(nn.Module):
    """Flattens the input; hidden layers with ReLU and dropout; a linear or cosine head.

    Attributes:
      num_classes: C.
      hidden: widths of the hidden layers.
      dropout: probability of dropping a hidden unit; needs the rng `'dropout'`.
      batch_norm: whether hidden layers have batch norm before the ReLU in place of a
        bias; kernels are Xavier-uniform then, as in the experiments of PRODEN.
      head: `'linear'`, or `'cosine'` as margin losses like LDAM want it.
      scale: factor of the cosine head's logits.
      axis_name: mapped axis over which batch statistics are averaged.
      dtype: type that is computed in, e.g. `'bfloat16'`; parameters stay float32.
    """

    num_classes: int
    hidden: Sequence[int] = (128, 128)
    dropout: float = 0.0
    batch_norm: bool = False
    head: str = "linear"
    scale: float = 30.0
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Inputs `[B, ...]` -> logits `[B, C]`."""
        x = x.reshape(x.shape[0], -1)
        xavier = {"kernel_init": nn.initializers.xavier_uniform()}
        if not self.batch_norm:
            xavier = {}
        for features in self.hidden:
            x = nn.Dense(
                features, use_bias=not self.batch_norm, dtype=self.dtype, **xavier
            )(x)
            if self.batch_norm:
                x = BatchNorm(not train, axis_name=self.axis_name, dtype=self.dtype)(x)
            x = nn.Dropout(self.dropout, deterministic=not train)(nn.relu(x))
        linear = xavier if self.head == "linear" else {}
        return heads.build(self.head, self.num_classes, self.scale, **linear)(x)
