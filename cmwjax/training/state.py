"""What changes while a run goes on, what is saved of it, and how that is checked."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from cmwjax.bias.problem import Problem
from cmwjax.core.meta import MetaState
from cmwjax.methods.method import Method
from cmwjax.methods.teacher import Teacher
from cmwjax.report.problem import data_digest

_NO_META_SET = np.array([-1], np.int32)  # Orbax does not save empty arrays


class RunState(NamedTuple):
    """Everything on the device that changes while a run goes on."""

    learner: MetaState
    sums: dict[str, Any]  # of the epoch's metrics: name -> (sum, count)
    teacher: Teacher | None = None  # where the method has one
    memory: Any = None  # likewise; see `cmwjax.methods.memory`

    @property
    def scoring(self) -> MetaState:
        """The learner with the classifier that scores: the teacher's, if any."""
        if self.teacher is None:
            return self.learner
        return self.learner._replace(**self.teacher._asdict())

    @property
    def without_teacher(self) -> "RunState":
        """The state in which the classifier itself scores."""
        return self._replace(teacher=None)


def cut_over_devices(method: Method) -> RunState:
    """Which parts of the state of a run have their own part on each device."""
    whole: Any = False
    memory = whole if method.memory is None else method.memory.split
    return RunState(learner=whole, sums=whole, teacher=whole, memory=memory)


class Saved(NamedTuple):
    """All that a run needs to go on as if it had never stopped."""

    run: RunState
    meta_index: np.ndarray  # int32, of this epoch; see `meta_set`
    # float64 [3], of this epoch so far, and of them those of saving and of compiling
    seconds: np.ndarray
    quality: np.ndarray  # float32 [N], of labels, summed over looks at all samples
    looks: np.ndarray  # int32, how many there were
    frequencies: np.ndarray  # float32 [G], of the next one; see `sets.frequencies`
    history: np.ndarray  # float32 [T, 2, n], see `cmwjax.training.history`
    # What it learns from. It is made anew each time, and must not have changed.
    data: np.ndarray  # uint8 [32], see `data_digest`
    labels: np.ndarray  # [N], as observed
    train_index: np.ndarray  # int32
    family: np.ndarray  # int32 [C]
    centres: np.ndarray  # float64 [K]

    @property
    def meta_set(self) -> np.ndarray | None:
        """Positions of the meta set of this epoch, int32; None if there is none."""
        return None if self.meta_index[0] == _NO_META_SET[0] else self.meta_index

    def at(
        self,
        run: RunState,
        meta_set: np.ndarray | None,
        seconds: tuple[float, float, float],
        quality: np.ndarray,
        looks: int,
        frequencies: np.ndarray,
        history: np.ndarray,
    ) -> "Saved":
        """The same run at another moment."""
        return self._replace(
            run=run,
            meta_index=_NO_META_SET if meta_set is None else meta_set,
            seconds=np.array(seconds),
            quality=quality,
            looks=np.array(looks, np.int32),
            frequencies=frequencies,
            history=history,
        )


def first(
    run: RunState, problem: Problem, frequencies: np.ndarray, history: np.ndarray
) -> Saved:
    """What would be saved before the first step."""
    return Saved(
        run=run,
        meta_index=_NO_META_SET if problem.meta_index is None else problem.meta_index,
        seconds=np.zeros(3),
        quality=np.zeros(len(problem.labels), np.float32),
        looks=np.zeros((), np.int32),
        frequencies=frequencies,
        history=history,
        data=np.frombuffer(data_digest(problem.dataset), np.uint8),
        labels=problem.labels,
        train_index=problem.train_index,
        family=problem.families.family,
        centres=problem.families.centres,
    )


def check_unchanged(saved: Saved, start: Saved, workdir: Path) -> None:
    """Raises `ValueError` if a run would go on with other data or another model."""
    for name in ("data", "labels", "train_index", "family", "centres"):
        if not np.array_equal(getattr(saved, name), getattr(start, name)):
            raise ValueError(
                f"{name} are not what the run in {workdir} began with: the data set "
                "has changed; bring it back, or use another workdir."
            )
    for (path, here), there in zip(
        jax.tree.leaves_with_path(start.run), jax.tree.leaves(saved.run), strict=True
    ):
        if (here.shape, here.dtype) != (there.shape, there.dtype):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(
                f"run/{name} is {there.dtype} of shape {list(there.shape)} in "
                f"{workdir} and {here.dtype} of shape {list(here.shape)} here: the "
                "model, its optimizer or their precision has changed; bring it back, "
                "or use another workdir."
            )
