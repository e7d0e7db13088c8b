"""What distinguishes the methods that one trainer runs: how samples are weighted."""

from typing import NamedTuple

import jax.numpy as jnp

from cmwjax import weighting
from cmwjax.meta import MetricsFn, WeightFn
from cmwjax.weighting import CMWNet


class Method(NamedTuple):
    """A way to weight samples, in the terms of `cmwjax.meta`."""

    weight_fn: WeightFn
    net: CMWNet | None = None  # the weighting net, if one is learned
    metrics_fn: MetricsFn | None = None


def constant_one(meta_params, losses, batch):
    """The `weight_fn` of ordinary training (ERM)."""
    del meta_params, batch
    return jnp.ones_like(losses)


def build(name: str, *, num_families: int, hidden: int, start: str) -> Method:
    """The method called `name`: `'erm'`, `'mw_net'` or `'cmw_net'`.

    Args:
      name: the method.
      num_families: families that CMW-Net tells apart; MW-Net is CMW-Net with one.
      hidden: width of the weighting net.
      start: initialisation of the weighting net, see `CMWNet`.
    """
    if name == "erm":
        return Method(constant_one)
    net = CMWNet(num_families if name == "cmw_net" else 1, hidden, start)
    return Method(weighting.weight_fn(net), net, weighting.metrics_fn(net))
