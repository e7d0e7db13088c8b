"""CIFAR with label noise: Tables 2, 4 and 5 of the paper.

    CMWJAX_DATA_DIR=FOLDER python run.py --config=configs/cifar.py:noise=asym,rate=0.8
    ... --config=configs/cifar.py:labels=pmd_type1_035
    ... --config=configs/cifar.py:labels=pmd_type1_035,noise=hybrid_asym,rate=0.3
    ... --config=configs/cifar.py:labels=human_worse,fast
    ... --config=configs/cifar.py:noise=asym,rate=0.8,methods=erm+cmw_net_sl,short
    ... --config=configs/cifar.py:data=FOLDER/cifar100.npz,noise=sym,rate=0.8

FOLDER holds `cifar10.npz`, a NumPy archive with x_train, y_train, x_test, y_test and,
for `labels=NAME`, y_train_NAME; `data=FILE.npz` reads another archive, and if its name
has cifar100 in it, with the paper's settings for that. Schedules are the paper's: 300
epochs of PreAct ResNet-18 for independent noise, 120 of ResNet-34 for feature-dependent
noise and human labels. `fast` fits two CPU cores: 10,000 images, a small conv net, 15
epochs. `short` is for an accelerator that is there for minutes: the paper's nets and
all images in bfloat16, 30 epochs in one cycle of the learning rate.
"""

from cmwjax.config import base_config
from cmwjax.defaults import of_methods
from configs.common import (
    BIAS,
    NET,
    is_cifar100,
    methods_of,
    net_options,
    parse_arg,
    set_bias,
    set_paper_weighting,
)


def get_config(arg=None):
    sizes = {"fast": False, "medium": False, "short": False}
    defaults = sizes | BIAS | NET
    arg = parse_arg(arg, data="cifar10", methods="erm+mw_net+cmw_net", **defaults)
    config = base_config()
    set_bias(config, arg)
    config.compare.methods = methods_of(arg["methods"])
    config.compare.seeds = (0, 1, 2)
    config.data.name = arg["data"]
    config.data.batch_size = config.meta_set.batch_size = 128
    config.noise.seed = 0  # as in the paper, one draw for all runs
    config.meta_set.policy = "lowest_loss"
    config.meta_every = 10
    config.augment.pad, config.augment.flip = 4, True
    config.model.options = net_options(arg)
    is_small = arg["fast"] or arg["medium"]
    if is_small:
        small(config)
        if arg["medium"]:
            medium(config)
    elif not is_feature_dependent(arg):
        independent_noise(config, arg)
        if is_cifar100(arg) and (arg["noise"], arg["rate"]) == ("sym", 0.8):
            hardest_noise_of_cifar100(config)
    else:
        feature_dependent_noise(config)
    if arg["short"]:
        short(config)
    config.compare.tuned = of_methods(config.epochs)
    # A frozen teacher is for soft labels; ERM has none and is judged by its average.
    config.compare.tuned["erm_mixup_ema"] = {"ema": {"freeze_epoch": -1}}
    config.compare.tuned["cmw_net_sl@teacher_with_its_own_statistics"] = {
        "ema": {"batch_stats": False}
    }
    if is_cifar100(arg):
        config.baseline.elr = {"strength": 7.0, "momentum": 0.9}
    if is_feature_dependent(arg) and not is_small:
        hybrid_of_100 = is_cifar100(arg) and arg["noise"] != "none"
        config.compare.tuned["plc"] = {"warmup_epochs": 15 if hybrid_of_100 else 8}
    return config


def is_feature_dependent(arg):
    """Whether the labels are PMD, or of a file, which is taken for such."""
    return arg["labels"] != "true" and not arg["labels"].startswith("human")


def independent_noise(config, arg):
    """Paper, Tables 2 and 3; human labels too, since most of them are right."""
    config.model.name = "preact_resnet18"
    config.epochs = 300
    config.warmup_epochs = 30 if is_cifar100(arg) else 10
    config.optim.learning_rate = 0.02
    config.optim.schedule.name = "steps"
    config.optim.schedule.boundaries = (150,)
    set_paper_weighting(config, 1e-4)
    config.mixup.alpha = mixup_alpha(arg)
    config.mixup.meta_alpha = 1.0
    if arg["noise"] == "asym":
        config.ema.freeze_epoch = 150


def mixup_alpha(arg):
    """As the authors chose it, by bias."""
    if is_cifar100(arg) and (arg["noise"], arg["rate"]) == ("sym", 0.8):
        return 0.1
    by_rate = {0.2: 0.4, 0.4: 0.4, 0.6: 4.0} if arg["noise"] == "asym" else {}
    return by_rate.get(arg["rate"], 1.0)


def hardest_noise_of_cifar100(config):
    """Paper, Table 2, symmetric noise 0.8; warm restarts after the warm-up."""
    config.epochs = 345  # the end of the sixth cosine
    config.optim.schedule.name = "restarts"
    config.optim.schedule.constant_epochs = 30
    set_paper_weighting(config, 1e-3)


def feature_dependent_noise(config):
    """Paper, Tables 4 and 5."""
    config.model.name = "resnet34"
    set_paper_weighting(config, 1e-3)
    config.epochs = 120
    config.warmup_epochs = 45
    config.augment.mode = "zero"
    config.optim.weight_decay = 1e-3
    config.optim.schedule.name = "restarts"
    config.optim.schedule.constant_epochs = 45
    config.mixup.alpha = 4.0
    config.mixup.second_weight = "mixed"
    config.ema.decay = 0.999
    config.soft_labels.momentum = 0.9


def small(config):
    """Sized for two CPU cores; a meta step every step, for there are few."""
    config.model.name = "small_conv"
    config.data.train_size = 10000
    if not config.data.labels.startswith("pmd"):  # which leaves clean images over
        config.data.validation = 0.1
    config.epochs = 15
    config.warmup_epochs = 2
    config.meta_every = 1
    config.optim.learning_rate = 0.1  # best for all three in results/tune_cifar10.json
    config.optim.schedule.name = "cosine"
    config.mixup.alpha = 0.2  # best for all that mix in results/tune_cifar10_soft.json
    config.mixup.meta_alpha = 1.0
    config.ema.decay = 0.99  # over 1.4 epochs; the paper's spans one of its own


def medium(config):
    """Every image, and what else of `small` does not fit them."""
    config.data.train_size = 0
    config.epochs = 10
    config.meta_every = 3


def short(config):
    """A tenth of the paper's epochs, and what follows from it; some steps at once."""
    config.model.options = {"dtype": "bfloat16", **config.model.options}
    if config.ema.freeze_epoch >= 0:
        config.ema.freeze_epoch = config.ema.freeze_epoch * 30 // config.epochs
    config.epochs = 30
    config.warmup_epochs = 5
    config.optim.learning_rate = 0.1
    config.optim.schedule = base_config().optim.schedule
    config.optim.schedule.name = "one_cycle"
    config.weighting = base_config().weighting
    # A third of an epoch of 50,000 images, so that no step is compiled alone as well.
    config.steps_per_call = 130
    config.checkpoint.every_steps = 3900
