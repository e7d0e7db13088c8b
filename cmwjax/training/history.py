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
    """The record of a run that begins, zeros `[T, 2, n]`.

    Of T moments, the loss and the weight of n samples; its size follows from the
    configuration alone, and stays below 80 kB.
    """
    # Orbax does not save empty arrays.
    return np.zeros((max(1, len(_moments(config))), 2, SAMPLES), np.float32)


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
      scores: of the training samples, `[N]`.
      weights: of the same samples, `[N]`.
    """
    if epoch not in _moments(config):
        return history
    history = history.copy()
    values = _values(scores, weights)
    history[_moments(config).index(epoch), :, : values.shape[1]] = values
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
    `weight` float32 `[T, n]`; the last moment is the end of the run. Samples whose
    input could not be read are left out.

    Args:
      workdir: folder of the run.
      history: its record.
      config: its configuration.
      row: where each training sample is in what its owner gave, `[N]`.
      scores: of the training samples at the end, `[N]`.
      weights: of the same samples, `[N]`.
    """
    chosen, moments = followed(len(row)), _moments(config)
    before = history[: len(moments), :, : len(chosen)]
    values = np.stack([*before, _values(scores, weights)])
    seen = np.asarray(scores.seen)[chosen]
    loss, weight = np.moveaxis(values[..., seen], 1, 0)
    write_arrays(
        workdir / HISTORY,
        row=row[chosen][seen],
        epoch=np.array([*moments, config.epochs], np.int32),
        loss=loss,
        weight=weight,
    )


def _values(scores: Scores, weights: NDArray[np.floating]) -> NDArray[np.float32]:
    """Loss and weight of the followed samples, `[2, n]`."""
    chosen = followed(len(weights))
    return np.stack([scores.losses[chosen], weights[chosen]]).astype(np.float32)


def _moments(config: ConfigDict) -> range:
    """The epochs before which something is recorded: some of those with a look."""
    every = config.audit_every
    looks = range(every, config.epochs, every) if every else range(0)
    return looks[:: max(1, -(-len(looks) // MOMENTS))]
