"""Per-example losses. Nothing here reduces over the batch: weights need [B].

Logits are `[B, C]`, labels integers `[B]` in [0, C), losses `[B]` in nats.
"""

import jax
import jax.numpy as jnp
import optax
from jax.scipy.special import logsumexp


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross entropy against integer labels.

    Args:
      logits: unnormalised log-probabilities, `[B, C]`.
      labels: classes in [0, C), integers `[B]`.

    Returns:
      Losses `[B]`, in nats.

    Examples:
      >>> logits = jnp.log(jnp.array([[0.9, 0.1], [0.5, 0.5]]))
      >>> [round(float(loss), 2) for loss in cross_entropy(logits, jnp.array([0, 1]))]
      [0.11, 0.69]
    """
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)


def soft_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross entropy against class probabilities, `[B, C]`, `[B, C]` -> `[B]`."""
    return optax.losses.softmax_cross_entropy(logits, targets)


def label_smoothing(
    logits: jax.Array, labels: jax.Array, *, smoothing: float
) -> jax.Array:
    """Cross entropy against `(1 - smoothing) * one_hot + smoothing / C`."""
    one_hot = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return soft_cross_entropy(logits, optax.losses.smooth_labels(one_hot, smoothing))


def focal(logits: jax.Array, labels: jax.Array, *, gamma: float) -> jax.Array:
    """`(1 - p_y)^gamma * CE`: what is fitted well counts little.

    References:
      Lin et al., `Focal loss <https://arxiv.org/abs/1708.02002>`_, 2017.
    """
    losses = cross_entropy(logits, labels)
    # Above zero, for the slope of a power below one is infinite there.
    wrong = jnp.maximum(-jnp.expm1(-losses), jnp.finfo(losses.dtype).eps)
    return wrong**gamma * losses


def generalized_cross_entropy(
    logits: jax.Array, labels: jax.Array, *, q: float
) -> jax.Array:
    """`(1 - p_y^q) / q`: from cross entropy (q -> 0) to absolute error (q = 1).

    References:
      Zhang and Sabuncu, `GCE <https://arxiv.org/abs/1805.07836>`_, 2018.
    """
    return -jnp.expm1(-q * cross_entropy(logits, labels)) / q


def ldam(
    logits: jax.Array, labels: jax.Array, margins: jax.Array, *, scale: float
) -> jax.Array:
    """Cross entropy after the label's logit is lowered by `scale` times its margin.

    Args:
      logits: cosines times `scale`, as a cosine head gives them, `[B, C]`.
      labels: classes, `[B]`.
      margins: margin of each label's class, in cosines, `[B]`.
      scale: factor of the cosine head.

    References:
      Cao et al., `LDAM-DRW <https://arxiv.org/abs/1906.07413>`_, 2019.
    """
    chosen = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return cross_entropy(logits - scale * margins[:, None] * chosen, labels)


def forward(logits: jax.Array, columns: jax.Array) -> jax.Array:
    """`-log (T^T p)_y`: loss of a noisy label, for a classifier of the true class.

    Args:
      logits: for the true class, `[B, C]`.
      columns: `T[:, y]` of the transition matrix, for each label y: `[B, C]`.

    References:
      Patrini et al., `Loss correction <https://arxiv.org/abs/1609.03683>`_, 2017.
    """
    return -logsumexp(jax.nn.log_softmax(logits), axis=-1, b=columns)


def early_learning(
    logits: jax.Array, labels: jax.Array, targets: jax.Array, *, strength: float
) -> jax.Array:
    """`CE + strength * log(1 - <p, t>)`: keeps to what was predicted early on.

    Args:
      logits: `[B, C]`.
      labels: classes, `[B]`.
      targets: t, averaged predictions for these samples, `[B, C]`.
      strength: lambda.

    References:
      Liu et al., `ELR <https://arxiv.org/abs/2007.00151>`_, 2020.
    """
    # Kept off 1, as the authors do: log(0) is not far away.
    p = jnp.clip(jax.nn.softmax(logits), 1e-4, 1 - 1e-4)
    disagreement = 1 - jnp.sum(p * targets, axis=-1)
    return cross_entropy(logits, labels) + strength * jnp.log(disagreement)


def squared_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """`(output - target)^2`, without a half.

    Args:
      outputs: predicted targets, `[B, 1]` or `[B]`.
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
      outputs: predicted targets, `[B, 1]` or `[B]`.
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
    if not delta > 0:
        raise ValueError(f"delta={delta} must be above 0: choose an error.")
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
