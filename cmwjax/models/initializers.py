"""Initial values as PyTorch draws them; Flax's own are normal with zero biases."""

import jax
from flax import linen as nn

# Kernels of convolutions and linear layers: U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
torch_kernel = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

# `kaiming_normal_(mode='fan_out')`, of convolutions in front of a ReLU.
kaiming_normal_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def torch_bias(fan_in: int) -> nn.initializers.Initializer:
    """Biases of the same layers, which share the bound of their kernels."""
    bound = fan_in**-0.5

    def init(key, shape, dtype=float):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init
