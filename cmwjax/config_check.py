"""What a configuration may hold: everything else is refused before a run begins."""

import math
import re
from typing import Any

from ml_collections import ConfigDict

from cmwjax.bias.noise import KINDS as NOISE_KINDS
from cmwjax.config import METHODS, VARIANT, base_config, method_of
from cmwjax.data.on_disk import is_name

LOSSES = ("cross_entropy", "label_smoothing", "focal", "gce", "ldam")
META_POLICIES = ("held_out", "balanced", "lowest_loss", "none")
CROPS = ("centre", "random_crop", "random_resized_crop")
SCHEDULES = ("constant", "cosine", "steps", "restarts")
SOFT_LABEL_STARTS = ("predicted", "one_hot")
RESERVED = (  # NAME_accuracy
    *("test", "selected", "meta", "validation", "net", "teacher"),
)


def check_config(config: ConfigDict) -> None:
    """Refuses a configuration that cannot be run, before anything is written.

    Raises:
      ValueError: naming the field, its value and the remedy.
    """
    _check_fields(config.to_dict(), base_config().to_dict(), "")
    for row in config.compare.methods:
        _check_row("compare.methods", row)
    _check_choice("method", config.method, tuple(METHODS))
    _check_choice("meta_set.policy", config.meta_set.policy, META_POLICIES)
    _check_choice("noise.kind", config.noise.kind, NOISE_KINDS)
    _check_choice("loss", config.loss, LOSSES)
    _check_choice("optim.name", config.optim.name, ("sgd", "adam"))
    _check_choice("optim.schedule", config.optim.schedule, SCHEDULES)
    _check_choice("augment.mode", config.augment.mode, ("reflect", "zero"))
    second_weight = config.mixup.second_weight
    _check_choice("mixup.second_weight", second_weight, ("permuted", "mixed"))
    _check_choice("soft_labels.start", config.soft_labels.start, SOFT_LABEL_STARTS)
    _check_choice("data.standardise", config.data.standardise, ("own", "imagenet"))
    _check_choice("data.stream.crop", config.data.stream.crop, CROPS)
    transition = config.baseline.transition
    _check_choice("baseline.transition", transition, ("known", "estimated"))
    optimizer = config.weighting.optimizer
    _check_choice("weighting.optimizer", optimizer, ("adam", "amsgrad", "sgd"))
    _check_choice("parallel", config.parallel, ("pmap", "jit"))
    _check_choice("weighting.start", config.weighting.start, ("torch", "flat"))
    _check_choice("weighting.lookahead", config.weighting.lookahead, ("sgd",))
    normalisation = config.weighting.normalisation
    _check_choice("weighting.normalisation", normalisation, ("mean", "weights"))
    for field, low, high in _RANGES:
        value = config
        for part in field.split("."):
            value = value[part]
        if not (low <= value <= high and math.isfinite(value)):
            raise ValueError(
                f"config.{field}={value} is out of range; choose a value in "
                f"[{low}, {high}]."
            )
    if is_name(config.data.name):
        _check_stream(config)
    for field in ("optim.boundaries", "compare.seeds"):
        group, name = field.split(".")
        for value in config[group][name]:
            if type(value) is not int or not 0 <= value <= _BIG:
                raise ValueError(
                    f"config.{field}={config[group][name]!r} must hold whole numbers "
                    f"in [0, {_BIG}]; correct {value!r}."
                )
    freeze_epoch = config.ema.freeze_epoch
    if freeze_epoch >= config.epochs:
        raise ValueError(
            f"config.ema.freeze_epoch={freeze_epoch} never comes in config.epochs="
            f"{config.epochs}: choose an earlier one, or -1 for a teacher that follows "
            "to the end."
        )
    for method, fields in config.compare.tuned.items():
        _check_row("compare.tuned", method)
        if not isinstance(fields, ConfigDict):
            raise ValueError(
                f"config.compare.tuned.{method}={fields!r} must be a group of fields."
            )
    if not config.compare.methods:  # what they tune is checked run by run
        _check_method(config)
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


def _check_stream(config: ConfigDict) -> None:
    """Refuses settings that images which are read one by one cannot have."""
    stream = config.data.stream
    if 0 < stream.resize < stream.image_size:
        raise ValueError(
            f"config.data.stream.resize={stream.resize} leaves less than a crop of "
            f"image_size={stream.image_size}: raise it, or 0 to resize small images "
            "only."
        )
    if config.steps_per_call > 1:
        raise ValueError(
            f"config.steps_per_call={config.steps_per_call} is for images in memory; "
            f"those of {config.data.name} come one batch at a time: set it to 1."
        )
    if config.augment.pad:
        raise ValueError(
            f"config.augment.pad={config.augment.pad} is for images in memory; those "
            f"of {config.data.name} are cropped by config.data.stream.crop: set it to "
            "0."
        )
    names = list(stream.tests)
    if len(set(names)) < len(names) or set(RESERVED) & set(names[1:]):
        raise ValueError(
            f"config.data.stream.tests={stream.tests!r} repeats a name, or has one "
            f"after the first that metrics use for something else: {RESERVED}."
        )


