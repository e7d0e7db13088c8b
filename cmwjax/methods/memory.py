"""What a method remembers of samples and classes, beside the classifier.

A memory is a tree of arrays, part of the run's state, and a `Memory` the functions that
know what is in it. Its arrays are equal on all devices, but for those that are cut by
virtual shards, of which a device has its own. `write` is what per-sample memories are
made of, and `cmwjax.methods.probability_store` the large ones.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cmwjax.core.families import Families

Batch = dict[str, jax.Array]
Predict = Callable[[], np.ndarray]


FLAGS = ("predicts", "in_warmup", "needs_warmup", "needs_true_labels")


class Memory(NamedTuple):
    """How a method fills and uses its memory; pure functions.

    Attributes:
      init: `(problem) -> memory`, before the first step; see `bias.problem.Problem`.
      before: `(memory, batch, probabilities, axis_name) -> (memory, batch)`, at every
        step after the warm-up, the batch with what the losses need. Probabilities `[B,
        C]` are the classifier's predictions in training mode, without gradient, rows of
        zeros where they are not finite, which change nothing; None unless `predicts`.
      refresh: `(memory, problem, epoch, predict) -> memory`, on the host before every
        epoch. The first epoch after the warm-up is number 0, those of the warm-up are
        negative; `predict()` gives probabilities `[n, C]` of `problem.train_index`, in
        evaluation mode. None where nothing happens then.
      weigh: `(memory, index [n]) -> weights [n]`, on the host, those that samples have
        had last; None where the memory holds none.
      scored: `(memory, table) -> table`, of the training set as its samples are scored:
        with what the losses need of the memory; None: as it is.
      believed: `(memory, batch) -> batch`, a meta batch with the labels that are
        believed; None: as observed.
      labels: `(memory, index [n]) -> int32 [n]`, on the host, these labels.
      families: `(memory) -> Families`, on the host, of the classes as they are now;
        None: as they were in the beginning.
      check: `(C)`, raises `ValueError` for a number of classes that it is not for;
        None: it is for any.
      split: which arrays are cut over the devices along their first axis, that of the
        virtual shards: a truth value, or a tree of them which the memory continues, of
        tuples, for `jax.pmap` wants to hash it. On the host they are whole.
      predicts: whether `before` looks at predictions.
      in_warmup: whether `before` is for the steps of the warm-up as well, whose losses
        then are those of the method too.
      needs_warmup: whether `refresh` relies on a classifier trained before.
      needs_true_labels: whether `init` reads `problem.true_labels`.
    """

    init: Callable[[Any], Any]
    before: Callable[[Any, Batch, Any, str | None], tuple[Any, Batch]]
    refresh: Callable[[Any, Any, int, Predict], Any] | None = None
    weigh: Callable[[Any, np.ndarray], np.ndarray] | None = None
    scored: Callable[[Any, Any], Any] | None = None
    believed: Callable[[Any, Batch], Batch] | None = None
    labels: Callable[[Any, np.ndarray], np.ndarray] | None = None
    families: Callable[[Any], Families] | None = None
    check: Callable[[int], None] | None = None
    split: Any = False
    predicts: bool = False
    in_warmup: bool = False
    needs_warmup: bool = False
    needs_true_labels: bool = False


def chain(*memories: Memory | None) -> Memory | None:
    """Several memories as one, which has a tuple of what each remembers.

    Each finds in the batch what those before it have put there. The last one that knows
    of weights, labels or families is asked for them.

    Args:
      *memories: those that are None are left out; a single one stays as it is.
    """
    links = [memory for memory in memories if memory is not None]
    if len(links) < 2:
        return links[0] if links else None

    def init(problem):
        return tuple(link.init(problem) for link in links)

    def before(parts, batch, probabilities, axis_name):
        new = []
        for link, part in zip(links, parts, strict=True):
            part, batch = link.before(part, batch, probabilities, axis_name)
            new.append(part)
        return tuple(new), batch

    def refresh(parts, problem, epoch, predict):
        return tuple(
            part
            if link.refresh is None
            else link.refresh(part, problem, epoch, predict)
            for link, part in zip(links, parts, strict=True)
        )

    def scored(parts, table):
        for link, part in zip(links, parts, strict=True):
            if link.scored is not None:
                table = link.scored(part, table)
        return table

    def check(num_classes):
        for link in links:
            if link.check is not None:
                link.check(num_classes)

    def last(name):
        """That function of the last link that has it."""
        for number, link in reversed(list(enumerate(links))):
            function = getattr(link, name)
            if function is not None:
                return lambda parts, *others: function(parts[number], *others)
        return None

    def some(name):
        return any(getattr(link, name) for link in links)

    return Memory(
        init,
        before,
        refresh,
        last("weigh"),
        scored,
        last("believed"),
        last("labels"),
        last("families"),
        check,
        tuple(link.split for link in links),
        **{name: some(name) for name in FLAGS},
    )


def one_family(memory: Memory | None) -> Memory | None:
    """A memory for weights that tell no families apart: each sample is of the first."""
    if memory is None or memory.families is None:
        return memory
    inner_before, inner_scored = memory.before, memory.scored

    def before(state, batch, probabilities, axis_name):
        state, batch = inner_before(state, batch, probabilities, axis_name)
        return state, {**batch, "family": jnp.zeros_like(batch["family"])}

    def scored(state, table):
        if inner_scored is not None:
            table = inner_scored(state, table)
        return table._replace(family=jnp.zeros_like(table.family))

    return memory._replace(before=before, scored=scored, families=None)


def write(
    store: jax.Array, index: jax.Array, rows: jax.Array, axis_name: str | None
) -> jax.Array:
    """Replaces rows `[B, ...]` of a store `[N, ...]`, those of all devices on each."""
    if axis_name is not None:
        index, rows = lax.all_gather((index, rows), axis_name, tiled=True)
    return store.at[index].set(rows)
