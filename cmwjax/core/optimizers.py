"""Optimizers and schedules with the meaning PyTorch gives them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

OPTIMIZERS = ("sgd", "adam", "amsgrad")
SCHEDULES = ("constant", "cosine", "steps", "restarts")


def torch_sgd(
    learning_rate: optax.ScalarOrSchedule,
    *,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    """`torch.optim.SGD`: decay is added to the gradient, of every parameter."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.sgd(learning_rate, momentum or None, nesterov),
    )


def torch_adam(
    learning_rate: optax.ScalarOrSchedule,
    *,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
) -> optax.GradientTransformation:
    """`torch.optim.Adam`: decay is added to the gradient (coupled), unlike AdamW."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        scale_by_torch_amsgrad() if amsgrad else optax.scale_by_adam(),
        optax.scale_by_learning_rate(learning_rate),
    )


def build(
    name: str,
    learning_rate: optax.ScalarOrSchedule,
    *,
    weight_decay: float,
    momentum: float,
    nesterov: bool,
) -> optax.GradientTransformation:
    """Builds an optimizer by its name, one of `OPTIMIZERS`.

    Args:
      name: `'sgd'`; or `'adam'` and `'amsgrad'`, which have no use for momentum.
      learning_rate: a number, or a schedule called with the step.
      weight_decay: coupled, as in PyTorch.
      momentum: in [0, 1).
      nesterov: whether the momentum is Nesterov's.

    Raises:
      ValueError: on another name.
    """
    if name == "sgd":
        return torch_sgd(
            learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            nesterov=nesterov,
        )
    if name in ("adam", "amsgrad"):
        return torch_adam(
            learning_rate, weight_decay=weight_decay, amsgrad=name == "amsgrad"
        )
    raise ValueError(f"optimizer={name!r} is unknown; choose one of {OPTIMIZERS}.")


class AmsgradState(NamedTuple):
    """Moments, and the largest second moment so far, none of them corrected."""

    count: jax.Array
    first: optax.Updates
    second: optax.Updates
    largest: optax.Updates


def scale_by_torch_amsgrad(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Adam that divides by the largest second moment there has been.

    PyTorch takes the maximum before it corrects for the bias, `optax.amsgrad` of
    what is corrected, so that early large steps count for longer.
    """

    def init(params):
        zeros = [optax.tree.zeros_like(params) for _ in range(3)]
        return AmsgradState(jnp.zeros((), jnp.int32), *zeros)

    def update(updates, state, params=None):
        del params
        count = state.count + 1
        first = optax.tree.update_moment(updates, state.first, b1, 1)
        second = optax.tree.update_moment(updates, state.second, b2, 2)
        largest = jax.tree.map(jnp.maximum, state.largest, second)
        scaled = jax.tree.map(
            lambda m, v: m / (1 - b1**count) / (jnp.sqrt(v / (1 - b2**count)) + eps),
            first,
            largest,
        )
        return scaled, AmsgradState(count, first, second, largest)

    return optax.GradientTransformation(init, update)


def learning_rate(
    peak: float,
    *,
    name: str,
    total_steps: int,
    steps_per_epoch: int = 1,
    boundaries: Sequence[int] = (),
    factor: float = 0.1,
    constant_epochs: int = 0,
    period: int = 1,
    multiplier: int = 1,
    minimum: float = 0.0,
    linear_epochs: int = 0,
) -> optax.Schedule:
    """Learning rate as a function of the step; constant within an epoch but for cosine.

    Args:
      peak: the rate at step 0.
      name: one of `SCHEDULES`: `'constant'`; `'cosine'`, from peak to 0 over
        total_steps; `'steps'`, multiplied by factor at each boundary; or
        `'restarts'`, peak for constant_epochs, then cosines down to minimum, again
        and again.
      total_steps: steps of the run.
      steps_per_epoch: number of steps in an epoch.
      boundaries: epochs, for `'steps'`.
      factor: the rate is multiplied by this at each boundary.
      constant_epochs: epochs before the first cosine of `'restarts'`.
      period: epochs of this first cosine.
      multiplier: how many times longer each cosine is than the one before.
      minimum: the rate that cosines of `'restarts'` tend to.
      linear_epochs: epochs in which the rate comes up in equal steps, with any name.

    Raises:
      ValueError: if there is no schedule of this name.
    """
    if name not in SCHEDULES:
        raise ValueError(f"schedule={name!r} is unknown; choose one of {SCHEDULES}.")
    epochs = math.ceil(total_steps / steps_per_epoch)
    rates = [peak] * epochs
    if name == "steps":
        rates = [
            peak * factor ** sum(b <= e for b in boundaries) for e in range(epochs)
        ]
    if name == "restarts":
        rates = [peak] * constant_epochs
        while len(rates) < epochs:
            ends = min(period, epochs)
            shares = [(1 + math.cos(math.pi * e / period)) / 2 for e in range(ends)]
            rates += [minimum + (peak - minimum) * share for share in shares]
            period *= multiplier
    for epoch in range(min(linear_epochs, epochs)):
        rates[epoch] *= (epoch + 1) / linear_epochs
    cosine = optax.cosine_decay_schedule(1.0, total_steps)

    def schedule(step):
        rate = jnp.asarray(rates, jnp.float32)[step // steps_per_epoch]
        return rate * cosine(step) if name == "cosine" else rate

    return schedule
