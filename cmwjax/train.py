"""One run, top to bottom: data, model, steps, loop, files."""

import time
from collections.abc import Callable
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from cmwjax.bias import meta_set
from cmwjax.bias.problem import prepare
from cmwjax.config_check import check_config
from cmwjax.data.order import Order, epoch_batches, meta_batches
from cmwjax.data.skipped import Skipped
from cmwjax.files import CHECKPOINTS
from cmwjax.report.metrics import append_metrics, drop_metrics
from cmwjax.report.problem import write_problem
from cmwjax.report.result import Result, summarise
from cmwjax.stopping import Interrupted, Signals
from cmwjax.training import measure
from cmwjax.training import program as programs
from cmwjax.training.checkpoints import Checkpoints, to_host
from cmwjax.training.health import (
    check_finite,
    check_skips,
    warn_if_collapsed,
    warn_if_sizes_alike,
)
from cmwjax.training.sets import build_sets, set_names
from cmwjax.training.state import check_unchanged, first
from cmwjax.training.workdir import (
    check_folder,
    claim_folder,
    is_finished,
    wait_for_first_process,
)


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
    check_folder(workdir, config)
    workdir = Path(workdir)
    if is_finished(workdir):
        logging.info("%s is finished; nothing to do.", workdir)
        return summarise(workdir)

    ### Data
    problem = prepare(config)
    table = partial(
        epoch_batches,
        problem.train_index,
        batch_size=config.data.batch_size,
        shards=config.data.shards,
        seed=config.seed,
    )
    steps = len(table(epoch=0))
    order = Order(table, steps)

    ### Model and steps
    program = programs.build(
        programs.shared_part(config),
        inputs=problem.dataset.spec,
        num_classes=problem.dataset.num_classes,
        num_groups=problem.num_groups,
        num_families=len(problem.families.centres),
        steps_per_epoch=steps,
        devices=devices,
    )
    if program.method.frozen:
        warn_if_sizes_alike(problem.families.centres)
    skipped = Skipped(workdir, set_names(problem))
    sets = build_sets(
        config,
        problem,
        layout=program.layout,
        method=program.method,
        view=program.view,
        skipped=skipped,
    )
    meta_table = partial(
        meta_batches,
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
    claim_folder(workdir, config)
    write_problem(workdir, config, problem)
    checkpoints = Checkpoints(
        workdir / CHECKPOINTS, keep=config.checkpoint.keep, config=config.to_dict()
    )
    saved = checkpoints.restore(like=start) or start
    check_unchanged(saved, start, workdir)
    state, meta_index = program.layout.replicate(saved.run), saved.meta_set
    step, total_steps = int(state.learner.step), config.epochs * steps
    every = config.checkpoint.every_steps
    if drop_metrics(workdir, since=step) < (step - 1) // steps:
        logging.warning("%s/metrics.jsonl has lost epochs.", workdir)

    def save():
        nonlocal stall
        jax.block_until_ready(state)
        begin = time.perf_counter()
        host = to_host(start.at(state, meta_index))
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
                    metrics = measure.epoch_metrics(
                        problem, program, sets, state, meta_index
                    )
                metrics = {"epoch": epoch, "step": step, **metrics}
                metrics["seconds"] = time.perf_counter() - clock
                metrics["checkpoint_seconds"] = stall
                append_metrics(workdir, metrics)
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
                    count = _at_once(config, step, begin=end - steps, end=end)
                    rows = [next(train_rows) for _ in range(count)]
                    due = [
                        next(meta_rows) if i in meta_steps else None
                        for i in range(step, step + count)
                    ]
                    if "input" in rows[0]:  # else they would queue on the devices
                        jax.block_until_ready(state)
                    state = _advance(program, state, train.table, rows, due, is_warmup)
                    step += count
                    if step == total_steps or (every and step % every == 0):
                        save()
                    signals.check(step)

        ### Results
        checkpoints.wait()
        with signals.at_once():
            measure.write_results(
                workdir, config, problem, program, sets, state, skipped
            )
        wait_for_first_process()
    return summarise(workdir)


@contextmanager
def _saving_if_interrupted(save, checkpoints):
    try:
        yield
    except Interrupted:
        save()
        raise Interrupted(
            f"stopped; the same command continues from step {checkpoints.last or 0}."
        ) from None


def _at_once(config, step: int, *, begin: int, end: int) -> int:
    """How many steps are dispatched together at `step` of an epoch [begin, end).

    It follows from the number of the step alone, whatever was stopped before, and never
    reaches beyond a checkpoint.
    """
    count, every = config.steps_per_call, config.checkpoint.every_steps
    if every:
        end = min(end, (step // every + 1) * every)
    fits = (step - begin) % count == 0 and step + count <= end
    return count if fits else 1


def _advance(program, state, table, rows, due, is_warmup):
    """The state after a step for each of `rows`; `due` has meta rows, or None."""
    kind = "warmup" if is_warmup else "weighted"
    batches = [rows]
    if any(meta_rows is not None for meta_rows in due):
        kind = "meta"
        unused = next(meta_rows for meta_rows in due if meta_rows is not None)
        batches.append([unused if r is None else r for r in due])
    if len(rows) == 1:
        return getattr(program.step, kind)(state, table, *(b[0] for b in batches))
    stacked = map(program.layout.stack, batches)
    return getattr(program.several, kind)(state, table, *stacked)


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
