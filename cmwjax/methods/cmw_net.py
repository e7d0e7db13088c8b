"""Weights that a net has learned from the loss: MW-Net, CMW-Net, one net per class.

`constant`, in which nothing is learned, tells how much of a result is the learning.

References:
  MW-Net (https://arxiv.org/abs/1902.07379); CMW-Net (https://arxiv.org/abs/2202.05613).
"""

from collections.abc import Callable

import jax.numpy as jnp

from cmwjax.core import weighting
from cmwjax.core.weighting import CMWNet, PerClassNet
from cmwjax.methods.memory import one_family
from cmwjax.methods.method import Context, Method
from cmwjax.methods.mixup import MixUp
from cmwjax.methods.soft_labels import soft_label_memory
from cmwjax.methods.teacher import Averaging


def constant(context: Context) -> Method:
    """A weighting function that nobody has trained: 0.5 whatever the sample."""
    return context.base._replace(weight_fn=constant_half)


def mw_net(context: Context) -> Method:
    """One function of the loss for all classes."""
    base = context.base
    base = base._replace(memory=one_family(base.memory))
    return with_net(base, CMWNet(1, **_net_options(context)))


def cmw_net(context: Context) -> Method:
    """One function of the loss for each family of classes of like size."""
    return with_net(context.base, CMWNet(context.num_families, **_net_options(context)))


def per_class(context: Context) -> Method:
    """One function of the loss for each class: an ablation."""
    net = PerClassNet(context.num_classes, **_net_options(context))
    return with_net(context.base, net)._replace(by_class=True)


def with_net(method: Method, net: CMWNet) -> Method:
    """Weights a method's loss by a net that sees this loss."""
    return method._replace(
        weight_fn=weighting.weight_fn(net),
        net=net,
        metrics_fn=weighting.metrics_fn(net),
    )


def with_mixup(plain: Callable[[Context], Method]) -> Callable[[Context], Method]:
    """The method with MixUp, and a teacher that is evaluated."""

    def build(context):
        config = context.config
        return plain(context)._replace(
            mixup=MixUp(**config.mixup), teacher=Averaging(**config.ema)
        )

    return build


def with_soft_labels(plain: Callable[[Context], Method]) -> Callable[[Context], Method]:
    """The method with MixUp and a teacher, whose soft labels get the weight `1 - v`."""

    def build(context):
        config = context.config
        memory = soft_label_memory(
            **config.soft_labels, top_k=config.memory.top_k, shards=config.data.shards
        )
        method = with_mixup(plain)(context)
        return method._replace(soft_labels=True, memory=memory)

    return build


def constant_half(meta_params, losses, batch):
    """The `weight_fn` of `constant`."""
    del meta_params, batch
    return jnp.full_like(losses, 0.5)


def _net_options(context: Context) -> dict:
    names = ("hidden", "start", "anchored")
    return {name: context.config.weighting[name] for name in names}
