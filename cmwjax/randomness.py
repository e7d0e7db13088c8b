"""Every random stream there is: what it is for, and what it is seeded by.

A stream belongs to a seed and a purpose, and may have a moment and a part beside. So
two purposes never draw the same numbers, though a run has one seed for all of them.
NumPy draws on the host, JAX on the devices; streams of the two have nothing in common.

What is split off for testing (scikit-learn's `random_state=0`) is part of a data set
and follows no seed.
"""

from collections.abc import Sequence
from enum import IntEnum, unique
from typing import Any

import jax
import numpy as np

Seed = int | Sequence[int]

# Raised with every change of what a seed draws: a run must not go on with other draws.
DRAWS = 2


@unique
class Purpose(IntEnum):
    """What a stream is for; a number stays, and a new purpose takes the next one."""

    # The problem, from the seeds of data and noise.
    LONG_TAIL = 1
    META_SET = 2  # held out
    NOISE = 3
    PMD = 4
    VALIDATION = 5
    # Training on the host, from the seed of the run. Moment: the epoch.
    ORDER = 6  # part: virtual shard
    META_ORDER = 7  # part: virtual shard
    BALANCED = 8  # the meta set
    # Crop and flip, on the host (part: sample) as on the devices. Moment: the epoch,
    # for the meta set the step.
    AUGMENT = 9
    META_AUGMENT = 10
    # Training on the devices, from a key. Moment: the step.
    STEP = 11  # what losses draw, such as dropout
    OBSERVE = 12  # the same, where a memory is told what the classifier predicts
    MIX_SHARE = 13
    MIX_PARTNERS = 14
    MIX_META_SHARE = 15
    MIX_META_PARTNERS = 16
    # Initial parameters, from the key of the run.
    CLASSIFIER = 17
    WEIGHTING_NET = 18
    # What is the same in every run, from seed 0 or one of its own.
    SUBSET = 19  # `data.train_size`
    STATISTICS = 20  # the images on disk that give mean and deviation
    EVALUATION = 21  # views of images that leave nothing to chance
    LOOKAHEAD = 22  # gradients that an optimizer is tried with
    HEADLINES = 23
    WEBVISION = 24  # its made-up example
    FOLLOWED = 25  # the samples whose loss and weight are recorded over the epochs
    # Again of the problem, from the seed of noise.
    CANDIDATES = 26  # who joins a set of candidate labels
    STAND_IN = 27  # the candidate that stands for its set
    LABELLED = 28  # who keeps a label, from the seed of data
    LABELLED_ORDER = 29  # part: virtual shard; moment: the epoch
    STRONG_VIEW = 30  # on the devices; moment: the step
    STRONG_META_VIEW = 31
    EXAMPLE = 32  # the made-up examples of other data sets, in every run the same


def generator(
    seed: Seed, purpose: Purpose, *, moment: int = 0, part: int = 0
) -> np.random.Generator:
    """The generator of a stream; different arguments give independent ones.

    Args:
      seed: a whole number from 0, or several of them; `[1]` is 1, and `[1, 0]` is not.
      purpose: what it is for.
      moment: number of the epoch or step, from 0.
      part: number of the virtual shard or sample, from 0.

    Raises:
      ValueError: if the seed is anything else.

    References:
      NumPy, `spawn_key` of `SeedSequence
      <https://numpy.org/doc/stable/reference/random/parallel.html>`_, which keeps
      streams apart however long seeds are.
    """
    # The length, because NumPy pads seeds with zeros.
    key = (purpose, np.size(seed), moment, part)
    try:
        sequence = np.random.SeedSequence(seed, spawn_key=key)
    except (TypeError, ValueError):
        sequence = None
    if sequence is None or seed is None:  # None would be another seed every time
        raise ValueError(f"seed is {seed!r}: give whole numbers from 0, one or more.")
    return np.random.default_rng(sequence)


def fold(key: jax.Array, purpose: Purpose, *numbers: Any) -> jax.Array:
    """The key of a stream on the devices.

    Args:
      key: PRNG key of the run, or of anybody's `MetaState`.
      purpose: what it is for.
      *numbers: moment and the like, integers in [0, 2**32) or arrays `[]`; as many for
        every key of a purpose.
    """
    for number in (purpose, *numbers):
        key = jax.random.fold_in(key, number)
    return key
