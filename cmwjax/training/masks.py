"""Gives samples without a readable input zero weight.

`batch['mask']` bool [B] is false for them; without it, all count. Their slot in the
batch remains, filled with zeros, which is the mean.
"""

import jax.numpy as jnp

from cmwjax.core.meta import MetaLossFn, MetricsFn, WeightFn


def masked_weights(weight_fn: WeightFn) -> WeightFn:
    """A weight function that gives samples without an input the weight zero.

    Args:
      weight_fn: what weighs all others; its coefficients are `[B]` or `[B, T]`.
    """

    def weights(meta_params, losses, batch):
        return _masked(weight_fn(meta_params, losses, batch), batch)

    return weights


def masked_losses(meta_loss_fn: MetaLossFn) -> MetaLossFn:
    """A meta loss function that gives samples without an input the loss zero.

    Args:
      meta_loss_fn: losses `[B]` of all others.
    """

    def losses(params, model_state, meta_batch, key):
        values = meta_loss_fn(params, model_state, meta_batch, key)
        return _masked(values, meta_batch)

    return losses


def masked_metrics(metrics_fn: MetricsFn | None) -> MetricsFn | None:
    """A metrics function for which samples without an input belong to no family.

    Args:
      metrics_fn: statistics per family; None, which stays None: there are none.
    """
    if metrics_fn is None:
        return None

    def metrics(meta_params, losses, batch):
        if "mask" in batch:
            batch = {**batch, "family": jnp.where(batch["mask"], batch["family"], -1)}
        return metrics_fn(meta_params, losses, batch)

    return metrics


def _masked(values, batch):
    if "mask" not in batch:
        return values
    mask = batch["mask"].reshape(-1, *(1,) * (values.ndim - 1))
    return jnp.where(mask, values, 0)
