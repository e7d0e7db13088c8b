"""What is measured of a run: at the end of every epoch, and at its own end."""

from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict
from numpy.typing import NDArray

from cmwjax.bias import meta_set
from cmwjax.bias.problem import Problem
from cmwjax.core import weighting_file
from cmwjax.core.labels import CLASSES
from cmwjax.core.weighting import summarise_weights
from cmwjax.files import (
    RESOLVED,
    SAMPLES,
    UNREADABLE,
    VALIDATION,
    WEIGHTING,
    write_arrays,
)
from cmwjax.report.samples import ranking, write_samples
from cmwjax.report.set_aside import write_set_aside
from cmwjax.report.shown import COUNT, write_suspects
from cmwjax.training import health, history, sets, steps
from cmwjax.training.evaluate import Scores
from cmwjax.training.run import Progress, Run
from cmwjax.training.state import RunState

CURVE_LOSSES = 10 * np.linspace(0, 1, 61, dtype=np.float32) ** 2  # dense near 0


def epoch_metrics(run: Run, progress: Progress) -> dict[str, Any]:
    """Metrics of the epoch that ends here.

    Raises:
      Diverged: if scores of samples are not finite.
    """
    problem, program, state = run.problem, run.program, progress.state
    learner, judged = state.learner, program.evaluated(state)
    is_last = progress.step == run.total_steps
    tests = _test_metrics(run, judged, at_the_end=is_last)
    means = steps.epoch_means(state.sums)
    moments = means.pop("weighting", None)
    metrics = {
        "learning_rate": program.schedule(learner.step - 1),
        **means,
        **tests,
    }
    others = {"meta": problem.meta_index, "validation": problem.validation_index}
    if program.method.trusted_only:  # what was learned by heart selects no epoch
        del others["meta"]
    for name, index in others.items():
        if index is not None and len(index):
            scores = run.score(judged, run.sets.train, index, of=name)
            metrics |= _named(name, run.summary(scores, problem.labels[index]))
    knows = problem.dataset.knows_true_labels
    if knows and program.method.has_meta_step and progress.meta_set is not None:
        metrics["meta_purity"] = meta_set.purity(
            progress.meta_set,
            run.program.labels(state, problem),
            problem.true_labels,
        )
    if state.teacher is not None:
        for name, one in (("teacher", state), ("net", state.without_teacher)):
            same = (one.teacher is None) == (judged.teacher is None)
            scores = tests if same else _test_metrics(run, one)
            criterion = program.task.criterion
            if scores:
                metrics[f"{name}_{criterion}"] = scores[f"test_{criterion}"]
    if moments is not None:
        metrics |= summarise_weights(moments)
    if program.curve is not None:
        curve = program.curve(learner.meta_params, CURVE_LOSSES)
        metrics |= {"curve_loss": CURVE_LOSSES, "curve": curve}
    return metrics


def _test_metrics(
    run: Run, state: RunState, *, at_the_end: bool = False
) -> dict[str, Any]:
    """Metrics of each test set; at the end of a run more of them, and by class."""
    metrics: dict[str, Any] = {}
    for name, samples in run.sets.tests.items():
        labels = run.problem.dataset.in_units(np.asarray(samples.table.labels))
        scores = run.score(state, samples, np.arange(len(labels)), of=name)
        metrics |= _named(name, run.summary(scores, labels, at_the_end=at_the_end))
        if at_the_end and name == "test" and run.program.task.label_kind == CLASSES:
            hits = (scores.predictions == labels)[scores.seen]
            size = run.problem.dataset.num_classes
            metrics["test_class_accuracy"] = _by_class(hits, labels[scores.seen], size)
    return metrics


def _by_class(
    values: NDArray[Any], labels: NDArray[np.integer], num_classes: int
) -> list[float | None]:
    """Mean of values `[n]` in each class; None where there is no sample of it."""
    counts = np.bincount(labels, minlength=num_classes)
    sums = np.bincount(labels, weights=values, minlength=num_classes)
    pairs = zip(sums.tolist(), counts.tolist(), strict=True)
    return [total / count if count else None for total, count in pairs]


def _named(name: str, metrics: dict[str, float]) -> dict[str, float]:
    return {f"{name}_{metric}": value for metric, value in metrics.items()}


