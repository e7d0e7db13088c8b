"""Runs on samples in memory, and what they leave of each: what is behind the front.

`CMWClassifier` fits once, `find_label_errors` several times, in a folder they remove.
"""

import dataclasses
import functools
import os
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from cmwjax import defaults, train
from cmwjax.classifier import Classifier, load_classifier
from cmwjax.config import base_config
from cmwjax.console import Progress
from cmwjax.core.weighting_file import WeightingFunction, load_weighting
from cmwjax.data.dataset import Dataset, keys_of
from cmwjax.data.embedding import NETS, width_of
from cmwjax.data.text_embedding import VECTORS
from cmwjax.files import (
    CLASSIFIER,
    CLASSIFIER_SELECTED,
    LOCK,
    REPORT,
    SAMPLES,
    VALIDATION,
    WEIGHTING,
)
from cmwjax.gathering import Samples
from cmwjax.methods.catalogue import METHODS, title
from cmwjax.models.catalogue import MODELS
from cmwjax.report.samples import read_samples
from cmwjax.stopping import Interrupted

LEAVES_OUT = ("data.train_size", "data.imbalance_factor")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The parameters of `CMWClassifier`, checked.

    Raises:
      ValueError: for a parameter that no data would suit.
    """

    method: str
    model: nn.Module | str | None
    epochs: int | None
    inputs: str
    embed: str | None
    config: Mapping[str, Any] | None
    random_state: Any
    progress: bool
    workdir: str | os.PathLike | None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(
                f"method={self.method!r} is unknown; choose one of {tuple(METHODS)}."
            )
        if isinstance(self.model, str) and self.model not in MODELS:
            raise ValueError(
                f"model={self.model!r} is unknown; choose one of {tuple(MODELS)}, or "
                "give a Linen module."
            )
        if self.model is not None and not isinstance(self.model, nn.Module | str):
            raise ValueError(
                f"model={self.model!r} is a {type(self.model).__name__}: give a Linen "
                f"module, called as module(inputs, train), or one of {tuple(MODELS)}."
            )
        epochs = self.epochs
        if epochs is not None and (
            not isinstance(epochs, int | np.integer) or isinstance(epochs, bool)
        ):
            raise ValueError(
                f"epochs={epochs!r} must be a whole number from 1 on, or None: correct "
                "it."
            )
        if self.config is not None and not isinstance(self.config, Mapping):
            raise ValueError(
                f"config={self.config!r} must be a dict of fields and values, such as "
                "{'optim.learning_rate': 0.1}."
            )

        if not isinstance(self.workdir, str | os.PathLike | None):
            raise ValueError(
                f"workdir={self.workdir!r} is a {type(self.workdir).__name__}: give "
                "the path of a folder, or None."
            )
        if self.embed not in (None, "", *NETS, *VECTORS):
            raise ValueError(
                f"embed={self.embed!r} is unknown; choose one of {tuple(NETS)} for "
                f"images, {tuple(VECTORS)} for texts, or None."
            )

    @functools.cached_property
    def seed(self) -> int:
        """A seed, from what scikit-learn calls a random state; the same every time."""
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        try:
            state = check_random_state(self.random_state)
        except ValueError as error:
            raise ValueError(
                f"random_state={self.random_state!r} is no seed ({error}): give a "
                "whole number, a random state of NumPy or None."
            ) from None
        return int(state.randint(2**31 - 1))

    @property
    def own_model(self) -> nn.Module | None:
        """The module, if it is none of the catalogue."""
        return self.model if isinstance(self.model, nn.Module) else None


class Fitted(NamedTuple):
    """What a run leaves.

    Attributes:
      classifier: of the selected epoch where samples validate, else of the last one.
      weighting: the learned weighting function, if the method has one.
      quality: how well its label suits each row of X, float64 `[N]`.
      suggested: the number of the class that suits it best, int32 `[N]`.
      weight: what it counted in training at its end, float64 `[N]`.
      files: what a page about the run is made of, by their names.
    """

    classifier: Classifier
    weighting: WeightingFunction | None
    quality: NDArray[np.float64]
    suggested: NDArray[np.int32]
    weight: NDArray[np.float64]
    files: Mapping[str, bytes]


def configure(
    settings: Settings,
    dataset: Dataset,
    share: float = 0.0,
    epochs: int | None = None,
) -> ConfigDict:
    """The configuration of a run on a data set.

    Args:
      settings: what was told.
      dataset: all samples.
      share: of the rows of X to validate with.
      epochs: where nobody chose; None: by the data.

    Raises:
      ValueError: for a field that no run has.
    """
    epochs = epochs if settings.epochs is None else settings.epochs
    config = base_config()
    with config.unlocked():
        config.method, config.seed = settings.method, settings.seed
        config.data.name, config.data.validation = "X", share
        # A frozen net may be chosen by the name of the field, too.
        net = (settings.config or {}).get("data.embed", settings.embed) or ""
        config.data.embed, size = net, defaults.size_of(dataset, share)
        if net:
            size = size._replace(kind="rows", shape=(width_of(net),))
        defaults.fit_to(config, size)
        if settings.workdir is None:  # there is nothing to go on with
            config.checkpoint.every_steps = 0
        if epochs is not None:
            config.epochs = epochs
            config.warmup_epochs = min(config.warmup_epochs, epochs)
        if isinstance(settings.model, str):
            config.model.name, config.model.options = settings.model, {}
        config.update(defaults.of_methods(config.epochs).get(settings.method, {}))
        for field, value in (settings.config or {}).items():
            if field in LEAVES_OUT:
                raise ValueError(
                    f"config has {field!r}={value!r}, which leaves rows of X out: give "
                    "those alone that are to be learned from."
                )
            _set(config, field, value)
    return config.lock()


@contextmanager
def folder_of(settings: Settings) -> Generator[Path, None, None]:
    """The folder of a run, or of several."""
    if settings.workdir is not None:
        yield Path(settings.workdir).expanduser()
        return
    with tempfile.TemporaryDirectory(prefix="cmwjax-") as folder:
        yield Path(folder) / "run"


def fit(
    settings: Settings, config: ConfigDict, samples: Samples, workdir: Path
) -> Fitted:
    """Trains, and reads what the run left of the rows of X.

    Raises:
      ValueError: for unfit samples or settings; nothing is trained then.
      cmwjax.training.health.Diverged: if numbers are not finite any more.
    """
    dataset, model = samples.dataset, settings.own_model
    bar = Progress(config.epochs) if settings.progress else nullcontext()
    try:
        with bar as progress:
            if progress is not None:
                progress.describe(title(config.method))

            def on_epoch(metrics):
                if progress is not None:
                    progress.reach(metrics["epoch"])

            train.run(
                config,
                workdir,
                on_epoch=on_epoch,
                devices=_devices(config, samples.count),
                arrays=dataset,
                model=model,
                header=False,
                report=settings.workdir is not None,
            )
    except Interrupted as stop:
        raise KeyboardInterrupt("" if settings.workdir is None else stop) from None
    validates = dataset.validation_index is not None or config.data.validation
    which = "selected" if validates else "last"
    weighting, has_one = workdir / WEIGHTING, (workdir / WEIGHTING).is_file()
    skipped = (CLASSIFIER, CLASSIFIER_SELECTED, LOCK, REPORT)
    quality, suggested, weight = _judged(workdir, samples)
    return Fitted(
        classifier=load_classifier(workdir, model=model, which=which),
        weighting=load_weighting(weighting) if has_one else None,
        quality=quality,
        suggested=suggested,
        weight=weight,
        files={
            path.name: path.read_bytes()
            for path in workdir.iterdir()
            if path.is_file() and path.name not in skipped
        },
    )


def _judged(
    workdir: Path, samples: Samples
) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.float64]]:
    """Quality, suggested class and weight of each row of X, from the files of a run."""
    dataset, rows = samples.dataset, samples.count
    names = {name: number for number, name in enumerate(dataset.class_names)}
    quality, weight = np.full(rows, np.nan), np.zeros(rows)
    suggested = np.zeros(rows, np.int32)
    for file in (SAMPLES, VALIDATION):
        if not (workdir / file).is_file():
            continue
        found = read_samples(workdir / file)
        mine = found["row"] < rows
        row = found["row"][mine]
        quality[row] = found["quality"][mine]
        suggested[row] = [names[x] for x in found["suggested_label"][mine]]
        if file == SAMPLES:
            weight[row] = found["weight"][mine]
    left_out = np.flatnonzero(np.isnan(quality))
    if left_out.size:  # they repeat a trusted sample
        right = dict(
            zip(
                keys_of(dataset.train_inputs[dataset.trusted_index]),
                dataset.train_labels[dataset.trusted_index].tolist(),
                strict=True,
            )
        )
        keys = keys_of(dataset.train_inputs[left_out])
        suggested[left_out] = [right[key] for key in keys]
        quality[left_out] = suggested[left_out] == dataset.train_labels[left_out]
    return quality, suggested, weight


def _set(config: ConfigDict, field: str, value: Any) -> None:
    """Sets a field by its whole name; its value is checked with all others."""
    *groups, name = field.split(".")
    for part in groups:
        config = config.get(part)
        if not isinstance(config, ConfigDict):
            break
    else:
        if name in config or groups == ["model", "options"]:
            try:
                config[name] = value
            except TypeError:
                kind = type(config[name]).__name__
                raise ValueError(
                    f"config has {field!r}={value!r}, a {type(value).__name__}: give "
                    f"a value of type {kind}."
                ) from None
            return
    raise ValueError(
        f"config has {field!r}, which is no field of a run: docs/configuration.md "
        "lists them."
    )


def _devices(config: ConfigDict, rows: int) -> tuple[jax.Device, ...]:
    """All devices if there is enough to do for them, else the first."""
    devices = tuple(jax.devices())
    fits = config.data.shards % len(devices) == 0
    return devices if fits and rows >= 1000 * len(devices) else devices[:1]
