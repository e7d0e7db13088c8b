"""Per-sample scores of a whole set: loss, weight, prediction."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from cmwjax.table import Table, make_batch
from cmwjax.losses import cross_entropy
from cmwjax.meta import MetaState
from cmwjax.methods import Method
from cmwjax.parallel import AXIS, Layout


class Scores(NamedTuple):
    """What the classifier and the weighting net say of each sample, all `[N]`."""

    losses: np.ndarray  # cross entropy against the label in the table
    weights: np.ndarray  # 1 where no weighting net is learned
    predictions: np.ndarray  # most likely class

    def accuracy(self, labels: np.ndarray) -> float:
        """Share of predictions that equal `labels [N]`."""
        return float(np.mean(self.predictions == labels))


def scorer(
    model: nn.Module, method: Method, layout: Layout, *, batch_size: int
) -> Callable[[MetaState, Table, np.ndarray], Scores]:
    """Compiles `score(state, table, index) -> Scores`, in evaluation mode.

    Args:
      model: the classifier.
      method: gives the weights.
      layout: the batches are spread over its devices.
      batch_size: rounded up to a multiple of the number of devices. One shape is
        compiled; the last batch is padded and cut.
    """
    devices = len(layout.devices)
    batch_size = -(-batch_size // devices) * devices
    whole, cut = (NamedSharding(layout.mesh, spec) for spec in (P(), P(AXIS)))

    def score_batch(params, model_state, meta_params, table, index):
        batch = make_batch(table, index)
        logits = model.apply({"params": params, **model_state}, batch["image"], False)
        losses = cross_entropy(logits, batch["label"])
        weights = method.weight_fn(meta_params, losses, batch)
        return Scores(losses, weights, jnp.argmax(logits, axis=-1))

    compiled = jax.jit(
        score_batch, in_shardings=(whole,) * 4 + (cut,), out_shardings=whole
    )

    def score(state, table, index):
        arrays = layout.as_global(
            (state.params, state.model_state, state.meta_params, table)
        )
        padded = np.resize(index, -(-len(index) // batch_size) * batch_size)
        parts = [
            compiled(*arrays, part)
            for part in padded.reshape(-1, batch_size)
        ]
        joined = [np.concatenate(x)[: len(index)] for x in zip(*parts, strict=True)]
        return Scores(*joined)

    return score
