"""Gradient accumulation: the memory of a part of a batch for the step of the whole."""

import jax
import jax.numpy as jnp
from jax import lax

from cmwjax.core.forward import LossFn, is_inexact


def micro_batches(loss_fn: LossFn, n: int) -> LossFn:
    """Computes `loss_fn` slice by slice, to need the memory of one slice only.

    The losses of n equal slices are put together, so steps and meta-gradients are
    those of the whole batch; each slice is recomputed in the backward pass. Slice i has
    every n-th sample from the i-th on, and so the same ones over any number of devices.
    Batch statistics are those of a slice, the returned model_state their mean.

    Args:
      loss_fn: as in `meta_step`; it sees a slice, and knows no other samples.
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

        def cut(x):
            return x.reshape(size // n, n, *x.shape[1:]).swapaxes(0, 1)

        slices = jax.tree.map(cut, batch)

        def one_slice(numbered):
            i, part = numbered
            slice_key = jax.random.fold_in(key, i)
            return jax.checkpoint(loss_fn)(params, model_state, part, slice_key)

        losses, states = lax.map(one_slice, (jnp.arange(n), slices))
        states = jax.tree.map(lambda x: x.mean(0) if is_inexact(x) else x[-1], states)
        losses = losses.swapaxes(0, 1).reshape(size, *losses.shape[2:])
        return losses, states

    return sliced_loss_fn
