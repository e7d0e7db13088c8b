"""The compiled functions of a run, and the state they carry."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from ml_collections import ConfigDict, FrozenConfigDict

from cmwjax import models
from cmwjax.bias.problem import Problem
from cmwjax.core import optimizers
from cmwjax.core.meta import MetaState
from cmwjax.core.parallel import Layout, layout
from cmwjax.core.weighting_file import WeightingFunction, check_families, read_weighting
from cmwjax.data.on_disk import is_name
from cmwjax.data.sources import Samples
from cmwjax.methods import method as methods
from cmwjax.methods.teacher import Teacher
from cmwjax.models.pretrained import load_weights
from cmwjax.training import evaluate, steps
from cmwjax.training.state import RunState
from cmwjax.training.steps import Steps, zero_sums

EVALUATION_BATCH = 1000


class Program(NamedTuple):
    """Compiled functions of a run; the same for all seeds."""

    layout: Layout
    method: methods.Method
    schedule: Callable[[Any], Any]  # learning rate of the classifier by step
    init: Callable[[int, Problem], RunState]  # from the seed
    step: Steps  # compiled; the state that goes in is donated
    several: Steps  # likewise, of `config.steps_per_call` steps at once
    reset_sums: Callable[[RunState], RunState]  # for a new epoch
    refresh: Callable[..., RunState]  # (state, samples, problem, epoch), before one
    score: Callable[[RunState, Samples, np.ndarray], evaluate.Scores]
    judged: Callable[[RunState], RunState]  # who is evaluated: see `build`
    curve: Callable[[Any, np.ndarray], Any] | None  # weights [K, G] of losses [G]


class Parts(NamedTuple):
    """What the configuration's names stand for."""

    layout: Layout
    model: nn.Module
    method: methods.Method
    schedule: optax.Schedule
    tx: optax.GradientTransformation
    meta_tx: optax.GradientTransformation
    function: WeightingFunction | None  # that is applied as it is


