"""MixUp: every image is blended with a partner, and learns both labels.

One share for the entire batch, `lam >= 1/2`, comes from a key that all devices have; a
partner is drawn within the sample's virtual shard, from a key folded with the number of
the shard. Neither depends on how many devices there are.

References:
  Zhang et al., `mixup <https://arxiv.org/abs/1710.09412>`_, 2018.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Batch = dict[str, jax.Array]


def share(key: jax.Array, alpha: float) -> jax.Array:
    """`max(lam, 1 - lam)` for lam from Beta(alpha, alpha), a scalar in [1/2, 1]."""
    lam = jax.random.beta(key, alpha, alpha)
    return jnp.maximum(lam, 1 - lam)


def partners(key: jax.Array, *, shard_size: int, first: Any, count: int) -> jax.Array:
    """A random permutation within each virtual shard.

    Args:
      key: the same on all devices.
      shard_size: samples of one shard in the batch.
      first: number of the first shard here.
      count: number of shards here; their samples follow each other.

    Returns:
      Position of each sample's partner among the `count * shard_size` samples here.
    """

    def of_shard(shard):
        return jax.random.permutation(jax.random.fold_in(key, shard), shard_size)

    inside = jax.vmap(of_shard)(first + jnp.arange(count))
    return (inside + shard_size * jnp.arange(count)[:, None]).reshape(-1)


def mix(batch: Batch, lam: jax.Array, partner: jax.Array) -> Batch:
    """Blends images; the batch gains `lam` and `partner`, both `[B]`.

    With a partner that has no image (`batch['mask']` false), a sample stays as it is.
    """
    image, lam = batch["image"], jnp.full(partner.shape, lam)
    if "mask" in batch:
        lam = jnp.where(batch["mask"][partner], lam, 1)
    share = lam.reshape(-1, *(1,) * (image.ndim - 1))
    image = share * image + (1 - share) * image[partner]
    return {**batch, "image": image, "lam": lam, "partner": partner}


def mixed_losses(losses: Callable[[jax.Array, Batch], jax.Array]):
    """Loss terms `[B, 2]` of mixed images: against their own label, the partner's.

    Args:
      losses: `(logits [B, C], batch) -> [B]`, of images that are not mixed.
    """

    def both(logits, batch):
        other = {name: x[batch["partner"]] for name, x in batch.items()}
        return jnp.stack([losses(logits, batch), losses(logits, other)], axis=1)

    return both


def mixed_weights(weight_fn):
    """Coefficients `[B, 2]` of `mixed_losses`: `lam * v` and `(1 - lam) * v[partner]`.

    Args:
      weight_fn: `(meta_params, losses [B], batch) -> v [B]`. It sees the loss of the
        mixed image against its own label (the authors' choice).
    """

    def both(meta_params, losses, batch):
        v, lam = weight_fn(meta_params, losses[:, 0], batch), batch["lam"]
        return jnp.stack([lam * v, (1 - lam) * v[batch["partner"]]], axis=1)

    return both
