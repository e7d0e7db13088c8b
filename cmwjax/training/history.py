"""Loss and weight of a few samples over the epochs, for the report."""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray

from cmwjax.files import HISTORY, write_arrays
from cmwjax.randomness import Purpose, generator
from cmwjax.training.evaluate import Scores

SAMPLES = 100  # at most; and moments, beside the end of the run
MOMENTS = 99


def blank(config: ConfigDict) -> NDArray[np.float32]:
    """The record of a run that begins, `[T, 2, n]` of NaN.

    Of T moments, the loss and the weight of n samples; its size follows from the
    configuration alone, and stays below 80 kB.
    """
    looks = len(_looks(config))
    stride = max(1, -(-looks // MOMENTS))
    return np.full((max(1, -(-looks // stride)), 2, SAMPLES), np.nan, np.float32)


def followed(size: int) -> NDArray[np.int64]:
    """Which of `size` training samples are followed, ascending, at most `SAMPLES`."""
    drawn = generator(0, Purpose.FOLLOWED).permutation(size)[:SAMPLES]
    return np.sort(drawn)


def with_look(
    history: NDArray[np.float32],
    config: ConfigDict,
    epoch: int,
    scores: Scores,
    weights: NDArray[np.floating],
) -> NDArray[np.float32]:
    """The record with the look before an epoch, if that is one of its moments.

    Args:
      history: `[T, 2, n]`.
      config: says before which epochs there is a look.
      epoch: counted from 0.
      scores: of the training samples, `[N]`; those not seen stay NaN.
      weights: of the same samples, `[N]`.
    """
    moment = np.flatnonzero(_moments(history, config) == epoch)
    if not moment.size:
        return history
    history = history.copy()
    history[moment[0], :, : len(followed(len(weights)))] = _values(scores, weights)
    return history


def write(
    workdir: Path,
    history: NDArray[np.float32],
    config: ConfigDict,
    row: NDArray[np.int64],
    scores: Scores,
    weights: NDArray[np.floating],
) -> None:
    """Writes `history.npz`, in one piece or not at all.

    It has `row` int64 `[n]`, `epoch` int32 `[T]`, how many were done, and `loss` and
    `weight` float32 `[T, n]`; the last moment is the end of the run.

    Args:
      workdir: folder of the run.
      history: its record.
      config: its configuration.
      row: where each training sample is in what its owner gave, `[N]`.
      scores: of the training samples at the end, `[N]`; without those not seen.
      weights: of the same samples, `[N]`.
    """
    chosen = followed(len(row))
    values = np.stack([*history[..., : len(chosen)], _values(scores, weights)])
    epoch = np.append(_moments(history, config), config.epochs)
    looked = np.isfinite(values).any(axis=(1, 2))  # there may have been none
    values, epoch = values[looked], epoch[looked]
    seen = np.isfinite(values).all(axis=(0, 1))
    loss, weight = np.moveaxis(values[..., seen], 1, 0)
    write_arrays(
        workdir / HISTORY,
        row=row[chosen][seen],
        epoch=epoch.astype(np.int32),
        loss=loss,
        weight=weight,
    )


def _values(scores: Scores, weights: NDArray[np.floating]) -> NDArray[np.float32]:
    """Loss and weight of the followed samples, `[2, n]`; NaN if not seen."""
    chosen = followed(len(weights))
    values = np.stack([scores.losses[chosen], weights[chosen]]).astype(np.float32)
    return np.where(scores.seen[chosen], values, np.nan)


def _looks(config: ConfigDict) -> range:
    """The epochs before which all training samples are looked at."""
    every = config.audit_every
    return range(every, config.epochs, every) if every else range(0)


def _moments(history: NDArray[np.float32], config: ConfigDict) -> NDArray[np.int64]:
    """The epochs before which something is recorded, `[T]`."""
    looks, size = _looks(config), len(history)
    stride = max(1, -(-len(looks) // size))
    moments = np.array(looks[::stride], np.int64)
    return np.pad(moments, (0, size - len(moments)), constant_values=-1)
