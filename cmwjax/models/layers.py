"""Convolution and norm as the classifiers share them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from flax import linen as nn
from jax import lax

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
      dtype: type that is computed in; None: that of the input.
      **convolutions: arguments of `nn.Conv` for all of them, where they differ from
        3x3 kernels, one pixel of padding and no bias.

    Returns:
      `conv` and `norm`: `Conv` and `BatchNorm`, to be called with what a layer has of
      its own.
    """
    options = {"kernel_size": (3, 3), "padding": 1, "use_bias": False} | convolutions
    conv = partial(Conv, dtype=dtype, **options)
    norm = partial(
        BatchNorm, use_running_average=not train, axis_name=axis_name, dtype=dtype
    )
    return conv, norm


def fence(x: jax.Array) -> jax.Array:
    """`x`, which XLA computes once and stores where the program runs on a CPU.

    XLA's weight gradient of a convolution wants its operands transposed, and on CPUs
    the elementwise work before it, ReLU and batch norm, is fused into these strided
    copies and done again in each. A barrier before and behind every convolution keeps
    it out. With JAX 0.11 and 0.12, ResNet-32 then trains on 1.4 times the images per
    second; with JAX 0.10 it makes no difference. Elsewhere `x` is the compiler's to
    fuse: the platform is that for which the program is lowered.
    """
    return lax.platform_dependent(x, cpu=lax.optimization_barrier, default=_identity)


def _identity(x):
    return x


def fenced_convolution(inputs, kernel, *args, **kwargs):
    """`lax.conv_general_dilated` between two fences."""
    return fence(lax.conv_general_dilated(fence(inputs), kernel, *args, **kwargs))


# `nn.Conv` in all but speed; a function and no class, since Flax names layers by it.
Conv = partial(nn.Conv, conv_general_dilated=fenced_convolution)
