"""Fashion-MNIST with an MLP, under every bias of the paper.

    CMWJAX_DATA_DIR=FOLDER python run.py --config=configs/fashion_mnist.py
    ... --config=configs/fashion_mnist.py:noise=sym,rate=0.4
    ... --config=configs/fashion_mnist.py:imbalance=100,noise=sym,rate=0.2,methods=every
    ... --config=configs/fashion_mnist.py:labels=FILE.npz:type1_035
    ... --config=configs/fashion_mnist.py:fast

FOLDER holds `fashion_mnist.npz`, a NumPy archive with x_train, y_train, x_test and
y_test. Without a bias of another kind, 80 % of the samples of four classes carry
another class's label, on 20,000 images; `noise=none` leaves all labels right. No clean
data is used: the meta set is what the classifier finds easiest. results/make_pmd.py
makes feature-dependent labels. `fast` takes 10,000 images and half the epochs; a long
tail comes out of all images.
"""

from cmwjax.config import base_config
from cmwjax.defaults import of_methods
from configs.common import (
    BIAS,
    methods_of,
    parse_arg,
    set_bias,
)

DEFAULTS = BIAS | {"noise": "auto", "fast": False, "validation": 0.0}


def get_config(arg=None):
    arg = parse_arg(arg, methods="erm+mw_net+cmw_net", meta="lowest_loss", **DEFAULTS)
    if arg["noise"] == "auto":
        alone = arg["labels"] == "true" and arg["imbalance"] == 1
        arg |= (
            {"noise": "asym", "rate": arg["rate"] or 0.8}
            if alone
            else {"noise": "none"}
        )
    config = base_config()
    # The maps of asymmetric noise are CIFAR-10's. To clothes they mean nothing, but the
    # sizes of classes and their shares of wrong labels come out the same.
    set_bias(config, arg)
    config.compare.methods = methods_of(arg["methods"])
    config.compare.seeds = (0, 1, 2)
    config.data.name = "fashion_mnist"
    config.data.train_size = 10000 if arg["fast"] else 20000
    config.data.validation = arg["validation"]
    config.data.batch_size = config.meta_set.batch_size = 128
    config.meta_set.policy = arg["meta"]
    config.epochs = 15 if arg["fast"] else 30
    config.warmup_epochs = 1  # what an untrained net finds easiest means nothing
    config.optim.learning_rate = 0.01
    config.mixup.alpha = 0.2  # the better in results/tune_fashion_mnist_soft.json
    config.mixup.meta_alpha = 1.0
    config.ema.decay = 0.99  # over 1.4 epochs of `fast`
    if arg["imbalance"] > 1:
        long_tail(config)
    config.compare.tuned = of_methods(config.epochs)
    return config


def long_tail(config):
    """What rare classes need; the schedule was best on a validation set."""
    config.data.train_size = 0  # else the tail is too thin
    config.meta_set.per_class = 5
    config.optim.schedule.name = "steps"
    drops = (config.epochs * 2 // 3, config.epochs * 13 // 15)
    config.optim.schedule.boundaries = drops
