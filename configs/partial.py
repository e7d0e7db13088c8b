"""Partial labels: several candidate classes for each sample, of which one is right.

    python run.py --config=configs/partial.py
    python run.py --config=configs/partial.py:data=fashion_mnist,q=.3
    ... --config=configs/partial.py:data=embeddings.npz,q=.7,loss=cc,seeds=3
    ... --config=configs/partial.py:data=FILE.npz,q=0
    ... --config=configs/partial.py:data=FILE.csv,q=0,separator=;,test=FILE.csv
    ... --config=configs/partial.py:data=fashion_mnist,q=.3,stage=1
    ... --config=configs/partial.py:data=fashion_mnist,q=.3,stage=2,first=WORKDIR
    python run.py --config=configs/partial.py:smoke

Every wrong class joins the label with probability `q` (`kind=pair`: the next class
alone). With q=0 the data have candidates themselves: an archive in y_train, truth
values [N, C], or in another array of truth values that `labels=FILE.npz:KEY` names; a
csv file in its column of labels, with `separator` between them.

`loss` is the base: `proden`, whose targets follow the predictions, or `cc`, the
likelihood that the label is a candidate. `methods` weight it: erm is the base alone,
cmw_net weights by the loss and the size of the class, which is the sum of what is
believed of the samples. (With constant weights, which `constant` has, the base is
itself to the last bit: losses are divided by the sum.) No clean data is used: the
meta set is what the classifier finds easiest of each class, after `warmup` epochs;
`meta=held_out` takes `per_class` samples of each class with their right labels. Scores
are those of the true labels of a test set; without one, `validation` is a share of the
samples, and counts who is predicted to be a candidate.

`stage=1` and `stage=2` are the paper's two: the base, and then a new net that learns as
labels what the base has made of the sets, some of them wrong. WORKDIR is the folder of
the first stage, with as many seeds.
"""

from cmwjax.config import base_config
from configs.common import (
    FILES,
    is_file,
    methods_of,
    parse_arg,
    set_paper_weighting,
)

ONE, FIRST, SECOND = 0, 1, 2  # run for all, or one of two stages


def get_config(arg=None):
    arg = parse_arg(
        arg,
        data="digits",
        **FILES,
        q=0.3,
        kind="binomial",
        smallest=2,
        separator="|",
        labels="true",
        loss="proden",
        methods="",
        meta="lowest_loss",
        per_class=10,
        validation=0.0,
        epochs=0,
        warmup=-1,
        stage=ONE,
        first="",
        seeds=3,
        smoke=False,
    )
    _check_stage(arg)
    stage = arg["stage"]
    config = base_config()
    methods = "erm" if stage == FIRST else "erm+cmw_net"
    config.compare.methods = methods_of(arg["methods"] or methods)
    config.compare.seeds = tuple(range(arg["seeds"]))
    config.data.name, config.data.labels = arg["data"], arg["labels"]
    config.data.validation = arg["validation"]
    config.data.csv.separator = arg["separator"]
    for name in FILES:
        config.data.csv[name] = arg[name]
    if stage == SECOND:
        run = f"{arg['first']}/erm/seed_{{seed}}"
        config.data.labels = f"{run}/resolved.npz:label"
    else:
        _candidates(config, arg)
    config.meta_set.policy = "external" if arg["trusted"] else arg["meta"]
    config.meta_set.per_class = arg["per_class"]
    if arg["data"] == "fashion_mnist":
        _as_the_paper(config, stage)
    elif arg["data"] == "digits":
        config.epochs, config.warmup_epochs = 30, 10
        config.optim.learning_rate = 0.05
        config.optim.schedule.name = "cosine"
    else:
        _head(config)
    if stage == SECOND and arg["data"] != "fashion_mnist":
        config.warmup_epochs = 1
    if arg["smoke"]:
        config.compare.seeds, config.epochs, config.warmup_epochs = (0,), 12, 4
    if arg["epochs"]:
        config.epochs = arg["epochs"]
        config.warmup_epochs = min(config.warmup_epochs, arg["epochs"] // 3)
    if arg["warmup"] >= 0:
        config.warmup_epochs = arg["warmup"]
    return config


def _check_stage(arg):
    if arg["stage"] not in (ONE, FIRST, SECOND):
        raise ValueError(f"argument stage={arg['stage']} is none of 0, 1 and 2.")
    if bool(arg["first"]) != (arg["stage"] == SECOND):
        raise ValueError(
            f"argument first={arg['first']!r} with stage={arg['stage']}: it is the "
            "workdir of the first stage, for stage=2."
        )


def _candidates(config, arg):
    """Sets that are made, or those that the data come with."""
    config.task, config.loss = "partial", arg["loss"]
    if arg["q"] or not (is_file(arg["data"]) or arg["labels"] != "true"):
        config.candidates.kind = arg["kind"]
        config.candidates.rate = arg["q"]
        config.candidates.smallest = arg["smallest"]
    elif arg["data"].endswith((".csv", ".tsv")) and not (arg["test"] or arg["truth"]):
        config.data.csv.test_share = 0.0  # nobody knows labels to test with


def _as_the_paper(config, stage):
    """Net, batches and optimizers of the paper and of PRODEN.

    100 epochs of PRODEN make labels of the sets. A new net learns these for 120, the
    first 45 by the cross entropy alone. In one run, the net of the first 100 epochs
    goes on with PRODEN for 120 more, weighted.
    """
    config.data.batch_size = config.meta_set.batch_size = 256
    config.model.options = {"hidden": (300, 301, 302, 303), "batch_norm": True}
    config.meta_every = 20
    config.audit_every = 10
    set_paper_weighting(config, 1e-3)
    config.weighting.normalisation = "weights"
    config.optim.schedule.name = "steps"
    if stage == SECOND:
        config.epochs, config.warmup_epochs = 120, 45
        config.optim.learning_rate, config.optim.weight_decay = 0.1, 5e-4
        config.optim.schedule.boundaries = (80, 100)
        return
    config.optim.learning_rate, config.optim.weight_decay = 0.01, 1e-5
    if stage == FIRST:
        config.epochs, config.optim.schedule.name = 100, "constant"
    else:
        config.epochs, config.warmup_epochs = 220, 100
        config.optim.schedule.boundaries = (180, 200)


def _head(config):
    """A small head on rows that a frozen net has made; see configs/embeddings.py."""
    config.data.batch_size = config.meta_set.batch_size = 128
    config.model.options = {"hidden": (256,), "dropout": 0.5}
    config.epochs, config.warmup_epochs = 30, 10
    config.optim.learning_rate = 0.03
    config.optim.schedule.name = "cosine"
