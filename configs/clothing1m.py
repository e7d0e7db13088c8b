"""Clothing1M: a million noisy labels, judged by the clean validation images.

    CMWJAX_DATA_DIR=FOLDER python run.py --config=configs/clothing1m.py:weights=FILE
    ... --config=configs/clothing1m.py:weights=FILE,methods=erm+mw_net+cmw_net
    ... --config=configs/clothing1m.py:weights=FILE,pairs
    python run.py --config=configs/clothing1m.py:smoke

MW-Net's setting: a ResNet-50 that starts from weights learned on ImageNet (FILE, as
torchvision has them), ten epochs of batches of 32, and the validation images, whose
labels are clean, as the meta set. `pairs` trains on the noisy labels of the 24,637
images that have clean ones too, so that the report can say which it found wrong.

FOLDER/clothing1m holds what was downloaded; without it, the error says what to get.
`smoke` goes the whole way with a small made-up data set of the same form, which it puts
into FOLDER or else `runs`, and a thin net: one to three minutes on two CPU cores.

The paper of MW-Net has 68.9 % for cross entropy and 73.7 for MW-Net, with 7,000 clean
images; CMW-Net's has none.
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
    shapes = {"weights": "", "pairs": False, "smoke": False}
    arg = parse_arg(arg, methods="cmw_net", seeds=1, **shapes, **NET)
    config = base_config()
    size = "example" if arg["smoke"] else "full"
    config.data.name = f"clothing1m/{size}"
    config.data.labels = "given"  # nobody knows which of them are right
    config.data.csv.trusted, config.meta_set.policy = "split:validation", "external"
    if arg["pairs"]:
        config.data.name = f"clothing1m/{'example_' * arg['smoke']}pairs"
        config.data.labels = "noisy"
        config.data.csv.trusted, config.meta_set.policy = "", "held_out"
    config.data.standardise = "imagenet"
    config.data.batch_size = config.meta_set.batch_size = 32
    config.augment.flip = True
    config.model.name, config.model.options = "resnet50", net_options(arg)
    config.model.weights = arg["weights"]
    config.epochs = 10
    config.optim.learning_rate = 0.01
    config.optim.weight_decay = 1e-3
    config.optim.schedule.name = "steps"
    config.optim.schedule.boundaries = (5,)
    set_paper_weighting(config, 1e-3)
    if arg["smoke"]:
        smoke(config)
    set_methods(config, methods_of(arg["methods"]), arg["seeds"])
    return config


def smoke(config):
    """The same, as small as it gets."""
    config.data.stream.resize, config.data.stream.image_size = 72, 64
    config.model.options = {"width": 8, "stage_sizes": (1, 1, 1, 1)}
    config.epochs = 3
    config.optim.schedule.boundaries = (2,)
    config.optim.learning_rate = 0.05
