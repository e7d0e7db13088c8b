"""What the trainer asks a task."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

Batch = dict[str, jax.Array]
Scores = dict[str, Any]  # name -> [B] on the device, [N] on the host


class Task(NamedTuple):
    """What outputs of a model mean; pure functions.

    Attributes:
      width: `(num_classes) -> int`, outputs of the model.
      losses: `(outputs [B, width], batch) -> [B]`: the loss on the meta set, in a
        warm-up, and the one that samples are ranked by.
      scores: `(outputs, batch) -> {name: [B]}`, on the device, `'prediction'` among
        them, in the units of the labels.
      summary: `(scores {name: [N]}, labels [N]) -> {metric: float}`, on the host; N may
        be 0, which gives NaN.
      criterion: the metric that selects an epoch, at most 1, higher is better.
      title: its name in tables and figures, where it is in percent.
    """

    width: Callable[[int], int]
    losses: Callable[[jax.Array, Batch], jax.Array]
    scores: Callable[[jax.Array, Batch], Scores]
    summary: Callable[[dict[str, np.ndarray], np.ndarray], dict[str, float]]
    criterion: str
    title: str
