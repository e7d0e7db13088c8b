"""The steps of a run, from rows and tables to the next state; nothing is compiled here.

Around the step of `core.meta`: the batch is made, the memory written, the teacher
follows, and what the step measured is added up.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from cmwjax.core import weighting
from cmwjax.core.meta import LossFn, meta_step, weighted_step
from cmwjax.data.view import View
from cmwjax.methods.method import Losses, Method
from cmwjax.methods.teacher import update_teacher
from cmwjax.models.heads import LAYERS
from cmwjax.tasks.task import Task
from cmwjax.training.batches import Batches
from cmwjax.training.masks import masked_losses, masked_metrics, masked_weights
from cmwjax.training.outputs import training_outputs
from cmwjax.training.state import RunState


def lookahead_layers(config: Any) -> str:
    """The layers that look ahead: none of those that are not trained."""
    if config.optim.layers != "all":
        return config.optim.layers
    return config.weighting.lookahead_layers


class Steps(NamedTuple):
    """What training does with the rows of a step; pure functions."""

    warmup: Callable[..., RunState]  # (state, table, rows), ordinary training
    weighted: Callable[..., RunState]  # (state, table, rows)
    meta: Callable[..., RunState]  # (state, table, rows, meta_rows)


def build(
    config: Any,
    *,
    model: nn.Module,
    method: Method,
    task: Task,
    view: View,
    tx: optax.GradientTransformation,
    meta_tx: optax.GradientTransformation,
    schedule: optax.Schedule,
    axis_name: str | None,
    steps_per_epoch: int,
    trusted_share: float,
) -> Steps:
    """The steps of a method.

    Args:
      config: a checked configuration.
      model: the classifier.
      method: what is minimised, and how it is weighted.
      task: what outputs mean.
      view: how inputs are prepared.
      tx: optimizer of the classifier.
      meta_tx: optimizer of the weighting net.
      schedule: learning rate of the virtual step.
      axis_name: mapped axis over which rows are split.
      steps_per_epoch: unit of epochs.
      trusted_share: of the samples that train the classifier; 0 where none are trusted.
    """
    common = dict(tx=tx, axis_name=axis_name)
    slices = config.optim.accumulate
    warmup = partial(
        weighted_step,
        loss_fn=classifier_loss(model, method.warmup_losses(task.losses), slices),
        weight_fn=masked_weights(method.warmup_weights),
        **common,
    )
    losses, weight_fn = method.terms()
    common |= dict(
        loss_fn=classifier_loss(model, losses, slices),
        weight_fn=masked_weights(weight_fn),
        metrics_fn=masked_metrics(method.statistics()),
        normalisation=config.weighting.normalisation,
    )
    weighted = partial(weighted_step, **common)
    of_meta_batch = meta_loss(model, method.meta_losses(task.losses), slices)
    meta = partial(
        meta_step,
        meta_tx=meta_tx,
        meta_loss_fn=masked_losses(of_meta_batch),
        inner_lr=schedule,
        lookahead=config.weighting.lookahead,
        lookahead_mask=LAYERS[lookahead_layers(config)],
        lean=config.weighting.lean,
        trusted_share=trusted_share,
        **common,
    )
    # Trusted samples return within an epoch, and look another way each time.
    period = 1 if method.trusted_only or task.semi else steps_per_epoch
    batches = Batches(config, model, method, view, axis_name, period)

    def whole(step, *, is_warmup=False):
        def run_step(state, table, rows, *meta_rows):
            learner = state.learner
            make = batches.warmup if is_warmup else batches.training
            state, batch = make(state, table, rows)
            meta_batch = (
                batches.meta(learner, table, rows, state.memory) for rows in meta_rows
            )
            if method.meta_tx is not None:
                learner = learner._replace(
                    meta_params=jnp.zeros(config.data.batch_size)
                )
            before = learner.step
            learner, metrics = step(learner, batch, *meta_batch)
            teacher, averaging = state.teacher, method.teacher
            if teacher is not None and averaging is not None:
                teacher = update_teacher(
                    teacher,
                    learner.params,
                    learner.model_state,
                    decay=averaging.decay_at(before, steps_per_epoch),
                    batch_stats=averaging.batch_stats,
                )
            return state._replace(
                learner=learner, sums=add_metrics(state.sums, metrics), teacher=teacher
            )

        return run_step

    return Steps(whole(warmup, is_warmup=True), whole(weighted), whole(meta))


def several(steps: Steps, *, meta_every: int) -> Steps:
    """Makes of each step a function that takes several of them, one after the other.

    Its rows, and meta rows, are those of all these steps: leaves `[steps, B, ...]`. A
    meta step is due where the number of the step is a multiple of `meta_every`; the
    others are weighted steps, which do not look at their meta rows.

    Args:
      steps: what is done in a single step.
      meta_every: steps from one meta step to the next.
    """

    def meta(state, table, rows, meta_rows):
        if meta_every == 1:
            return steps.meta(state, table, rows, meta_rows)
        return lax.cond(
            state.learner.step % meta_every == 0,
            lambda: steps.meta(state, table, rows, meta_rows),
            lambda: steps.weighted(state, table, rows),
        )

    def scanned(step):
        def run_steps(state, table, *rows):
            return lax.scan(lambda s, r: (step(s, table, *r), None), state, rows)[0]

        return run_steps

    return Steps(scanned(steps.warmup), scanned(steps.weighted), scanned(meta))


def classifier_loss(model: nn.Module, losses: Losses, accumulate: int = 1) -> LossFn:
    """Losses of a Linen classifier in training mode, as a step's `loss_fn`.

    Args:
      model: the classifier.
      losses: of its outputs.
      accumulate: slices of a batch that it sees one after the other.
    """
    outputs = training_outputs(model, accumulate)

    def loss_fn(params, model_state, batch, key):
        logits, model_state = outputs(params, model_state, batch["input"], key)
        return losses(logits, batch), model_state

    return loss_fn


def meta_loss(model: nn.Module, losses: Losses, accumulate: int = 1):
    """Losses of a Linen classifier on the meta batch, as a step's `meta_loss_fn`."""
    loss_fn = classifier_loss(model, losses, accumulate)
    return lambda *arguments: loss_fn(*arguments)[0]


