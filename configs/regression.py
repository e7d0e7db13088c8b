"""Targets of which some belong to other samples: a regression on rows of a table.

    python run.py --config=configs/regression.py
    python run.py --config=configs/regression.py:data=FILE.csv,loss=huber
    ... --config=configs/regression.py:data=FILE.csv,test=FILE.csv,trusted=FILE.csv
    ... --config=configs/regression.py:data=FILE.csv,rate=0.4
    python run.py --config=configs/regression.py:smoke

FILE.csv has a row per sample, numbers and a target in the column `label` or a column
named label, class or target, or else in the last one. `test` has rows to test with
(else a quarter of `data`), `trusted` a few whose targets are right, and `truth` the
rows of `data` with the right targets, where somebody knows them. The targets of a file
are taken as they are, and without trusted rows the meta set is what the model finds
easiest, `per_class` rows of each third of the targets.

With `rate`, that share of targets is redrawn from all targets, and `per_class` rows of
each third are right and form the meta set, and training never visits them. So it is, at
a rate of 0.4, without a file, on scikit-learn's diabetes data. MW-Net weighs by the
squared error alone, CMW-Net also by the third that the target lies in.
"""

from cmwjax.config import base_config
from configs.common import (
    FILES,
    is_file,
    methods_of,
    names_in,
    noise_rate,
    parse_arg,
    set_files,
    set_noise,
)


def get_config(arg=None):
    given = names_in(arg)
    arg = parse_arg(
        arg,
        data="diabetes",
        **FILES,
        methods="erm+mw_net+cmw_net",
        loss="squared_error",
        rate=0.4,
        per_class=10,
        seeds=5,
        smoke=False,
    )
    config = base_config()
    config.task, config.loss = "regression", arg["loss"]
    config.compare.methods = methods_of(arg["methods"])
    config.compare.seeds = tuple(range(arg["seeds"]))
    rate = noise_rate(arg, given)
    set_noise(config, "sym" if rate else "none", rate)
    set_files(config, arg, held_out=rate > 0 or not is_file(arg["data"]))
    config.data.batch_size, config.meta_set.batch_size = 32, 32
    config.meta_set.per_class = arg["per_class"]
    config.model.options.hidden = (32,)
    config.epochs = 40
    config.optim.learning_rate, config.optim.weight_decay = 0.01, 1e-3
    config.optim.schedule.name = "cosine"
    if arg["smoke"]:
        config.compare.seeds, config.epochs = (0,), 10
    return config
