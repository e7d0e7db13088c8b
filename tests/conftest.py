"""Strict by default: four CPU devices, and no silent rank promotion."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402  (the platform is read when JAX is imported)

jax.config.update("jax_num_cpu_devices", 4)  # before the first JAX call
jax.config.update("jax_numpy_rank_promotion", "raise")
