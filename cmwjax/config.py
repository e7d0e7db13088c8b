"""Every field of a run's configuration, its default, and what it may hold."""

from typing import Any

from ml_collections import ConfigDict

METHODS = ("erm", "mw_net", "cmw_net")
META_POLICIES = ("held_out", "balanced", "lowest_loss")
NOISE_KINDS = ("none", "symmetric", "asymmetric", "pair_flip")
SCHEDULES = ("constant", "cosine", "steps")


def base_config() -> ConfigDict:
    """The defaults; files in `configs/` change some of them."""
    config = ConfigDict()
    config.method = "cmw_net"
    config.seed = 0  # governs noise, meta set, initial parameters and order alike
    config.epochs = 60
    config.warmup_epochs = 0  # ordinary training before the weighting net is asked
    config.meta_every = 1  # P: a meta step every P steps, weighted steps between
    config.parallel = "pmap"

    # With methods and seeds here, run.py makes one run of each and compares them.
    config.compare = ConfigDict({"methods": (), "seeds": ()})

    config.data = ConfigDict()
    config.data.name = "digits"  # or cifar10, fashion_mnist, a Keras-style .npz file
    config.data.train_size = 0  # 0: all; else a stratified draw
    config.data.batch_size = 100
    config.data.shards = 4  # virtual shards; a multiple of the number of devices

    config.noise = ConfigDict()
    config.noise.kind = "none"
    config.noise.rate = 0.0
    config.noise.class_map = ()  # ((from, to), ...) for asymmetric noise

    config.meta_set = ConfigDict()
    config.meta_set.policy = "held_out"
    config.meta_set.per_class = 10
    config.meta_set.batch_size = 100

    config.model = ConfigDict({"name": "mlp", "options": ConfigDict()})
    config.model.options.hidden = (128, 128)

    config.weighting = ConfigDict()
    config.weighting.num_families = 3
    config.weighting.hidden = 100
    config.weighting.start = "torch"
    config.weighting.learning_rate = 1e-3
    config.weighting.weight_decay = 1e-4
    config.weighting.normalisation = "mean"
    config.weighting.lookahead = "sgd"

    config.optim = ConfigDict()
    config.optim.learning_rate = 0.1
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.weight_decay = 5e-4
    config.optim.schedule = "constant"
    config.optim.boundaries = ()  # epochs at which 'steps' multiplies the rate ...
    config.optim.factor = 0.1  # ... by this

    return config.lock()


def check_config(config: ConfigDict) -> None:
    """Refuses a configuration that cannot be run, before anything is written.

    Raises:
      ValueError: naming the field, its value and the remedy.
    """
    _check_fields(config.to_dict(), base_config().to_dict(), "")
    methods = config.compare.methods or (config.method,)
    for method in methods:
        _check_choice("method", method, METHODS)
    _check_choice("meta_set.policy", config.meta_set.policy, META_POLICIES)
    _check_choice("noise.kind", config.noise.kind, NOISE_KINDS)
    _check_choice("optim.schedule", config.optim.schedule, SCHEDULES)
    _check_choice("parallel", config.parallel, ("pmap", "jit"))
    _check_choice("weighting.start", config.weighting.start, ("torch", "flat"))
    _check_choice("weighting.lookahead", config.weighting.lookahead, ("sgd",))
    normalisation = config.weighting.normalisation
    _check_choice("weighting.normalisation", normalisation, ("mean", "weights"))
    for field, low, high in _RANGES:
        value = config
        for part in field.split("."):
            value = value[part]
        if not low <= value <= high:
            raise ValueError(
                f"config.{field}={value} is out of range; choose a value in "
                f"[{low}, {high}]."
            )
    if config.noise.kind == "none" and config.noise.rate:
        raise ValueError(
            f"config.noise.rate={config.noise.rate} has no effect with "
            f"config.noise.kind='none'; choose one of {NOISE_KINDS[1:]}."
        )
    if bool(config.compare.methods) != bool(config.compare.seeds):
        raise ValueError(
            f"config.compare has methods={config.compare.methods} and seeds="
            f"{config.compare.seeds}; give both, or neither for a single run."
        )


_BIG = 2**31 - 1
_RANGES = (
    ("seed", 0, _BIG),
    ("epochs", 1, _BIG),
    ("warmup_epochs", 0, _BIG),
    ("meta_every", 1, _BIG),
    ("data.train_size", 0, _BIG),
    ("data.batch_size", 1, _BIG),
    ("data.shards", 1, _BIG),
    ("noise.rate", 0.0, 1.0),
    ("meta_set.per_class", 1, _BIG),
    ("meta_set.batch_size", 1, _BIG),
    ("weighting.num_families", 1, _BIG),
    ("weighting.hidden", 1, _BIG),
    ("weighting.learning_rate", 0.0, float("inf")),
    ("weighting.weight_decay", 0.0, float("inf")),
    ("optim.learning_rate", 0.0, float("inf")),
    ("optim.momentum", 0.0, 1.0),
    ("optim.weight_decay", 0.0, float("inf")),
    ("optim.factor", 0.0, 1.0),
)
_FREE = ("model.options",)  # what the model takes is the model's to check


def _check_fields(given: dict[str, Any], known: dict[str, Any], prefix: str) -> None:
    for name in sorted(known.keys() | given.keys()):
        field = prefix + name
        if name not in known:
            raise ValueError(
                f"config.{field}={given[name]!r} is an unknown field; the fields here "
                f"are {sorted(known)}."
            )
        if name not in given:
            raise ValueError(f"config.{field} is missing; start from base_config().")
        if isinstance(known[name], dict):
            if not isinstance(given[name], dict):
                raise ValueError(f"config.{field}={given[name]!r} must be a group.")
            if field not in _FREE:
                _check_fields(given[name], known[name], field + ".")
        elif not isinstance(given[name], _accepted(known[name])):
            raise ValueError(
                f"config.{field}={given[name]!r} has type {type(given[name]).__name__};"
                f" expected {type(known[name]).__name__}."
            )


def _accepted(default: Any) -> tuple[type, ...]:
    if isinstance(default, float):
        return (float, int)
    if isinstance(default, tuple):
        return (tuple, list)
    return (type(default),)


def _check_choice(field: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(
            f"config.{field}={value!r} is unknown; choose one of {choices}."
        )
