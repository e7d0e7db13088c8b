"""Initial values of linear layers."""

import jax
from flax import linen as nn


def torch_uniform(fan_in: int) -> nn.initializers.Initializer:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default for linear layers.

    Kernel and bias of a layer share the bound, so a bias is told what only the shape
    of its kernel says.

    Args:
      fan_in: inputs of one output; of a convolution, its input channels times the
        pixels of its kernel.
    """
    bound = fan_in**-0.5

    def init(key, shape, dtype=float):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init
