"""The trained classifier, as people take it home: one file, and `predict`.

A file holds the tensors of a model, named as `config.model.weights` wants them, and in
its metadata all that turns inputs into predictions: the model and its options, names of
classes, how inputs are prepared, what outputs mean.
"""

import dataclasses
import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from flax.traverse_util import flatten_dict, unflatten_dict
from numpy.typing import NDArray

from cmwjax.data import arrays
from cmwjax.data import view as views
from cmwjax.data.text import Vocabulary
from cmwjax.files import CLASSIFIER, CLASSIFIER_SELECTED, SUMMARY, write_tensors
from cmwjax.models import catalogue as models
from cmwjax.tasks.catalogue import TASKS
from cmwjax.tasks.selective import answered

FORMAT = "cmwjax classifier 1"
CHOICES = ("last", "selected")
BATCH = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
    """A model with its variables, and what inputs and outputs are.

    Attributes:
      module: called as `module(inputs, False)`.
      variables: `{'params': ..., 'batch_stats': ...}`.
      task: a key of `cmwjax.tasks.catalogue.TASKS`.
      classes: names of the classes, or numbers where these are their names, `[C]`; of a
        regression `[0]`.
      kind: of the inputs, one of `cmwjax.data.view.KINDS`.
      shape: of one input, e.g. `(28, 28, 1)`.
      columns: names of the columns, of rows that had some.
      statistics: by which inputs are standardised; see `cmwjax.data.view.View`.
      vocabulary: tokens of texts, where inputs are texts.
      units: mean and deviation of targets, of a regression.
      model: name and options of the module in `cmwjax.models.catalogue`; None for a
        module of one's own.
      embed: net and pixels per side by which inputs became rows, where they did; see
        `cmwjax.data.embedding`.
      provenance: where it was trained: any JSON.
    """

    module: nn.Module
    variables: Mapping[str, Any]
    task: str
    classes: NDArray[Any]
    kind: str
    shape: tuple[int, ...]
    columns: tuple[str, ...] | None = None
    statistics: tuple[NDArray[np.floating], ...] = ()
    vocabulary: Vocabulary | None = None
    units: tuple[float, float] | None = None
    model: Mapping[str, Any] | None = None
    embed: tuple[str, int] | None = None
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def predict(self, inputs: Any, coverage: float | None = None) -> NDArray[Any]:
        """The likeliest class by its name, or the target in its units, `[N]`.

        Args:
          inputs: images `[N, H, W]` or `[N, H, W, C]`, uint8 or floats in [0, 1], rows
            `[N, D]` of an array or, by the names of its columns, of a DataFrame, texts
            or tokens int `[N, L]`: as those that it was trained on, also where a frozen
            net makes rows of them. At most 256 are on the device at once.
          coverage: share of the inputs to answer for, in (0, 1]: those that it is
            surest of among these. The others are masked, in a `numpy.ma.MaskedArray`.
            None: all.

        Raises:
          ValueError: for inputs of another kind or shape, a coverage out of range, or
            one of a regression.
        """
        outputs, task = jnp.asarray(self._outputs(inputs)), TASKS[self.task]
        found = np.asarray(task.predict(outputs))
        if self.units is not None:
            mean, deviation = self.units
            found = found.astype(np.float64) * deviation + mean
        else:
            found = self.classes[found]
        if coverage is None:
            return found
        if not 0 < coverage <= 1:
            raise ValueError(
                f"coverage={coverage} is the share of inputs to answer for: choose one "
                "in (0, 1]."
            )
        if task.confidence is None:
            raise ValueError(f"a {self.task} does not abstain: leave coverage out.")
        order = np.argsort(-np.asarray(task.confidence(outputs)), kind="stable")
        masked = np.ones(len(found), bool)
        masked[order[: answered(len(found), coverage)]] = False
        return np.ma.MaskedArray(found, masked)

    def predict_proba(self, inputs: Any) -> NDArray[np.float32]:
        """Probabilities of the classes, `[N, C]` in the order of `classes`.

        Raises:
          ValueError: as `predict`; for a regression, which has none.
        """
        probabilities = TASKS[self.task].probabilities
        if probabilities is None:
            raise ValueError(f"a {self.task} has no probabilities: use predict.")
        return np.asarray(probabilities(jnp.asarray(self._outputs(inputs))))

    def __repr__(self) -> str:
        kept = sum(np.size(leaf) for leaf in jax.tree.leaves(dict(self.variables)))
        return (
            f"<cmwjax Classifier: {type(self.module).__name__} of {kept:,} parameters, "
            f"{self.kind} {list(self.shape)} -> {self.task} of {len(self.classes)} "
            "classes>"
        )

    def __getstate__(self) -> dict[str, Any]:
        """All but what is compiled, which no other process could use."""
        return {k: v for k, v in self.__dict__.items() if k != "_compiled"}

    def _outputs(self, inputs: Any) -> NDArray[np.float32]:
        view = views.plain(self.kind)
        inputs = view.place(self._checked(inputs), self.statistics)
        size = TASKS[self.task].width(len(self.classes))
        parts = [np.zeros((0, size), np.float32)]
        for start in range(0, len(inputs), BATCH):
            part = inputs[start : start + BATCH]
            room = [(0, BATCH - len(part))] + [(0, 0)] * len(self.shape)
            found = self._compiled(self.variables, np.pad(part, room))
            parts.append(np.asarray(found, np.float32)[: len(part)])
        return np.concatenate(parts)

    @functools.cached_property
    def _compiled(self):
        view = views.plain(self.kind)

        def outputs(variables, inputs):
            seen = view.prepare(inputs, self.statistics, None)
            return self.module.apply(variables, seen, False)

        return jax.jit(outputs)

    def _checked(self, inputs: Any) -> NDArray[Any]:
        """Inputs as an array of the type that the view prepares."""
        if self.embed is not None:
            from cmwjax.data.embedding import rows_of  # few classifiers need it

            inputs = rows_of(inputs, *self.embed)
        if self.vocabulary is not None and getattr(inputs, "ndim", 1) != 2:
            inputs = list(inputs) if not isinstance(inputs, str) else None
            if inputs is None or not all(isinstance(text, str) for text in inputs):
                raise ValueError("inputs must be texts: give a list of strings.")
            return self.vocabulary.encode(inputs, *self.shape)
        if self.columns is not None and hasattr(inputs, "columns"):
            missing = [name for name in self.columns if name not in inputs.columns]
            if missing:
                raise ValueError(
                    f"inputs has no columns {missing}, which the classifier was "
                    f"trained on: give {list(self.columns)}."
                )
            inputs = inputs[list(self.columns)]
        inputs = np.asarray(inputs)
        if self.kind == "images" and (*inputs.shape[1:], 1) == self.shape:
            inputs = inputs[..., None]
        if inputs.shape[1:] != self.shape or inputs.ndim != len(self.shape) + 1:
            raise ValueError(
                f"inputs has shape {list(inputs.shape)}, but the classifier was "
                f"trained on {self.kind} of shape {list(self.shape)}: give "
                f"{['N', *self.shape]}."
            )
        if self.kind == "images" and inputs.size:
            inputs = arrays.as_images(inputs, name="inputs")
        if self.kind == "tokens":
            size = np.inf if self.vocabulary is None else self.vocabulary.size
            is_whole = inputs.dtype.kind in "iu"
            if not is_whole or not np.all((inputs >= 0) & (inputs < size)):
                raise ValueError(
                    f"inputs must be tokens, whole numbers in [0, {size}): give the "
                    "numbers, or the texts, that it was trained on."
                )
            return inputs.astype(np.int32)
        if self.kind == "rows":
            try:
                inputs = inputs.astype(np.float64)
            except (TypeError, ValueError) as error:
                raise ValueError(f"inputs must be numbers: {error}") from None
            if not np.isfinite(inputs).all():
                row, column = np.argwhere(~np.isfinite(inputs))[0]
                raise ValueError(
                    f"inputs has {inputs[row, column]} in row {row}, column {column}: "
                    "fill what is missing as for training."
                )
        return inputs


