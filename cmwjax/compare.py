"""Several methods side by side over several seeds, and one table."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from cmwjax import train
from cmwjax.bias.problem import Problem, prepare
from cmwjax.compilation import Clock
from cmwjax.config import base_config
from cmwjax.config_check import check_config
from cmwjax.console import Progress
from cmwjax.data import csv_sets
from cmwjax.data.dataset import Dataset
from cmwjax.files import DIVERGED, SUMMARY, expanded, write_json
from cmwjax.methods.catalogue import method_of, title
from cmwjax.report import plots
from cmwjax.report.event_files import event_files
from cmwjax.report.page import write_or_warn
from cmwjax.report.problem import check_data, data_digest, log_header
from cmwjax.report.result import Result, duration
from cmwjax.report.summary import diverged as diverged
from cmwjax.report.summary import last_epoch as last_epoch
from cmwjax.report.summary import mean_and_std as mean_and_std
from cmwjax.report.summary import table as table
from cmwjax.tasks.catalogue import TASKS
from cmwjax.training.health import Diverged
from cmwjax.training.run import check_run
from cmwjax.training.sets import shown
from cmwjax.training.workdir import (
    check_folder,
    check_free,
    claim_folder,
    is_finished,
    running_in,
    wait_for_first_process,
)

OnRun = Callable[[str, int, Result | None], None]
SCORE = (  # what a summary says of its numbers
    "a number per seed: last_epoch, selected_epoch and average_precision in percent on "
    "the set that scored_on names; wrong_label_auroc in [0, 1]; seconds; null where a "
    "run diverged, no samples select an epoch, there are more than two classes, or "
    "nobody knows which labels are wrong"
)


def run(
    config: ConfigDict,
    workdir: str | Path,
    on_run: OnRun | None = None,
    *,
    tensorboard: bool = False,
) -> str:
    """Makes the runs of `config.compare`, each in `workdir/METHOD/seed_K`.

    Finished runs are not repeated, nor those that diverged, of which the others take no
    notice. Prints progress while it works and writes `summary.json` and figures at the
    end.

    Args:
      config: see `cmwjax.config.base_config`; methods and seeds to compare.
      workdir: a new or empty folder, or that of a comparison of this configuration.
      on_run: called with method, seed and result of every run that has ended; the
        result is None if it diverged.
      tensorboard: whether runs write their metrics for TensorBoard, too.

    Returns:
      The table: accuracy on the test set, or R² of a regression, in percent, mean and
      standard deviation over seeds (see `mean_and_std`), after the last epoch and after
      the one that is best on the validation set (or else the held-out meta set); of two
      classes also average precision; and AUROC of "this label is wrong" by quality.

    Raises:
      ValueError: if configuration, data or workdir are unfit, another process is
        running in the workdir, or a run there learned from other data; nothing is
        trained or written then.
    """
    check_config(config)
    workdir = expanded(workdir)
    check_folder(workdir, config)
    check_free(workdir)
    methods, seeds = config.compare.methods, config.compare.seeds
    for method in methods:
        check_config(one_run(config, method, seeds[0]))
    problem = _check_every_run(config, workdir)
    with running_in(workdir):
        workdir = claim_folder(workdir, config)
        return _run_all(config, workdir, problem, on_run, tensorboard)


def _run_all(
    config: ConfigDict,
    workdir: Path,
    problem: Problem,
    on_run: OnRun | None,
    tensorboard: bool,
) -> str:
    """Makes the runs, all of which have been checked; returns the table."""
    methods, seeds = config.compare.methods, config.compare.seeds
    if all(
        is_finished(run_folder(workdir, method, seed))
        for method in methods
        for seed in seeds
    ):
        print(f"All runs in {workdir} are finished; there is nothing to train.")
    else:
        rows = ", ".join(title(method) for method in methods)
        what = f"{rows}, seeds {', '.join(map(str, seeds))}"
        first = one_run(config, methods[0], seeds[0])
        log_header(what, first, problem)
    start = time.perf_counter()
    results: dict[str, list[Result | None]] = {method: [] for method in methods}
    total = len(methods) * len(seeds) * config.epochs
    with Progress(total) as progress, Clock() as compiling:
        for method in methods:
            for seed in seeds:
                progress.describe(f"{title(method)}, seed {seed}")
                done = progress.done
                single = one_run(config, method, seed)
                folder = run_folder(workdir, method, seed)
                with hooks(progress, folder, tensorboard) as on_epoch:
                    if is_finished(folder):  # of these data, as has been checked
                        result = train.summarise(folder)
                    else:
                        result = run_or_diverge(single, folder, on_epoch)
                results[method].append(result)
                progress.reach(done + config.epochs)  # of a finished run
                if on_run is not None:
                    on_run(method, seed, result)
    seconds = time.perf_counter() - start
    logging.info("It took %s.", duration(seconds, compiling.seconds))
    ended = [r for runs in results.values() for r in runs if r is not None]
    summary = {
        "score": SCORE,
        "criterion": TASKS[config.task].title,
        "labels": "labels" if problem.dataset.num_classes else "targets",
        "scored_on": "test" if problem.dataset.has_test else "validation",
        "test_labels": "given" if _scores_by_given(config, problem) else "right",
        "seeds": list(seeds),
        "seconds": seconds,
        "checkpoint_seconds": sum(r.checkpoint_seconds for r in ended),
        "compile_seconds": compiling.seconds,
        "methods": {method: measured(runs) for method, runs in results.items()},
    }
    if jax.process_index() == 0:
        write_json(workdir / SUMMARY, summary)
        if ended:
            draw_figures(config, workdir, problem.dataset)
        write_or_warn(workdir)
    wait_for_first_process()
    return table(summary)


@contextmanager
def hooks(
    progress: Progress, folder: Path, tensorboard: bool
) -> Generator[train.OnEpoch, None, None]:
    """What is to be called after every epoch of a run."""
    before = progress.done
    with event_files(folder) if tensorboard else nullcontext() as write:

        def on_epoch(metrics):
            progress.reach(before + metrics["epoch"])
            if write is not None:
                write(metrics)

        yield on_epoch


def _check_every_run(config: ConfigDict, workdir: Path) -> Problem:
    """Refuses a comparison of which a run cannot be made, or was made of other data.

    Returns:
      What the first one learns from.
    """
    problems: dict[str, Problem] = {}  # most often all methods have the same
    digests: dict[str, bytes] = {}
    for method in config.compare.methods:
        single = one_run(config, method, config.compare.seeds[0])
        groups = [single[name].to_dict() for name in ("data", "noise", "meta_set")]
        families = single.weighting.num_families, bool(single.weighting.load)
        read = repr((groups, families, single.task))
        if read not in problems:
            problems[read] = prepare(single)
            digests[read] = data_digest(problems[read].dataset)
        check_run(single, problems[read])
        for seed in config.compare.seeds:  # which has no part in what data there are
            folder = run_folder(workdir, method, seed)
            check_folder(folder, one_run(config, method, seed))
            check_free(folder)
            check_data(folder, digests[read])
    return next(iter(problems.values()))


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _scores_by_given(config: ConfigDict, problem: Problem) -> bool:
    """Whether scores are of samples that were split off those to learn from."""
    data = config.data
    if not problem.dataset.has_test:
        return True
    is_split_off = csv_sets.is_name(data.name) and not data.csv.test
    return is_split_off and data.labels == "given"


def run_folder(workdir: Path, method: str, seed: int) -> Path:
    """Where a comparison keeps one of its runs."""
    return workdir / method / f"seed_{seed}"


def run_or_diverge(
    config: ConfigDict,
    folder: Path,
    on_epoch: train.OnEpoch | None = None,
    arrays: Dataset | None = None,
) -> Result | None:
    """The result of a run, or None if it diverges, which its folder then says.

    Args:
      config: configuration of the run.
      folder: its folder.
      on_epoch: as for `train.run`.
      arrays: as for `train.run`.

    Raises:
      ValueError: as `train.run`.
    """
    if (folder / DIVERGED).exists():
        check_folder(folder, config)
        return None
    try:
        return train.run(config, folder, on_epoch=on_epoch, arrays=arrays, header=False)
    except Diverged as error:
        logging.warning("%s: %s", folder, error)
        if jax.process_index() == 0:
            write_json(folder / DIVERGED, {"reason": str(error)})
        wait_for_first_process()
        return None


def measured(runs: list[Result | None]) -> dict[str, list[float | None]]:
    """What a summary says of a method, a number per seed."""

    def of_each(number):
        return [None if r is None else number(r) for r in runs]

    return {
        "last_epoch": of_each(lambda r: _percent(r.scores[1])),
        "selected_epoch": of_each(lambda r: _percent(r.scores[2])),
        "average_precision": of_each(
            lambda r: r.average_precision and 100 * r.average_precision
        ),
        "wrong_label_auroc": of_each(
            lambda r: None if np.isnan(r.auroc) else r.auroc  # no JSON has a NaN
        ),
        "seconds": of_each(lambda r: r.seconds),
    }


def draw_figures(config: ConfigDict, workdir: Path, dataset: Dataset) -> None:
    """Draws the comparison, and of every method the first finished run."""
    plots.comparison_figures(workdir)
    images = shown(config, dataset)
    for method in config.compare.methods:
        folders = (run_folder(workdir, method, s) for s in config.compare.seeds)
        finished = next(filter(is_finished, folders), None)
        if finished is not None:
            plots.run_figures(finished, images=images, rows=dataset.row_numbers)


def one_run(config: ConfigDict, method: str, seed: int) -> ConfigDict:
    """The configuration of one run of a comparison; `METHOD@NAME` is a variant.

    A variant has what is tuned for its method, and then what is its own.
    """
    single, tuned = ConfigDict(config.to_dict()), config.compare.tuned
    for row in dict.fromkeys((method_of(method), method)):
        single.update(tuned.get(row, {}))
    single.update(method=method_of(method), seed=seed)
    single.compare = base_config().compare  # update would only add to it
    return single.lock()
