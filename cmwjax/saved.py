"""What is saved of a run: one tree, and the one place that says what belongs to it."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmwjax.problem import Problem
from cmwjax.steps import RunState

NOBODY = np.array([-1], np.int32)  # Orbax does not save empty arrays


class Saved(NamedTuple):
    """All that a run needs to go on as if it had never stopped."""

    run: RunState
    meta_index: np.ndarray  # int32, the meta set of this epoch; NOBODY if there is none
    # What it learns from. It is made anew each time, and must not have changed.
    data: np.ndarray  # uint8 [32], SHA-256 of training and test set, or their names
    labels: np.ndarray  # int32 [N], as observed
    train_index: np.ndarray  # int32
    family: np.ndarray  # int32 [C]
    centres: np.ndarray  # float64 [K]


def first(run: RunState, problem: Problem) -> Saved:
    """What would be saved before the first step."""
    digest = hashlib.sha256()
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        digest.update(np.ascontiguousarray(getattr(problem.dataset, name)))
    if problem.dataset.files is not None:  # too many to read; their names must do
        digest.update(problem.dataset.files.identity.encode())
    return Saved(
        run=run,
        meta_index=NOBODY if problem.meta_index is None else problem.meta_index,
        data=np.frombuffer(digest.digest(), np.uint8),
        labels=problem.labels,
        train_index=problem.train_index,
        family=problem.families.family,
        centres=problem.families.centres,
    )


def check_unchanged(saved: Saved, start: Saved, workdir: Path) -> None:
    """Raises `ValueError` if a run would go on with other data than it began with."""
    for name in ("data", "labels", "train_index", "family", "centres"):
        if not np.array_equal(getattr(saved, name), getattr(start, name)):
            raise ValueError(
                f"{name} are not what the run in {workdir} began with: the data set "
                "has changed; bring it back, or use another workdir."
            )
