"""What a configuration may hold: everything else is refused before a run begins.

What a choice may be is listed by its owner, and what a method needs the method says.
"""

import math
import re
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from cmwjax.bias import candidates, meta_set, noise, unlabelled
from cmwjax.config import base_config
from cmwjax.core import forward, meta, optimizers, parallel, weighting
from cmwjax.core.labels import SEMI, TARGETS
from cmwjax.data import (
    augment,
    csv_sets,
    decode,
    embedding,
    on_disk,
    text_embedding,
    view,
)
from cmwjax.methods import catalogue, mixup, probability_store, soft_labels
from cmwjax.methods.catalogue import LOSSES, METHODS, VARIANT, method_of
from cmwjax.models import heads
from cmwjax.tasks.catalogue import TASKS

# Test sets may not be called so, for NAME_accuracy is another metric.
RESERVED = ("test", "selected", "meta", "validation", "net", "teacher")
CHOICES = {
    "method": METHODS,
    "task": TASKS,
    "loss": LOSSES,
    "meta_set.policy": meta_set.POLICIES,
    "noise.kind": noise.KINDS,
    "candidates.kind": candidates.KINDS,
    "optim.name": optimizers.OPTIMIZERS,
    "optim.layers": heads.LAYERS,
    "optim.schedule.name": optimizers.SCHEDULES,
    "augment.mode": augment.MODES,
    "mixup.second_weight": mixup.SECOND_WEIGHTS,
    "soft_labels.start": soft_labels.STARTS,
    "data.embed": ("", *embedding.NETS, *text_embedding.VECTORS),
    "data.standardise": view.STANDARDS,
    "data.stream.crop": decode.CROPS,
    "parallel": parallel.MODES,
    "weighting.optimizer.name": optimizers.OPTIMIZERS,
    "weighting.start": weighting.STARTS,
    "weighting.lookahead": meta.LOOKAHEADS,
    "weighting.lookahead_layers": heads.LAYERS,
    "weighting.normalisation": forward.NORMALISATIONS,
}
_BIG = 2**31 - 1
_MANY = 10**6  # of epochs: schedules list them
_RANGES = (
    ("seed", 0, _BIG),
    ("epochs", 1, _MANY),
    ("warmup_epochs", 0, _BIG),
    ("audit_every", 0, _BIG),
    ("meta_every", 1, _BIG),
    ("steps_per_call", 1, _MANY),
    ("max_skips_in_a_row", 1, _BIG),
    ("checkpoint.every_steps", 0, _BIG),
    ("checkpoint.keep", 1, _BIG),
    ("data.train_size", 0, _BIG),
    ("data.imbalance_factor", 1.0, float("inf")),
    ("data.validation", 0.0, _BIG),
    ("data.embed_size", 32, 4096),
    ("data.seed", -1, _BIG),
    ("data.batch_size", 1, _BIG),
    ("data.shards", 1, _BIG),
    ("data.csv.test_share", 0.0, 0.999),
    ("data.csv.length", 1, _MANY),
    ("data.stream.image_size", 1, 4096),
    ("data.stream.resize", 0, 4096),
    ("data.stream.evaluation_batch", 1, _BIG),
    ("data.stream.workers", -1, 1024),
    ("data.stream.prefetch", 1, 1024),
    ("noise.rate", 0.0, 1.0),
    ("noise.seed", -1, _BIG),
    ("candidates.rate", 0.0, 1.0),
    ("candidates.smallest", 1, _BIG),
    ("semi.labels", 0, _BIG),
    ("semi.mu", 1, 1000),
    ("meta_set.per_class", 1, _BIG),
    ("meta_set.batch_size", 1, _BIG),
    ("meta_set.trusted_share", -1.0, 0.999),
    ("weighting.num_families", 1, _BIG),
    ("weighting.hidden", 1, _BIG),
    ("weighting.optimizer.learning_rate", 0.0, float("inf")),
    ("weighting.optimizer.weight_decay", 0.0, float("inf")),
    ("weighting.optimizer.momentum", 0.0, 1.0),
    ("optim.learning_rate", 0.0, float("inf")),
    ("optim.momentum", 0.0, 1.0),
    ("optim.weight_decay", 0.0, float("inf")),
    ("optim.accumulate", 1, _BIG),
    ("optim.schedule.factor", 0.0, 1.0),
    ("optim.schedule.constant_epochs", 0, _BIG),
    ("optim.schedule.period", 1, _BIG),
    ("optim.schedule.multiplier", 1, _BIG),
    ("optim.schedule.minimum", 0.0, float("inf")),
    ("optim.schedule.linear_epochs", 0, _BIG),
    ("augment.pad", 0, _BIG),
    ("mixup.alpha", 0.0, float("inf")),
    ("mixup.meta_alpha", 0.0, float("inf")),
    ("ema.decay", 0.0, 1.0),
    ("ema.freeze_epoch", -1, _BIG),
    ("soft_labels.momentum", 0.0, 0.999999),
    ("memory.top_k", 0, probability_store.MOST_CLASSES - 1),
)
FREE = ("model.options", "compare.tuned")  # checked where they are used
# What fields of earlier versions are called now.
RENAMED = {
    "optim.boundaries": "optim.schedule.boundaries",
    "optim.factor": "optim.schedule.factor",
    "optim.constant_epochs": "optim.schedule.constant_epochs",
    "optim.period": "optim.schedule.period",
    "optim.multiplier": "optim.schedule.multiplier",
    "optim.minimum": "optim.schedule.minimum",
    "optim.linear_epochs": "optim.schedule.linear_epochs",
    "weighting.learning_rate": "weighting.optimizer.learning_rate",
    "weighting.weight_decay": "weighting.optimizer.weight_decay",
    "baseline.smoothing": "baseline.label_smoothing.smoothing",
    "baseline.focal_gamma": "baseline.focal.gamma",
    "baseline.gce_q": "baseline.gce.q",
    "baseline.cb_beta": "baseline.class_balanced.beta (and ldam_drw, mcw)",
    "baseline.ldam_margin": "baseline.ldam.margin",
    "baseline.ldam_scale": "baseline.ldam.scale",
    "baseline.transition": "baseline.forward.transition",
    "baseline.mcw_step": "baseline.mcw.step",
    "baseline.elr_strength": "baseline.elr.strength",
    "baseline.elr_momentum": "baseline.elr.momentum",
    "baseline.plc_threshold": "baseline.plc.threshold",
}
# Groups that were one value in earlier versions, and the field with this value now.
REGROUPED = {
    "optim.schedule": "optim.schedule.name",
    "weighting.optimizer": "weighting.optimizer.name",
}


