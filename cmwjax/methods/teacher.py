"""The teacher: an exponential moving average of a classifier."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Averaging(NamedTuple):
    """How the average is taken.

    Attributes:
      decay: in [0, 1]; 1 keeps the teacher as it is.
      batch_stats: whether batch statistics are averaged too. The CMW-Net authors do
        not, so that theirs stay as initialised until the teacher runs in training
        mode; then pass False and keep them up to date elsewhere.
      freeze_epoch: epoch from which the teacher stays as it is; negative: none.
    """

    decay: float
    batch_stats: bool = True
    freeze_epoch: int = -1

    @property
    def freezes(self) -> bool:
        """Whether the teacher stays as it is from some epoch on."""
        return self.freeze_epoch >= 0

    def decay_at(self, step: jax.Array, steps_per_epoch: int) -> jax.Array | float:
        """The decay of the update after a step, counted from the run's beginning."""
        if not self.freezes:
            return self.decay
        frozen = step >= self.freeze_epoch * steps_per_epoch
        return jnp.where(frozen, 1.0, self.decay)


class Teacher(NamedTuple):
    """Averaged parameters and batch statistics, trees like the classifier's."""

    params: Any
    model_state: Any


def update_teacher(
    teacher: Teacher,
    params: Any,
    model_state: Any,
    *,
    decay: jax.Array | float,
    batch_stats: bool = True,
) -> Teacher:
    """One step of `teacher <- decay * teacher + (1 - decay) * classifier`.

    Args:
      teacher: the average so far.
      params: the classifier's parameters now.
      model_state: its batch statistics now.
      decay: in [0, 1].
      batch_stats: whether batch statistics are averaged too; see `Averaging`.
    """

    def averaged(old, new):
        return jax.tree.map(lambda t, w: decay * t + (1 - decay) * w, old, new)

    model_state = (
        averaged(teacher.model_state, model_state)
        if batch_stats
        else teacher.model_state
    )
    return Teacher(averaged(teacher.params, params), model_state)
