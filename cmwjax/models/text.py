"""Classifier of short texts: the mean of their tokens' vectors, then a perceptron."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmwjax.models import heads


class TextMean(nn.Module):
    """Averages token vectors; hidden layers with ReLU; a linear or cosine head.

    Attributes:
      num_classes: C.
      vocabulary_size: number of tokens, padding and unknown ones among them.
      embedding: width of a token's vector.
      hidden: widths of the hidden layers; none suits a few thousand texts best.
      dropout: probability of dropping a unit of the mean or of a hidden layer; needs
        the rng `'dropout'`.
      head: `'linear'`, or `'cosine'` as margin losses like LDAM want it.
      scale: of the cosine head's logits.
      dtype: of the computation, e.g. `'bfloat16'`; parameters stay float32.

    References:
      Joulin et al., `fastText <https://arxiv.org/abs/1607.01759>`_, 2017.
    """

    num_classes: int
    vocabulary_size: int
    embedding: int = 64
    hidden: Sequence[int] = ()
    dropout: float = 0.0
    head: str = "linear"
    scale: float = 30.0
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Mapping[str, jax.Array], train: bool) -> jax.Array:
        """Tokens and where they count -> logits `[B, C]`.

        Args:
          x: `tokens` int32 [B, L] in [0, vocabulary_size); `mask` bool [B, L]. Without
            any token that counts, the mean is zero.
          train: whether units are dropped.
        """
        dropout = nn.Dropout(self.dropout, deterministic=not train)
        embed = nn.Embed(self.vocabulary_size, self.embedding, dtype=self.dtype)
        vectors = embed(x["tokens"])
        mask = x["mask"][..., None]
        count = jnp.maximum(jnp.sum(mask, axis=1), 1).astype(vectors.dtype)
        mean = jnp.sum(jnp.where(mask, vectors, 0), axis=1) / count
        hidden = dropout(mean)
        for features in self.hidden:
            hidden = dropout(nn.relu(nn.Dense(features, dtype=self.dtype)(hidden)))
        return heads.build(self.head, self.num_classes, self.scale)(hidden)
