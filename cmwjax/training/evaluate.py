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

from cmwjax.core.losses import cross_entropy
from cmwjax.core.meta import MetaState
from cmwjax.core.parallel import AXIS, Layout
from cmwjax.data.sources import Samples
from cmwjax.data.table import make_batch
from cmwjax.methods.method import Method

TOP = 5


class Scores(NamedTuple):
    """What the classifier and the weighting net say of each sample, all `[N]`."""

    losses: np.ndarray  # cross entropy against the label in the table
    weights: np.ndarray  # 1 where samples have no weight outside of a batch
    predictions: np.ndarray  # most likely class
    in_top: np.ndarray  # whether the label in the table is among the `TOP` likeliest
    seen: np.ndarray  # false where the image could not be read: the rest means nothing

    def accuracy(self, labels: np.ndarray) -> float:
        """Share of predictions that equal `labels [N]`, among samples with an image."""
        return _mean(self.predictions[self.seen] == labels[self.seen])

    @property
    def top(self) -> float:
        """Share of samples with an image whose label is among the `TOP` likeliest."""
        return _mean(self.in_top[self.seen])


def scorer(
    model: nn.Module, method: Method, layout: Layout, *, batch_size: int
) -> Callable[[MetaState, Samples, np.ndarray], Scores]:
    """Compiles `score(state, samples, index) -> Scores`, in evaluation mode.

    Args:
      model: the classifier.
      method: gives the weights.
      layout: the batches are spread over its devices.
      batch_size: rounded up to a multiple of the number of devices. One shape is
        compiled; the last batch is padded and cut.
    """

    def score(variables, meta_params, batch):
        logits = model.apply(variables, batch["image"], False)
        losses = cross_entropy(logits, batch["label"])
        if method.meta_tx is not None:  # its weights are of slots in a batch
            weights = jnp.ones_like(losses)
        else:
            # A net sees the loss that it weights; what other rules see is no matter.
            seen = losses if method.net is None else method.losses(logits, batch)
            weights = method.weight_fn(meta_params, seen, batch)
        _, likeliest = jax.lax.top_k(logits, min(TOP, logits.shape[-1]))
        in_top = jnp.any(likeliest == batch["label"][:, None], axis=-1)
        mask = batch.get("mask", jnp.ones(losses.shape, bool))
        return losses, weights, jnp.argmax(logits, axis=-1), in_top, mask

    compiled = _in_batches(score, layout, batch_size)
    return lambda state, samples, index: Scores(*compiled(state, samples, index))


def predictor(
    model: nn.Module, layout: Layout, *, batch_size: int
) -> Callable[[MetaState, Samples, np.ndarray], np.ndarray]:
    """Compiles `predict(state, samples, index) -> probabilities [N, C]`."""

    def predict(variables, meta_params, batch):
        del meta_params
        return (jax.nn.softmax(model.apply(variables, batch["image"], False)),)

    compiled = _in_batches(predict, layout, batch_size)
    return lambda state, samples, index: compiled(state, samples, index)[0]


def _in_batches(
    compute: Callable[[Any, Any, dict[str, jax.Array]], tuple[jax.Array, ...]],
    layout: Layout,
    batch_size: int,
) -> Callable[[MetaState, Samples, np.ndarray], list[np.ndarray]]:
    """Applies `(variables, meta_params, batch) -> ([B, ...], ...)` to any number."""
    devices = len(layout.devices)
    batch_size = -(-batch_size // devices) * devices
    whole, cut = (NamedSharding(layout.mesh, spec) for spec in (P(), P(AXIS)))

    def on_batch(params, model_state, meta_params, table, rows):
        variables = {"params": params, **model_state}
        return compute(variables, meta_params, make_batch(table, rows))

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
                jax.block_until_ready(parts[-1:])  # else images queue on the devices
                parts.append(compiled(*arrays, rows))
        return [np.concatenate(x)[: len(index)] for x in zip(*parts, strict=True)]

    return everywhere


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if values.size else float("nan")
