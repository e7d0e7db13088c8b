"""Two hosts, each with its own half of every batch; here two processes on one machine.

On real ones, `python two_hosts.py ADDRESS:PORT NUMBER` on each, 0 at that address.
"""

import socket
import subprocess
import sys
from functools import partial

import flax.linen as nn
import jax
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from sklearn.datasets import load_digits

import cmwjax

if not sys.argv[1:]:
    with socket.create_server(("localhost", 0)) as free:
        command = sys.executable, __file__, f"localhost:{free.getsockname()[1]}"
    hosts = [subprocess.Popen([*command, number]) for number in "01"]
    sys.exit(max(process.wait() for process in hosts))
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
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
    state = jax.jit(init, out_shardings=everywhere)(jax.device_get(params))
    for _ in range(400):
        rows = [rng.choice(train, 48), rng.choice(trusted, 12)]  # of this host
        rows = [np.concatenate(rows)] if together else rows
        batches = ({"image": share(images[r]), "label": share(labels[r])} for r in rows)
        state, _ = step(state, *batches)
    logits = net.apply(jax.device_get(state.params), images[test])
    return np.mean(logits.argmax(1) == true[test])


tx, rng = optax.sgd(0.1, momentum=0.9), np.random.default_rng(jax.process_index())
mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
everywhere, split = (NamedSharding(mesh, PartitionSpec(*x)) for x in ([], ["data"]))
share = partial(jax.make_array_from_process_local_data, split)
init, step = cmwjax.reweight(loss_fn, tx, labels=labels[train])
ones = lambda meta_params, losses, batch: 0 * losses + 1
plain = partial(cmwjax.weighted_step, loss_fn=loss_fn, tx=tx, weight_fn=ones)
before, after = accuracy(jax.jit(plain), True), accuracy(jax.jit(step), False)
print(f"host {sys.argv[2]}, accuracy: {before:.1%} without weights, {after:.1%} with")
