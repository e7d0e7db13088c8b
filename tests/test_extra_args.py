"""What optimizers ask for beside the gradient: they get it, right on all devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from cmwjax.core.meta import meta_step, weighted_step
from problems import MLP, assert_close, problem

META_TX = optax.sgd(0.1)
P = problem(1, net=MLP)
COMMON = {"loss_fn": P.loss_fn, "weight_fn": P.weight_fn, "normalisation": "weights"}


def away(params):
    """Other parameters, so that functions of them have something to tell."""
    return jax.tree.map(lambda x: x + 0.1 * jnp.cos(x), params)


def remembering(names):
    """An optimizer that stands still and keeps what it is handed."""

    def init(params):
        at, gradient = jnp.zeros(()), optax.tree.zeros_like(params)
        kept = {"value": at, "grad": gradient, "value_fn": (at, gradient)}
        kept |= {"obj_fn": at, "grad_fn": gradient}
        return {name: kept[name] for name in names}

    def update(updates, state, params=None, **extra_args):
        del state
        elsewhere = away(params)
        kept = {name: extra_args[name] for name in names}
        if "value_fn" in names:
            kept["value_fn"] = jax.value_and_grad(kept["value_fn"])(elsewhere)
            kept["obj_fn"] = kept["obj_fn"](elsewhere)
            kept["grad_fn"] = kept["grad_fn"](elsewhere, 0)
        return optax.tree.zeros_like(updates), kept

    return optax.GradientTransformationExtraArgs(init, update)


def on_devices(step, devices):
    """step(state, batch), on one device or mapped over several."""
    if devices == 1:
        return jax.jit(step)

    mapped = jax.pmap(
        partial(step, axis_name="data"),
        "data",
        in_axes=(None, 0),
        out_axes=None,
        devices=jax.devices()[:devices],
    )

    def split(batch):
        return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)

    return lambda state, batch: mapped(state, split(batch))


def weighted_loss(params):
    """With the weights that the losses at the initial parameters have."""
    at_w, _ = P.loss_fn(P.params, {}, P.batch, None)
    weights = P.weight_fn(P.meta_params, at_w, P.batch)
    losses, _ = P.loss_fn(params, {}, P.batch, None)
    return jnp.sum(weights * losses) / jnp.sum(weights)


ALL = ("value", "grad", "value_fn", "obj_fn", "grad_fn")


@pytest.mark.parametrize("devices", [1, 4])
def test_the_loss_its_gradient_and_both_elsewhere(devices):
    tx = remembering(ALL)
    step = partial(weighted_step, tx=tx, **COMMON)
    state, _ = on_devices(step, devices)(P.state(tx, None), P.batch)
    value, gradient = jax.value_and_grad(weighted_loss)(P.params)
    elsewhere, slope = jax.value_and_grad(weighted_loss)(away(P.params))
    assert abs(elsewhere - value) > 1e-2
    wanted = {"value": value, "grad": gradient, "value_fn": (elsewhere, slope)}
    wanted |= {"obj_fn": elsewhere, "grad_fn": slope}
    assert_close(state.opt_state, wanted, 1e-5)


@pytest.mark.slow
def test_the_weighting_nets_optimizer_gets_the_meta_loss():
    meta_tx, tx = remembering(("value", "grad")), optax.sgd(0.1)
    state, metrics = meta_step(
        P.state(tx, meta_tx),
        P.batch,
        P.meta_batch,
        tx=tx,
        meta_tx=meta_tx,
        inner_lr=optax.constant_schedule(0.5),
        **COMMON,
    )
    assert_close(state.meta_opt_state["value"], metrics["meta_loss"], 1e-6)
    norm = optax.tree.norm(state.meta_opt_state["grad"])
    assert_close(norm, metrics["meta_grad_norm"], 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["line search", "SAM"])
def test_devices_search_together(name):
    tx = {
        "line search": optax.lbfgs(memory_size=2),
        "SAM": contrib.sam(
            optax.sgd(0.1),
            optax.chain(contrib.normalize(), optax.sgd(0.3)),
            opaque_mode=True,
        ),
    }[name]
    step = partial(weighted_step, tx=tx, **COMMON)
    after = []
    for devices in (1, 4):
        state, mapped = P.state(tx, None), on_devices(step, devices)
        for _ in range(3):
            state, metrics = mapped(state, P.batch)
        assert metrics["skipped"] == 0
        for leaf in jax.tree.leaves(state.params):
            first, *others = (shard.data for shard in leaf.addressable_shards)
            assert all(np.array_equal(first, other) for other in others)
        after.append(jax.tree.map(lambda a, b: a - b, state.params, P.params))
    assert_close(*after, 1e-4)


def test_plateaus_of_the_loss_are_noticed():
    plateau = contrib.reduce_on_plateau(factor=0.5, patience=2, rtol=0.0, atol=1e30)
    tx = optax.chain(optax.sgd(0.1), plateau)  # no loss is ever low enough
    step, state = jax.jit(partial(weighted_step, tx=tx, **COMMON)), P.state(tx, None)
    scales = []
    for _ in range(5):
        state, metrics = step(state, P.batch)
        scales.append(float(state.opt_state[-1].scale))
    assert metrics["skipped"] == 0 and scales[-1] < scales[0] == 1


@pytest.mark.parametrize("lean", [False, True])
def test_a_lookahead_whose_step_depends_on_the_loss(lean):
    """The outer gradient goes through the value, too: a difference quotient knows."""
    with jax.enable_x64(True):
        p = problem(1, net=MLP, dtype=np.float64, size=4)
        tx = optax.polyak_sgd(max_learning_rate=1e3)
        meta_tx = optax.GradientTransformation(
            optax.tree.zeros_like,
            lambda g, state, params: (optax.tree.zeros_like(g), g),
        )
        state, _ = meta_step(
            p.state(tx, meta_tx),
            p.batch,
            p.meta_batch,
            loss_fn=p.loss_fn,
            weight_fn=p.weight_fn,
            tx=tx,
            meta_tx=meta_tx,
            lookahead="optimizer",
            lean=lean,
        )

        def meta_loss(meta_params):
            def training_loss(params):
                losses, _ = p.loss_fn(params, {}, p.batch, None)
                detached = jax.lax.stop_gradient(losses)
                return jnp.mean(p.weight_fn(meta_params, detached, p.batch) * losses)

            value, gradient = jax.value_and_grad(training_loss)(p.params)
            length = value / optax.tree.norm(gradient, squared=True)
            ahead = optax.tree.add_scale(p.params, -length, gradient)
            return p.loss_fn(ahead, {}, p.meta_batch, None)[0].mean()

        rng, h = np.random.default_rng(0), 1e-5
        direction = jax.tree.map(lambda x: rng.normal(size=x.shape), p.meta_params)
        up, down = (
            meta_loss(optax.tree.add_scale(p.meta_params, c, direction))
            for c in (h, -h)
        )
        np.testing.assert_allclose(
            optax.tree.vdot(state.meta_opt_state, direction),
            (up - down) / (2 * h),
            rtol=1e-5,
        )


def test_what_no_step_has_is_named():
    def update(updates, state, params=None, *, temperature, **extra_args):
        return updates, state

    tx = optax.GradientTransformationExtraArgs(optax.init_empty_state, update)
    with pytest.raises(ValueError, match="else than value, .*grad_fn: .*'temperature'"):
        weighted_step(P.state(tx, None), P.batch, tx=tx, **COMMON)


def test_errors_of_the_optimizer_itself_stay_as_they_are():
    def update(updates, state, params=None, **extra_args):
        raise TypeError("mine alone")

    tx = optax.GradientTransformationExtraArgs(optax.init_empty_state, update)
    with pytest.raises(TypeError, match="^mine alone"):
        weighted_step(P.state(tx, None), P.batch, tx=tx, **COMMON)
