"""Semi-supervised learning: few samples keep their labels, the others are unlabelled.

    python run.py --config=configs/semi.py
    python run.py --config=configs/semi.py:labels=100,imbalance=50
    CMWJAX_DATA_DIR=FOLDER python run.py --config=configs/semi.py:data=fashion_mnist
    ... --config=configs/semi.py:data=cifar10,labels=250,methods=fixmatch+cmw_net
    ... --config=configs/semi.py:data=embeddings.npz,labels=1000
    ... --config=configs/semi.py:data=FILE.npz,labels=0
    ... --config=configs/semi.py:data=FILE.csv,labels=0,test=FILE.csv
    python run.py --config=configs/semi.py:smoke

`labels` samples in all keep theirs, of each class by its share and at least one;
`imbalance` makes a long tail of all samples, labelled or not. With labels=0 the data
themselves have samples without a label: those that every class is a candidate of. In
FILE.npz y_train are truth values [N, C] then, in FILE.csv cells of labels have all
classes, as in cat|dog. A step takes `mu` samples without a label for each one with one.

`trusted_only` learns from the labels alone. `fixmatch` learns others as well, by the
likeliest class of a weak view where that is sure enough (`threshold`), on a strong one;
`fixmatch@weight_one` takes all of them, with a constant weight in place of the
threshold. `cmw_net` weights them by the loss of the weak view and the size of the
pseudo-class, and is judged by the labels: strong views of them are the meta set. The
net that is evaluated is in all cases an average over the steps.
"""

from cmwjax.config import base_config
from configs.common import FILES, methods_of, parse_arg

METHODS = "trusted_only+fixmatch+fixmatch@weight_one+cmw_net"


def get_config(arg=None):
    arg = parse_arg(
        arg,
        data="digits",
        **FILES,
        labels=40,
        imbalance=1.0,
        mu=2,
        threshold=0.95,
        methods=METHODS,
        validation=0.0,
        epochs=0,
        seeds=3,
        smoke=False,
    )
    config = base_config()
    config.task, config.loss = "semi", "fixmatch"
    config.compare.methods = methods_of(arg["methods"])
    config.compare.seeds = tuple(range(arg["seeds"]))
    config.compare.tuned = {
        "fixmatch@weight_one": {"baseline": {"fixmatch": {"threshold": 0.0}}},
    }
    config.baseline.fixmatch.threshold = arg["threshold"]
    config.data.name, config.data.imbalance_factor = arg["data"], arg["imbalance"]
    config.data.validation = arg["validation"]
    for name in FILES:
        config.data.csv[name] = arg[name]
    if not arg["labels"] and not (arg["test"] or arg["truth"]):
        config.data.csv.test_share = 0.0  # nobody knows labels to test with
    config.semi.labels, config.semi.mu = arg["labels"], arg["mu"]
    config.meta_set.policy = "external" if arg["trusted"] else "labelled"
    config.weighting.normalisation = "mean"  # a step is to tell how much it learns
    config.optim.learning_rate, config.optim.nesterov = 0.03, True
    config.optim.schedule.name = "cosine_7_16"
    config.ema.decay = 0.995
    if arg["data"] == "digits":
        _digits(config, arg)
    elif arg["data"] in ("fashion_mnist", "cifar10"):
        _images(config, arg)
    else:
        _head(config, arg)
    if arg["smoke"]:
        config.compare.seeds, config.epochs = (0,), 10
        if arg["methods"] == METHODS:  # each takes some seconds to compile
            config.compare.methods = ("fixmatch", "cmw_net")
    if arg["epochs"]:
        config.epochs = arg["epochs"]
    return config


def _digits(config, arg):
    """1,437 images of 8x8 pixels, about 2,000 steps."""
    _batches(config, arg, labelled=20)
    config.augment.pad, config.augment.mode = 1, "zero"
    config.epochs = 60 if arg["imbalance"] == 1 else 150


def _images(config, arg):
    """At most 2,000 steps of a small net, for two CPU cores."""
    _batches(config, arg, labelled=64)
    config.model.name, config.model.options = "small_conv", {}
    is_cifar = arg["data"] == "cifar10"
    config.augment.pad = 4 if is_cifar else 2
    config.augment.flip = True
    # Of 60,000 or 50,000 images; a long tail of factor 50 has 2.7 of 10 classes.
    config.epochs = 5 if is_cifar else 4
    if arg["imbalance"] > 1:
        config.epochs = 15
    config.audit_every = 0  # no epoch is worth a look at all of them


def _head(config, arg):
    """A small head on rows that a frozen net has made; see configs/embeddings.py."""
    _batches(config, arg, labelled=64)
    config.model.options = {"hidden": (256,), "dropout": 0.5}
    config.optim.learning_rate = 0.01  # rows are long; see defaults.py
    config.epochs = 5 if arg["imbalance"] == 1 else 15
    config.audit_every = 0


def _batches(config, arg, *, labelled):
    config.data.batch_size = labelled * (1 + arg["mu"])
    config.meta_set.batch_size = labelled
