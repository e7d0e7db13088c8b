"""A table of numbers: classes of unlike size, and labels made wrong on purpose.

    python run.py --config=configs/tabular.py
    python run.py --config=configs/tabular.py:data=FILE.csv,rate=0.2
    python run.py --config=configs/tabular.py:data=FILE.npz,noise=sym,rate=0.4
    python run.py --config=configs/tabular.py:smoke

FILE.csv has a row per sample: numbers, and the class in the column 'label', 'class' or
'target', or else in the last one; FILE.npz has x_train [N, D], y_train, x_test, y_test.
Without a file, scikit-learn's breast cancer data. Columns are standardised by the
training rows. `rate` of class 0 is called class 1; `trusted` samples of each class are
right and form the meta set, and training never visits them. An MLP, a few seconds a run
on two CPU cores.
"""

from cmwjax.config import base_config
from configs.common import NOISE, methods_of, parse_arg


def get_config(arg=None):
    arg = parse_arg(
        arg,
        data="breast_cancer",
        methods="erm+mw_net+cmw_net",
        noise="flip",
        rate=0.2,
        trusted=20,
        families=2,
        seeds=5,
        smoke=False,
    )
    config = base_config()
    config.compare.methods = methods_of(arg["methods"])
    config.compare.seeds = tuple(range(arg["seeds"]))
    config.data.name = arg["data"]
    config.noise.rate = arg["rate"]
    if arg["noise"] == "flip":
        config.noise.kind, config.noise.class_map = "asymmetric", ((0, 1),)
    else:
        config.noise.kind, config.noise.class_map = NOISE[arg["noise"]]
    config.meta_set.per_class = arg["trusted"]
    config.weighting.num_families = arg["families"]
    config.model.options.hidden = (64, 64)
    config.epochs = 30
    config.optim.learning_rate = 0.03
    config.optim.schedule.name = "cosine"
    config.weighting.normalisation = "weights"
    if arg["smoke"]:
        config.compare.seeds, config.epochs = (0,), 10
    return config
