"""The last layer of a classifier: linear, or the cosines that margin losses want."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import path_aware_map
from jax import lax

from cmwjax.core.initializers import torch_uniform
from cmwjax.models.initializers import torch_kernel

HEADS = ("linear", "cosine")


def build(head: str, num_classes: int, scale: float, **linear) -> nn.Module:
    """Makes the last layer, called `head`, within a model's `__call__`.

    Args:
      head: one of `HEADS`.
      num_classes: C.
      scale: factor of the cosine head's logits.
      **linear: further arguments of `nn.Dense`, for the linear head.

    Returns:
      A module from features `[B, F]` to logits `[B, C]`.

    Raises:
      ValueError: if there is no such head.
    """
    if head not in HEADS:
        raise ValueError(f"head={head!r} is unknown; choose one of {HEADS}.")
    if head == "cosine":
        return CosineHead(num_classes, scale, name="head")
    return nn.Dense(num_classes, name="head", **linear)


def torch_linear(num_classes: int, features: int) -> nn.Module:
    """Makes the linear last layer, called `head`, that starts as PyTorch's.

    Args:
      num_classes: C.
      features: F.

    Returns:
      A module from features `[B, F]` to logits `[B, C]`.
    """
    return nn.Dense(
        num_classes,
        kernel_init=torch_kernel,
        bias_init=torch_uniform(features),
        name="head",
    )


def last_layer(params: Any) -> Any:
    """Says which parameters of a classifier are those of its last layer.

    Args:
      params: parameters of one of `cmwjax.models.catalogue.MODELS`.

    Returns:
      A tree like `params` of truth values, as `meta_step` takes it as `lookahead_mask`.

    Raises:
      ValueError: if none is called `head`, as that of a model of one's own may not be.
    """
    if "head" not in params:
        raise ValueError(
            "weighting.lookahead_layers='last' and optim.layers='last' want a model "
            f"whose last layer is named 'head', and this one has {list(params)}: name "
            "it so, or choose 'all'."
        )
    return path_aware_map(lambda path, _: path[0] == "head", params)


# The parameters that are trained, or look ahead, by what a configuration calls them.
LAYERS = {"all": None, "last": last_layer}


class CosineHead(nn.Module):
    """Cosine between feature vector and class vector, times `scale`; no bias."""

    num_classes: int
    scale: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features `[B, F]` -> logits `[B, C]` within +-scale."""
        lecun = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        kernel = self.param("kernel", lecun, (x.shape[-1], self.num_classes))
        x, kernel = nn.dtypes.promote_dtype(x, kernel)
        return self.scale * unit(x, axis=1) @ unit(kernel, axis=0)


def unit(x: jax.Array, axis: int) -> jax.Array:
    """Scales vectors along `axis` to length one; a zero vector stays zero."""
    square = jnp.sum(x**2, axis=axis, keepdims=True)
    return x * lax.rsqrt(jnp.maximum(square, 1e-12))
