"""What is measured of a run: at the end of every epoch, and at its own end."""

import jax
import numpy as np

from cmwjax.bias import meta_set
from cmwjax.bias.problem import Problem
from cmwjax.core import weighting_file
from cmwjax.core.weighting import summarise_weights
from cmwjax.files import SAMPLES, WEIGHTING
from cmwjax.report.samples import write_samples
from cmwjax.training import steps
from cmwjax.training.program import Program
from cmwjax.training.sets import Sets
from cmwjax.training.state import RunState

CURVE_LOSSES = 10 * np.linspace(0, 1, 61, dtype=np.float32) ** 2  # dense near 0


def epoch_metrics(
    problem: Problem,
    program: Program,
    sets: Sets,
    state: RunState,
    meta_index: np.ndarray | None,
):
    """Metrics of the epoch that ends here, in which the meta set was `meta_index`."""
    learner, judged = state.learner, program.evaluated(state)
    tests = _test_metrics(program, sets, judged)
    means = steps.epoch_means(state.sums)
    moments = means.pop("weighting", None)
    metrics = {
        "learning_rate": program.schedule(learner.step - 1),
        **means,
        **tests,
    }
    others = {"meta": problem.meta_index, "validation": problem.validation_index}
    for name, index in others.items():
        if index is not None and len(index):
            scores = program.score(judged, sets.train, index)
            metrics |= _named(name, scores.summary(program.task, problem.labels[index]))
    knows = problem.dataset.knows_true_labels
    if knows and program.method.has_meta_step and meta_index is not None:
        metrics["meta_purity"] = meta_set.purity(
            meta_index, problem.labels, problem.true_labels
        )
    if state.teacher is not None:
        for name, one in (("teacher", state), ("net", state.without_teacher)):
            same = (one.teacher is None) == (judged.teacher is None)
            scores = tests if same else _test_metrics(program, sets, one)
            criterion = program.task.criterion
            metrics[f"{name}_{criterion}"] = scores[f"test_{criterion}"]
    if moments is not None:
        metrics |= summarise_weights(moments)
    if program.curve is not None:
        curve = program.curve(learner.meta_params, CURVE_LOSSES)
        metrics |= {"curve_loss": CURVE_LOSSES, "curve": curve}
    return metrics


def _test_metrics(program: Program, sets: Sets, state: RunState):
    """Metrics of each test set."""
    metrics = {}
    for name, samples in sets.tests.items():
        labels = np.asarray(samples.table.labels)
        scores = program.score(state, samples, np.arange(len(labels)))
        metrics |= _named(name, scores.summary(program.task, labels))
    return metrics


def _named(name, metrics):
    return {f"{name}_{metric}": value for metric, value in metrics.items()}


def write_results(workdir, config, problem, program, sets, state, skipped):
    """Scores every training sample and writes the files that end a run."""
    judged = program.evaluated(state)
    scores = program.score(judged, sets.train, problem.train_index)
    skipped.write()
    index = problem.train_index[scores.seen]
    given = problem.labels[index]
    if jax.process_index() > 0:
        return
    net, by_class = program.method.net, program.method.by_class
    # Classes mean nothing to other data, and what was applied as it is has its file.
    if net is not None and not by_class and not program.method.frozen:
        centres = problem.families.centres if net.num_families > 1 else None
        function = weighting_file.WeightingFunction(
            params=state.learner.meta_params["params"],
            centres=centres,
            loss=config.loss,
            normalisation=config.weighting.normalisation,
            provenance={
                "data": config.data.name,
                "labels": config.data.labels,
                "imbalance_factor": config.data.imbalance_factor,
                "noise": config.noise.to_dict(),
                "epochs": config.epochs,
                "seed": config.seed,
            },
        )
        weighting_file.save_weighting(workdir / WEIGHTING, function)
    # Last, and in one piece: that it exists means that the run is finished.
    write_samples(
        workdir / SAMPLES,
        index=index,
        given_label=given,
        suggested_label=scores.predictions[scores.seen],
        true_label=problem.true_labels[index],
        family=None if net is None else np.asarray(sets.train.table.family)[index],
        losses=scores.losses[scores.seen],
        weights=scores.weights[scores.seen],
    )
