"""Tunes the methods of a comparison: every method gets the same number of trials.

    python benchmarks/tune.py --json=results/tune_quickstart.json
    python benchmarks/tune.py --config=configs/fashion_mnist.py --seeds=10,11 \
        --json=results/tune_fashion_mnist.json
    python benchmarks/tune.py --config=configs/cifar.py:noise=asym,rate=0.8,fast \
        --rates=0.02,0.1 --schedules=cosine --seeds=10 --json=results/tune_cifar10.json

A fifth of the training images, with their true labels, serves as validation set; the
test set is not read. Seeds differ from those of the comparison. Each method tries every
learning rate and schedule twice: the weighting nets at two learning rates of their
own, ERM at two weight decays, methods with MixUp at two strengths of it. Reported is
the validation accuracy of the last epoch, in percent; null where a run diverged.
"""

import itertools
import json
import tempfile
from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import config_flags
from sklearn.model_selection import train_test_split

from cmwjax import compare, console
from cmwjax.data import datasets
from cmwjax.files import replacing

FLAGS = flags.FLAGS
ROOT = Path(__file__).parents[1]
config_flags.DEFINE_config_file("config", str(ROOT / "configs" / "quickstart.py"))
flags.DEFINE_string("json", None, "where to write the results")
flags.DEFINE_list("seeds", ["10", "11", "12"], "seeds")
flags.DEFINE_list("methods", ["erm", "mw_net", "cmw_net"], "methods")
flags.DEFINE_list("rates", ["0.01", "0.03", "0.1", "0.3"], "learning rates")
flags.DEFINE_list("schedules", ["constant", "cosine"], "schedules")
flags.DEFINE_list("weighting_rates", ["1e-3", "1e-2"], "those of the weighting nets")

EXTRA = {
    "erm": ("optim.weight_decay", (5e-4, 5e-3)),
    "mw_net": ("weighting.optimizer.learning_rate", None),  # as the flag has them
    "cmw_net": ("weighting.optimizer.learning_rate", None),
    "erm_mixup_ema": ("mixup.alpha", (0.2, 1.0)),
    "constant_sl": ("mixup.alpha", (0.2, 1.0)),
    "cmw_net_sl": ("mixup.alpha", (0.2, 1.0)),
}


def main(_):
    console.set_up()
    logging.set_verbosity(logging.WARNING)
    rows = []
    FLAGS.config.compare.tuned = {}
    dataset = with_validation_set(FLAGS.config)
    for method in FLAGS.methods:
        field, values = EXTRA[method]
        values = values or map(float, FLAGS.weighting_rates)
        grid = itertools.product(map(float, FLAGS.rates), FLAGS.schedules, values)
        for rate, schedule, extra in grid:
            tried = {"optim.learning_rate": rate, "optim.schedule.name": schedule}
            tried |= {"data.train_size": 0, field: extra}
            accuracies = [
                validation_accuracy(method, int(seed), tried, dataset)
                for seed in FLAGS.seeds
            ]
            jax.clear_caches()  # too many memory maps else, over all trials
            row = dict(method=method, learning_rate=rate, schedule=schedule)
            row |= {field: extra, "validation_accuracy": accuracies}
            rows.append(row)
            print(f"{compare.mean_and_std(accuracies, 1)}  {row}", flush=True)
            if FLAGS.json:
                with replacing(FLAGS.json) as temporary:
                    temporary.write_text(json.dumps(rows, indent=1) + "\n")


def validation_accuracy(method, seed, fields, dataset):
    """Of the last epoch, in percent; None if the run diverged."""
    config = compare.one_run(FLAGS.config, method, seed)
    with config.unlocked():
        config.update_from_flattened_dict(fields)
    with tempfile.TemporaryDirectory() as folder:
        result = compare.run_or_diverge(config, Path(folder), arrays=dataset)
    return None if result is None else 100 * result.test_score


def with_validation_set(config):
    """The data set with a fifth of its training images in place of the test set."""
    dataset = datasets.load(config.data.name, train_size=config.data.train_size or None)
    images, labels = dataset.train_inputs, dataset.train_labels
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=1
    )
    return dataset._replace(
        train_inputs=x_train,
        train_labels=y_train,
        test_inputs=x_test,
        test_labels=y_test,
        rows=None,
    )


if __name__ == "__main__":
    app.run(main)
