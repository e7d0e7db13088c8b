"""Initial values as PyTorch draws them; Flax's own are normal with zero biases.

Biases have theirs from `cmwjax.core.initializers.torch_uniform`.
"""

from flax import linen as nn

# Kernels of convolutions and linear layers: U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
torch_kernel = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

# `kaiming_normal_`, of convolutions in front of a ReLU, in both of its modes.
kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
kaiming_normal_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
