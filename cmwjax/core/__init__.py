"""The method for anybody's training loop: meta step, weighting net, families, losses.

Here is what needs JAX, Flax, Optax, NumPy and safetensors and nothing else. Not here:
data sets, the catalogue of methods, and everything that a run of the trainer needs.
"""
