"""`jax.shard_map` over the devices there are: the result is that of one device.

JAX_NUM_CPU_DEVICES=4 makes four of a machine's processors.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec as P
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


def plain_step(state, batch, clean):
    both = jax.tree.map(lambda *x: jnp.concatenate(x), batch, clean)
    ones = lambda meta_params, losses, batch: 0 * losses + 1
    return cmwjax.weighted_step(state, both, weight_fn=ones, **common)


def train_with(step, steps=400):
    state, rng = init(params), np.random.default_rng(1)
    for _ in range(steps):
        rows = rng.choice(train, 96 // n * n), rng.choice(trusted, 24 // n * n)
        batches = ({"image": images[r], "label": labels[r]} for r in rows)
        state, _ = step(state, *batches)
    logits = net.apply(state.params, images[test])
    return state.params, np.mean(np.argmax(logits, axis=1) == true[test])


n, tx = jax.device_count(), optax.sgd(0.1, momentum=0.9)
common = {"loss_fn": loss_fn, "tx": tx, "axis_name": "data"}
init, step = cmwjax.reweight(**common, labels=labels[train])
mesh = jax.make_mesh((n,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
specs = {"in_specs": (P(), P("data"), P("data")), "out_specs": P()}
on_all = lambda step: jax.jit(jax.shard_map(step, mesh=mesh, **specs))
(_, before), (_, after) = (train_with(on_all(s)) for s in (plain_step, step))
one = cmwjax.reweight(loss_fn, tx, labels=labels[train])
(alone, _), (first, _) = (train_with(f, 5) for f in (jax.jit(one.step), on_all(step)))
gap = max(abs(x - y).max() for x, y in zip(*map(jax.tree.leaves, (first, alone))))
print(f"{n} devices, after five steps {gap:.0e} from what one device has learned")
print(f"test accuracy: {before:.1%} without weights, {after:.1%} with")
