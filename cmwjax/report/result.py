"""What a finished run is judged by, from its files."""

from pathlib import Path
from typing import NamedTuple

from cmwjax.files import SAMPLES
from cmwjax.report.read import read_metrics
from cmwjax.report.samples import is_known, is_wrong, read_samples, wrong_label_auroc


class Result(NamedTuple):
    """What a finished run is judged by."""

    test_accuracy: float  # after the last epoch
    selected_accuracy: float | None  # of the epoch best on validation or meta set
    auroc: float  # of "this label is wrong", by weight; NaN if none is
    seconds: float  # all epochs together
    checkpoint_seconds: float  # of which training waited for checkpoints


def summarise(workdir: Path) -> Result:
    """The result of a finished run, from its files."""
    epochs = read_metrics(workdir)
    samples = read_samples(workdir / SAMPLES)
    last = epochs[-1]
    selected = None
    criteria = [k for k in ("validation_accuracy", "meta_accuracy") if k in last]
    if criteria:
        best = max(epochs, key=lambda metrics: metrics[criteria[0]])
        selected = best["test_accuracy"]
    known = is_known(samples["true_label"])
    return Result(
        test_accuracy=last["test_accuracy"],
        selected_accuracy=selected,
        auroc=wrong_label_auroc(samples["weight"][known], is_wrong(samples)[known]),
        seconds=sum(metrics["seconds"] for metrics in epochs),
        checkpoint_seconds=sum(metrics["checkpoint_seconds"] for metrics in epochs),
    )
