"""What a method remembers of samples and classes, beside the classifier.

A memory is a tree of arrays, part of the run's state and equal on all devices, and a
`Memory` the functions that know what is in it. `write` is what per-sample memories are
made of.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax

Batch = dict[str, jax.Array]
Predict = Callable[[], np.ndarray]


class Memory(NamedTuple):
    """How a method fills and uses its memory; pure functions.

    Attributes:
      init: `(problem) -> memory`, before the first step; see `bias.problem.Problem`.
      read: `(memory, batch) -> batch`, with what the losses need of the memory.
      observe: `(memory, batch, probabilities [B, C], axis_name) -> memory`, at every
        step after the warm-up and before `read`; the classifier's predictions in
        training mode, without gradient, rows of zeros where they are not finite, which
        change nothing. None where nothing happens then.
      refresh: `(memory, problem, epoch, predict) -> memory`, on the host before every
        epoch. The first epoch after the warm-up is number 0, those of the warm-up are
        negative; `predict()` gives probabilities `[n, C]` of `problem.train_index`, in
        evaluation mode. None where nothing happens then.
      weigh: `(memory, index [n]) -> weights [n]`, on the host, those that samples have
        had last; None where the memory holds none.
      needs_true_labels: whether `init` reads `problem.true_labels`.
    """

    init: Callable[[Any], Any]
    read: Callable[[Any, Batch], Batch]
    observe: Callable[[Any, Batch, jax.Array, str | None], Any] | None = None
    refresh: Callable[[Any, Any, int, Predict], Any] | None = None
    weigh: Callable[[Any, np.ndarray], np.ndarray] | None = None
    needs_true_labels: bool = False


def write(
    store: jax.Array, index: jax.Array, rows: jax.Array, axis_name: str | None
) -> jax.Array:
    """Replaces rows `[B, ...]` of a store `[N, ...]`, those of all devices on each."""
    if axis_name is not None:
        index, rows = lax.all_gather((index, rows), axis_name, tiled=True)
    return store.at[index].set(rows)
