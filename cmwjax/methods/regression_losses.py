"""Losses of one number per sample, `[B, 1]` or `[B]` against `[B]`, unreduced."""

import jax
import optax

from cmwjax.methods.method import check_range


def squared_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """`(output - target)^2`, without a half.

    Args:
      outputs: of a model of width one, `[B, 1]`, or `[B]`.
      targets: `[B]`, in the units of the outputs.

    Returns:
      Losses `[B]`, in these units squared.

    Raises:
      ValueError: for outputs or targets of another shape.
    """
    return optax.losses.squared_error(_one_output(outputs, targets), targets)


def huber(outputs: jax.Array, targets: jax.Array, *, delta: float) -> jax.Array:
    """Half the squared error up to delta, from there on `delta * (|error| - delta/2)`.

    Args:
      outputs: of a model of width one, `[B, 1]`, or `[B]`.
      targets: `[B]`, in the units of the outputs.
      delta: the error, in these units, from which on the loss is linear; above 0.

    Returns:
      Losses `[B]`, in these units squared.

    Raises:
      ValueError: for outputs or targets of another shape, or a delta of no use.

    References:
      Huber, Robust estimation of a location parameter, Annals of Mathematical
      Statistics 35/1, 1964.
    """
    check_range("delta", delta, 1e-6)
    return optax.losses.huber_loss(_one_output(outputs, targets), targets, delta=delta)


def _one_output(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Outputs `[B]`; refuses what would be broadcast to `[B, B]`."""
    if targets.ndim != 1 or outputs.shape not in (targets.shape, (*targets.shape, 1)):
        raise ValueError(
            f"outputs are {list(outputs.shape)} and targets {list(targets.shape)}, but "
            "must be [B, 1] or [B] and [B]: give the model one output, and every "
            "sample one target."
        )
    return outputs.reshape(targets.shape)
