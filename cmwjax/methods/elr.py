"""ELR: each sample keeps to what was predicted for it early on."""

import jax.numpy as jnp
import numpy as np

from cmwjax.core import losses
from cmwjax.methods.memory import Memory, write
from cmwjax.methods.method import Context, Method, check_range


def elr(context: Context, *, strength: float = 3.0, momentum: float = 0.7) -> Method:
    """Early-learning regularisation; for CIFAR-100, strength 7 and momentum 0.9.

    Args:
      strength: factor of the regulariser.
      momentum: of the remembered predictions, in [0, 1).
    """
    del context
    check_range("strength", strength, 0)
    check_range("momentum", momentum, 0, 1)

    def terms(logits, batch):
        return losses.early_learning(
            logits, batch["label"], batch["target"], strength=strength
        )

    return Method(terms, memory=early_targets(momentum))


def early_targets(momentum: float) -> Memory:
    """ELR's targets: per sample, the moving average of what was predicted for it.

    They start at zero; a step's own predictions are averaged in before it uses them.

    References:
      Liu et al., `ELR <https://arxiv.org/abs/2007.00151>`_, 2020.
    """

    def init(problem):
        shape = (len(problem.labels), problem.dataset.num_classes)
        return {"targets": np.zeros(shape, np.float32)}

    def before(memory, batch, probabilities, axis_name):
        index, targets = batch["index"], memory["targets"]
        p = jnp.clip(probabilities, 1e-4, 1 - 1e-4)
        p = p / jnp.sum(p, axis=-1, keepdims=True)
        rows = momentum * targets[index] + (1 - momentum) * p
        has_new = jnp.sum(probabilities, axis=-1, keepdims=True) > 0
        rows = jnp.where(has_new, rows, targets[index])
        memory = {"targets": write(targets, index, rows, axis_name)}
        return memory, {**batch, "target": rows}

    return Memory(init, before, predicts=True)
