"""A table of numbers: classes of unlike size, and labels of which some are wrong.

    python run.py --config=configs/tabular.py
    python run.py --config=configs/tabular.py:data=FILE.csv
    ... --config=configs/tabular.py:data=FILE.csv,test=FILE.csv,trusted=FILE.csv
    ... --config=configs/tabular.py:data=FILE.csv,rate=0.2
    ... --config=configs/tabular.py:data=FILE.npz,noise=sym,rate=0.4,per_class=10
    python run.py --config=configs/tabular.py:smoke

FILE.csv has a row per sample: numbers, and the class in the column `label` or a column
named label, class or target, or else in the last one; FILE.npz has x_train [N, D],
y_train, x_test, y_test. Columns are standardised by the training rows. Beside a .csv
file, `test` has rows to test with (else a quarter of `data`), `trusted` a few whose
labels are right, and `truth` the rows of `data` with the right labels, where somebody
knows them. The labels of a file are taken as they are, and without trusted rows the
meta set is what the classifier finds easiest, `per_class` rows of each class.

With `rate` or `noise`, labels are made wrong on purpose: `rate` of class 0 is called
class 1 (`noise=flip`), and `per_class` rows of each class are right and form the meta
set, and training never visits them. So it is, at a rate of 0.2, without a file, on
scikit-learn's breast cancer data. An MLP, a few seconds a run on two CPU cores.
"""

from cmwjax.config import base_config
from configs.common import (
    FILES,
    NOISE,
    is_file,
    methods_of,
    names_in,
    noise_rate,
    parse_arg,
    set_files,
    set_noise,
)

KINDS = {"flip": ("asymmetric", ((0, 1),)), **NOISE}


def get_config(arg=None):
    given = names_in(arg)
    arg = parse_arg(
        arg,
        data="breast_cancer",
        **FILES,
        methods="erm+mw_net+cmw_net",
        noise="flip",
        rate=0.2,
        per_class=20,
        families=2,
        seeds=5,
        smoke=False,
    )
    config = base_config()
    config.compare.methods = methods_of(arg["methods"])
    config.compare.seeds = tuple(range(arg["seeds"]))
    rate = noise_rate(arg, given)
    set_noise(config, arg["noise"], rate, KINDS)
    if not rate:
        config.noise.kind = "none"
    set_files(config, arg, held_out=rate > 0 or not is_file(arg["data"]))
    config.meta_set.per_class = arg["per_class"]
    config.weighting.num_families = arg["families"]
    config.model.options.hidden = (64, 64)
    config.epochs = 30
    config.optim.learning_rate = 0.03
    config.optim.schedule.name = "cosine"
    if arg["smoke"]:
        config.compare.seeds, config.epochs = (0,), 10
    return config
