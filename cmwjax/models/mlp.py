"""Multilayer perceptron."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn

from cmwjax.models import heads


class MLP(nn.Module):
    """Flattens the input; hidden layers with ReLU and dropout; a linear or cosine head.

    Attributes:
      num_classes: C.
      hidden: widths of the hidden layers.
      dropout: probability of dropping a hidden unit; needs the rng `'dropout'`.
      head: `'linear'`, or `'cosine'` as margin losses like LDAM want it.
      scale: factor of the cosine head's logits.
      dtype: type that is computed in, e.g. `'bfloat16'`; parameters stay float32.
    """

    num_classes: int
    hidden: Sequence[int] = (128, 128)
    dropout: float = 0.0
    head: str = "linear"
    scale: float = 30.0
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Inputs `[B, ...]` -> logits `[B, C]`."""
        x = x.reshape(x.shape[0], -1)
        for features in self.hidden:
            x = nn.relu(nn.Dense(features, dtype=self.dtype)(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return heads.build(self.head, self.num_classes, self.scale)(x)
