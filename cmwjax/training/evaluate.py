"""Per-sample scores of a whole set: loss, weight, prediction."""

from collections.abc import Callable
from contextlib import closing
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from cmwjax.core.meta import MetaState
from cmwjax.core.parallel import AXIS, Layout
from cmwjax.data.sources import Samples
from cmwjax.data.table import make_batch
from cmwjax.data.view import View
from cmwjax.methods.method import Method
from cmwjax.tasks.task import Task

Summary = Callable[[dict[str, np.ndarray], np.ndarray], dict[str, Any]]


class Scores(NamedTuple):
    """What classifier and weighting net say of each sample, all `[N]`."""

    losses: Any  # of the task, against the label in the table
    quality: Any  # in [0, 1], see `Task.quality`
    # 1 where samples have no weight outside of a batch, 0 where only the trusted count
    weights: Any
    found: dict[str, Any]  # see `Task.scores`
    seen: Any  # false where the input could not be read: the rest means nothing

    @property
    def predictions(self) -> np.ndarray:
        """What the classifier would have as labels."""
        return self.found["prediction"]

    def summary(
        self,
        summary: Summary,
        labels: np.ndarray,
        in_units: Callable[[np.ndarray], np.ndarray] = lambda predictions: predictions,
    ) -> dict[str, Any]:
        """Metrics of the samples with an input.

        Args:
          summary: `Task.summary` or `Task.at_the_end`.
          labels: `[N]`, in the units of the data.
          in_units: brings predictions there.
        """
        found = {name: values[self.seen] for name, values in self.found.items()}
        found["prediction"] = in_units(found["prediction"])
        return summary(found, labels[self.seen])


def scorer(
    model: nn.Module,
    method: Method,
    task: Task,
    view: View,
    layout: Layout,
    *,
    batch_size: int,
) -> Callable[[MetaState, Samples, np.ndarray], Scores]:
    """Compiles `score(state, samples, index) -> Scores`, in evaluation mode.

    Args:
      model: the classifier.
      method: gives the weights.
      task: says what outputs mean.
      view: prepares inputs.
      layout: the batches are spread over its devices.
      batch_size: rounded up to a multiple of the number of devices. One shape is
        compiled; the last batch is padded and cut.
    """

    def score(variables, meta_params, batch, frequencies):
        outputs = model.apply(variables, batch["input"], False)
        losses = task.losses(outputs, batch)
        if method.meta_tx is not None:  # its weights are of slots in a batch
            weights = jnp.ones_like(losses)
        elif method.trusted_only:  # they had no part in training
            weights = jnp.zeros_like(losses)
        else:
            # A net sees the loss that it weights; what other rules see is no matter.
            seen = losses if method.net is None else method.losses(outputs, batch)
            weights = method.scored_weights(meta_params, seen, batch)
        quality = task.label_quality(outputs, batch, frequencies)
        mask = batch.get("mask", jnp.ones(losses.shape, bool))
        return Scores(losses, quality, weights, task.scores(outputs, batch), mask)

    return _in_batches(score, view, layout, batch_size)


def predictor(
    model: nn.Module, view: View, layout: Layout, *, batch_size: int
) -> Callable[[MetaState, Samples, np.ndarray], np.ndarray]:
    """Compiles `predict(state, samples, index) -> probabilities [N, C]`."""

    def predict(variables, meta_params, batch, frequencies):
        del meta_params, frequencies
        return jax.nn.softmax(model.apply(variables, batch["input"], False))

    return _in_batches(predict, view, layout, batch_size)


def _in_batches(
    compute: Callable[[Any, Any, dict[str, jax.Array], Any], Any],
    view: View,
    layout: Layout,
    batch_size: int,
) -> Callable[[MetaState, Samples, np.ndarray], Any]:
    """Applies `(variables, meta_params, batch, frequencies) -> tree of [B, ...]`."""
    devices = len(layout.devices)
    batch_size = -(-batch_size // devices) * devices
    whole, cut = (NamedSharding(layout.mesh, spec) for spec in (P(), P(AXIS)))

    def on_batch(params, model_state, meta_params, table, rows):
        variables = {"params": params, **model_state}
        batch = make_batch(table, rows, view.prepare)
        return compute(variables, meta_params, batch, table.frequencies)

    compiled = jax.jit(
        on_batch, in_shardings=(whole,) * 4 + (cut,), out_shardings=whole
    )

    def everywhere(state, samples, index):
        arrays = layout.as_global(
            (state.params, state.model_state, state.meta_params, samples.table)
        )
        parts = []
        with closing(samples.source.evaluation(index, batch_size)) as batches:
            for rows in batches:
                jax.block_until_ready(parts[-1:])  # else inputs queue on the devices
                parts.append(compiled(*arrays, rows))
        return jax.tree.map(lambda *x: np.concatenate(x)[: len(index)], *parts)

    return everywhere
