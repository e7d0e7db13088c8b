"""Twenty tiny classifiers of five libraries, each as `loss_fn`, parameters and state.

Images are `[B, 6, 6, 1]`, tokens `[B, 5]` below `TOKENS`; both are in every batch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cmwjax.core.losses import cross_entropy

CLASSES, TOKENS, WIDTH = 3, 11, 8
IMAGES, TEXTS = jnp.zeros((2, 6, 6, 1)), jnp.zeros((2, 5), int)


class Case(NamedTuple):
    loss_fn: Callable[..., Any]
    params: Any
    model_state: Any


def flat(x):
    return x.reshape(len(x), -1)


class Residual(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(4, (3, 3))(x)
        x += nn.Conv(4, (3, 3))(nn.tanh(nn.GroupNorm(2)(x)))
        return nn.Dense(CLASSES)(x.mean((1, 2)))


class Normalised(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(not train, momentum=0.9)(nn.Conv(4, (3, 3))(x))
        return nn.Dense(CLASSES)(nn.tanh(x).mean((1, 2)))


class Dropped(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.tanh(nn.Dense(WIDTH)(flat(x)))
        return nn.Dense(CLASSES)(nn.Dropout(0.3, deterministic=not train)(x))


class Perceptron(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(CLASSES)(nn.tanh(nn.Dense(WIDTH)(flat(x))))


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, tokens, train):
        x = nn.RNN(nn.LSTMCell(WIDTH))(nn.Embed(TOKENS, WIDTH)(tokens))
        return nn.Dense(CLASSES)(x[:, -1])


class Attention(nn.Module):
    @nn.compact
    def __call__(self, tokens, train):
        x = nn.Embed(TOKENS, WIDTH)(tokens)
        x += nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(x))
        return nn.Dense(CLASSES)(nn.LayerNorm()(x).mean(1))


def linen(module, field="image"):
    inputs = {"image": IMAGES, "tokens": TEXTS}[field]
    state = dict(module.init(jax.random.key(0), inputs, False))
    params = state.pop("params")

    def loss_fn(params, model_state, batch, key):
        logits, model_state = module.apply(
            {"params": params, **model_state},
            batch[field],
            True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        return cross_entropy(logits, batch["label"]), model_state

    return Case(loss_fn, params, state)


class NNX(nnx.Module):
    def __init__(self, kind):
        rngs, self.kind = nnx.Rngs(0), kind
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)
        if kind in ("mlp", "dropout"):
            self.body, self.dropout = nnx.Linear(36, WIDTH, rngs=rngs), nnx.Dropout(0.3)
        elif kind == "conv":
            self.body = nnx.Conv(1, WIDTH, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(WIDTH, momentum=0.9, rngs=rngs)
        else:
            self.body = nnx.Embed(TOKENS, WIDTH, rngs=rngs)
            self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(2, WIDTH, decode=False, rngs=rngs)

    def __call__(self, batch, rngs):
        if self.kind == "attention":
            x = self.body(batch["tokens"])
            return self.head((x + self.attention(self.norm(x))).mean(1))
        if self.kind == "conv":
            x = self.norm(self.body(batch["image"]))
            return self.head(nnx.tanh(x).mean((1, 2)))
        x = nnx.tanh(self.body(flat(batch["image"])))
        return self.head(self.dropout(x, rngs=rngs) if self.kind == "dropout" else x)


def split_nnx(kind):
    graph, params, state = nnx.split(NNX(kind), nnx.Param, ...)

    def loss_fn(params, model_state, batch, key):
        model = nnx.merge(graph, params, model_state, copy=True)
        logits = model(batch, nnx.Rngs(key))
        return cross_entropy(logits, batch["label"]), nnx.split(model, nnx.Param, ...)[
            2
        ]

    return Case(loss_fn, params, state)


def haiku(kind):
    hk = pytest.importorskip("haiku")

    def model(batch):
        x = jnp.tanh(hk.Linear(WIDTH)(flat(batch["image"])))
        if kind == "conv":
            x = hk.Conv2D(4, 3)(batch["image"])
            x = jnp.tanh(hk.BatchNorm(True, True, 0.9)(x, True)).mean((1, 2))
        elif kind == "dropout":
            x = hk.dropout(hk.next_rng_key(), 0.3, x)
        elif kind == "lstm":
            x = jnp.moveaxis(hk.Embed(TOKENS, WIDTH)(batch["tokens"]), 1, 0)
            core = hk.LSTM(WIDTH)
            x = hk.dynamic_unroll(core, x, core.initial_state(x.shape[1]))[0][-1]
        return hk.Linear(CLASSES)(x)

    net = hk.transform_with_state(model)

    def loss_fn(params, model_state, batch, key):
        logits, model_state = net.apply(params, model_state, key, batch)
        return cross_entropy(logits, batch["label"]), model_state

    first = {"image": IMAGES, "tokens": TEXTS}
    return Case(loss_fn, *net.init(jax.random.key(0), first))


def equinox(kind):
    eqx = pytest.importorskip("equinox")
    keys = jax.random.split(jax.random.key(0), 3)
    field = "tokens" if kind == "gru" else "image"

    def conv():
        return eqx.nn.Sequential(
            [
                eqx.nn.Conv2d(1, WIDTH, 3, key=keys[0]),
                eqx.nn.BatchNorm(WIDTH, "batch", momentum=0.9, mode="batch"),
                eqx.nn.Lambda(lambda x: jnp.tanh(x).mean((1, 2))),
                eqx.nn.Linear(WIDTH, CLASSES, key=keys[1]),
            ]
        )

    def one(net, x, state, key):
        if kind == "mlp":
            return net(x.ravel()), state
        if kind == "conv":
            return net(jnp.moveaxis(x, -1, 0), state, key=key)
        embed, cell, head = net
        step = lambda hidden, x: (cell(x, hidden), None)  # noqa: E731
        return head(jax.lax.scan(step, jnp.zeros(WIDTH), jax.vmap(embed)(x))[0]), state

    state = {}
    if kind == "mlp":
        net = eqx.nn.MLP(36, CLASSES, WIDTH, 1, activation=jnp.tanh, key=keys[0])
    elif kind == "conv":
        net, state = eqx.nn.make_with_state(conv)()
    else:
        net = (
            eqx.nn.Embedding(TOKENS, WIDTH, key=keys[0]),
            eqx.nn.GRUCell(WIDTH, WIDTH, key=keys[1]),
            eqx.nn.Linear(WIDTH, CLASSES, key=keys[2]),
        )
    params, static = eqx.partition(net, eqx.is_inexact_array)

    def loss_fn(params, model_state, batch, key):
        each = jax.vmap(
            partial(one, eqx.combine(params, static)),
            (0, None, 0),
            (0, None),
            axis_name="batch",
        )
        keys = jax.random.split(key, len(batch["label"]))
        logits, model_state = each(batch[field], model_state, keys)
        return cross_entropy(logits, batch["label"]), model_state

    return Case(loss_fn, params, state)


def plain(logits, **shapes):
    rng = np.random.default_rng(0)
    params = {
        name: jnp.asarray(rng.normal(0, 0.3, shape), jnp.float32)
        for name, shape in shapes.items()
    }

    def loss_fn(params, model_state, batch, key):
        return cross_entropy(logits(params, batch), batch["label"]), model_state

    return Case(loss_fn, params, {})


def transformer(params, batch):
    x = params["words"][batch["tokens"]] + params["places"][None]
    q, k, v = (x @ w for w in params["attend"])
    x += jax.nn.softmax(q @ k.mT / WIDTH**0.5) @ v
    return x.mean(1) @ params["out"]


def experts(params, batch):
    x = flat(batch["image"])
    gates = jax.nn.softmax(x @ params["gate"])
    return jnp.einsum("be,bi,eic->bc", gates, x, params["experts"])


OUT = (WIDTH, CLASSES)
ARCHITECTURES = {
    "linen-mlp": lambda: linen(Perceptron()),
    "linen-batch-norm": lambda: linen(Normalised()),
    "linen-dropout": lambda: linen(Dropped()),
    "linen-residual": lambda: linen(Residual()),
    "linen-lstm": lambda: linen(Recurrent(), "tokens"),
    "linen-attention": lambda: linen(Attention(), "tokens"),
    "nnx-mlp": lambda: split_nnx("mlp"),
    "nnx-batch-norm": lambda: split_nnx("conv"),
    "nnx-dropout": lambda: split_nnx("dropout"),
    "nnx-attention": lambda: split_nnx("attention"),
    "haiku-mlp": lambda: haiku("mlp"),
    "haiku-batch-norm": lambda: haiku("conv"),
    "haiku-dropout": lambda: haiku("dropout"),
    "haiku-lstm": lambda: haiku("lstm"),
    "equinox-mlp": lambda: equinox("mlp"),
    "equinox-batch-norm": lambda: equinox("conv"),
    "equinox-gru": lambda: equinox("gru"),
    "plain-linear": lambda: plain(
        lambda p, b: flat(b["image"]) @ p["out"], out=(36, CLASSES)
    ),
    "plain-transformer": lambda: plain(
        transformer,
        words=(TOKENS, WIDTH),
        places=(5, WIDTH),
        attend=(3, WIDTH, WIDTH),
        out=OUT,
    ),
    "plain-experts": lambda: plain(experts, gate=(36, 4), experts=(4, 36, CLASSES)),
}
