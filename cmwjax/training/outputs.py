"""What a classifier says in training mode, of a batch at once or slice by slice.

Slices end at the outputs: losses, which may look at the partner of a sample, weights
and steps are those of the whole batch.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from cmwjax.core.micro_batches import micro_batches

# (params, model_state, inputs, key) -> (outputs [B, ...], model_state)
Outputs = Callable[[Any, Any, Any, jax.Array], tuple[jax.Array, Any]]


def training_outputs(model: nn.Module, accumulate: int = 1) -> Outputs:
    """A Linen classifier as a function of parameters, batch statistics and inputs.

    Args:
      model: called as `module(inputs, train)`.
      accumulate: slices that inputs are cut into, see `micro_batches`.
    """

    def outputs(params, model_state, inputs, key):
        return model.apply(
            {"params": params, **model_state},
            inputs,
            True,
            mutable=list(model_state),
            rngs={"dropout": key},
        )

    return outputs if accumulate == 1 else micro_batches(outputs, accumulate)


def check_slices(field: str, size: int, *, accumulate: int, devices: int) -> None:
    """Raises `ValueError` unless each device can cut its samples into equal slices.

    Args:
      field: of the configuration, that the size of the batch comes from.
      size: samples in a batch of all devices, a multiple of their number.
      accumulate: how many slices.
      devices: how many share the batch.
    """
    own = size // devices
    if own % accumulate:
        raise ValueError(
            f"config.optim.accumulate={accumulate} cannot cut the {own} samples of a "
            f"batch that each of {devices} device(s) has (config.{field}, {size} in "
            f"all) into equal slices: choose a number that divides {own}, or another "
            "size."
        )
