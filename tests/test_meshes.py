"""Explicit meshes, the default of `jax.make_mesh`: the step is the same step."""

from contextlib import nullcontext
from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from cmwjax.core.losses import cross_entropy
from cmwjax.core.meta import weighted_step
from cmwjax.core.reweighting import reweight
from cmwjax.models.layers import conv_and_norm
from problems import BATCH, CLASSES, MLP, assert_close, problem

AXIS = "data"
LABELS = np.repeat(np.arange(CLASSES), [5, 3, 2])


class ConvNet(nn.Module):
    """With the layers that the catalogue's models are made of."""

    @nn.compact
    def __call__(self, x):
        conv, norm = conv_and_norm(True, axis_name=None, dtype=None)
        x = nn.relu(norm()(conv(4)(x))).mean((1, 2))
        return nn.Dense(CLASSES)(x)


def mesh(axis_type):
    return jax.make_mesh((4,), (AXIS,), axis_types=(axis_type,))


def cut(tree):
    return jax.tree.map(lambda x: np.asarray(x).reshape(4, -1, *x.shape[1:]), tree)


def mlp(axis_name=None):
    p = problem(1, net=MLP)
    return reweight(p.loss_fn, optax.sgd(0.5, 0.9), labels=LABELS, axis_name=axis_name)


def start(init, params, model_state=None):
    """A weighting net that moves far, after a step that gives momentum its part."""
    state = init(params, model_state)
    louder = jax.tree.map(lambda x: 3 * x, state.meta_params)
    return state._replace(meta_params=louder)


def learned(state):
    return jax.tree.map(np.asarray, (state.params, state.opt_state, state.meta_params))


def batches():
    p = problem(1, net=MLP)
    return p.batch, p.meta_batch


@cache
def on_one_device():
    init, step = mlp()
    before = start(init, problem(1, net=MLP).params)
    after, metrics = jax.jit(step)(before, *batches())
    assert metrics["skipped"] == 0
    return before, learned(after)


def mapped(how, mesh):
    """The step, and how it wants its batches."""
    _, step = mlp(None if how == "jit" else AXIS)
    if how == "jit":
        return step, partial(jax.device_put, device=NamedSharding(mesh, P(AXIS)))
    if how == "shard_map":
        specs = P(), P(AXIS), P(AXIS)
        step = jax.shard_map(step, mesh=mesh, in_specs=specs, out_specs=P())
        return step, partial(jax.device_put, device=NamedSharding(mesh, P(AXIS)))
    way = jax.pmap if how == "pmap" else jax.vmap
    return way(step, axis_name=AXIS, in_axes=(None, 0, 0), out_axes=None), cut


# Not here: under `jax.set_mesh` of an explicit mesh JAX refuses every pmap, and
# JAX 0.12 has no lowering of `jit(vmap(lambda x: lax.pmean(x.sum(), AXIS), AXIS))`.
WAYS = [
    (how, axis_type, is_set, jitted)
    for how in ("jit", "shard_map", "vmap", "pmap")
    for axis_type in ("Auto", "Explicit")
    for is_set in (False, True)
    for jitted in (False, True)
    if not (how in ("vmap", "pmap") and (axis_type == "Explicit" or not is_set))
    if not (how == "pmap" and jitted)
]


def marks(how, axis_type, is_set, jitted):
    """Where every operation is compiled on its own, in minutes under `shard_map`."""
    if jitted or how == "pmap":
        return ()
    if how == "shard_map" and (axis_type == "Auto" or is_set):
        return pytest.mark.exhaustive
    return pytest.mark.slow


@pytest.mark.parametrize(
    ("how", "axis_type", "is_set", "jitted"),
    [pytest.param(*way, marks=marks(*way)) for way in WAYS],
)
def test_one_step_on_every_mesh(how, axis_type, is_set, jitted):
    before, wanted = on_one_device()
    devices = mesh(AxisType[axis_type])
    step, placed = mapped(how, devices)
    with jax.set_mesh(devices) if is_set else nullcontext():
        after, _ = (jax.jit(step) if jitted else step)(before, *map(placed, batches()))
    assert_close(learned(after), wanted, 1e-6)


@pytest.mark.parametrize("jit", [jax.jit, lambda step: step], ids=["jit", "eager"])
def test_a_step_without_a_meta_batch_knows_its_mesh(jit):
    p, tx = problem(1, net=MLP), optax.sgd(0.5)
    step = partial(weighted_step, loss_fn=p.loss_fn, weight_fn=p.weight_fn, tx=tx)
    before = p.state(tx, None)
    wanted, _ = jax.jit(step)(before, p.batch)
    placed = jax.device_put(p.batch, NamedSharding(mesh(AxisType.Explicit), P(AXIS)))
    after, _ = jit(step)(before, placed)
    assert_close(after.params, wanted.params, 1e-6)


def test_convolutions_leave_the_sharding_of_their_gradient_to_the_compiler():
    model, devices = ConvNet(), mesh(AxisType.Explicit)
    images, _ = batches()
    variables = dict(model.init(jax.random.key(0), images["image"]))
    params = variables.pop("params")

    def loss_fn(params, model_state, batch, key):
        logits, model_state = model.apply(
            {"params": params, **model_state}, batch["image"], mutable=["batch_stats"]
        )
        return cross_entropy(logits, batch["label"]), model_state

    init, step = reweight(loss_fn, optax.sgd(0.5), labels=LABELS)
    before = start(init, params, variables)
    wanted, _ = jax.jit(step)(before, *batches())

    placed = jax.device_put(batches(), NamedSharding(devices, P(AXIS)))
    with jax.set_mesh(devices):
        # JAX itself: d/d(kernel) sums over the sharded axis and has no rule for that.
        with pytest.raises(Exception, match="out_sharding.*conv_general_dilated"):
            jax.jit(jax.grad(lambda p: loss_fn(p, variables, placed[0], 0)[0].mean()))(
                params
            )
        automatic = jax.sharding.auto_axes(loss_fn, out_sharding=(P(AXIS), P()))
        _, step = reweight(automatic, optax.sgd(0.5), labels=LABELS)
        after, metrics = jax.jit(step)(before, *placed)
    assert metrics["skipped"] == 0 and BATCH % 4 == 0
    assert_close(learned(after)[0], learned(wanted)[0], 1e-6)
    assert_close(learned(after)[2], learned(wanted)[2], 1e-6)
    for got, want in zip(
        *(jax.tree.leaves(s.model_state) for s in (after, wanted)), strict=True
    ):
        np.testing.assert_allclose(got, want, atol=1e-6)
        assert jnp.any(want != 1)
