"""What distinguishes the methods that one trainer runs.

`build` lists them all. A method is a loss, a way to weight it, and what it needs
besides; the steps of `cmwjax.core.meta` are the same for all.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cmwjax.core import losses, weighting
from cmwjax.core.meta import MetricsFn, WeightFn
from cmwjax.core.weighting import CMWNet, PerClassNet
from cmwjax.methods import class_sizes, slot_weights
from cmwjax.methods.elr import early_targets
from cmwjax.methods.forward import transition_memory
from cmwjax.methods.memory import Memory
from cmwjax.methods.plc import refurbished_labels
from cmwjax.methods.soft_labels import soft_label_memory

Batch = dict[str, jax.Array]
Losses = Callable[[jax.Array, Batch], jax.Array]  # (logits [B, C], batch) -> [B]


def cross_entropy(logits: jax.Array, batch: Batch) -> jax.Array:
    """The loss of ordinary training."""
    return losses.cross_entropy(logits, batch["label"])


def constant_one(meta_params, losses, batch):
    """The `weight_fn` of ordinary training (ERM)."""
    del meta_params, batch
    return jnp.ones_like(losses)


def constant_half(meta_params, losses, batch):
    """A weighting function that nobody has trained: 0.5 whatever the sample."""
    del meta_params, batch
    return jnp.full_like(losses, 0.5)


def class_weight(meta_params, losses, batch):
    """The weight that the size of the sample's class gives it."""
    del meta_params, losses
    return batch["class_weight"]


class Method(NamedTuple):
    """A loss and a way to weight it, in the terms of `cmwjax.core.meta`.

    Attributes:
      losses: `(logits, batch) -> [B]`, from the first epoch on; with a memory, after
        the warm-up, which then minimises the cross entropy.
      weight_fn: of one loss per sample; it is one during the warm-up.
      net: the weighting net, if one is learned.
      by_class: whether the net tells classes apart rather than families.
      metrics_fn: statistics of the weights.
      frozen: whether the net is applied as it is, and nothing is learned about it.
      meta_tx: without a net, makes one number per slot of the batch out of its
        meta-gradient; see `cmwjax.methods.slot_weights`.
      class_features: `(class sizes [C]) -> {name: [C, ...]}`; `batch[name]` is what
        belongs to the sample's label.
      mixup: whether images are blended after the warm-up.
      teacher: whether the moving average of the classifier is what is evaluated.
      memory: what is remembered of the samples.
      soft_labels: whether the teacher's soft labels, which are what is remembered, get
        the weight that given labels lack.
    """

    losses: Losses = cross_entropy
    weight_fn: WeightFn = constant_one
    net: CMWNet | None = None
    by_class: bool = False
    frozen: bool = False
    metrics_fn: MetricsFn | None = None
    meta_tx: optax.GradientTransformation | None = None
    class_features: Callable[[np.ndarray], dict[str, np.ndarray]] = lambda _: {}
    mixup: bool = False
    teacher: bool = False
    memory: Memory | None = None
    soft_labels: bool = False

    @property
    def warmup_losses(self) -> Losses:
        """What ordinary training minimises before there is anything remembered."""
        return self.losses if self.memory is None else cross_entropy

    @property
    def has_meta_step(self) -> bool:
        """Whether weights are learned, and a meta batch is needed for that."""
        return (self.net or self.meta_tx) is not None and not self.frozen

    def families(self, family: np.ndarray) -> np.ndarray:
        """What the net is told of each class, int32 `[C]`, given its family."""
        if self.by_class:
            return np.arange(len(family), dtype=np.int32)
        if self.net is None or self.net.num_families == 1:
            return np.zeros_like(family)
        return family