def zero_sums(method: Method) -> dict[str, Any]:
    """Sums and counts of an epoch that has not begun."""
    values: dict[str, Any] = dict.fromkeys(("loss", "grad_norm", "skipped"), 0.0)
    if method.has_meta_step:
        values |= dict.fromkeys(("meta_loss", "meta_grad_norm"), 0.0)
    if method.net is not None:
        values["weighting"] = dict.fromkeys(
            weighting.MOMENTS, np.zeros(method.net.num_families)
        )
    # Distinct float32 arrays: the state is donated.
    return {
        name: jax.tree.map(lambda x: np.array(x, np.float32), (value, 0.0))
        for name, value in values.items()
    }


def add_metrics(sums: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    """Adds a step's metrics to the sums; a skipped step only counts as skipped."""
    good = metrics["skipped"] == 0
    updated = dict(sums)
    for name, value in metrics.items():
        valid = good | (name == "skipped")
        total, count = sums[name]
        total = jax.tree.map(
            lambda t, v, valid=valid: t + jnp.where(valid, v, 0), total, value
        )
        updated[name] = (total, count + valid)
    return updated


def epoch_means(sums: dict[str, Any]) -> dict[str, Any]:
    """Means over the steps in which a metric was measured; the number of skips."""
    means = {}
    for name, (total, count) in jax.device_get(sums).items():
        if name == "skipped":
            means[name] = int(total)
        elif count:
            means[name] = jax.tree.map(lambda t, c=count: t / c, total)
    return means
