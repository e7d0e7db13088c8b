"""WebVision 1.0: transfer of a learned weighting function, or CMW-Net-SL on a part.

    CMWJAX_DATA_DIR=FOLDER python run.py --config=configs/webvision.py
    ... --config=configs/webvision.py:mini
    ... --config=configs/webvision.py:ilsvrc2012 --config.weighting.load=FILE
    python run.py --config=configs/webvision.py:smoke

All 1000 classes, Google and Flickr, by the paper's schedule (Table 10): ten epochs of
cross entropy, then 80 in which a weighting function that was learned on CIFAR-10 says
how much to trust the labels, without any meta step or clean data. `mini` is the first
50 classes from Google with CMW-Net-SL itself (Table 7); `--config.model.weights=FILE`
starts from a pre-trained ResNet-50. `ilsvrc2012` adds that validation set as a second
test set.

FOLDER/webvision holds what was downloaded; without it, the error says what to get.
`smoke` goes the whole way with a small made-up data set of the same form, which it puts
into FOLDER or else `runs`, and a thin net: less than two minutes on two CPU cores.

The paper has 77.9 / 92.6 % (top 1 / top 5) on WebVision's validation set and 69.6 /
88.5 % on that of ILSVRC-2012 for all classes, 78.1 / 93.0 and 75.7 / 92.5 for `mini`.
"""

from cmwjax.config import base_config
from configs.common import methods_of, parse_arg, set_methods, set_paper_weighting

# Learned by results/make.py --cells=cifar10-hybrid-asym (CMW-Net-SL, seed 0).
LEARNED = "zoo:cifar10_hybrid_asym"


def get_config(arg=None):
    arg = parse_arg(
        arg, methods="cmw_net_sl", mini=False, smoke=False, ilsvrc2012=False
    )
    config = base_config()
    config.data.labels = "given"  # nobody knows which of them are right
    config.data.standardise = "imagenet"
    config.data.stream.tests = ("validation",)
    if arg["ilsvrc2012"]:
        config.data.stream.tests = ("validation", "ilsvrc2012")
    config.augment.flip = True
    config.mixup.second_weight = "mixed"
    config.soft_labels.momentum = 0.9
    config.soft_labels.start = "one_hot"
    set_paper_weighting(config, 1e-4)
    config.optim.schedule.name = "steps"
    if arg["mini"]:
        mini(config)
    else:
        full(config)
    if arg["smoke"]:
        smoke(config)
    set_methods(config, methods_of(arg["methods"]), seeds=1)
    return config


def full(config):
    """Paper, Table 10."""
    config.data.name = "webvision/full"
    config.data.batch_size = 256
    config.data.stream.resize = 320
    config.data.stream.image_size = 299
    config.data.stream.crop = "random_resized_crop"
    config.model.name, config.model.options = "inception_resnet_v2", {}
    config.epochs, config.warmup_epochs = 90, 10
    config.optim.learning_rate = 0.2
    config.optim.weight_decay = 5e-5
    config.optim.schedule.boundaries = (30, 60)
    config.mixup.alpha = 0.2
    config.meta_set.policy = "none"
    config.weighting.load = LEARNED
    config.audit_every = 0  # nothing else looks at all images before each epoch
    config.memory.top_k = 24  # soft labels in 0.25 GB, in place of 10
    config.checkpoint.every_steps = 5000  # of that, and 0.7 GB of nets


def mini(config):
    """Paper, Table 7."""
    config.data.name = "webvision/mini"
    config.data.batch_size = config.meta_set.batch_size = 32
    config.data.stream.resize = 256
    config.data.stream.image_size = 227
    config.model.name, config.model.options = "resnet50", {}
    config.epochs, config.warmup_epochs = 100, 5
    config.optim.learning_rate = 0.01
    config.optim.schedule.boundaries = (50,)
    config.mixup.alpha = 0.6
    config.mixup.meta_alpha = 1.0
    config.meta_set.policy = "lowest_loss"
    config.meta_every = 10


def smoke(config):
    """The same, as small as it gets."""
    config.data.name = "webvision/example"
    config.data.batch_size = config.meta_set.batch_size = 32
    config.data.stream.resize, config.data.stream.image_size = 72, 64
    config.model.name = "resnet50"
    config.model.options = {"width": 8, "stage_sizes": (1, 1, 1, 1)}
    config.epochs, config.warmup_epochs = 6, 2
    config.optim.schedule.boundaries = (5,)
    config.optim.learning_rate = 0.05
    config.ema.decay = 0.9
    config.memory.top_k = min(config.memory.top_k, 2)  # of fewer classes
