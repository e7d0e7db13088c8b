"""For people with arrays: the trainer as a scikit-learn estimator."""

import dataclasses
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import flax.linen as nn
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from cmwjax.classifier import save_classifier
from cmwjax.data.arrays import names_of
from cmwjax.fitting import Settings, configure, fit, folder_of
from cmwjax.gathering import check_inputs, gather
from cmwjax.report.page import write_report


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
      embed: a frozen net that turns inputs into rows, once, of which a small head
        learns: 'efficientnet_lite0' for images, 'wordllama' for texts, where these are
        installed; see `cmwjax.data.embedding`. Predictions are of images or texts all
        the same.
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
        embed: str | None = None,
        config: Mapping[str, Any] | None = None,
        random_state: Any = None,
        progress: bool = False,
        workdir: str | os.PathLike | None = None,
    ) -> None:
        self.method = method
        self.model = model
        self.epochs = epochs
        self.inputs = inputs
        self.embed = embed
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
        settings = Settings(**self.get_params(deep=False))
        samples = gather(self, X, y, trusted, validation)
        share = validation if isinstance(validation, float) else 0.0
        config = configure(settings, samples.dataset, share)
        with folder_of(settings) as workdir:
            fitted = fit(settings, config, samples, workdir)
        self._kind, self.classes_ = samples.kind, samples.classes
        self.label_quality_, self.sample_weight_ = fitted.quality, fitted.weight
        self.suggested_label_ = self.classes_[fitted.suggested]
        self.classifier_ = dataclasses.replace(fitted.classifier, classes=self.classes_)
        self._files = fitted.files
        self.weighting_function_ = fitted.weighting
        return self

    def predict(self, X: Any, coverage: float | None = None) -> NDArray[Any]:
        """The likeliest class of each input, `[N]`.

        Args:
          X: inputs.
          coverage: share of X to answer for, in (0, 1]: the inputs whose class it is
            surest of among these. The others are masked, in a `numpy.ma.MaskedArray`.
            None: all.

        Raises:
          ValueError: for inputs that are not as those that it was trained on, or a
            coverage out of range.
        """
        check_is_fitted(self)
        inputs = check_inputs(self, X, self._kind, "X", reset=False)
        return self.classifier_.predict(inputs, coverage)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities of the classes, `[N, C]` in the order of `classes_`.

        Raises:
          ValueError: as `predict`.
        """
        check_is_fitted(self)
        inputs = check_inputs(self, X, self._kind, "X", reset=False)
        found = self.classifier_.predict_proba(inputs)
        found = found.astype(np.float64)
        return found / found.sum(axis=1, keepdims=True)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the classifier, for `cmwjax.load_classifier(path)`; no pickle.

        Classes that are no numbers or strings are written as strings.
        """
        check_is_fitted(self)
        classifier, classes = self.classifier_, self.classes_
        if classes.dtype.kind not in "biufU":
            names = np.array(names_of(classes))
            classifier = dataclasses.replace(classifier, classes=names)
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
