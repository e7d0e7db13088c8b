"""Which optimizers may look ahead, and that the refused ones deserve it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmwjax.core.lookahead import check_optimizer_lookahead

PARAMS = {"kernel": jnp.ones((2, 2)), "bias": jnp.zeros(2)}
WARM_UP = optax.linear_schedule(0.0, 0.1, 10)  # starts with a step of zero

FIT = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, 0.9, nesterov=True),
    "warm-up": optax.sgd(WARM_UP, 0.9),
    "adam": optax.adam(1e-3, eps_root=1e-16),
    "adamw": optax.adamw(WARM_UP, eps_root=1e-16, weight_decay=0.1),
    "amsgrad": optax.amsgrad(1e-3, eps_root=1e-16),
    "rmsprop": optax.rmsprop(1e-3),
    "clip": optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(1e-3, eps_root=1e-16)
    ),
    "decay": optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.1, 0.9)),
    "frozen layer": optax.multi_transform(
        {"train": optax.sgd(0.1), "freeze": optax.set_to_zero()},
        {"kernel": "freeze", "bias": "train"},
    ),
}
SIGN = {
    "lion": optax.lion(1e-3),
    "sign_sgd": optax.sign_sgd(0.1),
    "sign of momentum": optax.chain(optax.trace(0.9), optax.scale_by_sign()),
}
NAN_AT_ZERO = {
    "adam": optax.adam(1e-3),
    "adamw": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)),
    # Finite forwards; backwards NaN out of the branch that jnp.where does not take.
    "radam": optax.radam(1e-3),
    "adaptive clipping": optax.chain(optax.adaptive_grad_clip(0.01), optax.sgd(0.1)),
}


def outer_gradient(tx):
    """d(sum of squared updates) / d(gradient), where one unit has no gradient."""

    def objective(gradient):
        updates, _ = tx.update(gradient, tx.init(PARAMS), PARAMS)
        return sum(jnp.sum(u**2) for u in jax.tree.leaves(updates))

    gradient = jax.tree.map(lambda x: jnp.ones_like(x).at[..., 0].set(0.0), PARAMS)
    return jax.tree.leaves(jax.grad(objective)(gradient))


@pytest.mark.parametrize("name", FIT)
def test_fit_optimizers_pass(name):
    check_optimizer_lookahead(FIT[name], PARAMS)


@pytest.mark.parametrize("name", SIGN)
def test_sign_based_optimizers_are_refused(name):
    assert not any(np.any(x) for x in outer_gradient(SIGN[name]))
    with pytest.raises(ValueError, match="sign of the gradient.*lookahead='sgd'"):
        check_optimizer_lookahead(SIGN[name], PARAMS)


@pytest.mark.parametrize("name", NAN_AT_ZERO)
def test_optimizers_with_nan_at_zero_are_refused(name):
    assert any(np.isnan(x).any() for x in outer_gradient(NAN_AT_ZERO[name]))
    with pytest.raises(ValueError, match="exactly zero.*eps_root > 0"):
        check_optimizer_lookahead(NAN_AT_ZERO[name], PARAMS)


def test_check_works_while_tracing():
    def step(params):
        check_optimizer_lookahead(FIT["adamw"], params)
        return params

    jax.jit(step)(PARAMS)
    with pytest.raises(ValueError, match="eps_root"):
        jax.jit(lambda p: check_optimizer_lookahead(optax.adam(1e-3), p))(PARAMS)
