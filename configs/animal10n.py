"""ANIMAL-10N: Table 6 of the paper, or the transfer of a learned weighting function.

    CMWJAX_DATA_DIR=FOLDER python run.py --config=configs/animal10n.py
    ... --config=configs/animal10n.py:methods=erm+mw_net+cmw_net+cmw_net_sl,seeds=3
    ... --config=configs/animal10n.py:transfer --config.weighting.load=FILE
    python run.py --config=configs/animal10n.py:smoke

50,000 images of 64 pixels, of which people took about 8 % for another animal, and 5,000
to test with; VGG-19 with batch norm from random weights, by the paper's schedule: 20
epochs of cross entropy, then 80 of CMW-Net-SL with the 10 easiest images of each class
as its meta set. `transfer` applies a weighting function that was learned on CIFAR-10,
without any meta step (paper, Section 6).

FOLDER/animal10n holds what was downloaded; without it, the error says what to get.
`smoke` goes the whole way with a small made-up data set of the same form, which it puts
into FOLDER or else `runs`, and a thin net: one to three minutes on two CPU cores.

The paper has 79.4 % for ERM, 80.7 for MW-Net, 80.9 for CMW-Net and 84.7 for CMW-Net-SL.
It writes down the families of the classes; here they are those of the class sizes, as
everywhere.
"""

from cmwjax.config import base_config
from configs.common import (
    NET,
    methods_of,
    net_options,
    parse_arg,
    set_methods,
    set_paper_weighting,
)

# Learned by results/make.py --cells=cifar10-hybrid-asym (CMW-Net-SL, seed 0).
LEARNED = "zoo:cifar10_hybrid_asym"


def get_config(arg=None):
    shapes = {"transfer": False, "smoke": False}
    arg = parse_arg(arg, methods="cmw_net_sl", seeds=1, **shapes, **NET)
    config = base_config()
    config.data.name = "animal10n"
    config.data.labels = "given"  # nobody knows which of them are right
    config.data.standardise = "imagenet"
    config.data.batch_size = config.meta_set.batch_size = 128
    config.data.stream.resize, config.data.stream.image_size = 0, 64
    config.augment.flip = config.augment.meta = True
    config.model.name, config.model.options = "vgg19_bn", net_options(arg)
    config.epochs, config.warmup_epochs = 100, 20
    config.optim.learning_rate = 0.1
    config.optim.momentum = 0.0
    config.optim.weight_decay = 1e-3
    config.optim.schedule.name = "steps"
    config.optim.schedule.boundaries = (50, 75)
    config.optim.schedule.factor = 0.2
    config.meta_set.policy, config.meta_every = "lowest_loss", 10
    config.mixup.second_weight = "mixed"
    config.soft_labels.momentum = 0.9
    config.soft_labels.start = "one_hot"
    set_paper_weighting(config, 1e-3)
    if arg["transfer"]:
        config.meta_set.policy = "none"
        config.weighting.load = LEARNED
    if arg["smoke"]:
        smoke(config)
    set_methods(config, methods_of(arg["methods"]), arg["seeds"])
    return config


def smoke(config):
    """The same, as small as it gets."""
    config.data.name = "animal10n/example"
    config.data.batch_size = config.meta_set.batch_size = 32
    config.model.options = {"stage_sizes": (1, 1, 1, 1, 1), "width": 8, "hidden": 64}
    config.epochs, config.warmup_epochs = 6, 2
    config.optim.schedule.boundaries = (5,)
    # Linear layers that start as small as VGG's need more steps of SGD than there are.
    config.optim.name, config.optim.learning_rate = "adam", 1e-3
    config.optim.weight_decay = 0.0
    config.ema.decay = 0.9
