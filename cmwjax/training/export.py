"""The classifier of a run, and which epoch's is kept as the selected one."""

import re
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from cmwjax.classifier import Classifier, save_classifier
from cmwjax.data.csv_sets import Rows
from cmwjax.files import CLASSIFIER, CLASSIFIER_SELECTED
from cmwjax.report.read import read_metrics
from cmwjax.report.result import selects
from cmwjax.training.checkpoints import to_host
from cmwjax.training.run import Progress, Run


def save_if_selected(run: Run, progress: Progress, metrics: dict[str, Any]) -> None:
    """Keeps the classifier if its epoch, which ends here, is the best one so far.

    A run that goes on from an earlier epoch comes to the same files once more.
    """
    name = selects(metrics, run.program.task.criterion)
    if name is None or jax.process_index() > 0:
        return
    earlier = read_metrics(run.workdir) if metrics["epoch"] > 1 else []
    # As JSON has them: what is not finite is None there, and never best.
    before = [x[name] for x in earlier if x[name] is not None]
    if np.isfinite(metrics[name]) and metrics[name] > max(before, default=-np.inf):
        save_classifier(run.workdir / CLASSIFIER_SELECTED, classifier(run, progress))


def save_last(run: Run, progress: Progress) -> None:
    """Writes the classifier of a run that ends here."""
    if jax.process_index() == 0:
        save_classifier(run.workdir / CLASSIFIER, classifier(run, progress))


def classifier(run: Run, progress: Progress) -> Classifier:
    """The classifier that is evaluated: the teacher, if there is one."""
    dataset, config = run.problem.dataset, run.config
    learner = run.program.evaluated(progress.state).scoring
    spec = dataset.spec
    (shape, _), *_ = spec.leaves
    return Classifier(
        module=run.program.parts.model,
        variables=to_host({"params": learner.params, **learner.model_state}),
        task=config.task,
        classes=_classes(dataset.class_names or range(dataset.num_classes)),
        kind=spec.kind,
        shape=shape,
        columns=_columns(dataset.shown),
        statistics=tuple(run.sets.statistics),
        vocabulary=dataset.vocabulary,
        units=dataset.units,
        model=None if run.has_own_model else config.model.to_dict(),
        embed=(config.data.embed, config.data.embed_size)
        if config.data.embed
        else None,
        provenance={
            "data": config.data.name,
            "method": config.method,
            "seed": config.seed,
            "epoch": progress.step // run.steps_per_epoch,
        },
    )


def _classes(names: Iterable[Any]) -> np.ndarray:
    """Names as an array, of numbers where all of them are whole numbers as written."""
    names = [str(name) for name in names]
    if all(re.fullmatch("0|-?[1-9][0-9]{0,17}", name) for name in names):
        return np.array([int(name) for name in names])
    return np.array(names)


def _columns(shown: Any) -> tuple[str, ...] | None:
    """Names of the columns of rows, unless nobody has named them."""
    if not isinstance(shown, Rows):
        return None
    named = [name != f"column {c}" for c, name in enumerate(shown.names)]
    return tuple(shown.names) if any(named) else None