def build(
    name: str,
    *,
    num_families: int,
    hidden: int,
    start: str,
    num_classes: int = 0,
    loss: str = "cross_entropy",
    baseline: Mapping[str, Any] | None = None,
    soft_labels: Mapping[str, Any] | None = None,
) -> Method:
    """The method called `name`, a key of `cmwjax.config.METHODS`.

    Args:
      name: the method.
      num_families: families that CMW-Net tells apart; MW-Net is CMW-Net with one.
      hidden: width of the weighting net.
      start: initialisation of the weighting net, see `CMWNet`.
      num_classes: C, for the method that has one weighting net for each.
      loss: what the methods weight that have no loss of their own.
      baseline: hyper-parameters, the fields of `config.baseline`.
      soft_labels: those of the soft labels, the fields of `config.soft_labels`.

    Raises:
      ValueError: if there is no such method or loss.
    """
    if name.endswith("_sl") or name.endswith("_mixup"):
        plain, _, form = name.rpartition("_")
        method = build(
            plain,
            num_families=num_families,
            hidden=hidden,
            start=start,
            loss=loss,
            baseline=baseline,
        )._replace(mixup=True, teacher=True)
        if form == "mixup":
            return method
        memory = soft_label_memory(**soft_labels or {})
        return method._replace(soft_labels=True, memory=memory)
    baseline = baseline or {}
    with_loss = partial(_with_loss, baseline=baseline)
    match name:
        case "erm":
            return with_loss(loss)
        case "erm_mixup_ema":
            return with_loss(loss)._replace(mixup=True, teacher=True)
        case "label_smoothing" | "focal" | "gce":
            return with_loss(name)
        case "class_balanced":
            return _class_balanced(with_loss(loss), baseline)
        case "ldam_drw":
            return _class_balanced(with_loss("ldam"), baseline)
        case "forward" | "elr" | "plc":
            return _with_memory(name, baseline)
        case "constant":
            return with_loss(loss)._replace(weight_fn=constant_half)
        case "l2rw":
            return with_loss(loss)._replace(
                weight_fn=slot_weights.slot_weights,
                meta_tx=slot_weights.rectified_and_normalised(),
            )
        case "mcw":
            return _class_balanced(with_loss(loss), baseline)._replace(
                weight_fn=slot_weights.balanced_slot_weights,
                meta_tx=slot_weights.gradient_step(baseline["mcw_step"]),
            )
        case "mw_net":
            return _with_net(with_loss(loss), CMWNet(1, hidden, start))
        case "cmw_net":
            return _with_net(with_loss(loss), CMWNet(num_families, hidden, start))
        case "per_class":
            net = PerClassNet(num_classes, hidden, start)
            return _with_net(with_loss(loss), net)._replace(by_class=True)
    raise ValueError(f"there is no method {name!r}.")


def _with_loss(name: str, baseline: Mapping[str, Any]) -> Method:
    """Ordinary training with a loss that needs nothing but labels and class sizes."""
    match name:
        case "cross_entropy":
            return Method()
        case "label_smoothing":
            loss = partial(losses.label_smoothing, smoothing=baseline["smoothing"])
        case "focal":
            loss = partial(losses.focal, gamma=baseline["focal_gamma"])
        case "gce":
            loss = partial(losses.generalized_cross_entropy, q=baseline["gce_q"])
        case "ldam":
            return Method(
                lambda logits, batch: losses.ldam(
                    logits,
                    batch["label"],
                    batch["margin"],
                    scale=baseline["ldam_scale"],
                ),
                class_features=partial(_ldam_features, baseline["ldam_margin"]),
            )
        case _:
            raise ValueError(f"there is no loss {name!r}.")
    return Method(lambda logits, batch: loss(logits, batch["label"]))


def _with_memory(name: str, baseline: Mapping[str, Any]) -> Method:
    """Training that looks back at what was predicted for the samples."""
    match name:
        case "forward":
            return Method(
                lambda logits, batch: losses.forward(logits, batch["column"]),
                memory=transition_memory(baseline["transition"]),
            )
        case "elr":
            strength = baseline["elr_strength"]
            return Method(
                lambda logits, batch: losses.early_learning(
                    logits, batch["label"], batch["target"], strength=strength
                ),
                memory=early_targets(baseline["elr_momentum"]),
            )
        case "plc":
            return Method(memory=refurbished_labels(baseline["plc_threshold"]))
    raise ValueError(f"{name!r} has no memory.")


def _ldam_features(largest, counts):
    return {"margin": class_sizes.ldam_margins(counts, largest=largest)}


def _class_balanced(method: Method, baseline: Mapping[str, Any]) -> Method:
    """Adds the weights of the classes to a method's features, and weights by them."""

    def class_features(counts):
        weights = class_sizes.balanced_weights(counts, beta=baseline["cb_beta"])
        return {**method.class_features(counts), "class_weight": weights}

    return method._replace(weight_fn=class_weight, class_features=class_features)


def _with_net(method: Method, net: CMWNet) -> Method:
    return method._replace(
        weight_fn=weighting.weight_fn(net),
        net=net,
        metrics_fn=weighting.metrics_fn(net),
    )
