"""Per-example losses. Nothing here reduces over the batch: weights need [B]."""

import jax
import jax.numpy as jnp


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross entropy against integer labels.

    Args:
      logits: unnormalised log-probabilities, `[B, C]`.
      labels: classes in [0, C), integers `[B]`.

    Returns:
      Losses `[B]`, in nats.
    """
    log_p = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_p, labels[:, None], axis=-1)[:, 0]


def soft_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross entropy against class probabilities, `[B, C]`, `[B, C]` -> `[B]`."""
    return -jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1)
