"""Optimizers and schedules with the meaning PyTorch gives them."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

OPTIMIZERS = ("sgd", "adam", "adamw", "amsgrad")
SCHEDULES = ("constant", "cosine", "cosine_7_16", "one_cycle", "steps", "restarts")


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
      name: `'sgd'`; or `'adam'`, `'adamw'` and `'amsgrad'`, which have no use for
        momentum.
      learning_rate: a number, or a schedule called with the step.
      weight_decay: as in PyTorch: coupled, but for `'adamw'`.
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
    if name == "adamw":
        return optax.adamw(learning_rate, weight_decay=weight_decay)
    if name in ("adam", "amsgrad"):
        return torch_adam(
            learning_rate, weight_decay=weight_decay, amsgrad=name == "amsgrad"
        )
    raise ValueError(f"optimizer={name!r} is unknown; choose one of {OPTIMIZERS}.")


def of_part(
    tx: optax.GradientTransformation, mask: Callable[[Any], Any]
) -> optax.GradientTransformation:
    """An optimizer that leaves parameters as they are, but for some.

    Args:
      tx: the optimizer, which remembers nothing of the others.
      mask: says of a tree of parameters which are optimised, a tree of truth values.
    """

    def others(params):
        return jax.tree.map(lambda is_one: not is_one, mask(params))

    return optax.chain(
        optax.masked(tx, mask), optax.masked(optax.set_to_zero(), others)
    )


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
    """Learning rate as a function of the step.

    It is constant within an epoch, but for those of one cosine over the whole run.

    Args:
      peak: the rate at step 0.
      name: one of `SCHEDULES`: `'constant'`; `'cosine'`, from peak to 0 over
        total_steps; `'cosine_7_16'`, from peak to 0.2 peak, as semi-supervised learning
        has it; `'one_cycle'`, up from a 25th of peak and down to nearly 0, as in
        `optax.cosine_onecycle_schedule`; `'steps'`, multiplied by factor at each
        boundary; or `'restarts'`, peak for constant_epochs, then cosines down to
        minimum, again and again.
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

    References:
      Sohn et al., `FixMatch <https://arxiv.org/abs/2001.07685>`_, 2020, for
      `'cosine_7_16'`: `peak * cos(7 pi step / (16 total_steps))`.
    """
    if name not in SCHEDULES:
        raise ValueError(f"schedule={name!r} is unknown; choose one of {SCHEDULES}.")
    if name == "cosine":
        by_step = optax.cosine_decay_schedule(peak, total_steps)
    elif name == "cosine_7_16":

        def by_step(step):
            return peak * jnp.cos(7 * jnp.pi / 16 * step / total_steps)

    elif name == "one_cycle":
        by_step = optax.cosine_onecycle_schedule(total_steps, peak)
    else:
        if name == "constant":
            by_epoch = optax.constant_schedule(peak)
        elif name == "steps":
            drops = dict.fromkeys(boundaries, factor)
            by_epoch = optax.piecewise_constant_schedule(peak, drops)
        else:
            epochs = math.ceil(total_steps / steps_per_epoch)
            by_epoch = _restarts(
                peak,
                epochs,
                constant=constant_epochs,
                period=period,
                multiplier=multiplier,
                minimum=minimum,
            )

        def by_step(step):
            return by_epoch(step // steps_per_epoch)

    if not linear_epochs:
        return by_step

    def schedule(step):
        share = (step // steps_per_epoch + 1) / linear_epochs
        return by_step(step) * jnp.minimum(share, 1)

    return schedule


def _restarts(
    peak: float,
    epochs: int,
    *,
    constant: int,
    period: int,
    multiplier: int,
    minimum: float,
) -> optax.Schedule:
    """The rate by epoch: constant, then cosines from peak to minimum, ever longer."""
    alpha = minimum / peak if peak else 0.0
    parts, starts = [optax.constant_schedule(peak)], []
    start = constant
    while start < epochs:
        parts.append(optax.cosine_decay_schedule(peak, period, alpha))
        starts.append(start)
        start, period = start + period, period * multiplier
    return optax.join_schedules(parts, starts)
