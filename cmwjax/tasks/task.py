"""What the trainer asks a task."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cmwjax.core.labels import SETS

Batch = dict[str, jax.Array]
Scores = dict[str, Any]  # name -> [B] on the device, [N] on the host
Quality = Callable[[jax.Array, Batch, jax.Array], jax.Array]


class Task(NamedTuple):
    """What labels are, and what outputs of a model mean; pure functions.

    Attributes:
      label_kind: 'classes', int32 in [0, C), or 'targets', real numbers that the model
        sees standardised; see `cmwjax.core.labels`. It decides how data are read, what
        noise there is, and what families are made of.
      width: `(num_classes) -> int`, outputs of the model.
      losses: `(outputs [B, width], batch) -> [B]`: the loss on the meta set, in a
        warm-up, and the one that samples are ranked by.
      scores: `(outputs, batch) -> {name: [B]}`, on the device, `'prediction'` among
        them, in the units of the labels.
      summary: `(scores {name: [N]}, labels [N]) -> {metric: float}`, on the host; N may
        be 0, which gives NaN.
      criterion: the metric that selects an epoch, at most 1, higher is better.
      title: its name in tables and figures, where it is in percent.
      quality: `(outputs [B, width], batch, frequencies [G]) -> [B]`: how well the given
        label suits its sample, in [0, 1], given the share of each class or group of
        targets in what is learned, positive. By default the likelihood, exp(-loss).
      outputs: 'logits' or 'predictions', for the methods and losses that compute with
        these, see `cmwjax.core.labels`. None: neither, so that only those do that
        take losses as they come; these get `losses` by `config.loss='task'`. 'sets':
        logits of samples with candidates for a label, `batch['candidates']`, bool
        `[B, C]`; then `scores` has `'label'`, the likeliest of them, and
        `'suggestion'`, a class. 'abstention': logits of the classes and, as the last
        one, of none of them.
      predict: `(outputs [B, width]) -> [B]`, classes, or targets as the model sees
        them.
      probabilities: `(outputs) -> [B, C]`, of the classes; None: there are none.
      confidence: `(outputs) -> [B]`, how sure the model is of its class; higher is
        surer. None: nobody asks.
      at_the_end: as `summary`, for the test set at the end of a run: metrics of more
        than one number.
      semi: whether some samples have no label at all, for which all classes as
        candidates stand; a step takes `config.semi.mu` of them for each one with one.
    """

    label_kind: str
    width: Callable[[int], int]
    losses: Callable[[jax.Array, Batch], jax.Array]
    scores: Callable[[jax.Array, Batch], Scores]
    summary: Callable[[dict[str, np.ndarray], np.ndarray], dict[str, float]]
    criterion: str
    title: str
    predict: Callable[[jax.Array], jax.Array]
    probabilities: Callable[[jax.Array], jax.Array] | None = None
    confidence: Callable[[jax.Array], jax.Array] | None = None
    quality: Quality | None = None
    outputs: str | None = None
    at_the_end: Callable[[dict[str, np.ndarray], np.ndarray], dict[str, Any]] = (
        lambda found, labels: {}
    )
    semi: bool = False

    @property
    def has_sets(self) -> bool:
        """Whether a sample has a set of candidates for a label in place of one."""
        return self.outputs == SETS

    def label_quality(
        self, outputs: jax.Array, batch: Batch, frequencies: jax.Array
    ) -> jax.Array:
        """How well given labels suit their samples, `[B]` in [0, 1]."""
        if self.quality is None:
            return jnp.exp(-self.losses(outputs, batch))
        return self.quality(outputs, batch, frequencies)
