"""The table of a comparison of runs, from what its `summary.json` says."""

from pathlib import Path
from typing import Any

import numpy as np

from cmwjax.files import SUMMARY, read_json
from cmwjax.methods.catalogue import title
from cmwjax.report.result import epoch_of_choice


def read_summary(folder: Path) -> dict[str, Any]:
    """Reads `summary.json` of a finished comparison.

    Raises:
      ValueError: if it is damaged.
    """
    summary = read_json(folder / SUMMARY)
    missing = [part for part in ("methods", "seeds", "seconds") if part not in summary]
    if missing:
        raise ValueError(
            f"{folder / SUMMARY} has no {', '.join(missing)}: it is damaged; run the "
            "command of the comparison again, which writes it anew."
        )
    return summary


def score(summary: dict[str, Any]) -> str:
    """What the scores of a comparison are called, by its `summary.json`.

    Where samples to score with were split off data of which nobody knows the right
    labels, it says that the scores are by given ones.
    """
    of, labels = summary.get("scored_on", "test"), summary.get("labels", "labels")
    by = f" (given {labels})" if summary.get("test_labels") == "given" else ""
    return f"{of} {summary.get('criterion', 'accuracy')}{by}"


def choice(summary: dict[str, Any]) -> str:
    """What the epoch of the other score is called."""
    return f"{epoch_of_choice(summary.get('scored_on', 'test'))} epoch"


def cells(summary: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Headings of a comparison, and a row of cells for each method.

    Args:
      summary: content of `summary.json`.
    """
    labels, name = summary.get("labels", "labels"), score(summary)
    by = f" (given {labels})" if summary.get("test_labels") == "given" else ""
    columns = {  # heading -> number per seed, and its digits
        f"{name}, {choice(summary)}": ("selected_epoch", 1),
        f"average precision{by}": ("average_precision", 1),
        f"AUROC of wrong {labels}": ("wrong_label_auroc", 3),
    }
    methods = summary["methods"]
    if not any(any(m.get("average_precision", ())) for m in methods.values()):
        del columns[f"average precision{by}"]
    headings = ["method", f"{name}, last epoch", *columns]
    rows = [
        [
            title(method),
            last_epoch(values),
            *(mean_and_std(values[name], digits) for name, digits in columns.values()),
        ]
        for method, values in methods.items()
    ]
    return headings, rows


def table(summary: dict[str, Any]) -> str:
    """The `cells` of a comparison's `summary.json` as a table in Markdown."""
    headings, rows = cells(summary)
    lines = [headings, *rows]
    first, *others = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([first, "|---" * len(headings) + "|", *others])


def diverged(values: dict[str, list[float | None]]) -> int:
    """How many seeds of a method have no result, by its part of a summary."""
    return sum(v is None for v in values["last_epoch"])


def last_epoch(values: dict[str, list[float | None]]) -> str:
    """Accuracy after the last epoch, as `mean_and_std`, or how many seeds diverged."""
    if diverged(values):
        return f"diverged ({diverged(values)} of {len(values['last_epoch'])})"
    return mean_and_std(values["last_epoch"], 1)


def mean_and_std(values: list[float | None], digits: int) -> str:
    """`mean ± standard deviation`, or a dash where a value is missing.

    The deviation is that of a sample (ddof 1); of one value there is none, and the
    value stands alone.
    """
    numbers = np.array([np.nan if v is None else v for v in values], float)
    if np.isnan(numbers).any():
        return "–"
    if len(numbers) == 1:
        return f"{numbers[0]:.{digits}f}"
    return f"{numbers.mean():.{digits}f} ± {numbers.std(ddof=1):.{digits}f}"
