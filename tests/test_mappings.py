"""One step, many ways to map it over devices: every shard of every update is equal."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from cmwjax.core.meta import MetaState, meta_step, weighted_step
from cmwjax.core.weighting import CMWNet, metrics_fn
from problems import BATCH, MLP, assert_close, problem

AXIS = "data"


META_TX = optax.sgd(30.0, 0.9)  # so that the new weights differ from the old


# --- the mappings --------------------------------------------------------------------


def split(tree, parts):
    return jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), tree)


def mesh():
    return jax.make_mesh((4,), (AXIS,), axis_types=(AxisType.Auto,))


def on_a_mesh(make_step):
    whole, parts = NamedSharding(mesh(), P()), NamedSharding(mesh(), P(AXIS))
    return jax.jit(make_step(None), in_shardings=(whole, parts, parts))


def on_pmap(make_step, *, devices):
    def mapped(state, *batches):
        return jax.pmap(
            make_step(AXIS),
            axis_name=AXIS,
            in_axes=(None, *[0] * len(batches)),
            out_axes=None,
            devices=jax.devices()[:devices],
        )(state, *split(batches, devices))

    return mapped


def on_vmap(make_step):
    mapped = jax.jit(
        jax.vmap(make_step(AXIS), axis_name=AXIS, in_axes=(None, 0, 0), out_axes=None)
    )
    return lambda state, *batches: mapped(state, *split(batches, 4))


def on_shard_map(make_step, *, check_vma):
    return jax.jit(
        jax.shard_map(
            make_step(AXIS),
            mesh=mesh(),
            in_specs=(P(), P(AXIS), P(AXIS)),
            out_specs=P(),
            check_vma=check_vma,
        )
    )


MAPPINGS = {
    "jit on a mesh": on_a_mesh,
    "pmap on 1": partial(on_pmap, devices=1),
    "pmap on 2": partial(on_pmap, devices=2),
    "pmap on 4": partial(on_pmap, devices=4),
    "vmap": on_vmap,
    "shard_map": partial(on_shard_map, check_vma=True),
    "shard_map unchecked": partial(on_shard_map, check_vma=False),
}


def shards(tree):
    """The tree as each device holds it."""
    leaves, structure = jax.tree.flatten(tree)
    parts = [[np.asarray(s.data) for s in leaf.addressable_shards] for leaf in leaves]
    copies = max(map(len, parts))
    assert all(len(p) in (1, copies) for p in parts)
    parts = [p if len(p) == copies else p * copies for p in parts]
    return [structure.unflatten(copy) for copy in zip(*parts, strict=True)]


LEARNED = ("params", "model_state", "opt_state", "meta_params", "meta_opt_state")


def changes(before, after):
    """What one step did, on each device: a list of {state field: new - old}."""
    old = {name: getattr(before, name) for name in LEARNED}
    new = {name: getattr(after, name) for name in LEARNED}
    return [
        jax.tree.map(lambda n, o: n.astype(np.float64) - np.asarray(o), shard, old)
        for shard in shards(new)
    ]


# --- a meta step is the same step everywhere -----------------------------------------

CONFIGS = {
    "MixUp": dict(terms=4, lookahead="sgd", normalisation="mean"),
    "optimizer": dict(terms=1, lookahead="optimizer", normalisation="weights"),
    "lean": dict(terms=1, lookahead="sgd", normalisation="weights", lean=True),
}
TX = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(2.0, 0.9))


def problem_and_step(config, axis_name):
    """With batch norm, synchronised over the axis."""
    terms, modes = config["terms"], {k: v for k, v in config.items() if k != "terms"}
    p = problem(terms, axis_name=axis_name)
    step = partial(
        meta_step,
        loss_fn=p.loss_fn,
        weight_fn=p.weight_fn,
        meta_loss_fn=p.meta_loss_fn,
        metrics_fn=metrics_fn(CMWNet(3, 7)),
        tx=TX,
        meta_tx=META_TX,
        inner_lr=optax.constant_schedule(2.0),
        axis_name=axis_name,
        **modes,
    )
    return p, step


@cache
def on_one_device(name):
    p, step = problem_and_step(CONFIGS[name] | {"lean": False}, None)
    before = p.state(TX, META_TX)
    after, metrics = jax.jit(step)(before, p.batch, p.meta_batch)
    (change,) = changes(before, after)
    return change, metrics


@pytest.mark.parametrize(
    ("name", "mapping"),
    [("MixUp", mapping) for mapping in MAPPINGS]
    + [
        (name, mapping)
        for name in ("optimizer", "lean")
        for mapping in ("pmap on 4", "shard_map", "shard_map unchecked")
    ],
)
def test_every_shard_of_every_update_equals_jit(name, mapping):
    p, _ = problem_and_step(CONFIGS[name], None)
    before = p.state(TX, META_TX)
    mapped = MAPPINGS[mapping](lambda axis: problem_and_step(CONFIGS[name], axis)[1])
    after, metrics = mapped(before, p.batch, p.meta_batch)
    wanted, wanted_metrics = on_one_device(name)
    for shard in changes(before, after):
        assert_close(shard, wanted, 1e-6)
    for shard in shards(metrics):
        assert shard["skipped"] == 0
        for key in ("loss", "grad_norm", "meta_loss", "meta_grad_norm"):
            np.testing.assert_allclose(shard[key], wanted_metrics[key], rtol=1e-6)
        for key, value in shard["weighting"].items():
            wanted_value = wanted_metrics["weighting"][key]
            np.testing.assert_allclose(value, wanted_value, rtol=1e-5, atol=1e-7)


# --- what devices do not share -------------------------------------------------------


def test_unsynchronised_batch_norm_ends_equal_on_all_devices():
    p, tx = problem(1), optax.sgd(2.0)  # batch norm of each device's own samples
    step = partial(weighted_step, loss_fn=p.loss_fn, weight_fn=p.weight_fn, tx=tx)
    before = p.state(tx, None)
    after, _ = on_pmap(lambda axis: partial(step, axis_name=axis), devices=4)(
        before, p.batch
    )
    local = [
        p.loss_fn(p.params, p.model_state, jax.tree.map(lambda x, i=i: x[i], parts), 0)
        for parts in [split(p.batch, 4)]
        for i in range(4)
    ]
    wanted = jax.tree.map(lambda *x: np.mean(x, axis=0), *[state for _, state in local])
    first, *others = changes(before, after)
    assert_close(first["model_state"], wanted, 1e-6)
    for other in others:
        assert jax.tree.all(jax.tree.map(np.array_equal, first, other))


def test_keys_differ_between_devices_but_not_between_runs():
    def loss_fn(params, model_state, batch, key):
        mask = jax.random.bernoulli(key, 0.5, (64,)).astype(jnp.float32)
        return params * batch, {"mask": mask}

    tx = optax.sgd(0.1)
    step = partial(
        weighted_step,
        loss_fn=loss_fn,
        weight_fn=lambda meta_params, losses, batch: jnp.ones_like(losses),
        tx=tx,
    )
    state = MetaState.create(
        params=jnp.ones(()),
        meta_params={},
        tx=tx,
        meta_tx=None,
        model_state={"mask": jnp.zeros(64)},
    )
    mapped = on_pmap(lambda axis: partial(step, axis_name=axis), devices=4)
    masks = [mapped(state, jnp.ones(8))[0].model_state["mask"] for _ in range(2)]
    np.testing.assert_array_equal(*masks)
    # Four independent masks, averaged: 0, 1/4, 1/2, 3/4 and 1 all occur.
    assert set(np.unique(masks[0])) == {0, 0.25, 0.5, 0.75, 1}


# --- learning to reweight examples (L2RW) as a weight_fn -----------------------------


@pytest.mark.parametrize("devices", [None, 4])
def test_l2rw_is_its_closed_form(devices):
    def normalised_ascent(gradient, _):
        ascent = jnp.maximum(-gradient, 0)
        return ascent / jnp.where(ascent.sum() > 0, ascent.sum(), 1)

    with jax.enable_x64(True):
        p = problem(1, net=MLP, dtype=np.float64)
        p = p._replace(
            meta_params=jnp.zeros(BATCH),
            weight_fn=lambda eps, losses, batch: eps[batch["slot"]],
        )
        tx, meta_tx = optax.sgd(0.5), optax.stateless(normalised_ascent)
        step = partial(
            meta_step,
            loss_fn=p.loss_fn,
            weight_fn=p.weight_fn,
            tx=tx,
            meta_tx=meta_tx,
            inner_lr=optax.constant_schedule(0.1),
            normalisation="weights",
        )
        before = p.state(tx, meta_tx)
        if devices is None:
            after, _ = jax.jit(step)(before, p.batch, p.meta_batch)
        else:
            mapped = on_pmap(lambda axis: partial(step, axis_name=axis), devices=4)
            after, _ = mapped(before, p.batch, p.meta_batch)

        # With eps = 0 the virtual step stands still: w_i ~ relu(<g_meta, g_i>).
        jacobian = jax.jacobian(lambda w: p.loss_fn(w, {}, p.batch, 0)[0])(p.params)
        meta_gradient = jax.grad(lambda w: p.loss_fn(w, {}, p.meta_batch, 0)[0].mean())(
            p.params
        )
        agreement = sum(
            np.tensordot(rows, g, axes=np.ndim(g))
            for rows, g in zip(
                *map(jax.tree.leaves, (jacobian, meta_gradient)), strict=True
            )
        )
        weights = np.maximum(agreement, 0) / np.maximum(agreement, 0).sum()
        assert 0 < np.sum(weights > 0) < BATCH
        moved = jax.tree.map(lambda j: -0.5 * np.tensordot(weights, j, 1), jacobian)
        for shard in changes(before, after):
            assert_close(shard["meta_params"], weights, 1e-12)
            assert_close(shard["params"], moved, 1e-12)
