"""Selective classification: answer where the class is sure, abstain elsewhere.

    python run.py --config=configs/selective.py
    python run.py --config=configs/selective.py:data=fashion_mnist
    ... --config=configs/selective.py:data=cifar10,noise=sym,rate=0.4
    ... --config=configs/selective.py:data=EMBEDDINGS.npz,labels=FILE.npz:KEY
    python run.py --config=configs/selective.py:smoke

Judged by the selective accuracy, the mean accuracy over all coverages: one less the
area under the risk-coverage curve (AURC), which report.html draws. `erm` is the softmax
response. `sat` is Self-Adaptive Training, which learns to abstain where it could not
predict the label; cmw_net@sat weights that loss. cmw_net has the softmax response of a
classifier trained by weights, cmw_net_abstain learns to abstain as far as a label has
no weight, and constant_abstain half of it at every label. Labels are right unless
`noise` says else. No clean data is used: the meta set is what the classifier finds
easiest after `warmup` epochs.
"""

from cmwjax.config import base_config
from cmwjax.defaults import of_methods
from configs.common import BIAS, methods_of, parse_arg, set_bias

METHODS = "erm+cmw_net+sat+cmw_net@sat+constant_abstain+cmw_net_abstain"


def get_config(arg=None):
    arg = parse_arg(
        arg,
        data="digits",
        methods=METHODS,
        validation=0.0,
        epochs=0,
        warmup=0,
        seeds=3,
        smoke=False,
        **BIAS,
    )
    config = base_config()
    set_bias(config, arg)
    config.task, config.loss = "selective", "task"
    config.compare.methods = methods_of(arg["methods"])
    config.compare.seeds = tuple(range(arg["seeds"]))
    config.data.name = arg["data"]
    config.data.validation = arg["validation"]
    config.meta_set.policy = "lowest_loss"
    config.optim.schedule.name = "cosine"
    if arg["data"] == "digits":
        config.epochs = 12 if arg["smoke"] else 60
    else:
        config.data.batch_size = config.meta_set.batch_size = 128
        config.epochs = 15
        if arg["data"] == "cifar10":
            config.model.name, config.model.options = "small_conv", {}
            config.data.train_size = 10000
            config.optim.learning_rate = 0.1
            config.augment.pad, config.augment.flip = 4, True
        elif arg["data"] == "fashion_mnist":
            config.data.train_size = 10000
            config.optim.learning_rate = 0.01
        else:
            config.model.options = {"hidden": (256,), "dropout": 0.5}
            config.optim.learning_rate = 0.03
    if arg["smoke"]:
        config.compare.seeds = (0,)
        if arg["methods"] == METHODS:
            config.compare.methods = methods_of("erm+sat+cmw_net@sat")
    config.epochs = arg["epochs"] or config.epochs
    # What an untrained classifier predicts tells of no sample.
    config.warmup_epochs = arg["warmup"] or max(1, config.epochs // 3)
    # A belief is as old as the visits that are left are many.
    visits = config.epochs - config.warmup_epochs
    config.baseline.sat.momentum = max(0.0, 1 - 4 / max(4, visits))
    config.compare.tuned = of_methods(config.epochs)
    config.compare.tuned["cmw_net@sat"] = {"loss": "sat"}
    return config
