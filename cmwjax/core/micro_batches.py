"""Gradient accumulation: the memory of a part of a batch for the step of the whole."""

import jax
import jax.numpy as jnp
from jax import lax

from cmwjax.core.forward import LossFn, is_inexact


def micro_batches(loss_fn: LossFn, n: int) -> LossFn:
    """Computes `loss_fn` slice by slice, to need the memory of one slice only.

    The losses of n equal slices are concatenated, so steps and meta-gradients are
    those of the whole batch; each slice is recomputed in the backward pass. Batch
    statistics are those of a slice, the returned model_state their mean.

    Args:
      loss_fn: as in `meta_step`.
      n: number of slices; the (per-device) batch size must be a multiple.

    Raises:
      ValueError: if n is below 1; when traced with a batch that it does not divide.
    """
    if n < 1:
        raise ValueError(f"n={n} must be at least 1: it is a number of slices.")

    def sliced_loss_fn(params, model_state, batch, key):
        size = jax.tree.leaves(batch)[0].shape[0]
        if size % n:
            raise ValueError(
                f"a batch of {size} cannot be cut into {n} equal micro-batches; "
                "choose a number that divides it."
            )
        slices = jax.tree.map(lambda x: x.reshape(n, size // n, *x.shape[1:]), batch)

        def one_slice(numbered):
            i, part = numbered
            slice_key = jax.random.fold_in(key, i)
            return jax.checkpoint(loss_fn)(params, model_state, part, slice_key)

        losses, states = lax.map(one_slice, (jnp.arange(n), slices))
        states = jax.tree.map(lambda x: x.mean(0) if is_inexact(x) else x[-1], states)
        return losses.reshape(size, *losses.shape[2:]), states

    return sliced_loss_fn
