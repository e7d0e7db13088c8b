"""The samples of each class that the classifier agrees with most, as training goes by.

A meta set for those who have noisy labels only: what a classifier finds easiest of a
class carries the right label more often than not (paper, section 3.4).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from cmwjax.core.forward import Batch


class LowestLoss(NamedTuple):
    """For each of C classes, k samples of the lowest loss when last seen."""

    losses: jax.Array  # float32 [C, k], infinite where there is no sample yet
    index: jax.Array  # int32 [C, k], which sample it is; -1 where there is none yet
    samples: Batch  # leaves [C, k, ...]


def empty(batch: Batch, num_classes: int, per_class: int) -> LowestLoss:
    """No samples yet, in room for those of batches like `batch`."""

    def room(x):
        shape = num_classes, per_class, *x.shape[1:]
        return jnp.broadcast_to(x[0], shape)  # something that a loss can be taken of

    shape = num_classes, per_class
    return LowestLoss(
        jnp.full(shape, jnp.inf, jnp.float32),
        jnp.full(shape, -1, jnp.int32),
        jax.tree.map(room, jax.tree.map(jnp.asarray, batch)),
    )


def remember(
    memory: LowestLoss, losses: jax.Array, batch: Batch, axis_name: str | None = None
) -> LowestLoss:
    """The memory after a batch was seen.

    Args:
      memory: the memory before.
      losses: loss of each sample `[n]`.
      batch: the samples, leaves `[n, ...]`, among them `'label'`, int in [0, C), and
        `'index'`, int, a number of its own for each sample; what the memory has no
        room for is passed over.
      axis_name: mapped axis over which the batch is split; the memory is not.
    """
    losses = losses.astype(jnp.float32)
    batch = {name: batch[name] for name in memory.samples}
    if axis_name is not None:
        losses, batch = lax.all_gather((losses, batch), axis_name, tiled=True)
    index, label = (batch[name].astype(jnp.int32) for name in ("index", "label"))
    num_classes, per_class = memory.losses.shape

    # Who is seen again has a new loss, in the place of the old one.
    seen = jnp.isin(memory.index, index)
    kept = jnp.where(seen, jnp.inf, memory.losses)
    again = jnp.triu(index[:, None] == index[None], 1).any(
        0
    )  # a second time in this batch
    usable = jnp.where(again | ~jnp.isfinite(losses), jnp.inf, losses)
    mine = label[None] == jnp.arange(num_classes)[:, None]
    of_class = jnp.where(mine, usable[None], jnp.inf)  # [C, n]
    candidates = jnp.concatenate([kept, of_class], axis=1)
    order = jnp.argsort(candidates, axis=1)[:, :per_class]
    lowest = jnp.take_along_axis(candidates, order, axis=1)
    # Where these are when all places of the memory are followed by the batch.
    first = per_class * jnp.arange(num_classes)[:, None]
    behind = (num_classes - 1) * per_class
    place = order + jnp.where(order < per_class, first, behind)

    def chosen(old, new):
        return jnp.concatenate([old.reshape(-1, *old.shape[2:]), new])[place]

    return LowestLoss(
        lowest,
        jnp.where(jnp.isfinite(lowest), chosen(memory.index, index), -1),
        jax.tree.map(chosen, memory.samples, batch),
    )


def meta_batch(memory: LowestLoss) -> Batch:
    """All samples of the memory, leaves `[C * k, ...]`, and `'filled'`, bool."""
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), memory.samples)
    return {**flat, "filled": jnp.isfinite(memory.losses).ravel()}


def mean_over_filled(losses: jax.Array, filled: jax.Array) -> jax.Array:
    """Losses `[m]` -> `[m]`, of which the mean is that over the filled places, or 0."""
    scale = filled.size / jnp.maximum(jnp.sum(filled), 1)
    return jnp.where(filled, losses, 0) * scale
