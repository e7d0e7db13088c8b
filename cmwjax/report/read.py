"""What the files of a run, and of a comparison of runs, have to say."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from cmwjax.files import CONFIG, DIVERGED, METRICS
from cmwjax.methods.catalogue import (  # METHOD/seed_K/ in a comparison folder
    METHODS,
    method_of,
)
from cmwjax.tasks.catalogue import TASKS
from cmwjax.tasks.task import Task


def find_runs(comparison_dir: str | os.PathLike) -> dict[str, list[Path]]:
    """The run folders of each method that was run, in the order of their seeds.

    Runs that diverged are left out: they have no end to be compared.

    Raises:
      FileNotFoundError: if there is none.
    """
    folder, order = Path(comparison_dir), list(METHODS)
    rows = {f.parent.name for f in folder.glob("*/seed_*")}
    rows = {row for row in rows if method_of(row) in METHODS}
    runs = {
        row: sorted(
            (f for f in (folder / row).glob("seed_*") if not (f / DIVERGED).exists()),
            key=lambda run: (len(run.name), run.name),
        )
        for row in sorted(rows, key=lambda row: (order.index(method_of(row)), row))
    }
    if not any(runs.values()):
        raise FileNotFoundError(
            f"{folder} holds no run: give a folder with METHOD/seed_K in it, METHOD "
            f"one of {', '.join(METHODS)}"
        )
    return {method: folders for method, folders in runs.items() if folders}


def read_metrics(run_dir: str | os.PathLike) -> list[dict[str, Any]]:
    """The epochs of a run in order; of a repeated epoch (a resumed run) the last.

    Raises:
      FileNotFoundError: if the run has no metrics.jsonl.
      ValueError: if a line of it is not the record of an epoch.
    """
    path = Path(run_dir) / METRICS
    remedy = "give the folder of a run, or continue it by running its command again"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {remedy}")
    epochs = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            row = json.loads(line)
            epochs[int(row["epoch"])] = row
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"{path}, line {number} is not the record of an epoch: {remedy}"
            ) from None
    if not epochs:
        raise ValueError(f"{path} holds no epoch: {remedy}")
    return [epochs[epoch] for epoch in sorted(epochs)]


def read_curves(run_dir: str | os.PathLike) -> tuple[np.ndarray, np.ndarray] | None:
    """The weighting functions of every epoch.

    Returns:
      Losses [E, G] and weights [E, K, G], or `None` if the run learned none (ERM).
      Epochs before the net is at work (a warm-up) weigh every sample with one.
    """
    rows = read_metrics(run_dir)
    if "curve" not in rows[-1]:
        return None
    grid, ones = rows[-1]["curve_loss"], np.ones_like(rows[-1]["curve"], float)
    losses = [row.get("curve_loss", grid) for row in rows]
    weights = [row.get("curve", ones) for row in rows]
    return np.array(losses, float), np.array(weights, float)


def task_of(run_dir: str | os.PathLike) -> Task:
    """The task of a run, by its configuration; it was classification before it had one.

    Raises:
      FileNotFoundError: if the run has no config.json.
      ValueError: if that is damaged, or names a task that there is not.
    """
    path = Path(run_dir) / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give the folder of a run")
    try:
        name = json.loads(path.read_text()).get("task", "classification")
    except (ValueError, AttributeError):
        raise ValueError(f"{path} is damaged: give the folder of another run") from None
    if name not in tuple(TASKS):
        raise ValueError(
            f"{path} has the task {name!r}, which is none of {tuple(TASKS)}: draw it "
            "with the version that made it"
        )
    return TASKS[name]


def read_scores(comparison_dir: str | os.PathLike) -> dict[str, np.ndarray]:
    """Score in percent, [seeds, E], of each method that was run.

    The score is the criterion of the task, accuracy or R² of a regression, on the test
    set, or where there is none on the validation set.

    Raises:
      FileNotFoundError: if the folder holds no run.
      ValueError: if a run has fewer epochs than another, or lacks the score.
    """
    runs = find_runs(comparison_dir)
    scores = {run: _scores(run) for folders in runs.values() for run in folders}
    epochs = max(map(len, scores.values()))
    for run, values in scores.items():
        if len(values) < epochs:
            raise ValueError(
                f"{run} has {len(values)} of {epochs} epochs: continue it by running "
                "its command again"
            )
    return {
        method: np.array([scores[run] for run in folders])
        for method, folders in runs.items()
    }


def scored_on(run_dir: str | os.PathLike) -> str:
    """The set whose scores stand for a run: 'test', or 'validation' without one."""
    criterion = task_of(run_dir).criterion
    has = read_metrics(run_dir)[0].keys()
    without_test = f"test_{criterion}" not in has and f"validation_{criterion}" in has
    return "validation" if without_test else "test"


def _scores(run_dir: Path) -> list[float]:
    rows = read_metrics(run_dir)
    name = f"{scored_on(run_dir)}_{task_of(run_dir).criterion}"
    for row in rows:
        if row.get(name) is None:
            raise ValueError(
                f"{run_dir}/metrics.jsonl lacks {name} in epoch {row['epoch']}: "
                "run it with an evaluation after every epoch"
            )
    return [100 * row[name] for row in rows]