def save_classifier(path: str | os.PathLike, classifier: Classifier) -> None:
    """Writes `path` in the safetensors format, in one piece or not at all.

    Tensors are named after their places, as in `params/head/kernel`.
    """
    c = classifier
    metadata = {
        "task": c.task,
        "classes": c.classes.tolist(),
        "kind": c.kind,
        "shape": c.shape,
        "columns": c.columns,
        "statistics": [x.tolist() for x in c.statistics],
        "vocabulary": None if c.vocabulary is None else c.vocabulary,
        "units": c.units,
        "model": None if c.model is None else dict(c.model),
        "module": type(c.module).__name__,
        "embed": c.embed,
        "provenance": dict(c.provenance),
    }
    write_tensors(
        path,
        flatten_dict(c.variables, sep="/"),
        {"format": FORMAT, "classifier": json.dumps(metadata)},
    )


def load_classifier(
    path: str | os.PathLike, model: nn.Module | None = None, which: str = "last"
) -> Classifier:
    """Reads the classifier of a run.

    Args:
      path: the folder of a run, or a file that `save_classifier` wrote.
      model: the module, if it was one of your own.
      which: in a folder, `'last'`, of the last epoch; or `'selected'`, of the one that
        was best on the validation set, or on a meta set that was held out, and else of
        the last one. A validation set with wrong labels may choose an epoch that has
        learned these.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: for another file or choice, a folder of several runs, or another
        model than the file's.
    """
    if which not in CHOICES:
        raise ValueError(f"which={which!r} is unknown; choose one of {CHOICES}.")
    if not isinstance(path, str | os.PathLike):
        raise ValueError(
            f"path={path!r} is a {type(path).__name__}: give the folder of a run, or "
            f"its {CLASSIFIER}."
        )
    path = _file(Path(path).expanduser(), which)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path} is no classifier ({error}); give the folder of a run."
        ) from None
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {metadata.get('format')!r}, not {FORMAT!r}; give the "
            f"folder of a run, or its {CLASSIFIER}."
        )
    fields = json.loads(metadata["classifier"])
    vocabulary = fields["vocabulary"]
    if vocabulary is not None:
        pieces, ngrams = vocabulary
        vocabulary = Vocabulary(tuple(pieces), tuple(ngrams))
    return Classifier(
        module=_module(path, fields, vocabulary) if model is None else model,
        variables=unflatten_dict(tensors, sep="/"),
        task=fields["task"],
        classes=np.array(fields["classes"]),
        kind=fields["kind"],
        shape=tuple(fields["shape"]),
        columns=tuple(fields["columns"]) if fields.get("columns") else None,
        statistics=tuple(np.array(x) for x in fields["statistics"]),
        vocabulary=vocabulary,
        units=None if fields["units"] is None else tuple(fields["units"]),
        model=fields["model"],
        embed=tuple(fields["embed"]) if fields.get("embed") else None,
        provenance=fields["provenance"],
    )


def _file(path: Path, which: str) -> Path:
    if path.is_file():
        return path
    names = (CLASSIFIER_SELECTED, CLASSIFIER) if which == "selected" else (CLASSIFIER,)
    for name in names:
        if (path / name).is_file():
            return path / name
    runs = sorted(str(f.parent) for f in path.glob(f"*/seed_*/{CLASSIFIER}"))
    if runs or (path / SUMMARY).is_file():
        raise ValueError(
            f"{path} is a comparison of several runs: give the folder of one, e.g. "
            f"{', '.join(runs[:5]) or path / 'cmw_net' / 'seed_0'}."
        )
    raise FileNotFoundError(
        f"{path} holds no {CLASSIFIER}: give the folder of a finished run."
    )


def _module(path: Path, fields: Any, vocabulary: Vocabulary | None) -> nn.Module:
    if fields["model"] is None:
        raise ValueError(
            f"{path} holds the weights of a module of your own, {fields['module']}: "
            "pass it as model=."
        )
    return models.build(
        fields["model"]["name"],
        num_classes=TASKS[fields["task"]].width(len(fields["classes"])),
        vocabulary_size=0 if vocabulary is None else vocabulary.size,
        **fields["model"]["options"],
    )
