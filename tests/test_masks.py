"""A sample without an image counts as one that is not there, but for its slot."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmwjax.core import weighting
from cmwjax.core.meta import meta_step, weighted_step
from cmwjax.methods import mixup
from cmwjax.training.masks import masked_losses, masked_metrics, masked_weights
from problems import BATCH, FAMILIES, MLP, assert_close, problem

LOST = 5
OTHERS = np.delete(np.arange(BATCH), LOST)
NET = weighting.CMWNet(FAMILIES, hidden=7)


def lost_in(batch):
    """The batch with an absurd image in one slot, which the mask rules out."""
    image = batch["image"].at[LOST].set(1e3)
    return {**batch, "image": image, "mask": np.arange(BATCH) != LOST}


@pytest.mark.parametrize("terms", [1, 2, 4])
def test_a_masked_slot_adds_zero_to_virtual_real_and_meta_loss(terms):
    p = problem(terms, net=MLP)
    tx, meta_tx = optax.sgd(0.3, 0.9), optax.sgd(0.5)
    common = dict(
        tx=tx,
        meta_tx=meta_tx,
        loss_fn=p.loss_fn,
        inner_lr=optax.constant_schedule(0.3),
    )
    start = p.state(tx, meta_tx)
    step = partial(
        meta_step,
        weight_fn=masked_weights(p.weight_fn),
        meta_loss_fn=masked_losses(p.meta_loss_fn),
        **common,
    )
    state, metrics = jax.jit(step)(start, lost_in(p.batch), lost_in(p.meta_batch))
    # Without the slot, sums over the others are divided by one less.
    share = len(OTHERS) / BATCH
    step = partial(
        meta_step,
        weight_fn=lambda *args: share * p.weight_fn(*args),
        meta_loss_fn=lambda *args: share * p.meta_loss_fn(*args),
        **common,
    )
    others = jax.tree.map(lambda x: x[OTHERS], (p.batch, p.meta_batch))
    wanted, wanted_metrics = jax.jit(step)(start, *others)
    for name in ("params", "meta_params"):
        assert_close(getattr(state, name), getattr(wanted, name), 1e-5)
    for name in ("loss", "meta_loss", "grad_norm", "meta_grad_norm"):
        np.testing.assert_allclose(metrics[name], wanted_metrics[name], rtol=1e-5)
    assert metrics["skipped"] == 0


def test_without_a_mask_nothing_changes():
    p = problem(net=MLP)
    state = p.state(optax.sgd(0.3), None)
    state = state._replace(key=jax.random.key_data(state.key))
    steps = [
        jax.jit(
            lambda batch, weight_fn=weight_fn: weighted_step(
                state, batch, tx=optax.sgd(0.3), loss_fn=p.loss_fn, weight_fn=weight_fn
            )
        )
        for weight_fn in (p.weight_fn, masked_weights(p.weight_fn))
    ]
    for got, want in zip(*(jax.tree.leaves(s(p.batch)) for s in steps), strict=True):
        np.testing.assert_array_equal(got, want)


def test_statistics_of_weights_leave_it_out():
    p = problem(net=MLP)
    losses = np.random.default_rng(0).exponential(size=BATCH).astype(np.float32)
    moments = masked_metrics(weighting.metrics_fn(NET))(
        p.meta_params, jnp.asarray(losses), lost_in(p.batch)
    )
    weights = NET.apply(p.meta_params, losses, p.batch["family"])
    for k in range(FAMILIES):
        members = OTHERS[p.batch["family"][OTHERS] == k]
        np.testing.assert_allclose(moments["family_share"][k], len(members) / BATCH)
        total = weights[members].sum() / BATCH
        np.testing.assert_allclose(moments["weight"][k], total, rtol=1e-5)


def test_nothing_is_blended_with_a_missing_image():
    p = problem()
    partner = jnp.roll(jnp.arange(BATCH), 1)
    lost = lost_in({name: p.batch[name] for name in ("image", "label")})
    batch = {**lost, "input": lost["image"]}
    mixed = mixup.mix(batch, jnp.float32(0.75), partner)
    for i in OTHERS:
        lam = 1 if partner[i] == LOST else 0.75
        image = lam * batch["input"][i] + (1 - lam) * batch["input"][partner[i]]
        np.testing.assert_allclose(mixed["input"][i], image, rtol=1e-6)
        assert mixed["lam"][i] == np.float32(lam)
    assert np.abs(mixed["input"][OTHERS]).max() < 100
