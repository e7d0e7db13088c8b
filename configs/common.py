"""Arguments of configuration files: the part after the colon of `--config=FILE:...`."""

import difflib
from pathlib import Path
from typing import Any

from cmwjax.defaults import of_methods


class UnknownArgument(ValueError):
    """An argument that a file does not have; `arguments` are those it has."""

    def __init__(self, message: str, arguments: dict[str, Any] | None = None):
        super().__init__(message)
        self.arguments = arguments or {}


def parse_arg(arg: str | None, **defaults: Any) -> dict[str, Any]:
    """Parses `a=1,b=x,flag` by the types of the defaults.

    Where there are `methods`, `method` is another word for it.

    Args:
      arg: the text after the colon, or None.
      **defaults: the arguments there are, and their values.

    Returns:
      The defaults, updated.

    Raises:
      UnknownArgument: on an unknown name.
      ValueError: on a value of another type, or a name that comes twice.
    """
    values, seen = dict(defaults), set()
    for item in filter(None, (arg or "").split(",")):
        name, equals, text = item.partition("=")
        if name == "method" and "methods" in defaults:
            name = "methods"
        if name not in defaults:
            near = difflib.get_close_matches(name, defaults, n=1)
            hint = f" did you mean {near[0]!r}?" if near else ""
            raise UnknownArgument(
                f"unknown argument {name!r} after the colon of --config;{hint} "
                f"there are {sorted(defaults)}.",
                defaults,
            )
        if name in seen:
            raise ValueError(
                f"argument {name!r} is given twice after the colon of --config: leave "
                "one of them out."
            )
        seen.add(name)
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


def names_in(arg: str | None) -> set[str]:
    """The arguments that somebody wrote after the colon, by name."""
    return {item.partition("=")[0] for item in (arg or "").split(",")} - {""}


# Files and columns of one's own data, for `config.data.csv`.
FILES = {"label": "", "test": "", "trusted": "", "truth": ""}
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
# Not `constant`: without a teacher it is ERM.
MAIN = ("erm", "erm_mixup_ema", "mw_net", "cmw_net")
# fmt: off
EVERY = (
    "erm", "erm_mixup_ema", "label_smoothing", "focal", "class_balanced", "ldam_drw",
    "gce", "forward", "elr", "plc", "l2rw", "mcw",
    "mw_net", "cmw_net", "per_class",
)
# fmt: on
# With soft labels, and what tells how much of that the learned weights are.
SOFT = ("erm_mixup_ema", "constant_sl", "mw_net_sl", "cmw_net_mixup", "cmw_net_sl")


def set_noise(config: Any, name: str, rate: float, kinds: Any = None) -> None:
    """Puts noise by its name into a configuration.

    Args:
      config: changes.
      name: a key of `kinds`.
      rate: of the noise.
      kinds: name -> kind and class map; None: `NOISE`.

    Raises:
      ValueError: if there is no such noise.
    """
    kinds = NOISE if kinds is None else kinds
    if name not in kinds:
        raise ValueError(
            f"argument noise={name!r} is unknown; choose one of {list(kinds)}."
        )
    config.noise.kind, config.noise.class_map = kinds[name]
    config.noise.rate = rate


def is_file(data: str) -> bool:
    """Whether the argument `data` names a file, rather than a data set by its name."""
    return bool(Path(data).suffix)


def noise_rate(arg: dict[str, Any], given: set[str]) -> float:
    """The rate of noise to inject: into one's own file none, unless it was asked for.

    Args:
      arg: the arguments `data`, `rate` and, where there is one, `noise`.
      given: those that somebody wrote; see `names_in`.
    """
    untouched = is_file(arg["data"]) and not given & {"noise", "rate"}
    no_noise = arg.get("noise") == "none" and "rate" not in given
    return 0.0 if untouched or no_noise else arg["rate"]


def set_files(config: Any, arg: dict[str, Any], *, held_out: bool) -> None:
    """Puts `data` and the arguments of `FILES` into a configuration.

    Nobody knows which labels of a file are right, unless a `truth` says so or they are
    taken for right, to have noise injected. Without trusted samples the meta set is
    what the classifier finds easiest, after an epoch of ordinary training.

    Args:
      config: changes; its noise is set.
      arg: the arguments.
      held_out: whether the meta set is held out, with the labels of the data.
    """
    config.data.name = arg["data"]
    for name in FILES:
        config.data.csv[name] = arg[name]
    knows = arg["truth"] or config.noise.rate or not is_file(arg["data"])
    config.data.labels = "true" if knows else "given"
    policy = "held_out" if held_out else "lowest_loss"
    config.meta_set.policy = "external" if arg["trusted"] else policy
    # What an untrained classifier finds easiest means nothing.
    config.warmup_epochs = int(config.meta_set.policy == "lowest_loss")


def set_bias(config: Any, arg: dict[str, Any]) -> None:
    """Puts the arguments of `BIAS` into a configuration.

    Raises:
      ValueError: if there is no such noise.
    """
    name = arg["noise"]
    if is_cifar100(arg):
        name = NOISE_OF_CIFAR100.get(name, name)
    set_noise(config, name, arg["rate"])
    config.data.labels = arg["labels"]
    config.data.imbalance_factor = arg["imbalance"]


def set_paper_weighting(config: Any, learning_rate: float) -> None:
    """The paper's setting of the weighting net, in place of the default one.

    Args:
      config: changes.
      learning_rate: of the weighting net.
    """
    config.weighting.optimizer.name = "adam"
    config.weighting.optimizer.learning_rate = learning_rate
    config.weighting.optimizer.weight_decay = 1e-4
    config.weighting.normalisation = "mean"
    config.weighting.anchored = False
    config.meta_set.trusted_share = 0.0


def net_options(arg: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `NET` that were given, as `config.model.options`."""
    return {name: arg[name] for name in NET if arg[name]}


def is_cifar100(arg: dict[str, Any]) -> bool:
    """Whether the argument `data` names an archive of CIFAR-100."""
    return "cifar100" in Path(arg.get("data", "")).stem


def methods_of(text: str) -> tuple[str, ...]:
    """`'main'`, `'every'`, `'soft'` and names, with plus signs between -> methods."""
    named = {"main": MAIN, "every": EVERY, "soft": SOFT}
    parts = [named.get(part, (part,)) for part in text.split("+")]
    return tuple(dict.fromkeys(method for part in parts for method in part))


def set_methods(config: Any, methods: tuple[str, ...], seeds: int) -> None:
    """A single run of a method, or a comparison of several, or over several seeds.

    Args:
      config: changes.
      methods: see `methods_of`.
      seeds: how many, from 0 on.

    Raises:
      ValueError: for no seed at all.
    """
    if seeds < 1:
        raise ValueError(
            f"argument seeds={seeds} after the colon of --config is how many there "
            "are: choose 1 or more."
        )
    tuned = of_methods(config.epochs)
    if len(methods) > 1 or seeds > 1:
        config.compare.methods, config.compare.seeds = methods, tuple(range(seeds))
        config.compare.tuned = tuned
    else:
        config.method = methods[0]
        config.update(tuned.get(config.method, {}))
