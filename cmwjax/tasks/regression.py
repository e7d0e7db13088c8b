"""Regression: one output, one target per sample."""

import chex
import jax
import numpy as np

from cmwjax.core.labels import PREDICTIONS, TARGETS
from cmwjax.core.losses import squared_error
from cmwjax.tasks.task import Batch, Scores, Task


def losses(outputs: jax.Array, batch: Batch) -> jax.Array:
    """Squared error, `[B, 1]` against targets `[B]` -> `[B]`."""
    return squared_error(outputs, batch["label"])


def predict(outputs: jax.Array) -> jax.Array:
    """The predicted target, `[B, 1]` -> `[B]`."""
    chex.assert_shape(outputs, (None, 1))
    return outputs[:, 0]


def scores(outputs: jax.Array, batch: Batch) -> Scores:
    """The predicted target."""
    del batch
    return {"prediction": predict(outputs)}


def summary(found: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, float]:
    """Coefficient of determination R², and the mean absolute error."""
    chex.assert_equal_shape([found["prediction"], labels])
    error = found["prediction"].astype(np.float64) - labels
    if not error.size:
        return {"r2": float("nan"), "mae": float("nan")}
    spread = np.sum((labels - np.mean(labels)) ** 2)
    r2 = 1 - np.sum(error**2) / spread if spread else float("nan")
    return {"r2": float(r2), "mae": float(np.mean(np.abs(error)))}


REGRESSION = Task(
    label_kind=TARGETS,
    width=lambda num_classes: 1,
    losses=losses,
    scores=scores,
    summary=summary,
    criterion="r2",
    title="R²",
    predict=predict,
    outputs=PREDICTIONS,
)
