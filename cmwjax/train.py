"""One run, top to bottom: data, model, steps, loop, files."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from ml_collections import ConfigDict, FrozenConfigDict

from cmwjax import audit, data, meta_set, record, run_files, weighting_file
from cmwjax import program as programs
from cmwjax.config import check_config
from cmwjax.problem import Problem, prepare
from cmwjax.program import Program, RunState
from cmwjax.table import Table, pixel_statistics
from cmwjax.weighting import summarise_weights

CURVE_LOSSES = np.linspace(0, 10, 41, dtype=np.float32)


class Tables(NamedTuple):
    """Training and test set on the devices."""

    train: Table
    test: Table


class Result(NamedTuple):
    """What a finished run is judged by."""

    test_accuracy: float  # after the last epoch
    selected_accuracy: float | None  # of the epoch best on the held-out meta set
    auroc: float  # of "this label is wrong", by weight; NaN if none is


def run(
    config: ConfigDict,
    workdir: str | Path,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> Result:
    """Trains one method with one seed, and leaves its files in `workdir`.

    Args:
      config: see `cmwjax.config.base_config`.
      workdir: a new or empty folder, or that of a run of this configuration.
      on_epoch: called with the metrics of every epoch.

    Raises:
      ValueError: if configuration, data or workdir are unfit; nothing is written.
    """
    check_config(config)

    ### Data
    problem = prepare(config)
    rows_of = partial(
        data.epoch_batches,
        problem.train_index,
        batch_size=config.data.batch_size,
        shards=config.data.shards,
        seed=config.seed,
    )
    steps = len(rows_of(epoch=0))

    ### Model and steps
    program = programs.build(
        _shared_part(config),
        num_classes=problem.dataset.num_classes,
        image_shape=problem.dataset.train_images.shape[1:],
        num_families=len(problem.families.centres),
        steps_per_epoch=steps,
    )
    split = program.layout.split
    tables = _tables(problem, program)
    meta_rows_of = partial(
        data.meta_batches,
        batch_size=config.meta_set.batch_size,
        shards=config.data.shards,
        seed=config.seed,
        steps=steps,
    )

    ### Folder
    workdir = record.claim_folder(workdir, config)
    if (workdir / "samples.csv").exists():
        logging.info("%s is finished; nothing to do.", workdir)
        return summarise(workdir)

    ### Loop
    state, meta_index = program.init(config.seed), problem.meta_index
    step, clock = 0, time.perf_counter()
    while True:
        epoch, position = divmod(step, steps)
        if position == 0 and step > 0:
            metrics = _epoch_metrics(problem, program, tables, state)
            metrics = {"epoch": epoch, "step": step, **metrics}
            metrics["seconds"] = time.perf_counter() - clock
            record.append_metrics(workdir, metrics)
            if on_epoch is not None:
                on_epoch(metrics)
        if epoch == config.epochs:
            break
        weighs = program.method.net is not None and epoch >= config.warmup_epochs
        if position == 0:
            clock = time.perf_counter()
            state = program.reset_sums(state)
            if weighs and config.meta_set.policy != "held_out":
                meta_index = _choose_meta_set(
                    config, epoch, problem, program, tables, state
                )
        rows = rows_of(epoch=epoch)
        meta_rows = meta_rows_of(meta_index, epoch=epoch) if weighs else None
        for position in range(position, steps):
            index = split(rows[position])
            if meta_rows is None:
                state = program.warmup(state, tables.train, index)
            elif step % config.meta_every:
                state = program.weighted(state, tables.train, index)
            else:
                meta = split(meta_rows[position])
                state = program.meta(state, tables.train, index, meta)
            step += 1

    ### Results
    _write_results(workdir, config, problem, program, tables, state)
    return summarise(workdir)


def summarise(workdir: Path) -> Result:
    """The result of a finished run, from its files."""
    epochs = run_files.read_metrics(workdir)
    samples = audit.read_samples(workdir / "samples.csv")
    last = epochs[-1]
    selected = None
    if "meta_accuracy" in last:
        best = max(epochs, key=lambda metrics: metrics["meta_accuracy"])
        selected = best["test_accuracy"]
    is_wrong = samples["given_label"] != samples["true_label"]
    auroc = audit.wrong_label_auroc(samples["weight"], is_wrong)
    return Result(last["test_accuracy"], selected, auroc)


def _shared_part(config):
    """What compiled functions depend on: the same for every seed."""
    shared = config.to_dict()
    del shared["seed"], shared["compare"]
    return FrozenConfigDict(shared)


def _tables(problem: Problem, program: Program) -> Tables:
    dataset = problem.dataset
    mean, std = pixel_statistics(dataset.train_images)
    net, family = program.method.net, problem.families.family
    if net is None or net.num_families == 1:
        family = np.zeros_like(family)
    train = Table(dataset.train_images, problem.labels, family, mean, std)
    test = Table(dataset.test_images, dataset.test_labels, family, mean, std)
    return program.layout.replicate(Tables(train, test))


def _choose_meta_set(config, epoch, problem, program, tables, state):
    """The meta set of this epoch, drawn from the training set itself."""
    num_classes = problem.dataset.num_classes
    if config.meta_set.policy == "balanced":
        return meta_set.balanced(
            problem.labels,
            problem.train_index,
            num_classes=num_classes,
            seed=config.seed,
            epoch=epoch,
        )
    scores = program.score(state.learner, tables.train, problem.train_index)
    return meta_set.lowest_loss(
        scores.losses,
        problem.labels,
        problem.train_index,
        per_class=config.meta_set.per_class,
        num_classes=num_classes,
    )


def _epoch_metrics(problem: Problem, program: Program, tables: Tables, state: RunState):
    """Metrics of the epoch that ends here."""
    learner, dataset = state.learner, problem.dataset
    everyone = np.arange(len(dataset.test_labels))
    test = program.score(learner, tables.test, everyone)
    means = programs.epoch_means(state.sums)
    moments = means.pop("weighting", None)
    metrics = {
        "learning_rate": program.schedule(learner.step - 1),
        **means,
        "test_accuracy": test.accuracy(dataset.test_labels),
    }
    if problem.meta_index is not None:
        trusted = program.score(learner, tables.train, problem.meta_index)
        labels = problem.labels[problem.meta_index]
        metrics["meta_accuracy"] = trusted.accuracy(labels)
    if moments is not None:
        metrics |= summarise_weights(moments)
    if program.method.net is not None:
        curve = program.curve(learner.meta_params, CURVE_LOSSES)
        metrics |= {"curve_loss": CURVE_LOSSES, "curve": curve}
    return metrics


def _write_results(workdir, config, problem, program, tables, state):
    """Scores every training sample and writes the files that end a run."""
    net = program.method.net
    if net is not None:
        centres = problem.families.centres if net.num_families > 1 else None
        function = weighting_file.WeightingFunction(
            params=state.learner.meta_params["params"],
            centres=centres,
            normalisation=config.weighting.normalisation,
            provenance={
                "data": config.data.name,
                "noise": config.noise.to_dict(),
                "epochs": config.epochs,
                "seed": config.seed,
            },
        )
        weighting_file.save(workdir / "weighting.safetensors", function)
    index = problem.train_index
    scores = program.score(state.learner, tables.train, index)
    given = problem.labels[index]
    # Last, and in one piece: that it exists means that the run is finished.
    audit.write_samples(
        workdir / "samples.csv",
        index=index,
        given_label=given,
        suggested_label=scores.predictions,
        true_label=problem.true_labels[index],
        family=None if net is None else np.asarray(tables.train.family)[given],
        losses=scores.losses,
        weights=scores.weights,
    )
