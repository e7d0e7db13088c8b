"""One run, top to bottom: data, model, steps, loop, files."""

import time
from collections.abc import Callable
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict, FrozenConfigDict

from cmwjax import (
    audit,
    data,
    evaluate,
    meta_set,
    problem_report,
    record,
    run_files,
    weighting_file,
)
from cmwjax import program as programs
from cmwjax.checkpoints import Checkpoints, to_host
from cmwjax.config import check_config
from cmwjax.health import check_finite, check_skips, warn_if_collapsed
from cmwjax.problem import Problem, prepare
from cmwjax.program import Program, RunState
from cmwjax.saved import check_unchanged, first
from cmwjax.sets import Sets, build_sets, set_names
from cmwjax.skipped import Skipped
from cmwjax.sources import Order
from cmwjax.stopping import Interrupted, Signals
from cmwjax.weighting import summarise_weights

CURVE_LOSSES = 10 * np.linspace(0, 1, 61, dtype=np.float32) ** 2  # dense near 0


class Result(NamedTuple):
    """What a finished run is judged by."""

    test_accuracy: float  # after the last epoch
    selected_accuracy: float | None  # of the epoch best on validation or meta set
    auroc: float  # of "this label is wrong", by weight; NaN if none is
    seconds: float  # all epochs together
    checkpoint_seconds: float  # of which training waited for checkpoints


