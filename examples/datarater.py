"""A DataRater: what is worth learning from, told by the input alone, then filtered.

Half of the digits come from a broken scanner, noisy, all called the next. A net rates
inputs, a softmax over the batch makes weights of that, 100 trusted samples judge them.
Then a new classifier learns the better half. Calian et al., 2025, arXiv:2505.17895.
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
broken = train[: len(train) // 2]
images[broken] += rng.normal(0, 0.3, (len(broken), 64))
labels = true.copy()
labels[broken] = (true[broken] + 1) % 10
net, rater = (nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(n)]) for n in (10, 1))
params, scores = (m.init(jax.random.key(0), images[:1]) for m in (net, rater))


def loss_fn(params, model_state, batch, key):
    logits = net.apply(params, batch["image"])
    return cmwjax.cross_entropy(logits, batch["label"]), model_state


def weight_fn(meta_params, losses, batch):  # of mean 1
    return jax.nn.softmax(rater.apply(meta_params, batch["image"])[:, 0]) * len(losses)


def run(step, meta_params, keep=1.0, clean=()):
    state = cmwjax.MetaState.create(params=params, meta_params=meta_params, **both)
    rng = np.random.default_rng(1)
    for _ in range(400):
        rows = rng.choice(train, int(100 / keep))  # of which the best 100 are learned
        rating = rater.apply(meta_params, images[rows])[:, 0]
        rows = rows[np.argsort(-rating)[:100]]
        batches = [{"image": images[r], "label": labels[r]} for r in (rows, *clean)]
        state, _ = step(state, *batches)
    logits = net.apply(state.params, images[test])
    return state.meta_params, np.mean(np.argmax(logits, axis=1) == true[test])


both = {"tx": optax.sgd(0.1), "meta_tx": optax.adam(1e-2)}
step = partial(cmwjax.meta_step, loss_fn=loss_fn, weight_fn=weight_fn, **both)
rating, _ = run(jax.jit(partial(step, lookahead="optimizer")), scores, clean=[trusted])
ones = lambda meta_params, losses, batch: 0 * losses + 1
plain = partial(cmwjax.weighted_step, loss_fn=loss_fn, weight_fn=ones, tx=both["tx"])
(_, before), (_, after) = (run(jax.jit(plain), rating, keep) for keep in (1.0, 0.5))
print(f"test accuracy: {before:.1%} with all samples, {after:.1%} with the better half")
