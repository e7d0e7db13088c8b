"""Whether the weighting net keeps learning when the classifier's rate falls.

    python benchmarks/schedules.py --seeds=3 --json=results/schedules.json

The meta-gradient is proportional to the learning rate of the virtual step. The paper's
optimizer of the weighting net, Adam with its decay added to the gradient, takes the
scale away from both: once the rate has fallen, decay is all that is left, and weights
end at 0.5. With AdamW, the default, decay is a force of its own, and a small one.

A mixture of four Gaussians, 1,000 samples, 40 % of the three rarer classes called by
the name of the largest, 100 trusted ones; a small net by AdamW, which is also the step
that is looked ahead, 3,000 steps under five schedules. The table has, at the end, the
weights of the family of the largest class at five losses, and AUROC of wrong labels by
a low weight, in the mean over seeds and at its worst.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from sklearn.metrics import roc_auc_score

import cmwjax
from cmwjax.files import write_json

_SEEDS = flags.DEFINE_integer("seeds", 3, "how many seeds, from 0", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 3000, "steps of a run", lower_bound=100)
_JSON = flags.DEFINE_string("json", "", "file for the numbers; none by default")

SIZES = (400, 300, 200, 100)
LOSSES = (0.0, 1.0, 2.0, 4.0, 8.0)
PEAK = 1e-3
META = {
    "Adam, coupled decay (paper)": optax.chain(
        optax.add_decayed_weights(1e-4), optax.adam(1e-3)
    ),
    "AdamW (default)": None,
}


def schedules(steps):
    """Learning rates by their names in the table."""
    warmup = steps // 30
    cycle = dict(init_value=0.0, peak_value=PEAK, warmup_steps=warmup)
    restarts = [cycle | {"decay_steps": steps // 3}] * 3
    return {
        "constant": optax.constant_schedule(PEAK),
        "warm-up, cosine to 0": optax.warmup_cosine_decay_schedule(
            0.0, PEAK, warmup, steps
        ),
        "the same, over after half": optax.warmup_cosine_decay_schedule(
            0.0, PEAK, warmup, steps // 2
        ),
        "two drops to a tenth": optax.piecewise_constant_schedule(
            PEAK, {steps // 3: 0.1, 2 * steps // 3: 0.1}
        ),
        "cosines with restarts": optax.sgdr_schedule(restarts),
    }


def main(_):
    rows = []
    print("| schedule | weighting net by | V at loss", end=" ")
    print(*(f"{loss:g} |" for loss in LOSSES), "AUROC, mean | worst |")
    print("|---" * (len(LOSSES) + 4) + "|")
    for name, rate in schedules(_STEPS.value).items():
        for optimizer, meta_tx in META.items():
            runs = [learned(rate, meta_tx, seed) for seed in range(_SEEDS.value)]
            curves, aurocs = zip(*runs, strict=True)
            row = {
                "schedule": name,
                "optimizer": optimizer,
                "curve": np.mean(curves, axis=0).tolist(),
                "aurocs": aurocs,
            }
            rows.append(row)
            numbers = [*row["curve"], np.mean(aurocs), np.min(aurocs)]
            print(f"| {name} | {optimizer} |", *(f"{x:.3f} |" for x in numbers))
    if _JSON.value:
        write_json(Path(_JSON.value), {"jax": jax.__version__, "rows": rows})


def learned(rate, meta_tx, seed):
    """Weights of the largest family at `LOSSES`, and AUROC of wrong labels."""
    rng = np.random.default_rng(seed)
    centres = 1.5 * rng.normal(size=(len(SIZES), 10))
    true = np.repeat(np.arange(len(SIZES)), SIZES)
    observed = np.where((rng.random(len(true)) < 0.4) & (true > 0), 0, true)
    trusted = np.repeat(np.arange(len(SIZES)), 25)
    train, meta = (
        {
            "x": jnp.float32(centres[by] + rng.normal(size=(len(by), 10))),
            "label": jnp.asarray(label),
        }
        for by, label in ((true, observed), (trusted, trusted))
    )
    keys = jax.random.split(jax.random.key(seed))
    init = jax.nn.initializers.he_normal()
    params = {
        "hidden": init(keys[0], (10, 32)),
        "logits": init(keys[1], (32, len(SIZES))),
    }

    def loss_fn(params, model_state, batch, key):
        logits = jax.nn.relu(batch["x"] @ params["hidden"]) @ params["logits"]
        return cmwjax.cross_entropy(logits, batch["label"]), model_state

    tx = optax.adamw(rate, eps_root=1e-16)
    rw = cmwjax.reweight(loss_fn, tx, labels=observed, meta_tx=meta_tx)
    batches = rng.integers(0, len(true), (_STEPS.value, 100))
    meta_batches = rng.integers(0, len(trusted), (_STEPS.value, 50))

    def step(state, chosen):
        batch, meta_batch = (
            jax.tree.map(lambda x, i=i: x[i], data)
            for data, i in zip((train, meta), chosen, strict=True)
        )
        return rw.step(state, batch, meta_batch)[0], None

    @jax.jit
    def run(state):
        return jax.lax.scan(step, state, (batches, meta_batches))[0]

    state = run(rw.init(params))
    largest = np.zeros(len(LOSSES), int)
    curve = rw.weights(state, np.array(LOSSES), largest)
    losses, _ = loss_fn(state.params, {}, train, None)
    weights = rw.weights(state, losses, observed)
    return np.asarray(curve), float(roc_auc_score(observed != true, -weights))


if __name__ == "__main__":
    app.run(main)
