"""Tiny problems for the meta step, each small enough to be computed a second way."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cmwjax.core.losses import cross_entropy, soft_cross_entropy
from cmwjax.core.meta import MetaState, meta_step
from cmwjax.core.weighting import CMWNet

CLASSES, FAMILIES, BATCH = 3, 3, 8


class ConvNet(nn.Module):
    """Batch norm in train mode couples the losses of a batch."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), use_bias=False)(x)
        x = nn.BatchNorm(False, momentum=0.9, axis_name=self.axis_name)(x)
        x = nn.relu(x).mean((1, 2))
        return nn.Dense(CLASSES)(x)


class MLP(nn.Module):
    """No batch norm: every loss depends on its own sample only."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(5)(x.reshape(x.shape[0], -1)))
        return nn.Dense(CLASSES)(x)


class Problem(NamedTuple):
    loss_fn: Callable[..., Any]
    weight_fn: Callable[..., Any]
    meta_loss_fn: Callable[..., Any]
    params: Any
    model_state: Any
    meta_params: Any
    batch: dict[str, Any]
    meta_batch: dict[str, Any]

    def state(self, tx, meta_tx) -> MetaState:
        return MetaState.create(
            params=self.params,
            meta_params=self.meta_params,
            tx=tx,
            meta_tx=meta_tx,
            model_state=self.model_state,
            key=jax.random.key(3),
        )

    def step(self, **options):
        """`meta_step` of this problem, with what it wants beside."""
        return partial(
            meta_step,
            loss_fn=self.loss_fn,
            weight_fn=self.weight_fn,
            meta_loss_fn=self.meta_loss_fn,
            **options,
        )


def problem(
    terms=1, *, net=ConvNet, axis_name=None, dtype=np.float32, size=BATCH
) -> Problem:
    """One of the three forms of the training loss (CMW-Net-SL).

    terms: 1, v * CE(y); 2, soft labels, v and 1 - v; 4, soft labels with MixUp.
    """
    rng = np.random.default_rng(terms)
    model, weighting = net(axis_name), CMWNet(FAMILIES, hidden=7)
    batch, meta_batch = _batch(rng, dtype, size), _batch(rng, dtype, size)

    def forward(params, model_state, images):
        variables = {"params": params, **model_state}
        return model.apply(variables, images, mutable=list(model_state))

    def loss_fn(params, model_state, batch, key):
        del key
        logits, model_state = forward(params, model_state, batch["image"])
        losses = [
            cross_entropy(logits, batch["label"]),
            soft_cross_entropy(logits, batch["soft_label"]),
            cross_entropy(logits, batch["label2"]),
            soft_cross_entropy(logits, batch["soft_label2"]),
        ]
        return losses[0] if terms == 1 else jnp.stack(losses[:terms], 1), model_state

    def weight_fn(meta_params, losses, batch):
        if terms == 1:
            return weighting.apply(meta_params, losses, batch["family"])
        v1 = weighting.apply(meta_params, losses[:, 0], batch["family"])
        if terms == 2:
            return jnp.stack([v1, 1 - v1], axis=1)
        v2 = weighting.apply(meta_params, losses[:, 2], batch["family2"])
        lam = batch["lam"]
        both = [lam * v1, lam * (1 - v1), (1 - lam) * v2, (1 - lam) * (1 - v2)]
        return jnp.stack(both, axis=1)

    def meta_loss_fn(params, model_state, meta_batch, key):
        del key
        logits, _ = forward(params, model_state, meta_batch["image"])
        return cross_entropy(logits, meta_batch["label"])

    key, one = jax.random.key(0), jnp.zeros(1)
    shapes = jax.eval_shape(model.init, key, batch["image"])
    variables = _random_like(rng, shapes, dtype)
    meta_shapes = jax.eval_shape(weighting.init, key, one, one.astype(int))
    return Problem(
        loss_fn=loss_fn,
        weight_fn=weight_fn,
        meta_loss_fn=meta_loss_fn,
        params=variables.pop("params"),
        # Zero running statistics, so that their updates are free of cancellation.
        model_state=jax.tree.map(jnp.zeros_like, variables),
        meta_params=_random_like(rng, meta_shapes, dtype),
        batch=batch,
        meta_batch=meta_batch,
    )


def _batch(rng, dtype, size):
    images = rng.normal(0.5, 1, (size, 4, 4, 2)).astype(dtype)
    soft = rng.dirichlet(np.ones(CLASSES), (2, size)).astype(dtype)
    label, label2 = rng.integers(CLASSES, size=(2, size))
    family, family2 = rng.permutation(CLASSES)[[label, label2]]
    return {
        "image": jnp.asarray(images),
        "label": jnp.asarray(label, jnp.int32),
        "label2": jnp.asarray(label2, jnp.int32),
        "soft_label": jnp.asarray(soft[0]),
        "soft_label2": jnp.asarray(soft[1]),
        "family": jnp.asarray(family, jnp.int32),
        "family2": jnp.asarray(family2, jnp.int32),
        "lam": jnp.full(size, 0.7, dtype),
        "slot": jnp.arange(size),
    }


def _random_like(rng, shapes, dtype):
    return jax.tree.map(
        lambda x: jnp.asarray(rng.normal(0, 0.7, x.shape).astype(dtype)), shapes
    )


def assert_close(actual, wanted, relative):
    """Every leaf equal, relative to the largest element of the wanted leaf."""
    assert jax.tree.structure(actual) == jax.tree.structure(wanted)
    for (path, want), got in zip(
        jax.tree.leaves_with_path(wanted), jax.tree.leaves(actual), strict=True
    ):
        name = jax.tree_util.keystr(path)
        got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
        assert got.shape == want.shape, f"{name}: {got.shape} for {want.shape}"
        scale, error = np.max(np.abs(want)), np.max(np.abs(got - want))
        assert np.isfinite(scale) and scale > 0, f"{name} tests nothing: {scale=}"
        assert error <= relative * scale, f"{name}: {error / scale:.2e} > {relative}"
