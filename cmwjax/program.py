"""The compiled functions of a run, and the state they carry."""

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

from cmwjax import evaluate, methods, models, optimizers, weighting
from cmwjax.losses import cross_entropy
from cmwjax.meta import LossFn, MetaState, meta_step, weighted_step
from cmwjax.parallel import Layout, layout
from cmwjax.table import Table, make_batch

EVALUATION_BATCH = 1000


class RunState(NamedTuple):
    """Everything on the device that changes while a run goes on."""

    learner: MetaState
    sums: dict[str, Any]  # of the epoch's metrics: name -> (sum, count)


class Program(NamedTuple):
    """Compiled functions of a run; the same for all seeds."""

    layout: Layout
    method: methods.Method
    schedule: Callable[[Any], Any]  # learning rate of the classifier by step
    init: Callable[[int], RunState]  # from the seed
    warmup: Callable[..., RunState]  # (state, table, index), ordinary training
    weighted: Callable[..., RunState]  # (state, table, index)
    meta: Callable[..., RunState]  # (state, table, index, meta_index)
    reset_sums: Callable[[RunState], RunState]  # for a new epoch
    score: Callable[[MetaState, Table, np.ndarray], evaluate.Scores]
    curve: Callable[[Any, np.ndarray], Any] | None  # weights [K, G] of losses [G]


@functools.lru_cache(maxsize=8)
def build(
    config: FrozenConfigDict,
    *,
    num_classes: int,
    image_shape: tuple[int, ...],
    num_families: int,
    steps_per_epoch: int,
) -> Program:
    """Builds model, method, optimizers and steps; compiles them when first called.

    Args:
      config: a checked configuration; its seed and comparison are not read.
      num_classes: C.
      image_shape: (H, W, channels).
      num_families: families there are, at most those that the configuration wants.
      steps_per_epoch: unit of the epochs in the schedule.

    Raises:
      ValueError: if devices do not divide the virtual shards, or the model is unknown.
    """
    devices = layout(config.parallel)
    shards, num_devices = config.data.shards, len(devices.devices)
    if shards % num_devices:
        raise ValueError(
            f"config.data.shards={shards} is not a multiple of the {num_devices} "
            "devices; choose one, since a device owns whole shards."
        )
    method = methods.build(
        config.method,
        num_families=num_families,
        hidden=config.weighting.hidden,
        start=config.weighting.start,
    )
    model = models.build(
        config.model.name,
        num_classes=num_classes,
        axis_name=devices.axis_name,
        **config.model.options,
    )
    schedule = optimizers.learning_rate(
        config.optim.schedule,
        config.optim.learning_rate,
        total_steps=config.epochs * steps_per_epoch,
        boundaries=tuple(e * steps_per_epoch for e in config.optim.boundaries),
        factor=config.optim.factor,
    )
    tx = optimizers.torch_sgd(
        schedule,
        momentum=config.optim.momentum,
        weight_decay=config.optim.weight_decay,
        nesterov=config.optim.nesterov,
    )
    meta_tx = optimizers.torch_adam(
        config.weighting.learning_rate, weight_decay=config.weighting.weight_decay
    )
    common = dict(
        loss_fn=classifier_loss(model), tx=tx, axis_name=devices.axis_name
    )
    warmup = partial(weighted_step, weight_fn=methods.constant_one, **common)
    common |= dict(
        weight_fn=method.weight_fn,
        metrics_fn=method.metrics_fn,
        normalisation=config.weighting.normalisation,
    )
    weighted = partial(weighted_step, **common)
    meta = partial(
        meta_step,
        meta_tx=meta_tx,
        inner_lr=schedule,
        lookahead=config.weighting.lookahead,
        **common,
    )

    def init(seed):
        key, model_key, net_key = jax.random.split(jax.random.PRNGKey(seed), 3)
        variables = model.init(model_key, jnp.zeros((1, *image_shape)), False)
        params = variables.pop("params")
        net, one = method.net, jnp.zeros((1,))
        meta_params = {} if net is None else net.init(net_key, one, one.astype(int))
        learner = MetaState.create(
            params=params,
            meta_params=meta_params,
            tx=tx,
            meta_tx=meta_tx,
            model_state=variables,
            key=key,
        )
        return devices.replicate(RunState(learner, zero_sums(method)))

    def compiled(step, num_batches):
        def counted(state, table, *indices):
            batches = [make_batch(table, index) for index in indices]
            learner, metrics = step(state.learner, *batches)
            return RunState(learner, add_metrics(state.sums, metrics))

        return devices.map(counted, num_tables=1, num_batches=num_batches)

    return Program(
        layout=devices,
        method=method,
        schedule=schedule,
        init=init,
        warmup=compiled(warmup, 1),
        weighted=compiled(weighted, 1),
        meta=compiled(meta, 2),
        reset_sums=lambda s: s._replace(sums=devices.replicate(zero_sums(method))),
        score=evaluate.scorer(model, method, devices, batch_size=EVALUATION_BATCH),
        curve=None if method.net is None else jax.jit(method.net.curves),
    )


def classifier_loss(model: nn.Module) -> LossFn:
    """Cross entropy of a Linen classifier in training mode, as a step's `loss_fn`."""

    def loss_fn(params, model_state, batch, key):
        logits, model_state = model.apply(
            {"params": params, **model_state},
            batch["image"],
            True,
            mutable=list(model_state),
            rngs={"dropout": key},
        )
        return cross_entropy(logits, batch["label"]), model_state

    return loss_fn


def zero_sums(method: methods.Method) -> dict[str, Any]:
    """Sums and counts of an epoch that has not begun."""
    values: dict[str, Any] = dict.fromkeys(("loss", "grad_norm", "skipped"), 0.0)
    if method.net is not None:
        values |= dict.fromkeys(("meta_loss", "meta_grad_norm"), 0.0)
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
        counts = good | (name == "skipped")
        total, count = sums[name]
        total = jax.tree.map(lambda t, v: t + jnp.where(counts, v, 0), total, value)
        updated[name] = (total, count + counts)
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
