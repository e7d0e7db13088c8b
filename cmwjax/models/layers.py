"""Convolution and norm as the classifiers share them."""

from collections.abc import Callable
from functools import partial
from typing import Any

from flax import linen as nn

from cmwjax.models.batch_norm import BatchNorm

# Makes a layer, from what is its own: `conv(features, strides=2)`, `norm()`.
Layer = Callable[..., nn.Module]


def conv_and_norm(
    train: bool, *, axis_name: str | None, dtype: Any, **convolutions: Any
) -> tuple[Layer, Layer]:
    """What makes the convolutions and what makes the norms of one classifier.

    To be called within a module's `__call__`; the layers belong to the module in whose
    `__call__` they are then made, which may be a block of it.

    Args:
      train: whether a norm uses and records the statistics of its batch, instead of
        the running ones.
      axis_name: mapped axis over which batch statistics are averaged.
      dtype: of the computation; None is that of the input.
      **convolutions: arguments of `nn.Conv` for all of them, where they differ from
        3x3 kernels, one pixel of padding and no bias.

    Returns:
      `conv` and `norm`: `nn.Conv` and `BatchNorm`, to be called with what a layer has
      of its own.
    """
    options = {"kernel_size": (3, 3), "padding": 1, "use_bias": False} | convolutions
    conv = partial(nn.Conv, dtype=dtype, **options)
    norm = partial(
        BatchNorm, use_running_average=not train, axis_name=axis_name, dtype=dtype
    )
    return conv, norm
