"""Arguments of configuration files: the part after the colon of `--config=FILE:...`."""

from pathlib import Path
from typing import Any


def parse_arg(arg: str | None, **defaults: Any) -> dict[str, Any]:
    """Parses `a=1,b=x,flag` by the types of the defaults.

    Args:
      arg: the text after the colon, or None.
      **defaults: the arguments there are, and their values.

    Returns:
      The defaults, updated.

    Raises:
      ValueError: on an unknown name or a value of another type.
    """
    values = dict(defaults)
    for item in filter(None, (arg or "").split(",")):
        name, equals, text = item.partition("=")
        if name not in defaults:
            raise ValueError(
                f"unknown argument {name!r} after the colon of --config; "
                f"there are {sorted(defaults)}."
            )
        kind = type(defaults[name])
        try:
            if kind is bool:
                value = {"": True, "true": True, "false": False}[text.lower()]
            elif not equals:
                raise ValueError
            else:
                value = kind(text)
        except (ValueError, KeyError):
            raise ValueError(
                f"argument {item!r} after the colon of --config needs a value of type "
                f"{kind.__name__}, as in {name}={defaults[name]}."
            ) from None
        values[name] = value
    return values


# Arguments that say which labels are wrong and which classes are rare.
BIAS = {"labels": "true", "noise": "none", "rate": 0.0, "imbalance": 1.0}
# What the classifier computes in, e.g. bfloat16; its parameters stay float32.
NET = {"dtype": ""}
# Noise by its name in the paper -> kind and class map; the map is read by asymmetric.
NOISE = {
    "none": ("none", ("cifar10",)),
    "sym": ("symmetric", ("cifar10",)),
    "asym": ("asymmetric", ("cifar10",)),
    "hybrid_sym": ("symmetric_other", ("cifar10",)),
    "hybrid_asym": ("asymmetric", ("cifar10_two_way",)),
    "superclass": ("superclass", ("cifar10",)),
    "blocks": ("blocks", ("cifar10",)),
}
# What the names of asymmetric noise stand for on CIFAR-100.
NOISE_OF_CIFAR100 = {"asym": "superclass", "hybrid_asym": "blocks"}
MAIN = ("erm", "erm_mixup_ema", "constant", "mw_net", "cmw_net")
# fmt: off
EVERY = (
    "erm", "erm_mixup_ema", "label_smoothing", "focal", "class_balanced", "ldam_drw",
    "gce", "forward", "elr", "plc", "l2rw", "mcw", "constant",
    "mw_net", "cmw_net", "per_class",
)
# fmt: on
# With soft labels, and what tells how much of that the learned weights are.
SOFT = ("erm_mixup_ema", "constant_sl", "mw_net_sl", "cmw_net_mixup", "cmw_net_sl")


def set_bias(config: Any, arg: dict[str, Any]) -> None:
    """Puts the arguments of `BIAS` into a configuration.

    Raises:
      ValueError: if there is no such noise.
    """
    name = arg["noise"]
    if name not in NOISE:
        raise ValueError(
            f"argument noise={name!r} is unknown; choose one of {list(NOISE)}."
        )
    if is_cifar100(arg):
        name = NOISE_OF_CIFAR100.get(name, name)
    config.noise.kind, config.noise.class_map = NOISE[name]
    config.noise.rate = arg["rate"]
    config.data.labels = arg["labels"]
    config.data.imbalance_factor = arg["imbalance"]


def train_weights_as_in_the_paper(config: Any) -> None:
    """Adam whose decay is added to the gradient, as PyTorch has it."""
    config.weighting.optimizer.name = "adam"
    config.weighting.optimizer.weight_decay = 1e-4


def net_options(arg: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `NET` that were given, as `config.model.options`."""
    return {name: arg[name] for name in NET if arg[name]}


def is_cifar100(arg: dict[str, Any]) -> bool:
    """Whether the argument `data` names an archive of CIFAR-100."""
    return "cifar100" in Path(arg.get("data", "")).stem


def fields_of_methods(config: Any) -> dict[str, dict[str, Any]]:
    """What some methods need whatever the experiment, for `config.compare.tuned`."""
    return {
        "ldam_drw": {
            "model": {"options": {"head": "cosine"}},
            # Its deferred weights, from epoch 160 of 200 in its paper.
            "warmup_epochs": config.epochs * 4 // 5,
        },
        "l2rw": {"meta_every": 1},  # their weights are good for one step
        "mcw": {"meta_every": 1},
    }


def methods_of(text: str) -> tuple[str, ...]:
    """`'main'`, `'every'`, `'soft'` and names, with plus signs between -> methods."""
    named = {"main": MAIN, "every": EVERY, "soft": SOFT}
    parts = [named.get(part, (part,)) for part in text.split("+")]
    return tuple(dict.fromkeys(method for part in parts for method in part))
