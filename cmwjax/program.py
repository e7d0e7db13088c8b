"""The compiled functions of a run, and the state they carry."""

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import FrozenConfigDict

from cmwjax import ema, evaluate, methods, mixup, models, optimizers, weighting
from cmwjax.batches import Batches
from cmwjax.encoded import is_name
from cmwjax.masks import masked_losses, masked_metrics, masked_weights
from cmwjax.meta import LossFn, MetaState, meta_step, weighted_step
from cmwjax.parallel import Layout, layout
from cmwjax.problem import Problem
from cmwjax.sources import Samples

EVALUATION_BATCH = 1000


class RunState(NamedTuple):
    """Everything on the device that changes while a run goes on."""

    learner: MetaState
    sums: dict[str, Any]  # of the epoch's metrics: name -> (sum, count)
    teacher: ema.Teacher | None = None  # where the method has one
    memory: Any = None  # likewise; see `cmwjax.memory`

    @property
    def judged(self) -> MetaState:
        """The learner with the classifier to be evaluated: the teacher's, if any."""
        if self.teacher is None:
            return self.learner
        return self.learner._replace(**self.teacher._asdict())


class Program(NamedTuple):
    """Compiled functions of a run; the same for all seeds."""

    layout: Layout
    method: methods.Method
    schedule: Callable[[Any], Any]  # learning rate of the classifier by step
    init: Callable[[int, Problem], RunState]  # from the seed
    warmup: Callable[..., RunState]  # (state, table, rows), ordinary training
    weighted: Callable[..., RunState]  # (state, table, rows)
    meta: Callable[..., RunState]  # (state, table, rows, meta_rows)
    reset_sums: Callable[[RunState], RunState]  # for a new epoch
    refresh: Callable[..., RunState]  # (state, samples, problem, epoch), before one
    score: Callable[[RunState, Samples, np.ndarray], evaluate.Scores]
    curve: Callable[[Any, np.ndarray], Any] | None  # weights [K, G] of losses [G]


class Parts(NamedTuple):
    """What the configuration's names stand for."""

    layout: Layout
    model: nn.Module
    method: methods.Method
    schedule: optax.Schedule
    tx: optax.GradientTransformation
    meta_tx: optax.GradientTransformation


@functools.lru_cache(maxsize=8)
def build(
    config: FrozenConfigDict,
    *,
    num_classes: int,
    image_shape: tuple[int, ...],
    num_families: int,
    steps_per_epoch: int,
    devices: tuple[jax.Device, ...] | None = None,
) -> Program:
    """Builds model, method, optimizers and steps; compiles them when first called.

    Args:
      config: a checked configuration; its seed and comparison are not read.
      num_classes: C.
      image_shape: (H, W, channels).
      num_families: families there are, at most those that the configuration wants.
      steps_per_epoch: unit of the epochs in the schedule.
      devices: what to run on, by default everything there is.

    Raises:
      ValueError: if devices do not divide the virtual shards, or the model is unknown.
    """
    spread = layout(config.parallel, devices)
    shards, num_devices = config.data.shards, len(spread.devices)
    if shards % num_devices:
        raise ValueError(
            f"config.data.shards={shards} is not a multiple of the {num_devices} "
            "devices; choose one, since a device owns whole shards."
        )
    parts = _parts(config, spread, num_classes, num_families, steps_per_epoch)
    batch_size = evaluation_batch(config)
    method, score = (
        parts.method,
        evaluate.scorer(parts.model, parts.method, spread, batch_size=batch_size),
    )
    warmup, weighted, meta = _steps(config, parts, steps_per_epoch)
    return Program(
        layout=spread,
        method=method,
        schedule=parts.schedule,
        init=_init(config, parts, image_shape),
        warmup=warmup,
        weighted=weighted,
        meta=meta,
        reset_sums=lambda s: s._replace(sums=spread.replicate(zero_sums(method))),
        refresh=_refresh(parts, batch_size),
        score=lambda state, samples, index: score(state.judged, samples, index),
        curve=None if method.net is None else jax.jit(method.net.curves),
    )


def evaluation_batch(config) -> int:
    """Samples that are evaluated at once."""
    if is_name(config.data.name):
        return config.data.stream.evaluation_batch
    return EVALUATION_BATCH


def _parts(config, spread, num_classes, num_families, steps_per_epoch) -> Parts:
    method = methods.build(
        config.method,
        num_families=num_families,
        hidden=config.weighting.hidden,
        start=config.weighting.start,
        num_classes=num_classes,
        loss=config.loss,
        baseline=config.baseline,
    )
    model = models.build(
        config.model.name,
        num_classes=num_classes,
        axis_name=spread.axis_name,
        **config.model.options,
    )
    optim, meta = config.optim, config.weighting
    schedule = optimizers.learning_rate(
        optim.schedule,
        optim.learning_rate,
        total_steps=config.epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        boundaries=tuple(optim.boundaries),
        factor=optim.factor,
        constant_epochs=optim.constant_epochs,
        period=optim.period,
        multiplier=optim.multiplier,
        minimum=optim.minimum,
        linear_epochs=optim.linear_epochs,
    )
    tx = optimizers.build(
        optim.name,
        schedule,
        weight_decay=optim.weight_decay,
        momentum=optim.momentum,
        nesterov=optim.nesterov,
    )
    meta_tx = method.meta_tx or optimizers.build(
        meta.optimizer,
        meta.learning_rate,
        weight_decay=meta.weight_decay,
        momentum=0.9,
        nesterov=True,
    )
    return Parts(spread, model, method, schedule, tx, meta_tx)


