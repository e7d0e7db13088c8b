"""Twenty architectures and six optimizers through `reweight`, as they come.

Each step is taken a second time by nested gradients: the lookahead with its own forward
passes, no shared pullback, and no line of the step itself but its keys.
"""

from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from architectures import ARCHITECTURES, CLASSES, TOKENS
from cmwjax.core.meta import _step_keys
from cmwjax.core.reweighting import reweight
from cmwjax.core.weighting import CMWNet

LABELS = np.repeat(np.arange(CLASSES), [3, 5, 9])
FAMILY = jnp.arange(CLASSES)  # smallest class first, each of a size of its own
META_TX = optax.sgd(0.5)
# An eps that hides what rounding makes of gradients that are zero, as before a norm.
ADAPTIVE = {"eps": 1e-3, "eps_root": 1e-8}
OPTIMIZERS = {
    "sgd": (optax.sgd(0.1), None),
    "nesterov": (optax.sgd(0.1, momentum=0.9, nesterov=True), None),
    "adam": (optax.adam(1e-2, **ADAPTIVE), None),
    "adamw": (optax.adamw(optax.linear_schedule(1e-2, 1e-3, 3), **ADAPTIVE), None),
    "clipped": (optax.chain(optax.clip_by_global_norm(0.3), optax.sgd(0.1)), None),
    "lion": (optax.lion(1e-3), 0.1),  # without a slope: SGD looks ahead
}
FAST = {("plain-experts", "lion")}


def marks(architecture, optimizer):
    """Two optimizers of each architecture in turn are slow, the others exhaustive."""
    if (architecture, optimizer) in FAST:
        return ()
    turn = list(ARCHITECTURES).index(architecture)
    turn -= list(OPTIMIZERS).index(optimizer)
    return pytest.mark.exhaustive if turn % 3 else pytest.mark.slow


def batches():
    rng = np.random.default_rng(1)
    for size in (9, 4, 9, 4):
        yield {
            "image": jnp.asarray(rng.normal(size=(size, 6, 6, 1)), jnp.float32),
            "tokens": jnp.asarray(rng.integers(0, TOKENS, (size, 5))),
            "label": jnp.asarray(rng.permutation(LABELS)[:size]),
        }


def nested(state, batch, trusted, *, loss_fn, tx, inner_lr):
    """The next parameters of classifier and weighting net, model state, and a slope.

    The slope is that which the classifier's parameters follow.
    """
    net, (key, meta_key) = CMWNet(CLASSES, anchored=True), _step_keys(state, None)
    virtual_tx = tx if inner_lr is None else optax.sgd(inner_lr)
    virtual_state = (
        state.opt_state if inner_lr is None else virtual_tx.init(state.params)
    )

    def weighted(params, meta_params):
        losses, model_state = loss_fn(params, state.model_state, batch, key)
        values = net.apply(
            meta_params, jax.lax.stop_gradient(losses), FAMILY[batch["label"]]
        )
        total = jax.lax.stop_gradient(values.sum())
        return jnp.sum(values * losses) / total, model_state

    def ahead(meta_params):
        slope, _ = jax.grad(weighted, has_aux=True)(state.params, meta_params)
        updates, _ = virtual_tx.update(slope, virtual_state, state.params)
        return optax.apply_updates(state.params, updates)

    def meta_loss(params):
        return loss_fn(params, state.model_state, trusted, meta_key)[0].mean()

    slope = jax.grad(lambda meta_params: meta_loss(ahead(meta_params)))(
        state.meta_params
    )
    of_trusted = jax.grad(meta_loss)(ahead(state.meta_params))
    updates, _ = META_TX.update(slope, state.meta_opt_state)
    meta_params = optax.apply_updates(state.meta_params, updates)
    slope, model_state = jax.grad(weighted, has_aux=True)(state.params, meta_params)
    both = jax.tree.map(lambda x, y: 0.9 * x + 0.1 * y, slope, of_trusted)
    updates, _ = tx.update(both, state.opt_state, state.params)
    return optax.apply_updates(state.params, updates), meta_params, model_state, both


@cache
def architecture(name):
    return ARCHITECTURES[name]()


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [pytest.param(n, o, marks=marks(n, o)) for n in ARCHITECTURES for o in OPTIMIZERS],
)
def test_a_step_is_that_of_nested_gradients(name, optimizer):
    (loss_fn, params, model_state), (tx, inner_lr) = (
        architecture(name),
        OPTIMIZERS[optimizer],
    )
    init, step = reweight(
        loss_fn, tx, labels=LABELS, inner_lr=inner_lr, meta_tx=META_TX
    )
    state, (first, its_trusted, batch, trusted) = init(params, model_state), batches()
    step = jax.jit(step)
    state, _ = step(state, first, its_trusted)  # the optimizer now has a memory
    after, metrics = step(state, batch, trusted)
    *want, slope = jax.jit(
        lambda state: nested(
            state, batch, trusted, loss_fn=loss_fn, tx=tx, inner_lr=inner_lr
        )
    )(state)
    assert metrics["skipped"] == 0 and metrics["meta_grad_norm"] > 0
    got = [after.params, after.meta_params, after.model_state]
    if optimizer == "lion":  # whose step has the sign of a slope, be it only rounding
        for learned in (got, want):
            learned[0] = jax.tree.map(
                lambda x, s: jnp.where(jnp.abs(s) < 1e-6, 0, x), learned[0], slope
            )
    chex.assert_trees_all_close(got, want, rtol=1e-4, atol=2e-6)
    moved = jax.tree.map(lambda x, y: jnp.abs(x - y).max(), after.params, state.params)
    assert max(jax.tree.leaves(moved)) > 1e-4


def test_there_are_as_many_as_promised():
    assert len(ARCHITECTURES) == 20 and len(OPTIMIZERS) == 6
