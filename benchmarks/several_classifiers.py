"""Whether a weighting function carries over better if several classifiers teach it.

    CMWJAX_DATA_DIR=FOLDER python benchmarks/several_classifiers.py \
        --embeddings=FILE.npz --seeds=3 --json=results/several_classifiers.json

One weighting net is learned by 1, 4 or 16 classifiers at once on the quickstart's
digits (60 % of four of them called others, 100 trusted samples): each has parameters,
batches and an optimizer of the weighting net of its own, and what these optimizers
would add to the net is averaged. It is one `jax.vmap` of the pure step. Then the
function is frozen and applied elsewhere; the table has the mean gain in accuracy over
ordinary training with the same seeds, in points, and its deviation over functions.
"""

import tempfile
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags, logging

import cmwjax
from cmwjax import train
from cmwjax.bias.problem import prepare
from cmwjax.files import write_json
from results.biases import read_config

_SEEDS = flags.DEFINE_integer("seeds", 3, "how many functions each, from 0")
_EMBEDDINGS = flags.DEFINE_string("embeddings", "", "embeddings of CIFAR-10")
_JSON = flags.DEFINE_string("json", "", "file for the numbers; none by default")

CLASSIFIERS = (1, 4, 16)
EPOCHS, BATCH = 60, 100
TARGETS = {
    "Fashion-MNIST, asym 0.6": "fashion_mnist.py:noise=asym,rate=0.6,fast",
    "Fashion-MNIST, asym 0.4": "fashion_mnist.py:noise=asym,rate=0.4,fast",
    "Fashion-MNIST, sym 0.4": "fashion_mnist.py:noise=sym,rate=0.4,fast",
    "embeddings, asym 0.6": "embeddings.py:data={},noise=asym,rate=0.6",
}


class Net(nn.Module):
    """The quickstart's classifier."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(256)(x.reshape(len(x), -1)))
        return nn.Dense(10)(x)


def main(_):
    logging.set_verbosity(logging.ERROR)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for count in CLASSIFIERS:
            for seed in range(_SEEDS.value):
                files[count, seed] = Path(folder) / f"{count}_{seed}.safetensors"
                learn(files[count, seed], count, seed)
        print("| applied to | " + " | ".join(f"by {n}" for n in CLASSIFIERS) + " |")
        print("|---" * (len(CLASSIFIERS) + 1) + "|")
        for title, text in TARGETS.items():
            if "{}" in text and not _EMBEDDINGS.value:
                continue
            text, cells = text.format(_EMBEDDINGS.value), []
            ordinary = [accuracy(text, seed) for seed in range(_SEEDS.value)]
            for count in CLASSIFIERS:
                gains = [
                    100 * (accuracy(text, seed, files[count, seed]) - before)
                    for seed, before in enumerate(ordinary)
                ]
                rows.append({"target": title, "classifiers": count, "gains": gains})
                cells.append(f"{np.mean(gains):+.1f} ± {np.std(gains, ddof=1):.1f}")
            print(f"| {title} | {' | '.join(cells)} |", flush=True)
    if _JSON.value:
        write_json(Path(_JSON.value), {"jax": jax.__version__, "rows": rows})


def learn(path, count, seed):
    """Writes the function that `count` classifiers learn."""
    config = read_config("quickstart.py")
    config.method, config.seed = "cmw_net", seed
    problem = prepare(config)
    images = problem.dataset.train_inputs / 16 - 0.5
    data = {"x": jnp.float32(images), "label": jnp.asarray(problem.labels)}
    index, trusted = problem.train_index, problem.meta_index
    steps = EPOCHS * (len(index) // BATCH)
    model = Net()

    def loss_fn(params, model_state, batch, key):
        logits = model.apply(params, batch["x"])
        return cmwjax.cross_entropy(logits, batch["label"]), model_state

    tx = optax.sgd(optax.cosine_decay_schedule(0.1, steps), momentum=0.9)
    rw = cmwjax.reweight(loss_fn, tx, labels=problem.labels[index])

    def begin(key):
        return rw.init(model.init(key, data["x"][:1]), key=key)

    def step(state, chosen):
        return rw.step(state, *(rows(i) for i in chosen))[0]

    def rows(index):
        return jax.tree.map(lambda x: x[index], data)

    def together(state, chosen):
        state = jax.vmap(step)(state, chosen)
        return state._replace(meta_params=alike(state.meta_params)), None

    def alike(trees):
        """The mean of trees, once for each: the mean of what was added to them."""

        def mean(x):
            return jnp.broadcast_to(x.mean(axis=0), x.shape)

        return jax.tree.map(mean, trees)

    @jax.jit
    def run(state, chosen):
        return jax.lax.scan(together, state, chosen)[0]

    rng = np.random.default_rng(seed)
    shape = (steps, count, BATCH)
    chosen = rng.choice(index, shape), rng.choice(trusted, shape)
    keys = jax.random.split(jax.random.key(seed), count)
    state = jax.vmap(begin)(keys)
    first = jax.tree.map(partial(jnp.take, indices=0, axis=0), state.meta_params)
    same = jax.tree.map(lambda x: jnp.stack([x] * count), first)
    state = run(state._replace(meta_params=same), chosen)
    rw.save(jax.tree.map(lambda x: x[0], state), path)


def accuracy(text, seed, function=None):
    """On the test set, with a function, or by ordinary training."""
    config = read_config(text)
    config.method, config.seed = "cmw_net" if function else "erm", seed
    config.compare.methods = config.compare.seeds = ()
    if function:
        config.weighting.load = str(function)
    with tempfile.TemporaryDirectory() as new:
        return train.run(config, Path(new) / "run", report=False).test_score


if __name__ == "__main__":
    app.run(main)
