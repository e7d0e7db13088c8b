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

from cmwjax.core import losses
from cmwjax.methods.memory import Memory
from cmwjax.methods.probability_store import probability_store

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


def soft_label_memory(
    momentum: float = 0.9,
    start: str = "predicted",
    *,
    top_k: int = 0,
    shards: int = 1,
) -> Memory:
    """Per sample, the moving average of the probabilities that the teacher gave it.

    Each visit after the warm-up averages a prediction in, `z <- momentum * z + (1 -
    momentum) * p`, before `z` is used. A prediction that is not finite is left out.

    Args:
      momentum: in [0, 1); 0 keeps the latest prediction alone.
      start: `'predicted'`, the first visit sets `z = p`; or `'one_hot'`, `z` begins as
        the given label, which still weighs `momentum ** n` after n visits.
      top_k: how many probabilities of a sample are kept between visits; 0: all.
      shards: see `probability_store`.
    """
    store = probability_store("soft_labels", top_k=top_k, shards=shards)

    def init(problem):  # zeros where a sample was not visited yet
        return store.init(problem, problem.labels if start == "one_hot" else None)

    def before(memory, batch, probabilities, axis_name):
        old = store.read(memory, batch, probabilities.shape[-1])
        has_old = jnp.sum(old, axis=-1, keepdims=True) > 0
        has_new = jnp.sum(probabilities, axis=-1, keepdims=True) > 0
        new = momentum * old + (1 - momentum) * probabilities
        rows = jnp.where(has_old, new, probabilities)
        rows = jnp.where(has_new, rows, old)
        memory = store.write(memory, batch, rows, axis_name)
        return memory, {**batch, "soft_label": rows}

    return Memory(init, before, check=store.check, split=store.split, predicts=True)
