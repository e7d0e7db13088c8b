"""CMW-Net-SL: what the given label is not trusted with, the teacher's label gets.

With `v` the weight of a sample, `y` its given label and `z` what the teacher predicts
for it, its loss is `v CE(f(x), y) + (1 - v) CE(f(x), z)`. Both terms enter a step as
losses of their own, `[B, 2]`, and `v` and `1 - v` as their coefficients; MixUp makes
four of them (`cmwjax.methods.mixup`).

References:
  CMW-Net (https://arxiv.org/abs/2202.05613), soft-label amelioration (CMW-Net-SL).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from cmwjax.core import losses
from cmwjax.methods.memory import Memory, write

Batch = dict[str, jax.Array]

STARTS = ("predicted", "one_hot")


def soft_losses(given_losses: Callable[[jax.Array, Batch], jax.Array]):
    """Loss terms `[B, 2]`: against the given label, and `batch['soft_label'] [B, C]`.

    Args:
      given_losses: `(logits [B, C], batch) -> [B]`, the first term.
    """

    def both(logits, batch):
        soft = losses.soft_cross_entropy(logits, batch["soft_label"])
        return jnp.stack([given_losses(logits, batch), soft], axis=1)

    return both


def soft_weights(weight_fn):
    """Coefficients `[B, 2]` of `soft_losses`: `v` and `1 - v`.

    Args:
      weight_fn: `(meta_params, losses [B], batch) -> v [B]` in [0, 1]; it sees the loss
        against the given label.
    """

    def both(meta_params, losses, batch):
        v = weight_fn(meta_params, losses[:, 0], batch)
        return jnp.stack([v, 1 - v], axis=1)

    return both


def soft_label_memory(momentum: float = 0.9, start: str = "predicted") -> Memory:
    """Per sample, the moving average of the probabilities that the teacher gave it.

    Each visit after the warm-up averages a prediction in, `z <- momentum * z + (1 -
    momentum) * p`, before `z` is used. A prediction that is not finite is left out.

    Args:
      momentum: in [0, 1); 0 keeps the latest prediction alone.
      start: `'predicted'`, the first visit sets `z = p`; or `'one_hot'`, `z` begins as
        the given label, which still weighs `momentum ** n` after n visits.
    """

    def init(problem):
        shape = (len(problem.labels), problem.dataset.num_classes)
        if start == "one_hot":
            eye = np.eye(problem.dataset.num_classes, dtype=np.float32)
            return {"soft_labels": eye[problem.labels]}
        return {"soft_labels": np.zeros(shape, np.float32)}  # zero: not visited yet

    def before(memory, batch, probabilities, axis_name):
        index, store = batch["index"], memory["soft_labels"]
        old = store[index]
        has_old = jnp.sum(old, axis=-1, keepdims=True) > 0
        has_new = jnp.sum(probabilities, axis=-1, keepdims=True) > 0
        new = momentum * old + (1 - momentum) * probabilities
        rows = jnp.where(has_old, new, probabilities)
        rows = jnp.where(has_new, rows, old)
        memory = {"soft_labels": write(store, index, rows, axis_name)}
        return memory, {**batch, "soft_label": rows}

    return Memory(init, before, predicts=True)
