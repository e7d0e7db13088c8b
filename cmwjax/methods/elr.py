"""ELR: each sample keeps to what was predicted for it early on."""

import jax.numpy as jnp

from cmwjax.core import losses
from cmwjax.methods.memory import Memory
from cmwjax.methods.method import Context, Method, check_range
from cmwjax.methods.probability_store import probability_store


def elr(context: Context, *, strength: float = 3.0, momentum: float = 0.7) -> Method:
    """Early-learning regularisation; for CIFAR-100, strength 7 and momentum 0.9.

    Args:
      context: how many of the predictions are remembered.
      strength: factor of the regulariser.
      momentum: of the remembered predictions, in [0, 1).
    """
    check_range("strength", strength, 0)
    check_range("momentum", momentum, 0, 1)

    def terms(logits, batch):
        return losses.early_learning(
            logits, batch["label"], batch["target"], strength=strength
        )

    memory = early_targets(
        momentum,
        top_k=context.config.memory.top_k,
        shards=context.config.data.shards,
    )
    return Method(terms, memory=memory)


def early_targets(momentum: float, *, top_k: int = 0, shards: int = 1) -> Memory:
    """ELR's targets: per sample, the moving average of what was predicted for it.

    They start at zero; a step's own predictions are averaged in before it uses them.

    Args:
      momentum: in [0, 1).
      top_k: how many probabilities of a sample are kept between visits; 0: all.
      shards: see `probability_store`.

    References:
      Liu et al., `ELR <https://arxiv.org/abs/2007.00151>`_, 2020.
    """

    store = probability_store("targets", top_k=top_k, shards=shards)

    def before(memory, batch, probabilities, axis_name):
        old = store.read(memory, batch, probabilities.shape[-1])
        p = jnp.clip(probabilities, 1e-4, 1 - 1e-4)
        p = p / jnp.sum(p, axis=-1, keepdims=True)
        rows = momentum * old + (1 - momentum) * p
        has_new = jnp.sum(probabilities, axis=-1, keepdims=True) > 0
        rows = jnp.where(has_new, rows, old)
        memory = store.write(memory, batch, rows, axis_name)
        return memory, {**batch, "target": rows}

    return Memory(
        lambda problem: store.init(problem, None),
        before,
        check=store.check,
        split=store.split,
        predicts=True,
    )