def run(
    config: ConfigDict,
    workdir: str | Path,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    devices: tuple[jax.Device, ...] | None = None,
) -> Result:
    """Trains one method with one seed, and leaves its files in `workdir`.

    Goes on from the newest whole checkpoint that it finds there. The result is the same
    to the last bit, however often the run was stopped.

    Args:
      config: see `cmwjax.config.base_config`.
      workdir: a new or empty folder, or that of a run of this configuration.
      on_epoch: called with the metrics of every epoch; again, of the epoch just ended,
        when the run goes on from there.
      devices: what to run on, by default everything there is.

    Raises:
      ValueError: if configuration, data or workdir are unfit, or the data are not those
        that the run began with; nothing is written.
      Diverged: if loss or gradients are not finite any more.
      Interrupted: after SIGTERM or SIGINT, with a checkpoint saved.
    """
    check_config(config)
    record.check_folder(workdir, config)
    workdir = Path(workdir)
    if record.is_finished(workdir):
        logging.info("%s is finished; nothing to do.", workdir)
        return summarise(workdir)

    ### Data
    problem = prepare(config)
    table = partial(
        data.epoch_batches,
        problem.train_index,
        batch_size=config.data.batch_size,
        shards=config.data.shards,
        seed=config.seed,
    )
    steps = len(table(epoch=0))
    order = Order(table, steps)

    ### Model and steps
    program = programs.build(
        _shared_part(config),
        num_classes=problem.dataset.num_classes,
        image_shape=problem.dataset.train_images.shape[1:],
        num_families=len(problem.families.centres),
        steps_per_epoch=steps,
        devices=devices,
    )
    skipped = Skipped(workdir, set_names(problem))
    sets = build_sets(config, problem, program, skipped)
    meta_table = partial(
        data.meta_batches,
        batch_size=config.meta_set.batch_size,
        shards=config.data.shards,
        seed=config.seed,
        steps=steps,
    )
    if program.method.has_meta_step:  # else an error would wait for the warm-up's end
        held_out = problem.meta_index
        meta_table(problem.train_index if held_out is None else held_out, epoch=0)

    start = first(to_host(program.init(config.seed, problem)), problem)

    ### Start, or go on; from here on, files are written
    record.claim_folder(workdir, config)
    problem_report.write(workdir, config, problem)
    checkpoints = Checkpoints(
        workdir / "checkpoints", keep=config.checkpoint.keep, config=config.to_dict()
    )
    saved = checkpoints.restore(like=start) or start
    check_unchanged(saved, start, workdir)
    state, meta_index = program.layout.replicate(saved.run), saved.meta_index
    step, total_steps = int(state.learner.step), config.epochs * steps
    every = config.checkpoint.every_steps
    if record.drop_metrics(workdir, since=step) < (step - 1) // steps:
        logging.warning("%s/metrics.jsonl has lost epochs.", workdir)

    def save():
        nonlocal stall
        jax.block_until_ready(state)
        begin = time.perf_counter()
        host = to_host(start._replace(run=state, meta_index=meta_index))
        check_skips(host.run.learner, config, checkpoints)
        check_finite(host.run.learner, checkpoints)
        skipped.write()
        checkpoints.save(step, host)
        stall += time.perf_counter() - begin

    ### Loop
    clock, stall, warned = time.perf_counter(), 0.0, False
    train_rows = sets.train.source.training(order, range(step, total_steps))
    with (
        closing(train_rows),
        checkpoints,
        Signals() as signals,
        _saving_if_interrupted(save, checkpoints),
    ):
        while True:
            epoch, done = divmod(step, steps)
            if done == 0 and step > 0:
                with signals.at_once():
                    metrics = _epoch_metrics(problem, program, sets, state)
                metrics = {"epoch": epoch, "step": step, **metrics}
                metrics["seconds"] = time.perf_counter() - clock
                metrics["checkpoint_seconds"] = stall
                record.append_metrics(workdir, metrics)
                skipped.write()
                warned = warned or warn_if_collapsed(metrics, workdir)
                check_skips(state.learner, config, checkpoints)
                if on_epoch is not None:
                    on_epoch(metrics)
            if epoch == config.epochs:
                break
            is_warmup = epoch < config.warmup_epochs
            weighs = program.method.has_meta_step and not is_warmup
            if done == 0:
                clock, stall = time.perf_counter(), 0.0
                if weighs and config.meta_set.policy != "held_out":
                    with signals.at_once():
                        meta_index = _choose_meta_set(
                            config, epoch, problem, program, sets, state
                        )
                with signals.at_once():
                    refreshed = program.refresh(
                        state, sets.train, problem, epoch - config.warmup_epochs
                    )
                # Last: whoever stops before this evaluates the epoch once more.
                state = program.reset_sums(refreshed)
            end, train = step - done + steps, sets.train
            meta_steps = _multiples(config.meta_every, step, end if weighs else step)
            meta_order = Order(partial(meta_table, meta_index), steps)
            meta_rows = train.source.training(meta_order, meta_steps, meta=True)
            with closing(meta_rows):
                while step < end:
                    rows = next(train_rows)
                    if "image" in rows:  # else they would queue on the devices
                        jax.block_until_ready(state)
                    if is_warmup:
                        state = program.warmup(state, train.table, rows)
                    elif step in meta_steps:
                        state = program.meta(state, train.table, rows, next(meta_rows))
                    else:
                        state = program.weighted(state, train.table, rows)
                    step += 1
                    if step == total_steps or (every and step % every == 0):
                        save()
                    signals.check(step)

        ### Results
        checkpoints.wait()
        with signals.at_once():
            _write_results(workdir, config, problem, program, sets, state, skipped)
        record.wait_for_first_process()
    return summarise(workdir)


def summarise(workdir: Path) -> Result:
    """The result of a finished run, from its files."""
    epochs = run_files.read_metrics(workdir)
    samples = audit.read_samples(workdir / "samples.csv")
    last = epochs[-1]
    selected = None
    criteria = [k for k in ("validation_accuracy", "meta_accuracy") if k in last]
    if criteria:
        best = max(epochs, key=lambda metrics: metrics[criteria[0]])
        selected = best["test_accuracy"]
    known = samples["true_label"] != audit.UNKNOWN
    is_wrong = known & (samples["given_label"] != samples["true_label"])
    return Result(
        test_accuracy=last["test_accuracy"],
        selected_accuracy=selected,
        auroc=audit.wrong_label_auroc(samples["weight"][known], is_wrong[known]),
        seconds=sum(metrics["seconds"] for metrics in epochs),
        checkpoint_seconds=sum(metrics["checkpoint_seconds"] for metrics in epochs),
    )