def write_results(run: Run, progress: Progress) -> None:
    """Scores every training sample and writes the files that end a run.

    Raises:
      Diverged: if their scores are not finite; nothing is written then.
    """
    problem, method, config = run.problem, run.program.method, run.config
    dataset = problem.dataset
    judged = run.program.evaluated(progress.state)
    scores = run.score_training(judged, progress.frequencies)
    others = run.score_validation(judged, progress.frequencies)
    quality = progress.quality_with(run, scores, others) / (progress.looks + 1)
    weights = run.weights(progress.state, scores)
    table = run.program.remembered(progress.state, run.sets.train).table
    run.unreadable.write()
    index = problem.train_index[scores.seen]
    _warn_of_unread(problem, index)
    if jax.process_index() > 0:
        return
    net = method.net
    family = None if net is None else np.asarray(table.family)
    losses = scores.losses[scores.seen]
    # Classes mean nothing to other data, and what was applied as it is has its file.
    if net is not None and not method.by_class and not method.frozen:
        families = run.program.families(progress.state, problem)
        centres = families.centres if net.num_families > 1 else None
        function = weighting_file.WeightingFunction(
            params=net.plain(progress.state.learner.meta_params["params"]),
            centres=centres,
            loss=config.loss,
            normalisation=config.weighting.normalisation,
            provenance=_provenance(config),
            seen=(float(losses.min()), float(losses.max())),
        )
        weighting_file.save_weighting(run.workdir / WEIGHTING, function)
    # Unsure pseudo-labels of rare classes may well deserve more.
    if family is not None and not run.program.task.semi:
        health.warn_of_weights(
            losses,
            scores.weights[scores.seen],
            family[index],
            run.workdir,
        )
    rows = dataset.row_numbers
    trained = rows[problem.train_index]
    history.write(run.workdir, progress.history, config, trained, scores, weights)
    first = ranking(quality[index], losses, rows[index])[:COUNT]
    shown = sets.shown(config, dataset)
    seen = None if shown is None else [shown[i] for i in index[first]]
    write_suspects(run.workdir, rows[index[first]], seen)
    write_set_aside(run.workdir, problem, run.unreadable.rows("train"))
    if problem.candidates is not None:
        _write_resolved(run, scores, others)
    if others is not None and others.seen.any():
        _write_samples(
            run, VALIDATION, problem.validation_index, others, quality, family
        )
    # Last, and in one piece: that it exists means that the run is finished.
    scores = scores._replace(weights=weights)
    _write_samples(run, SAMPLES, problem.train_index, scores, quality, family)


def _warn_of_unread(problem: Problem, seen: np.ndarray) -> None:
    """Tells of classes of which nothing that was to be learned could be read."""
    if problem.dataset.label_kind != CLASSES:
        return
    wanted, read = (np.unique(problem.labels[i]) for i in (problem.train_index, seen))
    for label in np.setdiff1d(wanted, read):
        logging.warning(
            "not one training image of class %r could be read, and the classifier does "
            "not know it: see %s.",
            problem.dataset.class_names[label],
            UNREADABLE,
        )


def _write_resolved(run: Run, scores: Scores, others: Scores | None) -> None:
    """Writes `resolved.npz`: `row` int64 and `label` int32 of all samples given, `[N]`.

    The label is the likeliest candidate, and of trusted samples their own. Another run
    may learn it, by `config.data.labels='FOLDER/resolved.npz:label'`.
    """
    problem, labels = run.problem, run.problem.labels.copy()
    labels[problem.train_index] = scores.found["label"]
    if others is not None:
        labels[problem.validation_index] = others.found["label"]
    rows = problem.dataset.row_numbers
    write_arrays(run.workdir / RESOLVED, row=rows, label=labels.astype(np.int32))


def _write_samples(
    run: Run,
    name: str,
    index: np.ndarray,
    scores: Scores,
    quality: np.ndarray,
    family: np.ndarray | None,
) -> None:
    """Writes what is known of the samples at the positions `index`, but the unread."""
    problem, dataset, files = run.problem, run.problem.dataset, None
    index, seen = index[scores.seen], scores.seen
    if dataset.file_names is not None:
        files = [dataset.file_names[i] for i in index]
    given = dataset.in_words(problem.labels[index])
    if problem.candidates is not None:
        given = dataset.sets_in_words(problem.candidates[index])
    suggested = scores.found.get("suggestion", scores.predictions)[seen]
    write_samples(
        run.workdir / name,
        row=dataset.row_numbers[index],
        file=files,
        given_label=given,
        suggested_label=dataset.in_words(dataset.in_units(suggested)),
        true_label=dataset.in_words(problem.true_labels[index]),
        family=None if family is None else family[index],
        quality=quality[index],
        weights=scores.weights[seen],
        losses=scores.losses[seen],
    )


def _provenance(config: ConfigDict) -> dict[str, Any]:
    """Where a weighting function was learned."""
    return {
        "data": config.data.name,
        "labels": config.data.labels,
        "imbalance_factor": config.data.imbalance_factor,
        "noise": config.noise.to_dict(),
        "epochs": config.epochs,
        "seed": config.seed,
    }
