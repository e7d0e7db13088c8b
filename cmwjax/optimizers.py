"""Optimizers and schedules with the meaning PyTorch gives them."""

import optax


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
    learning_rate: optax.ScalarOrSchedule, *, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """`torch.optim.Adam`: decay is added to the gradient (coupled), unlike AdamW."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay), optax.adam(learning_rate)
    )


def learning_rate(
    name: str,
    peak: float,
    *,
    total_steps: int,
    boundaries: tuple[int, ...] = (),
    factor: float = 0.1,
) -> optax.Schedule:
    """Learning rate as a function of the step.

    Args:
      name: `'constant'`; `'cosine'`, from peak to 0 over total_steps; or `'steps'`,
        multiplied by factor at each boundary.
      peak: the rate at step 0.
      total_steps: steps of the run.
      boundaries: steps, for `'steps'`.
      factor: what a boundary multiplies by.
    """
    if name == "constant":
        return optax.constant_schedule(peak)
    if name == "cosine":
        return optax.cosine_decay_schedule(peak, total_steps)
    if name == "steps":
        return optax.piecewise_constant_schedule(peak, dict.fromkeys(boundaries, factor))
    raise ValueError(
        f"schedule={name!r} is unknown; choose 'constant', 'cosine' or 'steps'."
    )
