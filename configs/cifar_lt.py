"""Long-tailed CIFAR, alone or with label noise on top: Table 1 of the paper.

    CMWJAX_DATA_DIR=FOLDER python run.py --config=configs/cifar_lt.py
    ... --config=configs/cifar_lt.py:imbalance=50,methods=erm+ldam_drw+cmw_net
    ... --config=configs/cifar_lt.py:loss=ldam
    ... --config=configs/cifar_lt.py:noise=sym,rate=0.2,fast

FOLDER holds `cifar10.npz`, see configs/cifar.py. The schedule is the paper's: 200
epochs of ResNet-32, weights from epoch 160 on, the meta set every class sub-sampled to
the size of the rarest. With noise, which the paper announces and does not show, the
meta set is what the classifier finds easiest instead. With `loss=ldam`, methods weight
LDAM's loss of a cosine head instead of the cross entropy. `fast` fits two CPU cores.
"""

from cmwjax.config import base_config
from cmwjax.defaults import of_methods
from configs.common import (
    BIAS,
    NET,
    methods_of,
    net_options,
    parse_arg,
    set_bias,
)


def get_config(arg=None):
    defaults = BIAS | NET | {"imbalance": 100.0, "loss": "cross_entropy", "fast": False}
    arg = parse_arg(arg, data="cifar10", methods="erm+mw_net+cmw_net", **defaults)
    config = base_config()
    set_bias(config, arg)
    config.compare.methods = methods_of(arg["methods"])
    config.compare.seeds = (0, 1, 2)
    config.data.name = arg["data"]
    config.data.seed = 42  # as in the paper, one draw for all runs
    config.noise.seed = 0
    config.meta_set.policy = "balanced" if arg["noise"] == "none" else "lowest_loss"
    config.meta_set.per_class = 5
    config.augment.pad, config.augment.flip, config.augment.meta = 4, True, True
    config.optim.nesterov = True
    config.optim.schedule.name = "steps"
    config.optim.schedule.factor = 0.01
    config.loss = arg["loss"]
    config.model.options = net_options(arg)
    if arg["loss"] == "ldam":
        config.model.options = {"head": "cosine", **net_options(arg)}
    if arg["fast"]:
        config.model.name = "small_conv"
        config.epochs, config.warmup_epochs = 15, 10
        config.optim.schedule.boundaries = (12, 14)
        config.optim.schedule.factor = 0.1
        config.data.validation = 0.1
    else:
        config.weighting.optimizer.name = "amsgrad"
        config.weighting.optimizer.learning_rate = 1e-4
        config.weighting.optimizer.weight_decay = 1e-5
        config.weighting.anchored = False
        config.model.name = "resnet32"
        config.epochs, config.warmup_epochs = 200, 160
        config.optim.schedule.boundaries = (160, 180)
    config.compare.tuned = of_methods(config.epochs)
    config.compare.tuned["class_balanced"] = {"warmup_epochs": 0}  # it defers nothing
    if not arg["fast"]:
        config.compare.tuned["ldam_drw"]["optim"] = {"schedule": {"linear_epochs": 5}}
    return config
