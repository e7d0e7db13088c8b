"""What a finished run is judged by, from its files."""

import math
from pathlib import Path
from typing import Any, NamedTuple

from cmwjax.report.read import read_metrics, scored_on, task_of
from cmwjax.report.samples import is_known, is_wrong, samples_of, wrong_label_auroc
from cmwjax.tasks.catalogue import TASKS


class Result(NamedTuple):
    """What a finished run is judged by."""

    criterion: str  # the metric of the scores: accuracy, or R² of a regression
    test_score: float  # on the test set, after the last epoch; NaN without one
    selected_score: float | None  # of the epoch best on validation or meta set
    average_precision: float | None  # of class 1, after the last epoch, of two classes
    auroc: float  # of "this label is wrong", by quality; NaN if none is
    seconds: float  # all epochs together
    checkpoint_seconds: float  # of which training waited for checkpoints
    compile_seconds: float  # of which programs were compiled
    # On the validation set, of its given labels: after the last epoch, and at the best.
    validation_score: float | None = None
    best_validation_score: float | None = None

    @property
    def scores(self) -> tuple[str, float | None, float | None]:
        """The set that there is to score on, and the two scores on it."""
        if not math.isnan(self.test_score):
            return "test", self.test_score, self.selected_score
        return "validation", self.validation_score, self.best_validation_score


def sentence(result: Result) -> str:
    """What a result says, for a terminal."""
    titles = {task.criterion: task.title for task in TASKS.values()}
    parts, (part, last, selected) = [], result.scores
    if last is not None:
        name, which = titles[result.criterion], epoch_of_choice(part)
        by = " (given labels)" if part == "validation" else ""
        parts.append(f"{part} {name}{by} {100 * last:.1f} % after the last epoch")
        if selected is not None:
            parts.append(f"{100 * selected:.1f} % after the {which} one")
    if result.average_precision is not None:
        parts.append(f"average precision {100 * result.average_precision:.1f} %")
    if not math.isnan(result.auroc):
        parts.append(f"AUROC of wrong labels {result.auroc:.3f}")
    return ", ".join([*parts, duration(result.seconds, result.compile_seconds)])


def duration(seconds: float, compile_seconds: float) -> str:
    """How long something took, and what of it was compiling, where that shows."""
    text = f"{seconds:.1f} seconds"
    if compile_seconds >= 0.05:
        text += f" ({compile_seconds:.1f} of them compiling)"
    return text


def epoch_of_choice(part: str) -> str:
    """What the epoch of the second score is called, by the set that is scored on.

    An epoch is not selected by a set, and then judged by the same, without a word.
    """
    return "best" if part == "validation" else "selected"


def summarise(workdir: Path) -> Result:
    """The result of a finished run, from its files."""
    epochs = read_metrics(workdir)
    samples = samples_of(workdir)
    last, criterion = epochs[-1], task_of(workdir).criterion
    test, validation = (f"{part}_{criterion}" for part in ("test", "validation"))
    best, name = {}, selects(last, criterion)
    if name is not None:
        best = max(epochs, key=lambda metrics: _or_worst(metrics[name]))
    known = is_known(samples["true_label"])
    return Result(
        criterion=criterion,
        test_score=last.get(test, math.nan),
        selected_score=best.get(test),
        average_precision=last.get(f"{scored_on(workdir)}_average_precision"),
        auroc=wrong_label_auroc(samples["quality"][known], is_wrong(samples)[known]),
        seconds=sum(metrics["seconds"] for metrics in epochs),
        checkpoint_seconds=sum(metrics["checkpoint_seconds"] for metrics in epochs),
        compile_seconds=compile_seconds(epochs),
        validation_score=last.get(validation),
        best_validation_score=best.get(validation),
    )


def compile_seconds(epochs: list[dict[str, Any]]) -> float:
    """Seconds in which programs were compiled, in all epochs that tell."""
    return sum(metrics.get("compile_seconds", 0.0) for metrics in epochs)


def selects(metrics: dict[str, Any], criterion: str) -> str | None:
    """The metric whose first best epoch is selected: of the validation or meta set."""
    names = (f"{part}_{criterion}" for part in ("validation", "meta"))
    return next((name for name in names if name in metrics), None)


def _or_worst(value: float | None) -> float:
    return float("-inf") if value is None else value
