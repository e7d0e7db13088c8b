"""Probabilities of the classes that are remembered of each sample: all, or the largest.

All of them are float32 `[N, C]`, the same on all devices. The k largest take 4 k + 2
bytes of a sample, and lie where the virtual shard of the sample does, so that devices
have to tell each other nothing: for each of the k its class and its share, and the
share of all others together, which is spread evenly over these when it is read. No
class that was left out is then thought likelier than one that was kept.

Shares are multiples of 1 / 65535. Their sum is never changed by rounding: what is a
distribution stays one. Beside floats of 16 bits, their error is smaller wherever a
probability is above 1 / 64, and the same everywhere.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from cmwjax.methods.memory import write as write_everywhere

Batch = dict[str, jax.Array]

ONE = 2**16 - 1  # the share of a class that is certain
MOST_CLASSES = 2**16  # that two bytes tell apart


class Store(NamedTuple):
    """Rows of probabilities, one per sample, in a tree of arrays; pure functions.

    Attributes:
      init: `(problem, labels) -> memory`, on the host: what rows there are in the
        beginning, of one for the label of each sample, `[N]`, or without labels of
        zeros.
      read: `(memory, batch, C) -> rows [B, C]`, of the samples of a training batch.
      write: `(memory, batch, rows, axis_name) -> memory`, with these rows for them.
      split: which arrays are cut over devices, see `Memory`.
      check: raises an error for a number of classes that it is not for.
    """

    init: Callable[[Any, NDArray[np.int32] | None], Any]
    read: Callable[[Any, Batch, int], jax.Array]
    write: Callable[[Any, Batch, jax.Array, str | None], Any]
    split: Any = False
    check: Callable[[int], None] | None = None


class Kept(NamedTuple):
    """The largest probabilities of samples, and what is left for all other classes.

    Attributes:
      classes: uint16 `[..., k]`, which ones are kept, no class twice.
      shares: uint16 `[..., k]`, how probable they are, in multiples of 1 / `ONE`.
      rest: uint16 `[...]`, how probable it is to be one of the others.
    """

    classes: Any
    shares: Any
    rest: Any


class Shards(NamedTuple):
    """What is kept of all samples.

    Attributes:
      place: int32 `[N]`, where a sample is in its virtual shard; 0 if it is in none.
      kept: arrays `[S, M, ...]`, M samples of each of the virtual shards.
    """

    place: Any
    kept: Any  # `Kept`


def keep_largest(rows: jax.Array, k: int) -> Kept:
    """The k largest probabilities of each row; of equal ones those of lower classes.

    Args:
      rows: `[..., C]`, at least 0, with sums of at most 1.
      k: how many, below C.
    """
    largest, classes = lax.top_k(rows, k)
    shares = jnp.round(ONE * largest).astype(jnp.int32)
    total = jnp.round(ONE * jnp.sum(rows, axis=-1)).astype(jnp.int32)
    rest = jnp.minimum(total, ONE) - jnp.sum(shares, axis=-1)
    # Where rounding gives away more than there is, the largest one gives it back.
    shares = shares.at[..., 0].add(jnp.minimum(rest, 0))
    rest = jnp.maximum(rest, 0)
    return Kept(*(x.astype(jnp.uint16) for x in (classes, shares, rest)))


def spread(kept: Kept, num_classes: int) -> jax.Array:
    """Rows `[..., C]`, float32, with the rest spread evenly over the other classes."""
    others = ONE * (num_classes - kept.classes.shape[-1])
    each = kept.rest.astype(jnp.float32) / others
    return jnp.put_along_axis(
        jnp.broadcast_to(each[..., None], (*each.shape, num_classes)),
        kept.classes.astype(jnp.int32),
        kept.shares.astype(jnp.float32) / ONE,
        axis=-1,
        inplace=False,
    )


def probability_store(name: str, *, top_k: int = 0, shards: int = 1) -> Store:
    """A store of exact rows, or of what is largest in them.

    Args:
      name: of exact rows, the one entry of their memory; the other is a `Shards`.
      top_k: how many probabilities of a sample are kept; 0: all, exactly.
      shards: virtual shards of the training set, as `data.order.epoch_batches` cuts it:
        a batch has as many samples of each, those of one next to each other.
    """
    return _largest(top_k, shards) if top_k else _exact(name)


def _exact(name: str) -> Store:
    def init(problem, labels):
        num_classes = problem.dataset.num_classes
        if labels is not None:
            return {name: np.eye(num_classes, dtype=np.float32)[labels]}
        return {name: np.zeros((len(problem.labels), num_classes), np.float32)}

    def read(memory, batch, num_classes):
        del num_classes
        return memory[name][batch["index"]]

    def write(memory, batch, rows, axis_name):
        return {name: write_everywhere(memory[name], batch["index"], rows, axis_name)}

    return Store(init, read, write)


def _largest(k: int, shards: int) -> Store:
    def check(num_classes):
        if k >= num_classes:
            raise ValueError(
                f"config.memory.top_k={k} keeps some of the probabilities of classes, "
                f"of which there are {num_classes}: choose at most {num_classes - 1}, "
                "or 0 to keep all of them exactly."
            )
        if num_classes > MOST_CLASSES:
            raise ValueError(
                f"config.memory.top_k={k} keeps numbers of classes in two bytes, which "
                f"tell {MOST_CLASSES} apart, and there are {num_classes}: set it to 0 "
                "to keep all probabilities exactly."
            )

    def init(problem, labels):
        check(problem.dataset.num_classes)
        index = problem.train_index
        length = -(-len(index) // shards)  # of the longest shard
        place = np.zeros(len(problem.labels), np.int32)  # in its shard
        place[index] = np.arange(len(index)) // shards
        # Shard s is index[s::shards]; what fills up the last row is never read.
        first = np.zeros(len(index), int) if labels is None else labels[index]
        first = np.resize(first, (length, shards)).T[..., None]
        others = np.arange(k - 1) + (np.arange(k - 1) >= first)
        shares = np.zeros((shards, length, k), np.uint16)
        shares[..., 0] = 0 if labels is None else ONE
        classes = np.concatenate([first, others], axis=-1).astype(np.uint16)
        kept = Kept(classes, shares, np.zeros((shards, length), np.uint16))
        return Shards(place, kept)

    def places(memory, batch):
        """Where the samples of the batch are, [virtual shards of this device, ...]."""
        return memory.place[batch["index"]].reshape(len(memory.kept.rest), -1)

    def read(memory, batch, num_classes):
        take, at = jax.vmap(lambda own, at: own[at]), places(memory, batch)
        found = Kept(*(take(own, at) for own in memory.kept))
        return spread(found, num_classes).reshape(-1, num_classes)

    def write(memory, batch, rows, axis_name):
        del axis_name  # every device has samples of its own shards
        put, at = jax.vmap(lambda own, at, x: own.at[at].set(x)), places(memory, batch)
        new = keep_largest(rows.reshape(*at.shape, -1), k)
        both = zip(memory.kept, new, strict=True)
        return memory._replace(kept=Kept(*(put(own, at, x) for own, x in both)))

    return Store(init, read, write, Shards(place=False, kept=True), check)