def _init(config, parts: Parts, image_shape):
    method = parts.method

    @jax.jit  # op by op, this would take longer than a short run
    def first_learner(seed):
        key, model_key, net_key = jax.random.split(jax.random.PRNGKey(seed), 3)
        variables = parts.model.init(model_key, jnp.zeros((1, *image_shape)), False)
        params = variables.pop("params")
        meta_params, one = {}, jnp.zeros((1,))
        if method.net is not None:
            meta_params = method.net.init(net_key, one, one.astype(int))
        elif method.meta_tx is not None:
            meta_params = jnp.zeros(config.data.batch_size)
        return MetaState.create(
            params=params,
            meta_params=meta_params,
            tx=parts.tx,
            meta_tx=parts.meta_tx,
            model_state=variables,
            key=key,
        )

    def init(seed, problem):
        try:
            learner = first_learner(seed)
        except (TypeError, ValueError, flax.errors.FlaxError) as error:
            raise ValueError(
                f"config.model.name={config.model.name!r} with options "
                f"{config.model.options.to_dict()} does not work on images of shape "
                f"{list(image_shape)}: {error}"
            ) from error
        state = RunState(learner, zero_sums(method))
        if method.teacher:
            teacher = ema.Teacher(learner.params, learner.model_state)
            state = state._replace(teacher=teacher)
        if method.memory is not None:
            state = state._replace(memory=method.memory.init(problem))
        return parts.layout.replicate(state)

    return init


def _steps(config, parts: Parts, steps_per_epoch: int):
    """Warm-up, weighted and meta step, compiled, with all that goes around them."""
    method, axis_name = parts.method, parts.layout.axis_name
    common = dict(tx=parts.tx, axis_name=axis_name)
    warmup = partial(
        weighted_step,
        loss_fn=classifier_loss(parts.model, method.warmup_losses),
        weight_fn=masked_weights(methods.constant_one),
        **common,
    )
    losses, weight_fn = method.losses, method.weight_fn
    if method.mixup:
        losses, weight_fn = mixup.mixed_losses(losses), mixup.mixed_weights(weight_fn)
    common |= dict(
        loss_fn=classifier_loss(parts.model, losses),
        weight_fn=masked_weights(weight_fn),
        metrics_fn=masked_metrics(method.metrics_fn),
        normalisation=config.weighting.normalisation,
    )
    weighted = partial(weighted_step, **common)
    meta = partial(
        meta_step,
        meta_tx=parts.meta_tx,
        meta_loss_fn=masked_losses(meta_loss(parts.model)),
        inner_lr=parts.schedule,
        lookahead=config.weighting.lookahead,
        **common,
    )
    batches = Batches(config, parts.model, method, axis_name, steps_per_epoch)

    def compiled(step, *, is_warmup=False, num_batches=1):
        def run_step(state, table, rows, *meta_rows):
            learner, memory = state.learner, state.memory
            if is_warmup:
                batch = batches.plain(learner, table, rows)
            else:
                memory, batch = batches.training(learner, memory, table, rows)
            meta_batch = (batches.meta(learner, table, rows) for rows in meta_rows)
            if method.meta_tx is not None:
                learner = learner._replace(
                    meta_params=jnp.zeros(config.data.batch_size)
                )
            learner, metrics = step(learner, batch, *meta_batch)
            teacher = state.teacher
            if teacher is not None:
                now = learner.params, learner.model_state
                teacher = ema.update(teacher, *now, **config.ema)
            return RunState(learner, add_metrics(state.sums, metrics), teacher, memory)

        return parts.layout.map(run_step, num_tables=1, num_batches=num_batches)

    return (
        compiled(warmup, is_warmup=True),
        compiled(weighted),
        compiled(meta, num_batches=2),
    )


def _refresh(parts: Parts, batch_size: int):
    """Before an epoch, for methods whose memory changes then."""
    memory = parts.method.memory
    if memory is None or memory.refresh is None:
        return lambda state, samples, problem, epoch: state
    predict = evaluate.predictor(parts.model, parts.layout, batch_size=batch_size)

    def refresh(state, samples, problem, epoch):
        new = memory.refresh(
            jax.device_get(state.memory),
            problem,
            epoch,
            lambda: predict(state.judged, samples, problem.train_index),
        )
        return state._replace(memory=parts.layout.replicate(new))

    return refresh


def classifier_loss(model: nn.Module, losses: methods.Losses) -> LossFn:
    """Losses of a Linen classifier in training mode, as a step's `loss_fn`."""

    def loss_fn(params, model_state, batch, key):
        logits, model_state = model.apply(
            {"params": params, **model_state},
            batch["image"],
            True,
            mutable=list(model_state),
            rngs={"dropout": key},
        )
        return losses(logits, batch), model_state

    return loss_fn


def meta_loss(model: nn.Module):
    """Cross entropy of the meta batch, whatever is minimised on the training set."""
    loss_fn = classifier_loss(model, methods.cross_entropy)
    return lambda *arguments: loss_fn(*arguments)[0]


def zero_sums(method: methods.Method) -> dict[str, Any]:
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
