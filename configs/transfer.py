"""A weighting function learned elsewhere, applied as it is, without any meta step.

    CMWJAX_DATA_DIR=FOLDER python run.py \
        --config=configs/transfer.py:target=fashion_mnist,learned=FILE,authors=FILE
    ... --config=configs/transfer.py:target=cifar10,learned=FILE
    ... --config=configs/transfer.py:target=FILE.npz,labels=FILE.npz:KEY,by=cmw_net,...

FOLDER holds the archives of configs/cifar.py and configs/fashion_mnist.py. `learned` is
the `weighting.safetensors` of a run on other data and another bias, `authors` the file
of the CMW-Net authors (`.npz` or `.pth`); either may be missing. Each weights soft
labels (CMW-Net-SL, or the method `by`) beside constant weights and weights learned on
the target itself.
Targets, sized for two CPU cores: long tails of imbalance factor 50 with symmetric
noise 0.2, in `fashion_mnist` and `cifar10`; and `cifar10_human`, the human labels of
CIFAR-10N (worse), whose classes are of much the same size. FILE.npz has embeddings, see
configs/embeddings.py, and `labels` are theirs; nobody is trusted there.
"""

from configs import cifar, embeddings, fashion_mnist
from configs.common import is_file, methods_of, parse_arg


def long_tail_of_cifar10():
    """A tail of all images has 12,000, and more epochs than these have in `medium`."""
    config = cifar.get_config("imbalance=50,noise=sym,rate=0.2,medium")
    config.epochs = 30
    return config


TARGETS = {
    "fashion_mnist": lambda: fashion_mnist.get_config(
        "imbalance=50,noise=sym,rate=0.2,fast,validation=0.1"
    ),
    "cifar10": long_tail_of_cifar10,
    "cifar10_human": lambda: cifar.get_config("labels=human_worse,fast"),
}


def get_config(arg=None):
    methods = "erm+erm_mixup_ema+constant_sl+cmw_net_sl"
    arg = parse_arg(
        arg,
        target="fashion_mnist",
        labels="true",
        by="cmw_net_sl",
        methods=methods,
        learned="",
        authors="",
    )
    target = arg["target"]
    if is_file(target):
        text = f"data={target},labels={arg['labels']},meta=lowest_loss,per_class=10"
        config = embeddings.get_config(text)
    elif target in TARGETS:
        config = TARGETS[target]()
    else:
        raise ValueError(
            f"argument target={target!r} is unknown; choose one of {list(TARGETS)}, or "
            "an archive of embeddings."
        )
    chosen = list(methods_of(arg["methods"]))
    rows = {
        "learned": f"{arg['by']}@learned_elsewhere",
        "authors": f"{arg['by']}@authors",
    }
    for name, row in rows.items():
        if arg[name]:
            chosen.append(row)
            with config.compare.tuned.unlocked():
                config.compare.tuned[row] = {"weighting": {"load": arg[name]}}
    config.compare.methods = tuple(chosen)
    return config
