"""Whether the weighting net can learn once the trusted samples are fitted.

    python benchmarks/fitted.py --seeds=3 --json=results/fitted.json

Trusted samples that train too (`meta_set.trusted_share`) are soon fitted, and then
their loss has no gradient to speak of, of which the weighting net could learn. Here
its rate is 0 until then: for two thirds of the quickstart, with 40 % of four digits
called others and 100 trusted samples. The table has, in the mean over seeds and for
nets plain, with dropout and with batch norm: the loss on the trusted samples, a step
ahead, when the weighting net begins to learn; AUROC of wrong labels by a low weight at
the end of the run; and the test accuracy at both times.
"""

import tempfile
from pathlib import Path
from unittest import mock

import jax
import numpy as np
from absl import app, flags, logging

from cmwjax import train
from cmwjax.core import optimizers
from cmwjax.files import write_json
from cmwjax.report.read import read_metrics
from cmwjax.report.samples import is_wrong, read_samples, wrong_label_auroc
from cmwjax.training import program
from results.biases import read_config

_SEEDS = flags.DEFINE_integer("seeds", 3, "how many seeds, from 0", lower_bound=1)
_JSON = flags.DEFINE_string("json", "", "file for the numbers; none by default")

NETS = {
    "MLP": ("mlp", {"hidden": (256,)}),
    "MLP, dropout": ("mlp", {"hidden": (256,), "dropout": 0.5}),
    "small conv net, batch norm": ("small_conv", {"features": (16, 32)}),
}
SHARES = {"0 (paper)": 0.0, "of all (default)": -1.0, "a half": 0.5}
STEPS = 60 * 13  # of the quickstart
BEGINS = 2 / 3  # of the run


def main(_):
    logging.set_verbosity(logging.ERROR)
    rows = []
    print("| net | share of the trusted | loss on them | AUROC | accuracy |")
    print("|---" * 5 + "|")
    for net, (name, options) in NETS.items():
        for title, share in SHARES.items():
            runs = []
            for seed in range(_SEEDS.value):
                config = read_config("quickstart.py:rate=0.4")
                config.method, config.seed = "cmw_net", seed
                config.model.name, config.model.options = name, options
                config.meta_set.trusted_share = share
                runs.append(measured(config))
            rows.append({"net": net, "share": share, "runs": runs})
            mean = {k: np.mean([run[k] for run in runs], axis=0) for k in runs[0]}
            print(
                f"| {net} | {title} | {mean['trusted_loss']:.4f} | {mean['auroc']:.3f}",
                "| {:.1f} -> {:.1f} |".format(*(100 * mean["accuracy"])),
                flush=True,
            )
    if _JSON.value:
        write_json(Path(_JSON.value), {"jax": jax.__version__, "rows": rows})


def measured(config):
    """What is in the table, of one run."""
    program.build.cache_clear()  # programs are kept by their configuration
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(optimizers, "build", late),
    ):
        train.run(config, Path(folder) / "run", report=False)
        lines = read_metrics(Path(folder) / "run")
        samples = read_samples(Path(folder) / "run" / "samples.csv")
    before = lines[int(BEGINS * len(lines)) - 1]
    return {
        "trusted_loss": before["meta_loss"],
        "auroc": wrong_label_auroc(samples["weight"], is_wrong(samples)),
        "accuracy": [line["test_accuracy"] for line in (before, lines[-1])],
    }


def late(name, learning_rate, build=optimizers.build, **options):
    """The optimizer of a weighting net with no rate until it begins to learn."""
    if not callable(learning_rate):
        steps = int(BEGINS * STEPS)
        final = learning_rate

        def learning_rate(count):
            return jax.numpy.where(count < steps, 0.0, final)

    return build(name, learning_rate, **options)


if __name__ == "__main__":
    app.run(main)
