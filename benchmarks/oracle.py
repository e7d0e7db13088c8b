"""How far could weighting get? ERM on the correctly labelled samples only.

    python benchmarks/oracle.py
    python benchmarks/oracle.py --config=configs/cifar.py:noise=asym,rate=0.8,fast

Prints the test accuracy in percent after the last epoch, per seed of the comparison, of
ERM as the configuration has it, trained on the samples whose labels are right, on all
with their true labels, and where a meta set is held out, with that or on it alone.
"""

import tempfile
from pathlib import Path

import numpy as np
from absl import app, flags, logging
from ml_collections import config_flags

from cmwjax import compare, train
from cmwjax.bias.problem import prepare

FLAGS = flags.FLAGS
ROOT = Path(__file__).parents[1]
config_flags.DEFINE_config_file("config", str(ROOT / "configs" / "quickstart.py"))


def main(_):
    logging.set_verbosity(logging.WARNING)
    for seed in FLAGS.config.compare.seeds:
        config = compare.one_run(FLAGS.config, "erm", seed)
        problem = prepare(config)
        right = problem.train_index[~problem.is_wrong[problem.train_index]]
        sets = {"right": right, "all, true labels": problem.train_index}
        trusted = problem.meta_index
        if trusted is not None:
            sets["right and trusted"] = np.concatenate([right, trusted])
            sets["trusted"] = trusted
        scores = [
            f"{name} {accuracy(config, problem.dataset, index):.1f}"
            for name, index in sets.items()
        ]
        print(f"seed {seed}: {', '.join(scores)}", flush=True)


def accuracy(config, dataset, index):
    """Of ERM on these samples with their true labels, in percent."""
    chosen = dataset._replace(
        train_inputs=dataset.train_inputs[index],
        train_labels=dataset.train_labels[index],
        observed_labels=None,
        rows=dataset.rows[index],
    )
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.data.update(train_size=0, labels="true")
        config.data.update(imbalance_factor=1.0, validation=0.0)
        config.noise.update(kind="none", rate=0.0)
        config.meta_set.policy, config.weighting.num_families = "none", 1
    with tempfile.TemporaryDirectory() as folder:
        return 100 * train.run(config, folder, arrays=chosen).test_score


if __name__ == "__main__":
    app.run(main)
