"""`reweight` as the README shows it, on headlines of which a third have wrong labels.

    python benchmarks/headlines.py --folder=FOLDER --seeds=3

FOLDER holds the Yoruba headlines of https://arxiv.org/abs/2003.08370 in four files:
`train_clean_noisy_labels.tsv`, labelled by rules, `train_clean.tsv` with the right
labels, `dev.tsv`, trusted, and `test.tsv`. A line for each way to train, with the mean
and standard deviation over seeds: test accuracy, and AUROC of wrong labels by their
weight and by their loss, both of the last epoch.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from sklearn.metrics import roc_auc_score

import cmwjax
from cmwjax.bias.problem import prepare
from cmwjax.data import view as views
from cmwjax.models import catalogue
from configs import text

_FOLDER = flags.DEFINE_string("folder", None, "where the files are", required=True)
_SEEDS = flags.DEFINE_integer("seeds", 3, "how many seeds, from 0", lower_bound=1)
EPOCHS, BATCH = 10, 52
WAYS: dict[str, Any] = {  # and options of `reweight`
    "ordinary": None,
    "trusted alone": None,
    "reweight": {},
    "reweight, trusted_share=0.2": {"trusted_share": 0.2},
    "reweight, nobody trusted": {"meta": "lowest_loss"},
}


def main(_):
    folder = _FOLDER.value
    config = text.get_config(
        f"data={folder}/train_clean_noisy_labels.tsv,text=news_title,"
        f"truth={folder}/train_clean.tsv,test={folder}/test.tsv,"
        f"trusted={folder}/dev.tsv"
    )
    problem = prepare(config)
    print("| trained by | test accuracy | AUROC by weight | AUROC by loss |")
    print("|---|---|---|---|")
    for way in WAYS:
        runs = [trained(problem, way, seed) for seed in range(_SEEDS.value)]
        columns = [
            f"{np.mean(x):.3f} ± {np.std(x, ddof=1):.3f}"
            for x in zip(*runs, strict=True)
        ]
        print(f"| {way} |", *(f"{column} |" for column in columns), flush=True)


def trained(problem, way, seed):
    """Test accuracy, and AUROC of wrong labels by weight and by loss."""
    data, index = problem.dataset, problem.train_index
    train = {
        "tokens": jnp.asarray(data.train_inputs[index]),
        "label": jnp.asarray(problem.labels[index]),
        "index": jnp.arange(len(index)),
    }
    trusted = {
        "tokens": jnp.asarray(data.train_inputs[problem.meta_index]),
        "label": jnp.asarray(problem.labels[problem.meta_index]),
    }
    learned = trusted if way == "trusted alone" else train
    model = catalogue.build(
        "text",
        num_classes=data.num_classes,
        vocabulary_size=data.spec.vocabulary_size,
        embedding=64,
        hidden=(),
    )
    blank = {"tokens": jnp.zeros((1, 1), int), "mask": jnp.ones((1, 1), bool)}
    params = model.init(jax.random.key(seed), blank, False)["params"]

    def logits(params, tokens):
        inputs = views.plain("tokens").prepare(jnp.asarray(tokens), (), None)
        return model.apply({"params": params}, inputs, False)

    def loss_fn(params, model_state, batch, key):
        found = logits(params, batch["tokens"])
        return cmwjax.cross_entropy(found, batch["label"]), model_state

    steps = EPOCHS * (len(index) // BATCH)
    tx = optax.adam(optax.cosine_decay_schedule(1e-2, steps), eps_root=1e-16)
    options = WAYS[way]
    untrusted = options is not None and "meta" in options
    labels = np.asarray(train["label"])
    rw = cmwjax.reweight(loss_fn, tx, labels=labels, **options or {})
    rng = np.random.default_rng(seed)
    init, step = ordinary(loss_fn, tx) if options is None else rw
    step = jax.jit(step)
    first = {name: column[:BATCH] for name, column in train.items()}
    state = init(params, batch=first) if untrusted else init(params)
    for _ in range(steps):
        chosen = rng.choice(len(learned["label"]), BATCH, replace=False)
        batch = {name: column[chosen] for name, column in learned.items()}
        if options is not None and not untrusted:
            chosen = rng.choice(len(trusted["label"]), BATCH, replace=False)
            others = {name: column[chosen] for name, column in trusted.items()}
            state, _ = step(state, batch, others)
        else:
            state, _ = step(state, batch)

    found = np.argmax(logits(state.params, data.test_inputs), axis=1)
    accuracy = np.mean(found == data.test_labels)
    losses, _ = loss_fn(state.params, {}, train, None)
    weights = np.zeros(len(index))
    if options is not None:
        weights = np.asarray(rw.weights(state, losses, train["label"]))
    wrong = problem.labels[index] != problem.true_labels[index]
    return accuracy, roc_auc_score(wrong, -weights), roc_auc_score(wrong, losses)


def ordinary(loss_fn, tx):
    """`reweight` with weights of one and no weighting net."""
    options = dict(loss_fn=loss_fn, weight_fn=lambda v, losses, batch: 0 * losses + 1)

    def init(params, batch=None):
        del batch
        return cmwjax.MetaState.create(
            params=params, meta_params={}, tx=tx, meta_tx=None
        )

    def step(state, batch):
        return cmwjax.weighted_step(state, batch, tx=tx, **options)

    return init, step


if __name__ == "__main__":
    app.run(main)
