"""The classifier learns from the trusted batch too, by a gradient that is there."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmwjax.classifier import load_classifier
from problems import assert_close, problem
from runs import run, tiny

ALPHA, SHARE = 0.5, 0.3
TX = optax.sgd(0.2, momentum=0.9)
META_TX = optax.adam(0.1)
NOT_TRAINED = {"meta_set.trusted_share": 0.0}


def trained(config, workdir):
    """Variables of the classifier of a whole run."""
    run(config, workdir)
    return load_classifier(workdir, which="last").variables


def step_of(p, **options):
    inner_lr = optax.constant_schedule(ALPHA)
    return p.step(tx=TX, meta_tx=META_TX, inner_lr=inner_lr, **options)


@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("terms", [1, 4])
def test_the_step_is_that_of_two_gradients_one_after_the_other(terms, lean):
    with jax.enable_x64(True):
        p = problem(terms, dtype=np.float64)
        state = p.state(TX, META_TX)
        both = jax.jit(
            lambda *arguments: [
                step_of(p, trusted_share=share, lean=lean)(*arguments)
                for share in (SHARE, 0.0)
            ]
        )
        (got, metrics), (plain, _) = both(state, p.batch, p.meta_batch)

        @jax.jit
        def gradient(meta_params):
            def weighted_loss(params):
                losses, _ = p.loss_fn(params, p.model_state, p.batch, None)
                weights = p.weight_fn(
                    meta_params, jax.lax.stop_gradient(losses), p.batch
                )
                return jnp.sum(weights * losses) / len(losses)

            return jax.grad(weighted_loss)(p.params)

        def trusted_loss(params):
            return p.meta_loss_fn(params, p.model_state, p.meta_batch, None).mean()

        ahead = optax.tree.add_scale(p.params, -ALPHA, gradient(p.meta_params))
        trusted = jax.jit(jax.grad(trusted_loss))(ahead)
        blend = optax.tree.add_scale(
            optax.tree.scale(SHARE, trusted), 1 - SHARE, gradient(plain.meta_params)
        )
        updates, _ = TX.update(blend, state.opt_state, p.params)
        assert_close(got.params, optax.apply_updates(p.params, updates), 1e-11)
        assert_close(metrics["grad_norm"], optax.tree.norm(blend), 1e-11)
        # The weighting net learns as without, and batch statistics are of the batch.
        assert_close(got.meta_params, plain.meta_params, 1e-12)
        assert_close(got.model_state, plain.model_state, 1e-12)


def test_on_four_devices_as_on_one():
    p, cut = problem(), problem(axis_name="data")
    split = partial(jax.tree.map, lambda x: x.reshape(4, -1, *x.shape[1:]))
    alone, _ = jax.jit(step_of(p, trusted_share=SHARE))(
        p.state(TX, META_TX), p.batch, p.meta_batch
    )
    on_four = jax.jit(
        jax.vmap(
            step_of(cut, trusted_share=SHARE, axis_name="data"),
            in_axes=(None, 0, 0),
            axis_name="data",
        )
    )
    state, _ = on_four(cut.state(TX, META_TX), split(p.batch), split(p.meta_batch))
    for device in range(4):
        mine = jax.tree.map(lambda x, device=device: x[device], state.params)
        assert_close(mine, alone.params, 1e-5)


@pytest.mark.parametrize("lean", [False, True])
def test_it_costs_nothing(lean):
    p = problem(size=64)
    state = jax.eval_shape(lambda: p.state(TX, META_TX))
    flops = [
        jax.jit(step_of(p, lean=lean, trusted_share=share))
        .lower(state, p.batch, p.meta_batch)
        .cost_analysis()["flops"]
        for share in (0.0, SHARE)
    ]
    assert flops[1] <= 1.01 * flops[0]


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    p = problem()
    with pytest.raises(ValueError, match="trusted_share=.* at least 0 and below 1"):
        step_of(p, trusted_share=share)(p.state(TX, META_TX), p.batch, p.meta_batch)


def test_by_default_a_trusted_sample_counts_as_much_as_any_other(tmp_path):
    """40 of 240 digits are trusted, which is a share of a sixth."""
    explicit = tiny(**{"meta_set.trusted_share": 40 / 240})
    states = [
        trained(config, tmp_path / str(i))
        for i, config in enumerate([tiny(), explicit, tiny(**NOT_TRAINED)])
    ]
    jax.tree.map(np.testing.assert_array_equal, *states[:2])
    with pytest.raises(AssertionError):
        jax.tree.map(np.testing.assert_array_equal, states[0], states[2])


def test_what_nobody_vouches_for_does_not_count(tmp_path):
    """The samples of lowest loss train as any others, whatever the share."""
    easiest = {"meta_set.policy": "lowest_loss"}
    results = [
        trained(tiny(**easiest | share), tmp_path / str(i))
        for i, share in enumerate([{}, NOT_TRAINED])
    ]
    jax.tree.map(np.testing.assert_array_equal, *results)
