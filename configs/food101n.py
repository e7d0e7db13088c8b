"""Food-101N: dishes as the web has them, tested on the hand-made labels of Food-101.

    CMWJAX_DATA_DIR=FOLDER python run.py --config=configs/food101n.py:weights=FILE
    ... --config=configs/food101n.py:weights=FILE,methods=erm+cmw_net+cmw_net_sl
    ... --config=configs/food101n.py:weights=FILE,verified
    python run.py --config=configs/food101n.py:smoke

A ResNet-50 that starts from weights learned on ImageNet (FILE, as torchvision has
them), 30 epochs of batches of 128, and a rate of 0.01 that is divided by ten every ten
epochs, as is common for this data set; CMW-Net-SL with the 10 easiest images of each
class as its meta set, by the settings that the paper has for WebVision. `verified`
trusts the images whose labels people agreed with, and trains on those that nobody
verified.

FOLDER/food101n holds what was downloaded; without it, the error says what to get.
`smoke` goes the whole way with a small made-up data set of the same form, which it puts
into FOLDER or else `runs`, and a thin net: one to three minutes on two CPU cores.
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


def get_config(arg=None):
    shapes = {"weights": "", "verified": False, "smoke": False}
    arg = parse_arg(arg, methods="cmw_net_sl", seeds=1, **shapes, **NET)
    config = base_config()
    config.data.name = "food101n/full"
    config.data.labels = "given"  # nobody knows which of them are right
    config.data.standardise = "imagenet"
    config.data.batch_size = config.meta_set.batch_size = 128
    config.augment.flip = True
    config.model.name, config.model.options = "resnet50", net_options(arg)
    config.model.weights = arg["weights"]
    config.epochs, config.warmup_epochs = 30, 2
    config.optim.learning_rate = 0.01
    config.optim.schedule.name = "steps"
    config.optim.schedule.boundaries = (10, 20)
    config.meta_set.policy, config.meta_every = "lowest_loss", 10
    config.mixup.alpha = 0.6
    config.mixup.second_weight = "mixed"
    config.mixup.meta_alpha = 1.0
    config.soft_labels.momentum = 0.9
    config.soft_labels.start = "one_hot"
    set_paper_weighting(config, 1e-4)
    if arg["verified"]:
        config.data.name = "food101n/unverified"
        config.data.csv.trusted, config.meta_set.policy = "split:verified", "external"
    if arg["smoke"]:
        smoke(config, arg["verified"])
    set_methods(config, methods_of(arg["methods"]), arg["seeds"])
    return config


def smoke(config, verified):
    """The same, as small as it gets."""
    config.data.name = f"food101n/example{'_unverified' * verified}"
    config.data.batch_size = config.meta_set.batch_size = 32
    config.data.stream.resize, config.data.stream.image_size = 72, 64
    config.model.options = {"width": 8, "stage_sizes": (1, 1, 1, 1)}
    config.epochs, config.warmup_epochs = 4, 1
    config.optim.schedule.boundaries = (3,)
    config.optim.learning_rate = 0.05
    config.meta_set.per_class = 2
    config.ema.decay = 0.9
