"""Classification: one logit per class, one label per sample."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from cmwjax.core.labels import CLASSES, LOGITS
from cmwjax.core.losses import cross_entropy
from cmwjax.tasks.task import Batch, Scores, Task

TOP = 5


def losses(logits: jax.Array, batch: Batch) -> jax.Array:
    """Cross entropy against the label, `[B]`, in nats."""
    return cross_entropy(logits, batch["label"])


def predict(logits: jax.Array) -> jax.Array:
    """The likeliest class, `[B, C]` -> `[B]`."""
    return jnp.argmax(logits, axis=-1)


def log_odds(logits: jax.Array, chosen: jax.Array) -> jax.Array:
    """Logarithm of the odds of a class against all other outputs, `[B]`.

    It ranks as its probability does, and near 1 still tells samples apart.

    Args:
      logits: `[B, K]`.
      chosen: the class, int `[B]`.
    """
    is_chosen = jax.nn.one_hot(chosen, logits.shape[-1], dtype=bool)
    own = jnp.max(logits, axis=-1, where=is_chosen, initial=-jnp.inf)
    return own - logsumexp(logits, axis=-1, where=~is_chosen)


def confidence(logits: jax.Array) -> jax.Array:
    """Logarithm of the odds of the likeliest class, `[B, C]` -> `[B]`."""
    return log_odds(logits, predict(logits))


def scores(logits: jax.Array, batch: Batch) -> Scores:
    """The likeliest class; of many classes, whether the label is in the top five.

    Of two classes also the logarithm of their odds, `'log_odds'`, positive for class 1.
    """
    chex.assert_rank(logits, 2)
    found = {"prediction": predict(logits)}
    num_classes = logits.shape[-1]
    if num_classes > 2 * TOP:
        _, likeliest = jax.lax.top_k(logits, TOP)
        found["in_top"] = jnp.any(likeliest == batch["label"][:, None], axis=-1)
    if num_classes == 2:
        found["log_odds"] = logits[:, 1] - logits[:, 0]
    return found


def quality(logits: jax.Array, batch: Batch, frequencies: jax.Array) -> jax.Array:
    """The given label against the likeliest other one, `[B]` in [0, 1].

    That is `sigmoid(margin)` after adjusting logits: the classifier has learned that a
    large class is likely, also where it is large because of wrong labels. Half of that
    is taken back: all of it would call the labels of truly frequent classes wrong.

    Args:
      logits: `[B, C]`.
      batch: its `label`, `[B]`.
      frequencies: share of each class in what the classifier learns, `[C]`, positive:
        in the given labels of the training set as they are weighted.

    References:
      Pleiss et al., `Identifying mislabeled data using the area under the margin
      ranking <https://arxiv.org/abs/2001.10528>`_, 2020; and Menon et al., `Long-tail
      learning via logit adjustment <https://arxiv.org/abs/2007.07314>`_, 2021, which
      takes back all.
    """
    adjusted = logits - 0.5 * jnp.log(frequencies)[None]
    is_given = jax.nn.one_hot(batch["label"], logits.shape[-1], dtype=bool)
    given = jnp.max(adjusted, axis=-1, where=is_given, initial=-jnp.inf)
    other = jnp.max(adjusted, axis=-1, where=~is_given, initial=-jnp.inf)
    return jax.nn.sigmoid(given - other)


def summary(found: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, float]:
    """Accuracy; of many classes also the top-5 accuracy.

    Of two classes also the average precision of finding class 1, which says more than
    the accuracy does where this class is rare.
    """
    chex.assert_equal_shape([found["prediction"], labels])
    metrics = {"accuracy": _mean(found["prediction"] == labels)}
    if "in_top" in found:
        metrics[f"top{TOP}"] = _mean(found["in_top"])
    if "log_odds" in found and len(np.unique(labels)) == 2:
        from sklearn.metrics import average_precision_score

        metrics["average_precision"] = float(
            average_precision_score(labels == 1, found["log_odds"])
        )
    return metrics


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if values.size else float("nan")


CLASSIFICATION = Task(
    label_kind=CLASSES,
    width=lambda num_classes: num_classes,
    losses=losses,
    scores=scores,
    summary=summary,
    criterion="accuracy",
    title="accuracy",
    predict=predict,
    probabilities=jax.nn.softmax,
    confidence=confidence,
    quality=quality,
    outputs=LOGITS,
)
