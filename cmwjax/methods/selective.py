"""Losses with an output for abstention, to which samples go that cannot be learned.

Logits are `[B, C + 1]`, see `cmwjax.tasks.selective`. Of the label, only a share is
learned, and of abstention the rest: `-(t log p(label) + (1 - t) log p(abstention))`.
What t is makes the difference: what has been predicted for the sample (`sat`), or the
weight that a net gives to its label (`with_abstention`).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from cmwjax.core.losses import cross_entropy
from cmwjax.methods.memory import Memory, chain, write
from cmwjax.methods.method import Context, Method, check_range

BELIEF = "belief"


def sat(*, momentum: float = 0.99) -> Method:
    """Self-Adaptive Training with abstention.

    Before the end of the warm-up, t is 1.

    Args:
      momentum: in [0, 1), of t, the moving average of the probability of the label.

    References:
      Huang, Zhang, Zhang, `Self-Adaptive Training: beyond Empirical Risk Minimization
      <https://arxiv.org/abs/2002.10319>`_, 2020, selective classification.
    """
    check_range("momentum", momentum, 0, 1)

    def losses(logits, batch):
        learned = cross_entropy(logits, batch["label"])
        belief = batch.get(BELIEF)
        if belief is None:  # of samples that training does not visit
            return learned
        return belief * learned + (1 - belief) * _of_abstention(logits)

    return Method(losses, memory=belief_in_labels(momentum))


def belief_in_labels(momentum: float) -> Memory:
    """Per sample, the moving average of the probability of its label, from 1 on.

    A visit after the warm-up averages a prediction in before it is used. One that is
    not finite is left out.
    """

    def init(problem):
        return {BELIEF: np.ones(len(problem.labels), np.float32)}

    def before(memory, batch, probabilities, axis_name):
        index, store = batch["index"], memory[BELIEF]
        old, label = store[index], batch["label"][:, None]
        new = jnp.take_along_axis(probabilities, label, axis=1)[:, 0]
        new = momentum * old + (1 - momentum) * new
        new = jnp.where(jnp.sum(probabilities, axis=-1) > 0, new, old)
        memory = {BELIEF: write(store, index, new, axis_name)}
        return memory, {**batch, BELIEF: new}

    def scored(memory, table):
        features = {**table.features, BELIEF: memory[BELIEF]}
        return table._replace(features=features)

    return Memory(init, before, scored=scored, predicts=True)


def with_abstention(plain: Callable[[Context], Method]) -> Callable[[Context], Method]:
    """The method, with abstention to learn as far as the label has no weight.

    The weight v in [0, 1] of a label is t. The authors of CMW-Net announce selective
    classification and tell nothing of it; this is ours, after their soft labels: the
    label that amends a wrong one is that nobody can tell.
    """

    def build(context):
        method = plain(context)
        return method._replace(
            soft_labels=True, memory=chain(method.memory, abstentions())
        )

    return build


def abstentions() -> Memory:
    """The soft label of every sample is abstention."""

    def init(problem):
        soft_label = np.zeros(problem.dataset.num_classes + 1, np.float32)
        soft_label[-1] = 1
        return {"abstention": soft_label}

    def before(memory, batch, probabilities, axis_name):
        del probabilities, axis_name
        shape = (len(batch["label"]), len(memory["abstention"]))
        soft_label = jnp.broadcast_to(memory["abstention"], shape)
        return memory, {**batch, "soft_label": soft_label}

    return Memory(init, before)


def _of_abstention(logits: jax.Array) -> jax.Array:
    last = jnp.full(len(logits), logits.shape[-1] - 1, jnp.int32)
    return cross_entropy(logits, last)
