"""A transformer of plain functions, on headlines with wrong topics.

Made up, 60 % of those on health called music. Or `COLUMN NOISY TRUSTED TEST`: the
column of texts in three .csv or .tsv files, which have a column label, too.
"""

import sys
from functools import partial

import jax
import numpy as np
import optax

import cmwjax
from cmwjax.data import csv_files, synthetic, text

random = np.random.default_rng(0)
if sys.argv[1:]:
    sets = [csv_files.read_csv(path, text=sys.argv[1]) for path in sys.argv[2:]]
else:
    sets = [synthetic.headlines(i, size=n) for i, n in enumerate((1000, 60, 500))]
    called = lambda c: "music" if c == "health" and random.random() < 0.6 else c
    sets[0] = sets[0]._replace(labels=[*map(called, sets[0].labels)])
classes, labels = np.unique(sum(([*s.labels] for s in sets), []), return_inverse=True)
ends = np.cumsum([len(s.labels) for s in sets])[:2]
train, trusted, test = np.split(np.arange(len(labels)), ends)
words = text.build_vocabulary(sets[0].inputs, ngrams=(0, 0), min_count=1)
ids = words.encode(sum((s.inputs for s in sets), ()), 24)
shapes = {"words": (words.size, 32), "places": (24, 32), "attend": (3, 32, 32)}
shapes |= {"up": (32, 64), "down": (64, 32), "out": (32, len(classes))}
params = {k: random.normal(0, 0.2, s).astype(np.float32) for k, s in shapes.items()}


def logits(params, ids):
    x, seen = params["words"][ids] + params["places"], (ids > 0)[..., None]
    q, k, v = (x @ w for w in params["attend"])
    x += jax.nn.softmax(q @ k.mT / 32**0.5 - 1e9 * ~seen.mT) @ v
    x += jax.nn.relu(x @ params["up"]) @ params["down"]
    return (x * seen).sum(1) / seen.sum(1) @ params["out"]


def loss_fn(params, model_state, batch, key):
    losses = cmwjax.cross_entropy(logits(params, batch["ids"]), batch["label"])
    return losses, model_state


def accuracy(step, together):
    state, rng = init(params), np.random.default_rng(1)
    for _ in range(300):
        rows = [rng.choice(train, 100), rng.choice(trusted, 20)]
        rows = [np.concatenate(rows)] if together else rows
        state, _ = step(state, *({"ids": ids[r], "label": labels[r]} for r in rows))
    return np.mean(logits(state.params, ids[test]).argmax(1) == labels[test])


ones, tx = lambda meta_params, losses, batch: 0 * losses + 1, optax.adam(3e-3)
init, step = cmwjax.reweight(loss_fn, tx, labels=labels[train], inner_lr=0.1)
plain = partial(cmwjax.weighted_step, loss_fn=loss_fn, tx=tx, weight_fn=ones)
before, after = accuracy(jax.jit(plain), True), accuracy(jax.jit(step), False)
print(f"test accuracy: {before:.1%} without weights, {after:.1%} with")