def _shared_part(config):
    """What compiled functions depend on: the same for every seed."""
    shared = config.to_dict()
    for name in ("seed", "compare", "checkpoint", "max_skips_in_a_row"):
        del shared[name]
    return FrozenConfigDict(shared)


@contextmanager
def _saving_if_interrupted(save, checkpoints):
    try:
        yield
    except Interrupted:
        save()
        raise Interrupted(
            f"stopped; the same command continues from step {checkpoints.last or 0}."
        ) from None


def _multiples(of: int, first: int, end: int) -> range:
    """Those in [first, end)."""
    return range(-(-first // of) * of, end, of)


def _choose_meta_set(config, epoch, problem, program, sets, state):
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
    scores = program.score(state, sets.train, problem.train_index)
    losses = np.full(problem.labels.shape, np.nan)
    losses[problem.train_index] = scores.losses
    return meta_set.lowest_loss(
        losses,
        problem.labels,
        problem.train_index[scores.seen],
        per_class=config.meta_set.per_class,
        num_classes=num_classes,
    )


def _epoch_metrics(problem: Problem, program: Program, sets: Sets, state: RunState):
    """Metrics of the epoch that ends here."""
    learner = state.learner
    tests = _test_metrics(problem, program, sets, state)
    means = programs.epoch_means(state.sums)
    moments = means.pop("weighting", None)
    metrics = {
        "learning_rate": program.schedule(learner.step - 1),
        **means,
        **tests,
    }
    others = {"meta": problem.meta_index, "validation": problem.validation_index}
    for name, index in others.items():
        if index is not None and len(index):
            scores = program.score(state, sets.train, index)
            metrics[f"{name}_accuracy"] = scores.accuracy(problem.labels[index])
    if state.teacher is not None:
        net = _test_metrics(problem, program, sets, state._replace(teacher=None))
        metrics["net_accuracy"] = net["test_accuracy"]
    if moments is not None:
        metrics |= summarise_weights(moments)
    if program.curve is not None:
        curve = program.curve(learner.meta_params, CURVE_LOSSES)
        metrics |= {"curve_loss": CURVE_LOSSES, "curve": curve}
    return metrics


def _test_metrics(problem: Problem, program: Program, sets: Sets, state: RunState):
    """Accuracy on each test set; of many classes, also that of the five likeliest."""
    metrics = {}
    for name, samples in sets.tests.items():
        labels = np.asarray(samples.table.labels)
        scores = program.score(state, samples, np.arange(len(labels)))
        metrics[f"{name}_accuracy"] = scores.accuracy(labels)
        if problem.dataset.num_classes > 2 * evaluate.TOP:
            metrics[f"{name}_top{evaluate.TOP}"] = scores.top
    return metrics


def _write_results(workdir, config, problem, program, sets, state, skipped):
    """Scores every training sample and writes the files that end a run."""
    scores = program.score(state, sets.train, problem.train_index)
    skipped.write()
    index = problem.train_index[scores.seen]
    given = problem.labels[index]
    if jax.process_index() > 0:
        return
    net, by_class = program.method.net, program.method.by_class
    if net is not None and not by_class:  # classes mean nothing to other data
        centres = problem.families.centres if net.num_families > 1 else None
        function = weighting_file.WeightingFunction(
            params=state.learner.meta_params["params"],
            centres=centres,
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
        weighting_file.save_weighting(workdir / "weighting.safetensors", function)
    # Last, and in one piece: that it exists means that the run is finished.
    audit.write_samples(
        workdir / "samples.csv",
        index=index,
        given_label=given,
        suggested_label=scores.predictions[scores.seen],
        true_label=problem.true_labels[index],
        family=None if net is None else np.asarray(sets.train.table.family)[given],
        losses=scores.losses[scores.seen],
        weights=scores.weights[scores.seen],
    )
