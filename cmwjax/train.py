"""One run, top to bottom: what it is made of, its epochs, its files."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict
from numpy.typing import NDArray

from cmwjax.bias import meta_set
from cmwjax.bias.problem import prepare
from cmwjax.config_check import check_config
from cmwjax.data.dataset import Dataset
from cmwjax.data.sources import Rows
from cmwjax.files import expanded
from cmwjax.methods.catalogue import title
from cmwjax.report.metrics import append_metrics, drop_metrics
from cmwjax.report.page import write_missing_report
from cmwjax.report.problem import check_data, data_digest, log_header, write_problem
from cmwjax.report.result import Result, summarise
from cmwjax.stopping import Interrupted, Signals
from cmwjax.training import export, history, measure, sets
from cmwjax.training.evaluate import Scores
from cmwjax.training.health import check_skips, warn_if_collapsed, warn_if_exploded
from cmwjax.training.run import Progress, Run, assemble
from cmwjax.training.state import RunState, check_unchanged
from cmwjax.training.workdir import (
    check_folder,
    check_free,
    claim_folder,
    is_finished,
    running_in,
    wait_for_first_process,
)

OnEpoch = Callable[[dict[str, Any]], None]


def run(
    config: ConfigDict,
    workdir: str | Path,
    on_epoch: OnEpoch | None = None,
    devices: tuple[jax.Device, ...] | None = None,
    arrays: Dataset | None = None,
    model: nn.Module | None = None,
    header: bool = True,
    report: bool = True,
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
      arrays: a data set in place of the one that the configuration names.
      model: a classifier in place of that of the configuration; for both, see
        `cmwjax.training.run.assemble`.
      header: whether the log says what the run learns from.
      report: whether to draw `report.html` in the end, half a second.

    Raises:
      ValueError: if configuration, data, model or workdir are unfit, another process
        is running in the workdir, or the data are not those that the run began with;
        nothing is written.
      Diverged: if losses, gradients or outputs are not finite any more.
      Interrupted: after SIGTERM or SIGINT, with a checkpoint saved.
    """
    workdir = expanded(workdir)
    if is_finished(workdir):
        check_config(config)
        check_folder(workdir, config)
        check_data(workdir, data_digest(prepare(config, arrays).dataset))
        logging.info("%s is finished; nothing to do.", workdir)
        if report:
            write_missing_report(workdir)
        return summarise(workdir)
    check_free(workdir)
    this = assemble(config, workdir, arrays=arrays, model=model, devices=devices)
    with running_in(this.workdir):
        if header:
            what = f"{title(config.method)}, seed {config.seed}"
            log_header(what, config, this.problem, devices)
        train(this, on_epoch)
        if report:
            write_missing_report(this.workdir)
    return summarise(this.workdir)


def train(this: Run, on_epoch: OnEpoch | None = None) -> None:
    """Begins a run or goes on with it, up to its last file."""
    progress = begin(this)
    steps_left = range(progress.step, this.total_steps)
    rows = this.sets.train.source.training(this.order, steps_left)
    with (
        closing(rows),
        this.checkpoints,
        progress.compiling,
        Signals() as signals,
        _saving_if_interrupted(this, progress),
    ):
        finished, steps_done = divmod(progress.step, this.steps_per_epoch)
        if finished and not steps_done:  # its metrics may not have been written
            end_epoch(this, progress, signals, on_epoch)
        for epoch in range(finished, this.config.epochs):
            begin_epoch(this, progress, epoch, signals)
            train_epoch(this, progress, epoch, rows, signals)
            end_epoch(this, progress, signals, on_epoch)
        finish(this, progress, signals)


