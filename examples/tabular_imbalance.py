"""Rows of a table, of which few are of the second class and many of these mislabelled.

1 in 20 rows is positive, a third of these are called negative, and 50 of each class are
trusted. The score is balanced accuracy, the mean over the two classes.
"""

from functools import partial

import flax.linen as nn
import jax
import numpy as np
import optax
from sklearn.datasets import make_classification
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

import cmwjax

rows, true = make_classification(
    12_000, 20, n_informative=8, weights=[0.95], class_sep=0.8, random_state=0
)
rows, rng = (
    StandardScaler().fit_transform(rows).astype(np.float32),
    np.random.default_rng(0),
)
test, train = np.split(rng.permutation(len(true)), [4000])
trusted = np.concatenate([train[true[train] == c][:50] for c in (0, 1)])
train = np.setdiff1d(train, trusted)
labels = np.where(rng.random(len(true)) < 1 / 3, 0, true)
labels[trusted] = true[trusted]
net = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(2)])


def loss_fn(params, model_state, batch, key):
    logits = net.apply(params, batch["row"])
    return cmwjax.cross_entropy(logits, batch["label"]), model_state


def score(step, together):
    state, rng = init(params), np.random.default_rng(1)
    for _ in range(600):
        picked = [rng.choice(train, 200), rng.choice(trusted, 20)]
        picked = [np.concatenate(picked)] if together else picked
        state, _ = step(state, *({"row": rows[p], "label": labels[p]} for p in picked))
    logits = net.apply(state.params, rows[test])
    return balanced_accuracy_score(true[test], np.argmax(logits, axis=1))


ones = lambda meta_params, losses, batch: 0 * losses + 1
params, tx = net.init(jax.random.key(0), rows[:1]), optax.sgd(0.1, momentum=0.9)
init, step = cmwjax.reweight(loss_fn, tx, labels=labels[train], num_families=2)
plain = partial(cmwjax.weighted_step, loss_fn=loss_fn, tx=tx, weight_fn=ones)
before, after = score(jax.jit(plain), True), score(jax.jit(step), False)
print(f"balanced accuracy: {before:.1%} without weights, {after:.1%} with")
