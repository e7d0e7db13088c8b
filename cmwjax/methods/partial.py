"""Losses of partial labels: several candidates for each sample, of which one is right.

`batch['candidates']`, bool `[B, C]`, says which. What is believed of a sample, its
confidences, are probabilities of its candidates that are renewed whenever training
visits it. They tell which class a sample counts for: the size of a class is their sum
over the training samples, in the beginning each candidate's share of its set. Families
are made of these sizes before every epoch, and a sample belongs to the family of its
likeliest candidate.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from cmwjax.core.families import Families, group_classes
from cmwjax.core.losses import soft_cross_entropy
from cmwjax.methods.memory import Memory, write
from cmwjax.methods.method import Batch, Method


def proden() -> Method:
    """PRODEN: cross entropy against the confidences, which follow the predictions.

    The loss of a visit has the confidences that the visit before left behind: equal
    ones at first, then the softmax over the candidates alone.

    References:
      Lv et al., `Progressive identification of true labels for partial-label learning
      <https://arxiv.org/abs/2002.08053>`_, 2020.
    """

    def losses(logits, batch):
        confidences = batch.get("confidences")
        if confidences is None:  # of samples that training does not visit
            confidences = jax.lax.stop_gradient(among_candidates(logits, batch))
        return soft_cross_entropy(logits, confidences)

    return Method(losses, memory=running_confidences())


def cc() -> Method:
    """CC: the likelihood that the label is among the candidates, whichever it is.

    Its gradient is that of `proden` with confidences of this very step.

    References:
      Feng et al., `Provably consistent partial-label learning
      <https://arxiv.org/abs/2007.08929>`_, 2020, the classifier-consistent method.
    """

    def losses(logits, batch):
        inside = jnp.where(batch["candidates"], logits, -jnp.inf)
        return logsumexp(logits, axis=-1) - logsumexp(inside, axis=-1)

    return Method(losses, memory=running_confidences())


def among_candidates(logits: jax.Array, batch: Batch) -> jax.Array:
    """Softmax over the candidates alone, `[B, C]` -> `[B, C]`."""
    return jax.nn.softmax(jnp.where(batch["candidates"], logits, -jnp.inf), axis=-1)


def renewed(probabilities: jax.Array, old: jax.Array, candidates: jax.Array):
    """Confidences after a visit: predictions for the candidates, to sum one.

    Args:
      probabilities: what is predicted, `[B, C]`.
      old: confidences before, `[B, C]`; they stay where nothing is predicted for any
        candidate.
      candidates: bool `[B, C]`.
    """
    inside = jnp.where(candidates, probabilities, 0)
    total = jnp.sum(inside, axis=-1, keepdims=True)
    return jnp.where(total > 0, inside / jnp.where(total > 0, total, 1), old)


def running_confidences() -> Memory:
    """The confidences of all samples, and the families of the classes by their sums.

    Families stay as they were where sizes are too alike to make as many.
    """

    def init(problem):
        sets = problem.candidates.astype(np.float32)
        families = problem.families
        return {
            "confidences": sets / sets.sum(axis=1, keepdims=True),
            "family": families.family.astype(np.int32),
            "centres": families.centres.astype(np.float32),
        }

    def before(memory, batch, probabilities, axis_name):
        index, store = batch["index"], memory["confidences"]
        old = store[index]
        new = renewed(probabilities, old, batch["candidates"])
        family = memory["family"][jnp.argmax(old, axis=-1)]
        memory = {**memory, "confidences": write(store, index, new, axis_name)}
        return memory, {**batch, "confidences": old, "family": family}

    def refresh(memory, problem, epoch, predict):
        del epoch, predict
        sizes = memory["confidences"][problem.train_index].sum(axis=0, dtype=float)
        if len(np.unique(sizes)) < len(memory["centres"]):
            return memory
        families = group_classes(sizes, len(memory["centres"]))
        return {
            **memory,
            "family": families.family,
            "centres": families.centres.astype(np.float32),
        }

    def scored(memory, table):
        confidences = memory["confidences"]
        family = memory["family"][jnp.argmax(confidences, axis=-1)]
        features = {**table.features, "confidences": confidences}
        return table._replace(family=family, features=features)

    def believed(memory, batch):
        best = jnp.argmax(memory["confidences"][batch["index"]], axis=-1)
        only = jax.nn.one_hot(best, batch["candidates"].shape[-1], dtype=bool)
        return {**batch, "candidates": only}

    def labels(memory, index):
        return memory["confidences"][index].argmax(axis=1).astype(np.int32)

    def families(memory):
        return Families(memory["family"], memory["centres"].astype(np.float64))

    return Memory(
        init,
        before,
        refresh,
        scored=scored,
        believed=believed,
        labels=labels,
        families=families,
        predicts=True,
        in_warmup=True,
    )
