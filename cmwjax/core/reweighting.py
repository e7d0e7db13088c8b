"""Class-aware weighting in anybody's training loop: an `init` and a `step`."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cmwjax.core import lowest_loss, weighting
from cmwjax.core.families import Families, group_classes
from cmwjax.core.forward import check_choice, is_inexact
from cmwjax.core.labels import check_label_type, check_labels, class_counts
from cmwjax.core.lookahead import UnfitLookahead
from cmwjax.core.meta import LossFn, MetaState, meta_step, weighted_step
from cmwjax.core.weighting_file import WeightingFunction, save_weighting

META_SETS = ("trusted", "lowest_loss")


@dataclasses.dataclass(frozen=True)
class Reweighting:
    """Pure functions, after the manner of optax; unpacks to `init, step`."""

    init: Callable[..., MetaState]
    step: Callable[..., tuple[MetaState, dict[str, Any]]]
    _function: Callable[[MetaState], WeightingFunction]
    _families: Families

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return iter((self.init, self.step))

    def weights(self, state: MetaState, losses: Any, labels: Any) -> jax.Array:
        """How much samples are trusted: a low weight is a suspicious label.

        Args:
          state: the state.
          losses: loss of each sample, floats `[n]`.
          labels: its class as observed, integers `[n]` in [0, C).

        Returns:
          Weights in (0, 1), `[n]`.

        Raises:
          ValueError: for arrays of another shape or type.
        """
        labels = check_labels(labels, len(self._families.family), remedy="correct it")
        losses = jnp.asarray(losses)
        if losses.shape != labels.shape:
            raise ValueError(
                f"losses has shape {list(losses.shape)} for {labels.size} labels: pass "
                "one loss per sample."
            )
        family = jnp.asarray(self._families.family[labels])
        return self._function(state)(losses, family)

    def save(
        self, state: MetaState, path: str | os.PathLike, *, loss: str = "cross_entropy"
    ) -> None:
        """Writes the weighting function, as `cmwjax.load_weighting` reads it.

        Args:
          state: the state.
          path: the file, usually `*.safetensors`.
          loss: name of the loss that it was fed, for whoever applies it.
        """
        save_weighting(path, self._function(state)._replace(loss=loss))


def reweight(
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    *,
    labels: Any,
    num_classes: int | None = None,
    num_families: int | None = None,
    inner_lr: optax.Schedule | float | None = None,
    meta_tx: optax.GradientTransformation | None = None,
    meta: str = "trusted",
    per_class: int = 10,
    trusted_share: float = 0.1,
    normalisation: str = "weights",
    axis_name: str | None = None,
) -> Reweighting:
    """Puts CMW-Net around a loss and an optimizer, with the paper's families.

    The weighting net is the paper's, anchored; see `CMWNet`.

    Args:
      loss_fn: `(params, model_state, batch, key) -> (losses [n], model_state)`,
        unreduced; `model_state` is `{}` for models that have none.
      tx: the optimizer.
      labels: all training labels as observed, integers `[N]`; their class sizes
        give the families.
      num_classes: C; by default the largest label plus one.
      num_families: K; 1 gives MW-Net. By default 3, or as many as there are class
        sizes if these are fewer.
      inner_lr: learning rate (or schedule) of the virtual step, plain SGD. By
        default the virtual step is the one `tx` itself would take, which not every
        optimizer is fit for: docs/optimizers.md lists them.
      meta_tx: optimizer of the weighting net; by default AdamW at 3e-3, whose decay
        (1e-2) does not take over when the learning rate of `tx` falls, as the paper's
        coupled one does (Adam at 1e-3, 1e-4).
      meta: what the weighting net is judged by: `'trusted'`, batches of samples whose
        labels are right, which `step` is given; or `'lowest_loss'`, for those who have
        none: what the classifier agrees with most in each class, as training goes by.
      per_class: samples of each class that `'lowest_loss'` remembers.
      trusted_share: share of trusted samples in what the classifier learns at a step
        with a meta batch, in [0, 1); see `meta_step`. 0 is the paper's form, in which
        they only teach the weighting net. As many as they are of all samples is a
        good choice, and what run.py takes.
      normalisation: `'weights'` keeps the effective learning rate whatever the
        weights are; `'mean'` as in `meta_step`.
      axis_name: mapped axis over which batches are split.

    Returns:
      `init(params, model_state=None, key=None, batch=None) -> state` and
      `step(state, batch, meta_batch=None) -> (state, metrics)`; `Reweighting` has more.
      Batches are dicts with `'label'`, int [n], beside what `loss_fn` reads. Without a
      meta batch the weighting net is used as it is. With `meta='lowest_loss'` `step`
      takes none; batches have `'index'`, int [n], the number of each sample among all,
      too, and `init` is given one of them, for its shapes. Both are pure: wrap `step`
      in `jax.jit`. Labels outside [0, num_classes) are an error where their values
      are known, which they are not under `jit`: there such a sample has no loss
      (NaN), so that the update is skipped and counted in `metrics['skipped']`.

    Raises:
      ValueError: if labels are not integers in [0, num_classes), a class has no
        sample, or the arguments of `meta_step` are unfit. From `step`: if a batch
        has no such labels or no sample, or `loss_fn` not one loss for each.

    Examples:
      >>> import jax, jax.numpy as jnp, numpy as np, optax
      >>> def loss_fn(params, model_state, batch, key):
      ...     losses = optax.losses.softmax_cross_entropy_with_integer_labels(
      ...         batch['x'] @ params, batch['label'])
      ...     return losses, model_state
      >>> labels = np.repeat([0, 1, 2], [50, 20, 5])
      >>> init, step = reweight(loss_fn, optax.sgd(0.1), labels=labels)
      >>> state, step = init(jnp.zeros((4, 3))), jax.jit(step)
      >>> batch = {'x': jnp.ones((8, 4)), 'label': jnp.asarray(labels[::10])}
      >>> trusted = {'x': jnp.ones((3, 4)), 'label': jnp.arange(3)}
      >>> state, metrics = step(state, batch, trusted)
      >>> int(state.step), metrics['loss'].shape
      (1, ())

    References:
      CMW-Net (https://arxiv.org/abs/2202.05613).
    """
    if not np.size(labels):
        raise ValueError("labels are empty: pass those of all training samples.")
    counts = class_counts(labels, num_classes)
    if not counts.all():
        raise ValueError(
            f"labels: class(es) {np.flatnonzero(counts == 0).tolist()} have no sample; "
            "renumber the classes or set num_classes."
        )
    if num_families is None:
        num_families = min(3, len(np.unique(counts)))
    families = group_classes(counts, num_families)
    net = weighting.CMWNet(len(families.centres), anchored=True)
    check_choice("meta", meta, META_SETS)
    remembers = meta == "lowest_loss"
    if remembers and per_class < 1:
        raise ValueError(f"per_class={per_class} must be at least 1.")
    if meta_tx is None:
        meta_tx = optax.adamw(3e-3, weight_decay=1e-2)
    if inner_lr is not None and not callable(inner_lr):
        inner_lr = optax.constant_schedule(inner_lr)
    common = dict(
        loss_fn=_one_loss_each(loss_fn, len(counts)),
        weight_fn=weighting.weight_fn(net),
        tx=tx,
        metrics_fn=weighting.metrics_fn(net),
        memory_fn=partial(lowest_loss.remember, axis_name=axis_name)
        if remembers
        else None,
        normalisation=normalisation,
        axis_name=axis_name,
    )
    with_meta = partial(
        meta_step,
        meta_tx=meta_tx,
        inner_lr=inner_lr,
        lookahead="optimizer" if inner_lr is None else "sgd",
        meta_loss_fn=_over_filled(common["loss_fn"]) if remembers else None,
        trusted_share=0.0 if remembers else trusted_share,
        **common,
    )
    without_meta = partial(weighted_step, **common)

    def init(params, model_state=None, key=None, batch=None):
        key = jax.random.key(0) if key is None else key
        net_key, key = jax.random.split(key)
        one = jnp.zeros((1,))
        meta_params = net.init(net_key, one, one.astype(jnp.int32))
        return MetaState.create(
            params=params,
            meta_params=meta_params,
            tx=tx,
            meta_tx=meta_tx,
            model_state=model_state,
            key=key,
            memory=_empty_memory(batch, len(counts), per_class) if remembers else (),
        )

    def step(state, batch, meta_batch=None):
        batch = _with_checked_labels(batch, "batch", len(counts))
        # Not by index: explicit meshes have no sharding for that. -1 outside [0, C).
        its_class = jax.nn.one_hot(batch["label"], len(counts), dtype=bool)
        family = jnp.max(jnp.where(its_class, families.family[None], -1), axis=1)
        if remembers:
            if meta_batch is not None:
                raise ValueError(
                    "step was given a meta_batch, but meta='lowest_loss' finds its own:"
                    " leave it out, or choose meta='trusted'."
                )
            _check_index(batch)
            meta_batch = lowest_loss.meta_batch(state.memory)
        elif meta_batch is not None:
            meta_batch = _with_checked_labels(meta_batch, "meta_batch", len(counts))
        batch = {**batch, "family": family}
        if meta_batch is None:
            return without_meta(state, batch)
        try:
            return with_meta(state, batch, meta_batch)
        except UnfitLookahead as error:
            raise UnfitLookahead(
                error.reason,
                error.cure,
                "give reweight an inner_lr, the rate of a plain SGD step, e.g. 0.1",
            ) from None

    def function(state):
        return WeightingFunction(
            net.plain(state.meta_params["params"]),
            families.centres if len(families.centres) > 1 else None,
            normalisation=normalisation,
        )

    return Reweighting(init, step, function, families)


def _check_index(batch):
    if "index" not in batch:
        raise ValueError(
            f"batch has no 'index', only {sorted(batch)}: add the number of every "
            "sample among all training samples, integers of shape [n], by which "
            "meta='lowest_loss' knows it again."
        )
    check_label_type(jnp.asarray(batch["index"]), name="batch['index']")


def _empty_memory(batch, num_classes, per_class):
    if batch is None:
        raise ValueError(
            "init was given no batch, of which meta='lowest_loss' takes the shapes of "
            "what it remembers: pass one, as init(params, batch=batch)."
        )
    batch = _with_checked_labels(batch, "batch", num_classes)
    _check_index(batch)
    return lowest_loss.empty(batch, num_classes, per_class)


def _over_filled(loss_fn):
    """`loss_fn` as `meta_loss_fn` of a memory that may have places left."""

    def meta_loss_fn(params, model_state, meta_batch, key):
        losses, _ = loss_fn(params, model_state, meta_batch, key)
        return lowest_loss.mean_over_filled(losses, meta_batch["filled"])

    return meta_loss_fn


def _with_checked_labels(batch, name, num_classes):
    """The batch, its labels an array of the right shape and, where known, values."""
    if "label" not in batch:
        raise ValueError(
            f"{name} has no 'label', only {sorted(batch)}: add the class of every "
            "sample as observed, integers of shape [n]."
        )
    label, field = batch["label"], f"{name}['label']"
    traced = any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(label))
    if traced or not getattr(label, "is_fully_addressable", True):
        label = jnp.asarray(label)
        check_label_type(label, name=field)
    else:
        check_labels(label, num_classes, name=field, remedy="correct it")
    return {**batch, "label": jnp.asarray(label)}


def _one_loss_each(loss_fn, num_classes):
    """`loss_fn`, held to one loss per sample; NaN where the label is no class."""

    def checked(params, model_state, batch, key):
        losses, model_state = loss_fn(params, model_state, batch, key)
        label = batch["label"]
        if losses.shape != label.shape:
            raise ValueError(
                f"loss_fn returned losses of shape {list(losses.shape)} for "
                f"{label.size} labels: return one loss per sample, of shape "
                f"[{label.size}], neither reduced nor with a further axis."
            )
        if not is_inexact(losses):
            return losses, model_state  # refused by the step
        # Losses know it at most beyond C: an index of -1 is the last class.
        is_class = (label >= 0) & (label < num_classes)
        return jnp.where(is_class, losses, jnp.nan), model_state

    return checked
