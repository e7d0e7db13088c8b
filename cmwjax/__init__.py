"""Learn how much to trust each training label: CMW-Net in JAX and Flax."""

__version__ = "0.1.0"
