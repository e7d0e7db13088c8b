"""Partial labels: several candidate classes for each sample, of which one is right.

Outputs are those of classification. `batch['candidates']`, bool `[B, C]`, are the
candidates; where a label is known, as in a test set, it is the only one.
"""

import jax
import jax.numpy as jnp
import numpy as np

from cmwjax.core.labels import SETS
from cmwjax.tasks import classification
from cmwjax.tasks.task import Batch, Scores


def losses(logits: jax.Array, batch: Batch) -> jax.Array:
    """Cross entropy against the likeliest candidate, `[B, C]` -> `[B]`, in nats."""
    logp = jax.nn.log_softmax(logits)
    return -jnp.max(jnp.where(batch["candidates"], logp, -jnp.inf), axis=-1)


def scores(logits: jax.Array, batch: Batch) -> Scores:
    """The likeliest class and the likeliest candidate, and what is suggested of them.

    `'label'` is the candidate. `'suggestion'` is that too, unless all candidates
    together are less likely than the classes outside of the set; then it is the class.
    `'is_candidate'` tells whether the class is in the set.
    """
    candidates = batch["candidates"]
    found = classification.scores(logits, batch)
    inside = jnp.argmax(jnp.where(candidates, logits, -jnp.inf), axis=-1)
    is_likely = quality(logits, batch) >= 0.5
    prediction = found["prediction"]
    return {
        "prediction": prediction,
        "label": inside,
        "suggestion": jnp.where(is_likely, inside, prediction),
        "is_candidate": jnp.take_along_axis(candidates, prediction[:, None], 1)[:, 0],
    }


def quality(
    logits: jax.Array, batch: Batch, frequencies: jax.Array | None = None
) -> jax.Array:
    """Probability that the label is among the candidates, `[B]` in [0, 1]."""
    del frequencies
    inside = jnp.where(batch["candidates"], jax.nn.softmax(logits), 0)
    return jnp.minimum(jnp.sum(inside, axis=-1), 1)


def summary(found: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, float]:
    """Accuracy: the share of samples whose likeliest class is a candidate.

    So it is the ordinary one where there is one candidate, the label.
    """
    del labels
    hits = found["is_candidate"]
    return {"accuracy": float(np.mean(hits)) if hits.size else float("nan")}


PARTIAL = classification.CLASSIFICATION._replace(
    losses=losses, scores=scores, summary=summary, quality=quality, outputs=SETS
)
