"""What a finished run is judged by, from its files."""

import math
from pathlib import Path
from typing import Any, NamedTuple

from cmwjax.report.read import read_metrics, task_of
from cmwjax.report.samples import is_known, is_wrong, samples_of, wrong_label_auroc
from cmwjax.tasks.catalogue import TASKS


class Result(NamedTuple):
    """What a finished run is judged by."""

    criterion: str  # the metric of the scores: accuracy, or R² of a regression
    test_score: float  # on the test set, after the last epoch
    selected_score: float | None  # of the epoch best on validation or meta set
    average_precision: float | None  # of class 1 on the test set, of two classes
    auroc: float  # of "this label is wrong", by quality; NaN if none is
    seconds: float  # all epochs together
    checkpoint_seconds: float  # of which training waited for checkpoints


def sentence(result: Result) -> str:
    """What a result says, for a terminal."""
    titles = {task.criterion: task.title for task in TASKS.values()}
    name, last = titles[result.criterion], 100 * result.test_score
    parts = [f"test {name} {last:.1f} % after the last epoch"]
    if result.selected_score is not None:
        parts.append(f"{100 * result.selected_score:.1f} % after the selected one")
    if result.average_precision is not None:
        parts.append(f"average precision {100 * result.average_precision:.1f} %")
    if not math.isnan(result.auroc):
        parts.append(f"AUROC of wrong labels {result.auroc:.3f}")
    return ", ".join([*parts, f"{result.seconds:.1f} seconds"])


def summarise(workdir: Path) -> Result:
    """The result of a finished run, from its files."""
    epochs = read_metrics(workdir)
    samples = samples_of(workdir)
    last, criterion = epochs[-1], task_of(workdir).criterion
    selected, name = None, selects(last, criterion)
    if name is not None:
        best = max(epochs, key=lambda metrics: _or_worst(metrics[name]))
        selected = best[f"test_{criterion}"]
    known = is_known(samples["true_label"])
    return Result(
        criterion=criterion,
        test_score=last[f"test_{criterion}"],
        selected_score=selected,
        average_precision=last.get("test_average_precision"),
        auroc=wrong_label_auroc(samples["quality"][known], is_wrong(samples)[known]),
        seconds=sum(metrics["seconds"] for metrics in epochs),
        checkpoint_seconds=sum(metrics["checkpoint_seconds"] for metrics in epochs),
    )


def selects(metrics: dict[str, Any], criterion: str) -> str | None:
    """The metric whose first best epoch is selected: of the validation or meta set."""
    names = (f"{part}_{criterion}" for part in ("validation", "meta"))
    return next((name for name in names if name in metrics), None)


def _or_worst(value: float | None) -> float:
    return float("-inf") if value is None else value
