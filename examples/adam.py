"""Adam looks ahead for the weighting net, if its square root has a slope at zero.

As it is, it has none where a gradient is zero, as behind a dead unit, and is refused;
`eps_root` cures that. With `inner_lr=0.1`, plain SGD looks ahead for any optimizer.
"""

from functools import partial

import flax.linen as nn
import jax
import numpy as np
import optax
from sklearn.datasets import load_digits

import cmwjax

images, true = load_digits(return_X_y=True)
images, rng = (images / 16).astype(np.float32), np.random.default_rng(0)
test, trusted, train = np.split(rng.permutation(len(true)), [500, 600])
called = np.array([0, 1, 0, 5, 7, 5, 6, 7, 8, 1])  # instead of 0, 1, ... 9
labels = np.where(rng.random(len(true)) < 0.6, called[true], true)
labels[trusted] = true[trusted]
net = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(10)])
params = net.init(jax.random.key(0), images[:1])


def loss_fn(params, model_state, batch, key):
    logits = net.apply(params, batch["image"])
    return cmwjax.cross_entropy(logits, batch["label"]), model_state


def accuracy(step, together):
    state, rng = init(params), np.random.default_rng(1)
    for _ in range(400):
        rows = [rng.choice(train, 100), rng.choice(trusted, 20)]
        rows = [np.concatenate(rows)] if together else rows
        batches = ({"image": images[r], "label": labels[r]} for r in rows)
        state, _ = step(state, *batches)
    logits = net.apply(state.params, images[test])
    return np.mean(np.argmax(logits, axis=1) == true[test])


ones = lambda meta_params, losses, batch: 0 * losses + 1
init, step = cmwjax.reweight(loss_fn, optax.adam(3e-3), labels=labels[train])
batch = {"image": images[:9], "label": labels[:9]}
try:
    step(init(params), batch, batch)
except ValueError as error:
    print(f"refused: {error}")
tx = optax.adam(3e-3, eps_root=1e-16)
init, step = cmwjax.reweight(loss_fn, tx, labels=labels[train])
plain = partial(cmwjax.weighted_step, loss_fn=loss_fn, tx=tx, weight_fn=ones)
before, after = accuracy(jax.jit(plain), True), accuracy(jax.jit(step), False)
print(f"test accuracy: {before:.1%} without weights, {after:.1%} with")
