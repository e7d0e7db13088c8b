"""Ordinal regression: classes in an order, of which some are nearer than others.

The continuation-ratio model. Output k is the log-odds of a class beyond k for a sample
whose class is at least k; C classes have C - 1 outputs. Classes are in the order of
their numbers, see `config.data.csv.classes`; losses are those of `config.loss='task'`.

References:
  Shi et al., `CORN <https://arxiv.org/abs/2111.08851>`_, 2021, which has these outputs.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cmwjax.core.labels import CLASSES
from cmwjax.tasks.task import Batch, Scores, Task


def log_probabilities(outputs: jax.Array) -> jax.Array:
    """Logarithms of the probabilities of all classes, `[B, C - 1]` -> `[B, C]`."""
    reached = jnp.pad(_log_beyond(outputs), ((0, 0), (1, 0)))
    ends = jnp.pad(jax.nn.log_sigmoid(-outputs), ((0, 0), (0, 1)))
    return reached + ends


def losses(outputs: jax.Array, batch: Batch) -> jax.Array:
    """Negative log-likelihood of the label, `[B, C - 1]` -> `[B]`, in nats."""
    chosen = batch["label"][:, None]
    return -jnp.take_along_axis(log_probabilities(outputs), chosen, axis=1)[:, 0]


def predict(outputs: jax.Array) -> jax.Array:
    """The median class, `[B, C - 1]` -> `[B]`.

    None is off by less in the mean, as far as the model knows.
    """
    chex.assert_rank(outputs, 2)
    return jnp.sum(_log_beyond(outputs) > jnp.log(0.5), axis=1)


def scores(outputs: jax.Array, batch: Batch) -> Scores:
    """The median class."""
    del batch
    return {"prediction": predict(outputs)}


def summary(found: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, float]:
    """Cohen's kappa with quadratic weights, mean absolute error, and accuracy.

    Kappa is NaN where labels and predictions are all of one class.
    """
    # Here, because scikit-learn takes a second to import.
    from sklearn.metrics import cohen_kappa_score

    prediction = found["prediction"]
    chex.assert_equal_shape([prediction, labels])
    if not labels.size:
        return dict.fromkeys(("kappa", "mae", "accuracy"), float("nan"))
    kappa = float("nan")
    if len(np.union1d(prediction, labels)) > 1:
        kappa = float(cohen_kappa_score(labels, prediction, weights="quadratic"))
    return {
        "kappa": kappa,
        "mae": float(np.mean(np.abs(prediction - labels))),
        "accuracy": float(np.mean(prediction == labels)),
    }


def _log_beyond(outputs: jax.Array) -> jax.Array:
    """Logarithm of the probability of a class beyond k, for each k below C - 1."""
    return jnp.cumsum(jax.nn.log_sigmoid(outputs), axis=1)


ORDINAL = Task(
    label_kind=CLASSES,
    width=lambda num_classes: num_classes - 1,
    losses=losses,
    scores=scores,
    summary=summary,
    criterion="kappa",
    title="quadratic kappa",
    predict=predict,
    probabilities=lambda outputs: jnp.exp(log_probabilities(outputs)),
    confidence=lambda outputs: jnp.max(log_probabilities(outputs), axis=1),
)
