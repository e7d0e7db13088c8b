"""What a method is, in the terms of `cmwjax.core.meta`: losses, weights, memory.

The steps are the same for all methods; `cmwjax.methods.catalogue` lists those there
are.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cmwjax.core import losses
from cmwjax.core.meta import MetricsFn, WeightFn
from cmwjax.core.weighting import CMWNet
from cmwjax.methods import mixup
from cmwjax.methods import soft_labels as soft
from cmwjax.methods.memory import Memory
from cmwjax.methods.mixup import MixUp
from cmwjax.methods.teacher import Averaging

Batch = dict[str, jax.Array]
Losses = Callable[[jax.Array, Batch], jax.Array]  # (logits [B, C], batch) -> [B]
META_VIEWS = ("plain", "strong")


def cross_entropy(logits: jax.Array, batch: Batch) -> jax.Array:
    """The loss of ordinary training."""
    return losses.cross_entropy(logits, batch["label"])


def constant_one(meta_params, losses, batch):
    """The `weight_fn` of ordinary training (ERM)."""
    del meta_params, batch
    return jnp.ones_like(losses)


class Shares(NamedTuple):
    """Coefficients of samples of which only some are weighted, all `[B]`.

    Attributes:
      fixed: in the warm-up this is the coefficient, and else what is added.
      factor: of the weight; zero where nothing is weighted.
      losses: what a weight is a function of.
    """

    fixed: jax.Array
    factor: jax.Array
    losses: jax.Array


class Method(NamedTuple):
    """A loss and a way to weight it.

    Attributes:
      losses: `(logits, batch) -> [B]`, from the first epoch on; with a memory that is
        not for the warm-up, after that, which then minimises the loss of the task.
      weight_fn: `(meta_params, losses [B], batch) -> weights [B]`; the warm-up weighs
        every sample with one instead.
      net: the weighting net, if one is learned or applied.
      by_class: whether the net tells classes apart rather than families.
      metrics_fn: statistics of the weights.
      frozen: whether the net is applied as it is, and nothing is learned about it.
      meta_tx: without a net, makes one number per slot of the batch out of its
        meta-gradient; see `cmwjax.methods.slot_weights`.
      class_features: `(class sizes [C]) -> {name: [C, ...]}`; `batch[name]` is the
        entry of the sample's label.
      head: the last layer that the losses need, an option of the model; None: any.
      mixup: how inputs are blended after the warm-up.
      teacher: how the average of the classifier is taken, which is then evaluated;
        None: the classifier itself is.
      memory: what is remembered of the samples.
      soft_labels: whether the memory holds soft labels, which get the weight that given
        labels lack.
      trusted_only: whether batches are of the meta set alone, in place of the training
        set.
      averages: whether there is a teacher, by `config.ema`, that is evaluated.
      two_views: whether `batch['strong']` is a strong view of the inputs; `before` of
        the memory then says which view of each sample is learned, as `input`.
      meta_view: 'plain', or 'strong' for strong views of the meta set.
      shares: `(losses [B], batch) -> Shares`, where only some samples are weighted.
    """

    losses: Losses = cross_entropy
    weight_fn: WeightFn = constant_one
    net: CMWNet | None = None
    by_class: bool = False
    frozen: bool = False
    metrics_fn: MetricsFn | None = None
    meta_tx: optax.GradientTransformation | None = None
    class_features: Callable[[np.ndarray], dict[str, np.ndarray]] = lambda _: {}
    head: str | None = None
    mixup: MixUp = MixUp()
    teacher: Averaging | None = None
    memory: Memory | None = None
    soft_labels: bool = False
    trusted_only: bool = False
    averages: bool = False
    two_views: bool = False
    meta_view: str = META_VIEWS[0]
    shares: Callable[[jax.Array, Batch], "Shares"] | None = None

    def warmup_losses(self, losses: Losses) -> Losses:
        """Losses before there is anything remembered, given those of the task."""
        memory = self.memory
        return self.losses if memory is None or memory.in_warmup else losses

    @property
    def warmup_weights(self) -> WeightFn:
        """Weights in the warm-up."""
        shares = self.shares
        if shares is None:
            return constant_one
        return lambda meta_params, losses, batch: shares(losses, batch).fixed

    @property
    def has_warmup(self) -> bool:
        """Whether steps of the warm-up are others than those after it."""
        is_weighted = self.weight_fn is not constant_one or self.shares is not None
        return is_weighted or self.mixes or self.memory is not None

    @property
    def has_meta_step(self) -> bool:
        """Whether weights are learned, and a meta batch is needed for that."""
        return (self.net or self.meta_tx) is not None and not self.frozen

    @property
    def mixes(self) -> bool:
        """Whether training inputs are blended after the warm-up."""
        return self.mixup.alpha > 0

    @property
    def mixes_meta(self) -> bool:
        """Whether inputs of the meta set are blended."""
        return self.mixup.meta_alpha > 0

    def families(self, family: np.ndarray) -> np.ndarray:
        """What the net is told of each class, int32 `[C]`, given its family."""
        if self.by_class:
            return np.arange(len(family), dtype=np.int32)
        if self.net is None or self.net.num_families == 1:
            return np.zeros_like(family)
        return family

    def terms(self) -> tuple[Losses, WeightFn]:
        """Losses and coefficients after the warm-up: one term, or two, or four."""
        terms, weight_fn = self.losses, self._coefficients()
        if self.soft_labels:
            terms, weight_fn = soft.soft_losses(terms), soft.soft_weights(weight_fn)
        if self.mixes:
            terms = mixup.mixed_losses(terms)
            weight_fn = mixup.mixed_weights(weight_fn, self.mixup.second_weight)
        return terms, weight_fn

    def _coefficients(self) -> WeightFn:
        shares = self.shares
        if shares is None:
            return self.weight_fn

        def coefficients(meta_params, losses, batch):
            fixed, factor, seen = shares(losses, batch)
            return fixed + factor * self.weight_fn(meta_params, seen, batch)

        return coefficients

    def statistics(self) -> MetricsFn | None:
        """`metrics_fn` of the samples that are weighted at all."""
        metrics_fn, shares = self.metrics_fn, self.shares
        if metrics_fn is None or shares is None:
            return metrics_fn

        def of_weighted(meta_params, losses, batch):
            _, factor, seen = shares(losses, batch)
            family = jnp.where(factor > 0, batch["family"], -1)
            return metrics_fn(meta_params, seen, {**batch, "family": family})

        return of_weighted

    def scored_weights(
        self, meta_params: Any, losses: jax.Array, batch: Batch
    ) -> jax.Array:
        """Weights `[B]` outside of training; 1 of samples whose share is fixed."""
        weights = self.weight_fn(meta_params, losses, batch)
        if self.shares is None:
            return weights
        return jnp.where(self.shares(losses, batch).fixed > 0, 1, weights)

    def meta_losses(self, losses: Losses) -> Losses:
        """Losses of the meta batch, given those of one that is not mixed."""
        return mixup.mixed_label_losses(losses) if self.mixes_meta else losses


class Context(NamedTuple):
    """What a method is built from, beside its own options.

    Attributes:
      config: a checked configuration, whose groups are passed on whole.
      loss: ordinary training with a loss, by its name.
      num_families: families of classes that there are.
      num_classes: C.
    """

    config: Any
    loss: Callable[[str], Method]
    num_families: int
    num_classes: int

    @property
    def base(self) -> Method:
        """Ordinary training with the loss of the configuration."""
        return self.loss(self.config.loss)


class OptionError(ValueError):
    """An option of a method has a value that it cannot have."""


def check_range(name: str, value: float, low: float, high: float = np.inf) -> None:
    """Raises `OptionError` unless an option is finite and in [low, high]."""
    if not (low <= value <= high and np.isfinite(value)):
        raise OptionError(
            f"{name}={value} is out of range; choose a value in [{low}, {high}]."
        )


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raises `OptionError` unless an option is one of the choices."""
    if value not in choices:
        raise OptionError(f"{name}={value!r} is unknown; choose one of {choices}.")
