"""The teacher: an exponential moving average of a classifier."""

from typing import Any, NamedTuple

import jax


class Teacher(NamedTuple):
    """Averaged parameters and batch statistics, trees like the classifier's."""

    params: Any
    model_state: Any


def update_teacher(
    teacher: Teacher,
    params: Any,
    model_state: Any,
    *,
    decay: float,
    batch_stats: bool = True,
) -> Teacher:
    """One step of `teacher <- decay * teacher + (1 - decay) * classifier`.

    Args:
      teacher: the average so far.
      params: the classifier's parameters now.
      model_state: its batch statistics now.
      decay: in [0, 1]; 1 freezes the teacher.
      batch_stats: whether batch statistics are averaged too. The CMW-Net authors do
        not, so that theirs stay as initialised until the teacher runs in training
        mode; then pass False and keep them up to date elsewhere.
    """

    def averaged(old, new):
        return jax.tree.map(lambda t, w: decay * t + (1 - decay) * w, old, new)

    return Teacher(
        averaged(teacher.params, params),
        averaged(teacher.model_state, model_state)
        if batch_stats
        else teacher.model_state,
    )