def _check_method(config: ConfigDict) -> None:
    """Refuses settings that the method of a single run can do nothing with."""
    method, name = config.method, METHODS[config.method]
    has_net = method.startswith(("mw_net", "cmw_net", "per_class"))
    if config.weighting.load and (not has_net or method == "per_class"):
        raise ValueError(
            f"config.weighting.load={config.weighting.load!r}, but {name} applies no "
            "weighting function: choose cmw_net, mw_net or a form of them, or leave it "
            "empty."
        )
    learns = (has_net and not config.weighting.load) or method in ("l2rw", "mcw")
    if config.meta_set.policy == "none" and learns:
        raise ValueError(
            f"config.meta_set.policy='none', but {name} learns from a meta set: choose "
            f"one of {META_POLICIES[:-1]}."
        )
    if method in ("l2rw", "mcw") and config.meta_every > 1:
        raise ValueError(
            f"config.meta_every={config.meta_every}, but {name} has weights only where "
            "there is a meta step: set it to 1."
        )
    margins = "ldam" in (config.loss, method.removesuffix("_drw"))
    if margins and config.model.options.get("head") != "cosine":
        raise ValueError(
            f"config.model.options={config.model.options.to_dict()}, but the margins "
            "of LDAM are cosines: set its head to 'cosine', which mlp, small_conv and "
            "resnet32 have."
        )
    if config.data.labels == "given":
        if config.meta_set.policy == "held_out":
            raise ValueError(
                "config.meta_set.policy='held_out' trusts the labels that it holds "
                "out, and with config.data.labels='given' nobody knows which are "
                "right: choose 'balanced' or 'lowest_loss'."
            )
        if method == "forward" and config.baseline.transition == "known":
            raise ValueError(
                "config.baseline.transition='known', but with config.data.labels="
                "'given' nobody knows it: set it to 'estimated'."
            )
    estimates = method == "forward" and config.baseline.transition == "estimated"
    if (method == "plc" or estimates) and not config.warmup_epochs:
        raise ValueError(
            f"config.warmup_epochs=0, but {name} relies on predictions of a classifier "
            "trained before: set it to some epochs."
        )


_BIG = 2**31 - 1
_MANY = 10**6  # of epochs: schedules list them
_RANGES = (
    ("seed", 0, _BIG),
    ("epochs", 1, _MANY),
    ("warmup_epochs", 0, _BIG),
    ("meta_every", 1, _BIG),
    ("steps_per_call", 1, _MANY),
    ("max_skips_in_a_row", 1, _BIG),
    ("checkpoint.every_steps", 0, _BIG),
    ("checkpoint.keep", 1, _BIG),
    ("data.train_size", 0, _BIG),
    ("data.imbalance_factor", 1.0, float("inf")),
    ("data.validation", 0.0, _BIG),
    ("data.seed", -1, _BIG),
    ("data.batch_size", 1, _BIG),
    ("data.shards", 1, _BIG),
    ("data.stream.image_size", 1, 4096),
    ("data.stream.resize", 0, 4096),
    ("data.stream.evaluation_batch", 1, _BIG),
    ("data.stream.workers", -1, 1024),
    ("data.stream.prefetch", 1, 1024),
    ("noise.rate", 0.0, 1.0),
    ("noise.seed", -1, _BIG),
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
    ("optim.constant_epochs", 0, _BIG),
    ("optim.period", 1, _BIG),
    ("optim.multiplier", 1, _BIG),
    ("optim.minimum", 0.0, float("inf")),
    ("optim.linear_epochs", 0, _BIG),
    ("augment.pad", 0, _BIG),
    ("mixup.alpha", 0.0, float("inf")),
    ("mixup.meta_alpha", 0.0, float("inf")),
    ("ema.decay", 0.0, 1.0),
    ("ema.freeze_epoch", -1, _BIG),
    ("soft_labels.momentum", 0.0, 0.999999),
    ("baseline.smoothing", 0.0, 1.0),
    ("baseline.focal_gamma", 0.0, float("inf")),
    ("baseline.gce_q", 1e-6, 1.0),
    ("baseline.cb_beta", 0.0, 1.0),
    ("baseline.ldam_margin", 0.0, float("inf")),
    ("baseline.ldam_scale", 0.0, float("inf")),
    ("baseline.mcw_step", 0.0, float("inf")),
    ("baseline.elr_strength", 0.0, float("inf")),
    ("baseline.elr_momentum", 0.0, 1.0),
    ("baseline.plc_threshold", 0.0, 1.0),
)
_FREE = ("model.options", "compare.tuned")  # checked where they are used


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
                raise ValueError(
                    f"config.{field}={given[name]!r} is not a group of fields: keep "
                    "the one of base_config() and change its fields."
                )
            if field not in _FREE:
                _check_fields(given[name], known[name], field + ".")
        elif not _has_type_of(given[name], known[name]):
            raise ValueError(
                f"config.{field}={given[name]!r} has type {type(given[name]).__name__};"
                f" expected {type(known[name]).__name__}."
            )


def _has_type_of(value: Any, default: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):  # which is an int, too
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, float | int)
    if isinstance(default, tuple):
        return isinstance(value, tuple | list)
    return isinstance(value, type(default))


def _check_row(field: str, row: Any) -> None:
    _check_choice(field, method_of(str(row)), tuple(METHODS))
    variant = row.removeprefix(method_of(row))
    if variant and not re.fullmatch(rf"{VARIANT}\w+", variant):  # it names a folder
        raise ValueError(
            f"config.{field}={row!r} must be METHOD or METHOD{VARIANT}NAME, in letters "
            "and digits: rename it."
        )


def _check_choice(field: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(
            f"config.{field}={value!r} is unknown; choose one of {choices}."
        )