def check_config(config: ConfigDict) -> None:
    """Refuses a configuration that cannot be run, before anything is written.

    Raises:
      ValueError: naming the field, its value and the remedy.
    """
    _check_fields(config.to_dict(), base_config().to_dict(), "")
    for row in config.compare.methods:
        _check_row("compare.methods", row)
    for field, choices in CHOICES.items():
        _check_choice(field, _value(config, field), choices)
    for field, low, high in _RANGES:
        value = _value(config, field)
        if not (low <= value <= high and math.isfinite(value)):
            raise ValueError(
                f"config.{field}={value} is out of range; choose a value in "
                f"[{low}, {high}]."
            )
    catalogue.check_options(config)
    if TASKS[config.task].label_kind == TARGETS:
        _check_targets(config)
    candidates.check_config(config)
    unlabelled.check_config(config)
    if on_disk.is_name(config.data.name) and not config.data.embed:
        _check_stream(config)
    if not csv_sets.is_name(config.data.name):
        _check_no_files(config)
    for field in ("optim.schedule.boundaries", "compare.seeds"):
        values = _value(config, field)
        for value in values:
            if type(value) is not int or not 0 <= value <= _BIG:
                raise ValueError(
                    f"config.{field}={values!r} must hold whole numbers in [0, {_BIG}];"
                    f" correct {value!r}."
                )
    share = config.meta_set.trusted_share
    if -1 < share < 0:
        raise ValueError(
            f"config.meta_set.trusted_share={share} is no share: choose one in [0, 1), "
            "or -1 for what trusted samples are of all."
        )
    freeze_epoch = config.ema.freeze_epoch
    if freeze_epoch >= config.epochs:
        raise ValueError(
            f"config.ema.freeze_epoch={freeze_epoch} never comes in config.epochs="
            f"{config.epochs}: choose an earlier one, or -1 for a teacher that follows "
            "to the end."
        )
    if config.parallel == "jit" and not config.synchronise_batch_norm:
        raise ValueError(
            "config.synchronise_batch_norm=False with config.parallel='jit', where the "
            "step sees the batch of all devices at once: choose 'pmap' or 'shard_map'."
        )
    if config.weighting.lookahead == "optimizer" and config.optim.name != "sgd":
        raise ValueError(
            "config.weighting.lookahead='optimizer' differentiates the step of "
            f"config.optim.name={config.optim.name!r} where a gradient is zero, which "
            "only sgd allows: choose sgd, or weighting.lookahead='sgd'."
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
            f"config.noise.kind='none': choose one of {tuple(noise.KINDS)[1:]}, or set "
            "the rate to 0 (after the colon of --config: rate=0)."
        )
    if config.noise.kind != "none" and config.data.labels == "given":
        _check_noise_on_given(config)
    if bool(config.compare.methods) != bool(config.compare.seeds):
        raise ValueError(
            f"config.compare.methods={config.compare.methods} and config.compare.seeds="
            f"{config.compare.seeds}; give both, or neither for a single run."
        )


