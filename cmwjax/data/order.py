"""The order in which training visits its samples, as a pure function of seed and epoch.

`epoch_batches` and `meta_batches` return positions, one row per step. A run resumes at
any step, and its order does not depend on how many devices there are: positions are cut
once into virtual shards, every row takes the same number from each, and a device owns
whole shards.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmwjax.randomness import Purpose, generator


class Order:
    """Positions by step, from tables of an epoch each; the latest table is kept.

    Args:
      table: `(epoch=) -> [steps, B]`, such as `epoch_batches` with all else given.
      steps_per_epoch: rows of a table.
      period: number of steps for which crop and flip of an image stay the same; None:
        those of an epoch, in which no position returns.
    """

    def __init__(
        self,
        table: Callable[..., NDArray[np.int32]],
        steps_per_epoch: int,
        period: int | None = None,
    ) -> None:
        self._table, self.steps_per_epoch = table, steps_per_epoch
        self.period = steps_per_epoch if period is None else period
        self._latest: tuple[int, NDArray[np.int32]] | None = None

    def __call__(self, step: int) -> NDArray[np.int32]:
        """Positions `[B]` of a step, counted from the beginning of the run."""
        epoch, row = divmod(step, self.steps_per_epoch)
        latest = self._latest  # once, for threads may read on while another writes
        if latest is None or latest[0] != epoch:
            latest = self._latest = epoch, self._table(epoch=epoch)
        return latest[1][row]


def epoch_batches(
    indices: ArrayLike, *, batch_size: int, shards: int, seed: int, epoch: int
) -> NDArray[np.int32]:
    """One epoch over the training set: every position at most once, shuffled anew.

    Virtual shard s is `indices[s::shards]`. A row lists `batch_size / shards` positions
    of shard 0, then as many of shard 1, and so on. What is left of a shard after the
    last full row waits for another epoch.

    Args:
      indices: positions to visit, integers `[N]`.
      batch_size: global batch size B, a multiple of `shards`.
      shards: number of virtual shards S, at least 1.
      seed: seed of the run.
      epoch: number of the epoch.

    Returns:
      Positions, int32 `[steps, B]`.

    Raises:
      ValueError: if `batch_size` is not a positive multiple of `shards`, or there are
        too few positions for one row.
    """
    _check_batch_size(batch_size, shards, "data.batch_size")
    indices, part = np.asarray(indices, np.int32), batch_size // shards
    steps = len(indices) // batch_size  # the smallest shard has N // S, enough for all
    if not steps:
        most = len(indices) // shards * shards
        remedy = f"lower it to {most} or less" if most else "lower both"
        raise ValueError(
            f"config.data.batch_size={batch_size} with config.data.shards={shards}, "
            f"but {len(indices)} training samples do not fill one batch: {remedy}."
        )

    columns = []
    for shard in range(shards):
        rng = generator(seed, Purpose.ORDER, moment=epoch, part=shard)
        order = rng.permutation(indices[shard::shards])
        columns.append(order[: steps * part].reshape(steps, part))
    return np.hstack(columns)


def mixed_batches(
    labelled: ArrayLike,
    unlabelled: ArrayLike,
    *,
    batch_size: int,
    ratio: int,
    shards: int,
    seed: int,
    epoch: int,
) -> NDArray[np.int32]:
    """One epoch over the samples without a label, some with one in every row.

    Those without a label come as in `epoch_batches`; those with one over and over, as
    in `meta_batches`, and a row may hold one of them more than once. Of each virtual
    shard, the positions with a label are first in a row.

    Args:
      labelled: positions of samples with a label, integers `[M]`.
      unlabelled: of those without one, `[N]`.
      batch_size: global batch size B.
      ratio: samples without a label in a row for each one with a label, at least 1.
      shards: number of virtual shards S; B is a multiple of `S * (1 + ratio)`.
      seed: seed of the run.
      epoch: number of the epoch.

    Returns:
      Positions, int32 `[steps, B]`.

    Raises:
      ValueError: if B is no such multiple, or there are too few samples of a kind.
    """
    labelled, unit = np.asarray(labelled, np.int32), shards * (1 + ratio)
    if batch_size < unit or batch_size % unit:
        raise ValueError(
            f"config.data.batch_size={batch_size} must be a positive multiple of "
            f"{unit}: a step takes config.semi.mu={ratio} samples without a label for "
            f"each one with a label, from each of config.data.shards={shards}; choose "
            f"{max(1, batch_size // unit) * unit}."
        )
    if len(labelled) < shards:
        raise ValueError(
            f"{len(labelled)} samples with a label are fewer than config.data.shards="
            f"{shards}: lower that to a multiple of the devices, or label more."
        )
    part = batch_size // unit
    without = epoch_batches(
        unlabelled,
        batch_size=shards * part * ratio,
        shards=shards,
        seed=seed,
        epoch=epoch,
    )
    steps = len(without)
    rows = []
    for shard in range(shards):
        rng = generator(seed, Purpose.LABELLED_ORDER, moment=epoch, part=shard)
        with_label = _over_and_over(labelled[shard::shards], steps * part, rng)
        first = shard * part * ratio
        rows += [with_label.reshape(steps, part)]
        rows += [without[:, first : first + part * ratio]]
    return np.hstack(rows)


def meta_batches(
    meta_index: ArrayLike,
    *,
    batch_size: int,
    shards: int,
    seed: int,
    epoch: int,
    steps: int,
) -> NDArray[np.int32]:
    """Meta batches of one epoch: the meta set over and over, shuffled for every round.

    Rows are laid out as in `epoch_batches`, with m = min(batch_size, M) positions, less
    what does not divide by `shards`. Within a shard, no position comes up more than
    once more often than another; a row in which one round ends and the next begins may
    hold a position twice.

    Args:
      meta_index: positions of the meta set, integers `[M]`.
      batch_size: the most samples in a meta batch, a multiple of `shards`.
      shards: number of virtual shards S, at least 1.
      seed: seed of the run.
      epoch: number of the epoch.
      steps: number of rows.

    Returns:
      Positions, int32 `[steps, m]`.

    Raises:
      ValueError: as `meta_batch_size`.
    """
    meta_index = np.asarray(meta_index, np.int32)
    size = meta_batch_size(len(meta_index), batch_size=batch_size, shards=shards)
    part = size // shards
    columns = []
    for shard in range(shards):
        rng = generator(seed, Purpose.META_ORDER, moment=epoch, part=shard)
        order = _over_and_over(meta_index[shard::shards], steps * part, rng)
        columns.append(order.reshape(steps, part))
    return np.hstack(columns)


def _over_and_over(
    members: NDArray[np.int32], count: int, rng: np.random.Generator
) -> NDArray[np.int32]:
    """That many of the members, which are shuffled for every round, `[count]`."""
    rounds = count // len(members) + 1
    return np.concatenate([rng.permutation(members) for _ in range(rounds)])[:count]


def meta_batch_size(num_samples: int, *, batch_size: int, shards: int) -> int:
    """How many positions there are in a row of `meta_batches`.

    Raises:
      ValueError: if `batch_size` is not a positive multiple of `shards`, or a meta set
        of this many samples has fewer than there are shards.
    """
    _check_batch_size(batch_size, shards, "meta_set.batch_size")
    if num_samples < shards:
        raise ValueError(
            f"meta set has {num_samples} samples, fewer than the {shards} shards: "
            "raise config.meta_set.per_class, or give more trusted samples where these "
            "come with the data, or lower config.data.shards."
        )
    return min(batch_size, num_samples) // shards * shards


def _check_batch_size(batch_size: int, shards: int, field: str) -> None:
    if shards < 1 or batch_size < 1 or batch_size % shards:
        raise ValueError(
            f"config.{field}={batch_size} is not a positive multiple of config.data."
            f"shards={shards}, the number of virtual shards: change one of them."
        )