def begin(run: Run) -> Progress:
    """Where the run goes on, or its beginning; from here on, files are written.

    Raises:
      ValueError: if data or model are not those of what was saved; nothing is written.
    """
    saved = run.checkpoints.restore(like=run.start) or run.start
    check_unchanged(saved, run.start, run.workdir)
    claim_folder(run.workdir, run.config)
    write_problem(run.workdir, run.config, run.problem)
    progress = Progress.of(run, saved)
    lines = drop_metrics(run.workdir, since=progress.step)
    if lines < (progress.step - 1) // run.steps_per_epoch:
        logging.warning("%s/metrics.jsonl has lost epochs.", run.workdir)
    return progress


def begin_epoch(run: Run, progress: Progress, epoch: int, signals: Signals) -> None:
    """Looks at all samples, chooses the meta set and refreshes the memory.

    Does nothing if the epoch has begun.

    A run that stops before all of this is done is still in the epoch before, which is
    then measured once more.
    """
    if progress.step > epoch * run.steps_per_epoch:
        return
    clock, compiled = time.perf_counter(), progress.compiling.seconds
    state, chosen = progress.state, progress.meta_set
    quality, looks = progress.quality, progress.looks
    frequencies, seen_before = progress.frequencies, progress.history
    judged, scores = run.program.evaluated(state), None
    is_drawn_anew = run.problem.meta_index is None
    with signals.at_once():
        if run.looks_before(epoch):
            scores = run.score_training(judged, frequencies)
            others = run.score_validation(judged, frequencies)
            quality, looks = progress.quality_with(run, scores, others), looks + 1
            weights = run.weights(state, scores)
            frequencies = sets.frequencies(run.problem, weights)
            seen_before = history.with_look(
                seen_before, run.config, epoch, scores, weights
            )
        if run.has_meta_steps(epoch) and is_drawn_anew:
            seen = scores if judged is state else None
            chosen = choose_meta_set(run, state, epoch, seen)
        since_warmup = epoch - run.config.warmup_epochs
        state = run.program.refresh(state, run.sets.train, run.problem, since_warmup)
    progress.quality, progress.looks = quality, looks
    progress.frequencies, progress.history = frequencies, seen_before
    progress.begin_epoch(run.program.reset_sums(state), chosen, clock, compiled)


def train_epoch(
    run: Run, progress: Progress, epoch: int, rows: Iterator[Rows], signals: Signals
) -> None:
    """Makes the steps of an epoch that are left, and the checkpoints due on the way.

    Args:
      run: what is trained.
      progress: where it is; changes.
      epoch: the epoch.
      rows: those of the training set, from the next step on.
      signals: asked after every step whether to stop.
    """
    end = (epoch + 1) * run.steps_per_epoch
    every = run.config.checkpoint.every_steps
    meta_steps = range(0)
    if run.has_meta_steps(epoch):
        meta_steps = _multiples(run.config.meta_every, progress.step, end)
    # Not the same again as another program, which takes long to compile.
    is_warmup = epoch < run.config.warmup_epochs and run.program.method.has_warmup
    meta_order = run.meta_order(progress.meta_set)
    meta_rows = run.sets.train.source.training(meta_order, meta_steps, meta=True)
    with closing(meta_rows):
        while progress.step < end:
            steps = _steps_at_once(run, progress.step, end)
            due = [i in meta_steps for i in steps]
            progress.state = _advance(
                run,
                progress.state,
                [next(rows) for _ in steps],
                [next(meta_rows) if is_due else None for is_due in due],
                is_warmup=is_warmup,
            )
            progress.step += len(steps)
            if progress.step == run.total_steps or (
                every and progress.step % every == 0
            ):
                progress.save(run)
            signals.check(progress.step)


def end_epoch(
    run: Run, progress: Progress, signals: Signals, on_epoch: OnEpoch | None
) -> None:
    """Measures the epoch that ends here, and tells of it."""
    with signals.at_once():
        metrics = measure.epoch_metrics(run, progress)
    epoch = progress.step // run.steps_per_epoch
    metrics = {"epoch": epoch, "step": progress.step, **metrics}
    metrics["seconds"] = progress.seconds
    metrics["checkpoint_seconds"] = progress.stall
    metrics["compile_seconds"] = progress.compiling.seconds
    with signals.at_once():
        export.save_if_selected(run, progress, metrics)
    append_metrics(run.workdir, metrics)
    run.unreadable.write()
    progress.warned = progress.warned or warn_if_collapsed(metrics, run.workdir)
    progress.exploded = progress.exploded or warn_if_exploded(metrics, run.config)
    check_skips(progress.state.learner, run.config, run.last_good)
    if on_epoch is not None:
        on_epoch(metrics)


