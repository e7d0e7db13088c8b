"""Micro-batches change the memory that a step needs, not the step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmwjax.core.meta import meta_step, weighted_step
from cmwjax.core.micro_batches import micro_batches
from problems import BATCH, MLP, ConvNet, assert_close, problem

KEY, EVEN, ODD = jax.random.key(0), slice(0, BATCH, 2), slice(1, BATCH, 2)


def test_meta_step_is_that_of_the_whole_batch():
    with jax.enable_x64(True):
        p = problem(4, net=MLP, dtype=np.float64)
        tx = meta_tx = optax.sgd(1.0, 0.9)  # whose state is the (meta-)gradient

        def step(loss_fn):
            return meta_step(
                p.state(tx, meta_tx),
                p.batch,
                p.meta_batch,
                loss_fn=loss_fn,
                weight_fn=p.weight_fn,
                meta_loss_fn=p.meta_loss_fn,
                tx=tx,
                meta_tx=meta_tx,
                inner_lr=optax.constant_schedule(0.5),
                normalisation="weights",
            )

        whole, wanted = step(p.loss_fn)
        sliced, metrics = step(micro_batches(p.loss_fn, 4))
        for name in ("params", "opt_state", "meta_params", "meta_opt_state"):
            assert_close(getattr(sliced, name), getattr(whole, name), 1e-12)
        assert_close(metrics["loss"], wanted["loss"], 1e-12)


def test_order_of_losses_keys_and_statistics():
    def loss_fn(params, model_state, batch, key):
        noise = jax.random.uniform(key)
        state = {
            "noise": noise,
            "mean": batch.mean(),
            "calls": model_state["calls"] + 1,
        }
        return params * batch, state

    model_state = {"noise": 0.0, "mean": 0.0, "calls": jnp.int32(4)}
    arguments = jnp.float32(2), model_state, jnp.arange(6.0), jax.random.key(1)
    losses, state = micro_batches(loss_fn, 3)(*arguments)
    np.testing.assert_array_equal(losses, 2 * np.arange(6))
    assert state["mean"] == 2.5
    assert state["calls"] == 5 and state["calls"].dtype == jnp.int32
    _, one_slice = loss_fn(*arguments)
    assert state["noise"] != one_slice["noise"]
    again = micro_batches(loss_fn, 3)(*arguments)[1]["noise"]
    assert again == state["noise"]


def test_batch_statistics_are_the_mean_over_slices():
    p = problem(1, net=ConvNet)
    losses, state = micro_batches(p.loss_fn, 2)(p.params, p.model_state, p.batch, KEY)
    halves = [jax.tree.map(lambda x, h=h: x[h], p.batch) for h in (EVEN, ODD)]
    parts = [p.loss_fn(p.params, p.model_state, half, KEY) for half in halves]
    assert_close(losses[EVEN], parts[0][0], 1e-6)
    assert_close(losses[ODD], parts[1][0], 1e-6)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, parts[0][1], parts[1][1])
    assert_close(state, mean, 1e-6)


def test_memory_is_that_of_one_slice():
    def loss_fn(params, model_state, batch, key):
        hidden = batch
        for _ in range(4):
            hidden = jnp.tanh(hidden @ params)
        return hidden.mean(1), model_state

    def temporary_memory(loss_fn):
        step = partial(
            weighted_step,
            loss_fn=loss_fn,
            weight_fn=lambda meta_params, losses, batch: jnp.ones_like(losses),
            tx=tx,
        )
        compiled = jax.jit(step).lower(state, jnp.zeros((1024, 32))).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    tx = optax.sgd(0.1)
    state = problem(1, net=MLP).state(tx, None)
    state = state._replace(params=jnp.eye(32), opt_state=tx.init(jnp.eye(32)))
    whole, sliced = map(temporary_memory, (loss_fn, micro_batches(loss_fn, 8)))
    assert sliced < whole / 2


def test_slices_must_be_equal():
    p = problem(1, net=MLP)
    with pytest.raises(ValueError, match="batch of 8 .* 3 equal micro-batches"):
        micro_batches(p.loss_fn, 3)(p.params, p.model_state, p.batch, KEY)


def test_there_is_at_least_one_slice():
    with pytest.raises(ValueError, match="n=0 must be at least 1"):
        micro_batches(lambda *arguments: None, 0)
