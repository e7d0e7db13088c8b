"""For people with arrays: the trainer as a scikit-learn estimator.

A thin layer: it trains in a temporary folder, of which the classifier, what is known of
each label and the weighting function stay.
"""

import dataclasses
import os
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Self

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from cmwjax import defaults, train
from cmwjax.classifier import load_classifier, save_classifier
from cmwjax.config import base_config
from cmwjax.console import Progress
from cmwjax.core.weighting_file import load_weighting
from cmwjax.data import arrays
from cmwjax.data.dataset import Dataset, keys_of
from cmwjax.files import (
    CLASSIFIER,
    CLASSIFIER_SELECTED,
    LOCK,
    REPORT,
    SAMPLES,
    VALIDATION,
    WEIGHTING,
)
from cmwjax.methods.catalogue import METHODS, title
from cmwjax.models.catalogue import MODELS
from cmwjax.report.page import write_report
from cmwjax.report.samples import read_samples
from cmwjax.stopping import Interrupted


class CMWClassifier(ClassifierMixin, BaseEstimator):
    """A classifier that learns how much to trust each label it is given.

    Inputs `X` are rows of numbers `[N, D]`, an array or a DataFrame; images uint8, or
    floats in [0, 1], `[N, H, W]` or `[N, H, W, C]`; a list of N texts; or tokens.
    Labels `y` `[N]` are of any kind that can be hashed. What is None is chosen by their
    kind and number, see `cmwjax.defaults`.

    Args:
      method: a key of `cmwjax.methods.catalogue.METHODS`.
      model: None; a key of `cmwjax.models.catalogue.MODELS`; or a Linen module that is
        called as `module(inputs, train)` and returns logits `[B, C]`. What NNX has
        becomes one by `flax.nnx.bridge.to_linen(Module, ...)`.
      epochs: passes over the training set.
      inputs: what `X` is: 'auto', 'rows', 'images', 'texts' or 'tokens'. Tokens are
        whole numbers `[N, L]` from 1 on, with 0 behind the last, which has to be said.
      config: fields of a run's configuration to change, such as
        `{'optim.learning_rate': 0.1}`; docs/configuration.md lists them.
      random_state: seed of everything random, as scikit-learn takes it.
      progress: whether to show a progress bar.
      workdir: folder that the run is kept in, and where an unfinished one of the same
        data and settings goes on; None: a temporary one, which is removed.

    Attributes:
      classes_: the classes `[C]`, sorted where they can be, else as they came.
      label_quality_: how well its label suits each row of X, float64 `[N]` in [0, 1];
        low is suspicious. It is the mean over a look after every epoch.
      suggested_label_: the label that the classifier would give each row, `[N]`.
      sample_weight_: what each row counted in training at its end, float64 `[N]`; 0
        where it was not trained on.
      weighting_function_: the learned `WeightingFunction`; None if the method has none.
      classifier_: the trained `cmwjax.classifier.Classifier`.
      n_features_in_: number of columns, of rows.
      feature_names_in_: their names, of a DataFrame.
    """

    def __init__(
        self,
        method: str = "cmw_net",
        *,
        model: nn.Module | str | None = None,
        epochs: int | None = None,
        inputs: str = "auto",
        config: Mapping[str, Any] | None = None,
        random_state: Any = None,
        progress: bool = False,
        workdir: str | os.PathLike | None = None,
    ) -> None:
        self.method = method
        self.model = model
        self.epochs = epochs
        self.inputs = inputs
        self.config = config
        self.random_state = random_state
        self.progress = progress
        self.workdir = workdir

    def fit(self, X: Any, y: Any, trusted: Any = None, validation: Any = None) -> Self:
        """Trains on labels of which some may be wrong.

        Args:
          X: inputs, N.
          y: their labels as they were given, `[N]`.
          trusted: a pair `(X, y)` of samples whose labels are right, inputs as those of
            X. They judge the weights, and are learned from. Rows of X with the same
            inputs are left out of training, and are judged by them.
          validation: a pair `(X, y)` to select the best epoch by; or a share of the
            rows of X, in (0, 1), that is set aside for that, wrong labels and all.

        Raises:
          ValueError: for unfit arguments, naming them; nothing is trained then.
          cmwjax.training.health.Diverged: if numbers are not finite any more.
        """
        dataset, rows = self._prepare(X, y, trusted, validation)
        share = validation if isinstance(validation, float) else 0.0
        config = self._configured(dataset, share)
        with self._folder() as workdir:
            self._train(config, dataset, workdir, rows)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest class of each input, `[N]`.

        Raises:
          ValueError: for inputs that are not as those that it was trained on.
        """
        likeliest = self.predict_proba(X).argmax(axis=1)
        return self.classes_[likeliest]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities of the classes, `[N, C]` in the order of `classes_`.

        Raises:
          ValueError: as `predict`.
        """
        check_is_fitted(self)
        found = self.classifier_.predict_proba(self._inputs(X, "X", reset=False))
        found = found.astype(np.float64)
        return found / found.sum(axis=1, keepdims=True)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the classifier, for `cmwjax.load_classifier(path)`; no pickle.

        Classes that are no numbers or strings are written as strings.
        """
        check_is_fitted(self)
        classifier = self.classifier_
        if self.classes_.dtype.kind in "biufU":
            classifier = dataclasses.replace(classifier, classes=self.classes_)
        save_classifier(path, classifier)

    def report(self, path: str | os.PathLike) -> Path:
        """Writes the page of the run that trained it, one file that needs no network.

        Args:
          path: of the page, usually `*.html`.

        Returns:
          The path.
        """
        check_is_fitted(self)
        path = Path(path).expanduser()
        with tempfile.TemporaryDirectory(prefix="cmwjax-") as folder:
            for name, content in self._files.items():
                Path(folder, name).write_bytes(content)
            write_report(folder, path)
        return path

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _check_parameters(self) -> None:
        """Refuses parameters that no data would suit."""
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
            raise ValueError(f"epochs={epochs!r} must be a whole number from 1 on.")
        if self.config is not None and not isinstance(self.config, Mapping):
            raise ValueError(
                f"config={self.config!r} must be a dict of fields and values, such as "
                "{'optim.learning_rate': 0.1}."
            )

    def _prepare(
        self, X: Any, y: Any, trusted: Any = None, validation: Any = None
    ) -> tuple[Dataset, int]:
        """All samples, those of X first, and how many these are.

        Sets what is known of inputs and classes.

        Raises:
          ValueError: as `fit`.
        """
        self._check_parameters()
        if y is None:
            raise ValueError(
                "This CMWClassifier estimator requires y to be passed, but the target "
                "y is None: give the labels."
            )
        self._kind = arrays.kind_of(X, self.inputs)
        inputs, codes = {"X": self._inputs(X, "X", reset=True)}, {}
        labels = arrays.as_labels(y, name="y")
        check_consistent_length(inputs["X"], labels)
        self.classes_, codes["X"] = arrays.number_classes(labels, name="y")
        for part, pair in (("trusted", trusted), ("validation", validation)):
            if pair is None or _is_share(part, pair):
                continue
            some_inputs, some_labels = _pair(part, pair)
            inputs[part] = self._inputs(some_inputs, f"{part}[0]", reset=False)
            labels = arrays.as_labels(some_labels, name=f"{part}[1]")
            check_consistent_length(inputs[part], labels)
            codes[part] = arrays.numbered(labels, self.classes_, name=f"{part}[1]")
        columns = getattr(self, "feature_names_in_", None)
        dataset = arrays.to_dataset(
            inputs, codes, kind=self._kind, classes=self.classes_, columns=columns
        )
        return dataset, len(codes["X"])

    def _inputs(self, inputs: Any, name: str, *, reset: bool) -> Any:
        """Inputs as an array or, of texts, a list; checked."""
        if self._kind == "rows":
            arrays.check_columns(inputs, name=name)
            dtype = [np.float64, np.float32]
            return validate_data(self, inputs, reset=reset, dtype=dtype)
        if self._kind == "images":
            return arrays.as_images(inputs, name=name)
        if self._kind == "tokens" or getattr(inputs, "ndim", 1) == 2:
            return arrays.as_tokens(inputs, name=name)
        return arrays.as_texts(inputs, name=name)

    def _configured(
        self, dataset: Dataset, share: float = 0.0, epochs: int | None = None
    ) -> ConfigDict:
        """The configuration of a run on this data set.

        Args:
          dataset: all samples.
          share: of the rows of X to validate with.
          epochs: where nobody chose; None: by the data.
        """
        epochs = epochs if self.epochs is None else self.epochs
        config = base_config()
        with config.unlocked():
            config.method, config.seed = self.method, seed_of(self.random_state)
            config.data.name, config.data.validation = "X", share
            defaults.fit_to(config, defaults.size_of(dataset, share))
            if self.workdir is None:  # there is nothing to go on with
                config.checkpoint.every_steps = 0
            if epochs is not None:
                config.epochs = epochs
                config.warmup_epochs = min(config.warmup_epochs, epochs)
            if isinstance(self.model, str):
                config.model.name, config.model.options = self.model, {}
            config.update(defaults.of_methods(config.epochs).get(self.method, {}))
            for field, value in (self.config or {}).items():
                _set(config, field, value)
        return config.lock()

    @contextmanager
    def _folder(self) -> Generator[Path, None, None]:
        """The folder of a run, or of several."""
        if self.workdir is not None:
            yield Path(self.workdir).expanduser()
            return
        with tempfile.TemporaryDirectory(prefix="cmwjax-") as folder:
            yield Path(folder) / "run"

    def _train(
        self, config: ConfigDict, dataset: Dataset, workdir: Path, rows: int
    ) -> None:
        """Trains, and reads what the run left of the first `rows` samples."""
        model = self.model if isinstance(self.model, nn.Module) else None
        bar = Progress(config.epochs) if self.progress else nullcontext()
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
                    devices=_devices(config, rows),
                    arrays=dataset,
                    model=model,
                    header=False,
                    report=self.workdir is not None,
                )
        except Interrupted as stop:
            raise KeyboardInterrupt("" if self.workdir is None else stop) from None
        validates = dataset.validation_index is not None or config.data.validation
        which = "selected" if validates else "last"
        self.classifier_ = load_classifier(workdir, model=model, which=which)
        weighting = workdir / WEIGHTING
        has_one = weighting.is_file()
        self.weighting_function_ = load_weighting(weighting) if has_one else None
        self._read_samples(workdir, dataset, rows)
        skipped = (CLASSIFIER, CLASSIFIER_SELECTED, LOCK, REPORT)
        self._files = {
            path.name: path.read_bytes()
            for path in workdir.iterdir()
            if path.is_file() and path.name not in skipped
        }

    def _read_samples(self, workdir: Path, dataset: Dataset, rows: int) -> None:
        names = {name: number for number, name in enumerate(dataset.class_names)}
        quality, weight = np.full(rows, np.nan), np.zeros(rows)
        suggested = np.zeros(rows, np.int32)
        for file in (SAMPLES, VALIDATION):
            if not (workdir / file).is_file():
                continue
            samples = read_samples(workdir / file)
            mine = samples["row"] < rows
            row = samples["row"][mine]
            quality[row] = samples["quality"][mine]
            suggested[row] = [names[x] for x in samples["suggested_label"][mine]]
            if file == SAMPLES:
                weight[row] = samples["weight"][mine]
        left_out = np.flatnonzero(np.isnan(quality))
        if left_out.size:  # they have the inputs of a trusted sample
            right = dict(
                zip(
                    keys_of(dataset.train_inputs[dataset.trusted_index]),
                    dataset.train_labels[dataset.trusted_index].tolist(),
                    strict=True,
                )
            )
            keys = keys_of(dataset.train_inputs[left_out])
            suggested[left_out] = [right[key] for key in keys]
            agrees = suggested[left_out] == dataset.train_labels[left_out]
            quality[left_out] = agrees
        self.label_quality_, self.sample_weight_ = quality, weight
        self.suggested_label_ = self.classes_[suggested]


def seed_of(random_state: Any) -> int:
    """A seed, from what scikit-learn calls a random state."""
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def _is_share(part: str, value: Any) -> bool:
    return part == "validation" and isinstance(value, float) and 0 < value < 1


def _pair(part: str, value: Any) -> tuple[Any, Any]:
    """Inputs and labels of the argument `part` of `fit`."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        share = ", or a share in (0, 1)" if part == "validation" else ""
        given = f" is a {type(value).__name__} and"
        if isinstance(value, int | float | str):
            given = f"={value!r}"
        raise ValueError(
            f"{part}{given} must be a pair (X, y) of samples and their labels{share}."
        )
    return value[0], value[1]


def _set(config: ConfigDict, field: str, value: Any) -> None:
    """Sets a field by its whole name; its value is checked with all others."""
    *groups, name = field.split(".")
    for part in groups:
        config = config.get(part)
        if not isinstance(config, ConfigDict):
            break
    else:
        if name in config or groups == ["model", "options"]:
            config[name] = value
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