@functools.lru_cache(maxsize=8)
def build(
    config: FrozenConfigDict,
    *,
    num_classes: int,
    image_shape: tuple[int, ...],
    num_families: int,
    steps_per_epoch: int,
    devices: tuple[jax.Device, ...] | None = None,
    model: nn.Module | None = None,
) -> Program:
    """Builds model, method, optimizers and steps; compiles them when first called.

    A run is judged by its teacher, if it has one. Only a teacher that is frozen on the
    way is there to teach, and the classifier, which goes on, is judged.

    Args:
      config: the `shared_part` of a checked configuration.
      num_classes: C.
      image_shape: (H, W, channels).
      num_families: families there are, at most those that the configuration wants.
      steps_per_epoch: unit of the epochs in the schedule.
      devices: what to run on, by default everything there is.
      model: the classifier, `module(images, train)`, in place of that of the
        configuration.

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
    parts = _parts(config, spread, model, num_classes, num_families, steps_per_epoch)
    batch_size = evaluation_batch(config)
    method, score = (
        parts.method,
        evaluate.scorer(parts.model, parts.method, spread, batch_size=batch_size),
    )
    step = steps.build(
        config,
        model=parts.model,
        method=method,
        tx=parts.tx,
        meta_tx=parts.meta_tx,
        schedule=parts.schedule,
        axis_name=spread.axis_name,
        steps_per_epoch=steps_per_epoch,
    )
    several = steps.several(step, meta_every=config.meta_every)
    return Program(
        layout=spread,
        method=method,
        schedule=parts.schedule,
        init=_init(config, parts, image_shape),
        step=_compiled(step, spread),
        several=_compiled(several, spread, stacked=True),
        reset_sums=lambda s: s._replace(sums=spread.replicate(zero_sums(method))),
        refresh=_refresh(parts, batch_size),
        score=lambda state, samples, index: score(state.scoring, samples, index),
        judged=_judged(config),
        curve=None if method.net is None else jax.jit(method.net.curves),
    )


def shared_part(config: ConfigDict) -> FrozenConfigDict:
    """What compiled functions depend on: the same for every seed."""
    shared = config.to_dict()
    for name in ("seed", "compare", "checkpoint", "max_skips_in_a_row"):
        del shared[name]
    return FrozenConfigDict(shared)


def evaluation_batch(config) -> int:
    """Samples that are evaluated at once."""
    if is_name(config.data.name):
        return config.data.stream.evaluation_batch
    return EVALUATION_BATCH


def _parts(config, spread, model, num_classes, num_families, steps_per_epoch) -> Parts:
    function, hidden = None, config.weighting.hidden
    if config.weighting.load:
        function = weighting_function(config)
        hidden = function.net.hidden
    method = methods.build(
        config.method,
        num_families=num_families,
        hidden=hidden,
        start=config.weighting.start,
        num_classes=num_classes,
        loss=config.loss,
        baseline=config.baseline,
        soft_labels=config.soft_labels,
    )
    if function is not None and method.net is not None:
        check_families(config.weighting.load, function, method.net.num_families)
        normalisation = config.weighting.normalisation
        if function.normalisation != normalisation and not method.soft_labels:
            logging.warning(
                "%s was learned with weighting.normalisation=%r and is applied with "
                "%r, which scales the loss, and so the learning rate, differently.",
                *(config.weighting.load, function.normalisation, normalisation),
            )
        method = method._replace(frozen=True)
    if model is None:
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
    return Parts(spread, model, method, schedule, tx, meta_tx, function)


def weighting_function(config: Any) -> WeightingFunction:
    """What `config.weighting.load` names.

    Raises:
      ValueError: if there is no such file, it is not a weighting function, or was
        learned on another loss.
    """
    try:
        function = read_weighting(config.weighting.load)
    except FileNotFoundError as error:
        raise ValueError(f"config.weighting.load: {error} Correct the path.") from error
    if function.loss != config.loss:
        raise ValueError(
            f"{config.weighting.load} weights by {function.loss}, and config.loss is "
            f"{config.loss!r}: set config.loss={function.loss!r}."
        )
    logging.info(
        "weights come from %s, learned on %s",
        config.weighting.load,
        function.provenance,
    )
    return function


def _init(config, parts: Parts, image_shape):
    method = parts.method

    @jax.jit  # op by op, this would take longer than a short run
    def first_learner(seed):
        key, model_key, net_key = jax.random.split(jax.random.PRNGKey(seed), 3)
        variables = parts.model.init(model_key, jnp.zeros((1, *image_shape)), False)
        params = variables.pop("params")
        meta_params, one = {}, jnp.zeros((1,))
        if parts.function is not None:
            meta_params = {"params": jax.tree.map(jnp.asarray, parts.function.params)}
        elif method.net is not None:
            meta_params = method.net.init(net_key, one, one.astype(int))
        elif method.meta_tx is not None:
            meta_params = jnp.zeros(config.data.batch_size)
        return MetaState.create(
            params=params,
            meta_params=meta_params,
            tx=parts.tx,
            meta_tx=None if method.frozen else parts.meta_tx,
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
                f"{list(image_shape)}: correct config.model.options, or choose another "
                f"model. {error}"
            ) from error
        if config.model.weights:
            first = {"params": learner.params, **learner.model_state}
            first = load_weights(config.model.weights, like=first)
            learner = learner._replace(params=first.pop("params"), model_state=first)
        state = RunState(learner, zero_sums(method))
        if method.teacher:
            teacher = Teacher(learner.params, learner.model_state)
            state = state._replace(teacher=teacher)
        if method.memory is not None:
            state = state._replace(memory=method.memory.init(problem))
        return parts.layout.replicate(state)

    return init


def _compiled(step: Steps, spread: Layout, *, stacked: bool = False) -> Steps:
    def compiled(function, num_batches):
        return spread.map(
            function, num_tables=1, num_batches=num_batches, stacked=stacked
        )

    return Steps(
        compiled(step.warmup, 1), compiled(step.weighted, 1), compiled(step.meta, 2)
    )


def _judged(config):
    if config.ema.freeze_epoch < 0:
        return lambda state: state
    return lambda state: state.without_teacher


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
            lambda: predict(state.scoring, samples, problem.train_index),
        )
        return state._replace(memory=parts.layout.replicate(new))

    return refresh
