"""MixUp: every input is blended with a partner, and learns both labels.

One share for the whole batch, `lam >= 1/2`, comes from a key that all devices have; a
partner is drawn within the sample's virtual shard, from a key folded with the number of
the shard. Neither depends on how many devices there are.

References:
  Zhang et al., `mixup <https://arxiv.org/abs/1710.09412>`_, 2018.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Batch = dict[str, jax.Array]

SECOND_WEIGHTS = ("permuted", "mixed")


class MixUp(NamedTuple):
    """How inputs are blended.

    Attributes:
      alpha: of Beta(alpha, alpha), for training inputs; 0: they stay as they are.
      second_weight: see `mixed_weights`.
      meta_alpha: the same of the meta batch.
    """

    alpha: float = 0.0
    second_weight: str = SECOND_WEIGHTS[0]
    meta_alpha: float = 0.0


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
    """Blends inputs; the batch gains `lam` and `partner`, both `[B]`.

    With a partner that has no input (`batch['mask']` false), a sample stays as it is.
    """
    lam = jnp.full(partner.shape, lam)
    if "mask" in batch:
        lam = jnp.where(batch["mask"][partner], lam, 1)

    def blend(x):
        share = lam.reshape(-1, *(1,) * (x.ndim - 1))
        return share * x + (1 - share) * x[partner]

    inputs = jax.tree.map(blend, batch["input"])
    return {**batch, "input": inputs, "lam": lam, "partner": partner}


def mixed_losses(losses: Callable[[jax.Array, Batch], jax.Array]):
    """Loss terms `[B, 2 T]` of mixed inputs: those of the sample, then the partner's.

    Args:
      losses: `(logits [B, C], batch) -> [B]` (T = 1) or `[B, T]`, of inputs that are
        not mixed.
    """

    def both(logits, batch):
        terms = losses(logits, batch), losses(logits, partners_batch(batch))
        return jnp.concatenate([t.reshape(len(t), -1) for t in terms], axis=1)

    return both


def mixed_weights(weight_fn, second_weight: str = "permuted"):
    """Coefficients `[B, 2 T]` of `mixed_losses`: `lam * v1`, then `(1 - lam) * v2`.

    Args:
      weight_fn: `(meta_params, losses, batch) -> v1`, losses and result `[B]` (T = 1)
        or `[B, T]`. It sees the losses of the mixed input against the sample's labels.
      second_weight: `'permuted'`, v2 is the v1 of the partner, which saw the partner's
        own mixed input (the authors' main script); or `'mixed'`, v2 comes of the losses
        of this mixed input against the partner's labels (their other scripts).

    Raises:
      ValueError: if `second_weight` is neither.
    """
    if second_weight not in SECOND_WEIGHTS:
        raise ValueError(
            f"second_weight={second_weight!r} is unknown; choose one of "
            f"{SECOND_WEIGHTS}."
        )

    def both(meta_params, losses, batch):
        # One term goes through weight_fn as [B], as it does without MixUp.
        first, second = jnp.split(losses, 2, axis=1)
        if first.shape[1] == 1:
            first, second = first[:, 0], second[:, 0]
        v1 = weight_fn(meta_params, first, batch)
        if second_weight == "permuted":
            v2 = v1[batch["partner"]]
        else:
            v2 = weight_fn(meta_params, second, partners_batch(batch))
        v1, v2 = (v.reshape(len(v), -1) for v in (v1, v2))
        lam = batch["lam"][:, None]
        return jnp.concatenate([lam * v1, (1 - lam) * v2], axis=1)

    return both


def mixed_label_losses(losses: Callable[[jax.Array, Batch], jax.Array]):
    """Losses `[B]` of mixed inputs against both labels, `lam` and `1 - lam` of each."""

    def mean(logits, batch):
        own, other = losses(logits, batch), losses(logits, partners_batch(batch))
        return batch["lam"] * own + (1 - batch["lam"]) * other

    return mean


def partners_batch(batch: Batch) -> Batch:
    """All that a mixed batch holds, of each sample's partner."""
    return jax.tree.map(lambda x: x[batch["partner"]], batch)