def finish(run: Run, progress: Progress, signals: Signals) -> None:
    """Writes the files that end a run."""
    run.checkpoints.wait()
    with signals.at_once():
        export.save_last(run, progress)
        measure.write_results(run, progress)
    wait_for_first_process()


@contextmanager
def _saving_if_interrupted(run: Run, progress: Progress) -> Generator[None, None, None]:
    try:
        yield
    except Interrupted:
        progress.save(run)
        raise Interrupted(
            f"stopped; the same command continues from step {run.last_good() or 0}."
        ) from None


def choose_meta_set(
    run: Run, state: RunState, epoch: int, scores: Scores | None
) -> NDArray[np.int32]:
    """The meta set of this epoch, drawn from the training set itself; int32 `[M]`.

    Args:
      run: what is trained.
      state: whose scores count.
      epoch: the epoch.
      scores: those of the training samples, where they are there already.
    """
    problem, config = run.problem, run.config.meta_set
    groups, num_groups = problem.groups, problem.num_groups
    if config.policy == meta_set.LABELLED:
        return problem.labelled_index
    if config.policy == "balanced":
        return meta_set.balanced(
            groups,
            problem.train_index,
            num_classes=num_groups,
            seed=run.config.seed,
            epoch=epoch,
        )
    scores = scores or run.score_training(state)
    losses = np.full(problem.labels.shape, np.nan)
    losses[problem.train_index] = scores.losses
    index, has_sets = problem.train_index[scores.seen], problem.candidates is not None
    if has_sets:  # the losses of those whose likeliest candidate is the believed one
        groups = run.program.labels(state, problem)
        index = index[groups[index] == scores.found["label"][scores.seen]]
    return meta_set.lowest_loss(
        losses,
        groups,
        index,
        per_class=config.per_class,
        num_classes=num_groups,
        or_fewer=has_sets,
    )


def _steps_at_once(run: Run, step: int, end: int) -> range:
    """The steps that are dispatched together at `step` of an epoch that ends at `end`.

    They follow from the number of the step alone, whatever was stopped before, and
    never reach beyond a checkpoint.
    """
    count, every = run.config.steps_per_call, run.config.checkpoint.every_steps
    in_epoch = step % run.steps_per_epoch
    if every:
        end = min(end, (step // every + 1) * every)
    if in_epoch % count or step + count > end:
        count = 1
    return range(step, step + count)


def _advance(
    run: Run,
    state: RunState,
    rows: list[Rows],
    meta_rows: list[Rows | None],
    *,
    is_warmup: bool,
) -> RunState:
    """The state after a step for each of `rows`; where none is due, no meta rows."""
    program, table = run.program, run.sets.train.table
    if "input" in rows[0]:  # else they would queue on the devices
        jax.block_until_ready(state)
    batches = [rows]
    wanted = [r for r in meta_rows if r is not None]
    if wanted:  # steps between them look at none, whatever it is
        batches.append([wanted[0] if r is None else r for r in meta_rows])
    if len(rows) == 1:
        steps, arguments = program.step, [batch[0] for batch in batches]
    else:
        steps, arguments = program.several, map(program.layout.stack, batches)
    if is_warmup:
        return steps.warmup(state, table, *arguments)
    if wanted:
        return steps.meta(state, table, *arguments)
    return steps.weighted(state, table, *arguments)


def _multiples(of: int, first: int, end: int) -> range:
    """Those in [first, end)."""
    return range(-(-first // of) * of, end, of)
