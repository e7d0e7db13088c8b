"""A regression whose targets are wrong at times, by the layer below: `meta_step`.

A third of the targets are those of other samples and two standard deviations too high.
MW-Net, a `CMWNet` of one family, makes weights of squared errors.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import make_friedman1

import cmwjax

inputs, true = (x.astype(np.float32) for x in make_friedman1(2550, random_state=0))
true, rng = (true - true.mean()) / true.std(), np.random.default_rng(0)
train, trusted, test = np.split(np.arange(len(true)), [1500, 1550])
targets = true.copy()
wrong = train[rng.random(len(train)) < 1 / 3]
targets[wrong] = rng.permutation(true[wrong]) + 2
net = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(64), nn.relu, nn.Dense(1)])
weighting = cmwjax.CMWNet(num_families=1, anchored=True)


def loss_fn(params, model_state, batch, key):
    return (net.apply(params, batch["x"])[:, 0] - batch["y"]) ** 2, model_state


def weight_fn(meta_params, losses, batch):
    return weighting.apply(meta_params, losses, jnp.zeros(len(losses), int))


def error(step, together):
    params = net.init(jax.random.key(0), inputs[:1])
    curve = weighting.init(jax.random.key(1), jnp.ones(1), jnp.zeros(1, int))
    state = cmwjax.MetaState.create(params=params, meta_params=curve, **optimizers)
    rng = np.random.default_rng(1)
    for _ in range(1000):
        rows = [rng.choice(train, 100), rng.choice(trusted, 20)]
        rows = [np.concatenate(rows)] if together else rows
        state, _ = step(state, *({"x": inputs[r], "y": targets[r]} for r in rows))
    return np.mean((net.apply(state.params, inputs[test])[:, 0] - true[test]) ** 2)


tx = optax.sgd(0.03, momentum=0.9)
optimizers = {"tx": tx, "meta_tx": optax.adam(3e-3)}
options = {"lookahead": "optimizer", "normalisation": "weights", "trusted_share": 0.1}
step = partial(cmwjax.meta_step, loss_fn=loss_fn, weight_fn=weight_fn, **optimizers)
ones = lambda meta_params, losses, batch: 0 * losses + 1
plain = partial(cmwjax.weighted_step, loss_fn=loss_fn, weight_fn=ones, tx=tx)
before = error(jax.jit(plain), True)
after = error(jax.jit(partial(step, **options)), False)
print(f"squared error: {before:.3f} without weights, {after:.3f} with")
