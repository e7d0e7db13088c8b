"""Targets of which some belong to other samples: a regression on rows of a table.

    python run.py --config=configs/regression.py
    python run.py --config=configs/regression.py:data=FILE.csv,loss=huber
    python run.py --config=configs/regression.py:smoke

FILE.csv has a row per sample, numbers and a target in the column 'target', or else in
the last one. Without a file, scikit-learn's diabetes data. A share `rate` of targets
is redrawn from all targets; `trusted` samples of each third of them are right and form
the meta set. MW-Net weighs by the squared error alone, CMW-Net also by the third that
the target lies in.
"""

from cmwjax.config import base_config
from configs.common import methods_of, parse_arg


def get_config(arg=None):
    arg = parse_arg(
        arg,
        data="diabetes",
        methods="erm+mw_net+cmw_net",
        loss="squared_error",
        rate=0.4,
        trusted=10,
        seeds=5,
        smoke=False,
    )
    config = base_config()
    config.task, config.loss = "regression", arg["loss"]
    config.compare.methods = methods_of(arg["methods"])
    config.compare.seeds = tuple(range(arg["seeds"]))
    config.data.name = arg["data"]
    config.data.batch_size, config.meta_set.batch_size = 32, 32
    config.noise.kind, config.noise.rate = "symmetric", arg["rate"]
    config.meta_set.per_class = arg["trusted"]
    config.model.options.hidden = (32,)
    config.epochs = 40
    config.optim.learning_rate, config.optim.weight_decay = 0.01, 1e-3
    config.optim.schedule.name = "cosine"
    config.weighting.normalisation = "weights"
    if arg["smoke"]:
        config.compare.seeds, config.epochs = (0,), 10
    return config