def _check_targets(config: ConfigDict) -> None:
    """Refuses what is for classes."""
    data, task = config.data, config.task
    if data.imbalance_factor != 1:
        raise ValueError(
            f"config.data.imbalance_factor={data.imbalance_factor} is a long tail of "
            f"classes, and config.task={task!r} has none: set it to 1."
        )
    if data.labels not in ("true", "given"):
        raise ValueError(
            f"config.data.labels={data.labels!r} is a label set of classes, and "
            f"config.task={task!r} has none: choose 'true' or 'given'."
        )
    if data.csv.classes:
        raise ValueError(
            f"config.data.csv.classes={data.csv.classes!r} puts classes in order, and "
            f"config.task={task!r} has none: leave it empty."
        )


def _check_noise_on_given(config: ConfigDict) -> None:
    """Refuses noise that was left over from other data."""
    if not config.noise.on_given:
        raise ValueError(
            f"config.noise.kind={config.noise.kind!r} would make labels wrong on top "
            "of those that nobody knows to be right, config.data.labels='given': set "
            "noise.kind='none' and noise.rate=0, or, if that is meant, "
            "noise.on_given=True."
        )


def _check_no_files(config: ConfigDict) -> None:
    """Refuses settings of files where the data set is no file of that kind."""
    given, default = config.data.csv, base_config().data.csv
    reads = set()
    if on_disk.is_list(config.data.name):
        reads |= {"label", "text"}
    if on_disk.is_name(config.data.name) or config.data.name.endswith(".npz"):
        reads.add("trusted")
    for part in default:
        if given[part] != default[part] and part not in reads:
            raise ValueError(
                f"config.data.csv.{part}={given[part]!r} is read only with data from a "
                f".csv or .tsv file, and config.data.name={config.data.name!r}: leave "
                f"it at {default[part]!r}, or give config.data.name such a file."
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
    task = TASKS[config.task]
    offers: tuple[str | None, ...] = (task.outputs,)
    if not task.has_sets:  # a sample counts for one class
        offers += (task.label_kind,)
    if task.semi:
        offers += (SEMI,)
    for field, entries in (("method", METHODS), ("loss", LOSSES)):
        fit = [name for name, entry in entries.items() if entry.works_with(offers)]
        if config[field] not in fit:
            raise ValueError(
                f"config.{field}={config[field]!r} is not for config.task="
                f"{config.task!r}; choose one of {fit}."
            )
    method, name = catalogue.build(config), METHODS[config.method].title
    if config.weighting.load and (method.net is None or method.by_class):
        raise ValueError(
            f"config.weighting.load={config.weighting.load!r}, but {name} applies no "
            "weighting function: choose cmw_net, mw_net or a form of them, or leave it "
            "empty."
        )
    learns = method.has_meta_step and not config.weighting.load
    if config.meta_set.policy == "none" and learns:
        raise ValueError(
            f"config.meta_set.policy='none', but {name} learns from a meta set: choose "
            f"one of {meta_set.POLICIES[:-1]}."
        )
    trusted = (*meta_set.TRUSTED, meta_set.LABELLED)
    if method.trusted_only and config.meta_set.policy not in trusted:
        raise ValueError(
            f"config.meta_set.policy={config.meta_set.policy!r} has no samples with "
            f"trusted labels, and {name} learns from nothing else: choose one of "
            f"{trusted}."
        )
    if method.two_views and (method.mixes or method.mixes_meta):
        raise ValueError(
            f"config.method={config.method!r} blends inputs (MixUp), and config.loss="
            f"{config.loss!r} learns each sample in a view of its own: choose another "
            "method, or set config.mixup.alpha and config.mixup.meta_alpha to 0."
        )
    if method.meta_tx is not None and config.meta_every > 1:
        raise ValueError(
            f"config.meta_every={config.meta_every}, but {name} has weights only where "
            "there is a meta step: set it to 1."
        )
    head = config.model.options.get("head", "linear")
    if method.head is not None and head != method.head:
        raise ValueError(
            f"config.model.options={config.model.options.to_dict()}, but the loss of "
            f"{name} needs a head of another kind: set model.options.head="
            f"{method.head!r}, which mlp, small_conv and resnet32 have."
        )
    memory = method.memory
    if config.data.labels == "given":
        if config.meta_set.policy == "held_out":
            raise ValueError(
                "config.meta_set.policy='held_out' trusts the labels that it holds "
                "out, and with config.data.labels='given' nobody knows which are "
                "right: choose 'balanced' or 'lowest_loss', or 'external' with a file "
                "of trusted samples in config.data.csv.trusted."
            )
        if memory is not None and memory.needs_true_labels:
            raise ValueError(
                f"config.baseline.{config.method} is for known labels, but with "
                "config.data.labels='given' nobody knows them: choose what is "
                "estimated, as baseline.forward.transition='estimated'."
            )
    if memory is not None and memory.needs_warmup and not config.warmup_epochs:
        raise ValueError(
            f"config.warmup_epochs=0, but {name} relies on predictions of a classifier "
            "trained before: set it to some epochs."
        )


def renamed_fields(config: dict[str, Any]) -> list[str]:
    """One phrase for each field of a saved configuration that has another name now."""
    phrases = []
    for field, now in {**RENAMED, **REGROUPED}.items():
        group, name = field.split(".")
        value = config.get(group, {})
        is_group = field in REGROUPED and isinstance(value.get(name), dict)
        if name in value and not is_group:
            phrases.append(f"{field} is called {now} now")
    return phrases


def _value(config: ConfigDict, field: str) -> Any:
    for part in field.split("."):
        config = config[part]
    return config


def _check_fields(given: dict[str, Any], known: dict[str, Any], prefix: str) -> None:
    for name in sorted(given.keys() - known.keys()):
        field = prefix + name
        if field in RENAMED:
            raise ValueError(
                f"config.{field}={given[name]!r} is called config.{RENAMED[field]} now."
            )
        raise ValueError(
            f"config.{field}={given[name]!r} is an unknown field; the fields here are "
            f"{sorted(known)}."
        )
    for name in sorted(known):
        field = prefix + name
        if name not in given:
            raise ValueError(f"config.{field} is missing; start from base_config().")
        if isinstance(known[name], dict):
            if not isinstance(given[name], dict):
                now, fields = REGROUPED.get(field), sorted(known[name])
                remedy = f"set config.{now}" if now else f"its fields are {fields}"
                raise ValueError(
                    f"config.{field}={given[name]!r} must be a group: {remedy}."
                )
            if field not in FREE:
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
    method = method_of(row) if isinstance(row, str) else row
    _check_choice(field, method, METHODS)
    variant = row.removeprefix(method)
    if variant and not re.fullmatch(rf"{VARIANT}\w+", variant):  # it names a folder
        raise ValueError(
            f"config.{field}={row!r} must be METHOD or METHOD{VARIANT}NAME, in letters "
            "and digits: rename it."
        )


def _check_choice(field: str, value: Any, choices: Iterable[str]) -> None:
    if value not in tuple(choices):
        raise ValueError(
            f"config.{field}={value!r} is unknown; choose one of {tuple(choices)}."
        )
