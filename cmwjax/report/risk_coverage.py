"""The error among the samples that a classifier is surest of, against their share.

Only runs of selective classification have it, see `cmwjax.tasks.selective`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cmwjax.methods.catalogue import title
from cmwjax.report.method_styles import method_style
from cmwjax.report.page_figures import panel
from cmwjax.report.page_parts import Key, drawing, escaped, figures, paragraph, table
from cmwjax.report.plot_style import new_figure, styled
from cmwjax.report.read import find_runs, read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRIC = "test_risks"
COVERAGES = (100, 95, 90, 85, 80, 75, 70)  # percent, those of tables in papers
HEADING = "Error by coverage"
MEANING = (
    "The classifier may abstain where it is unsure. At a coverage of 90 % it answers "
    "for the 90 % of the test samples that it is surest of, and only these count. AURC "
    "is the mean error over all coverages; E-AURC what is above that of a ranking that "
    "has all errors at its end."
)


class Risks(NamedTuple):
    """Errors on the test set at the end of the runs of a method, in percent.

    Attributes:
      at: at coverages of 1 %, 2 % ... 100 %, float `[seeds, 100]`.
      aurc: area under the curve, `[seeds]`.
      e_aurc: excess of it, `[seeds]`.
    """

    at: np.ndarray
    aurc: np.ndarray
    e_aurc: np.ndarray


def read_risks(runs: Sequence[Path]) -> Risks | None:
    """Those of runs of a method; None unless all of them have some."""
    last = [read_metrics(run)[-1] for run in runs]
    if not last or not all(METRIC in metrics for metrics in last):
        return None
    names = (METRIC, "test_aurc", "test_e_aurc")
    return Risks(*(100 * np.array([m[name] for m in last]) for name in names))


def risks_by_method(folder: Path) -> dict[str, Risks]:
    """Those of all methods of a comparison that have some."""
    found = {method: read_risks(runs) for method, runs in find_runs(folder).items()}
    return {method: risks for method, risks in found.items() if risks is not None}


def contents(methods: Mapping[str, Risks]) -> Iterator[str]:
    """The part of a page: what it means, curves, and errors at some coverages."""
    seeds = max(len(risks.at) for risks in methods.values())
    over = f"means over {seeds} seeds" if seeds > 1 else "one seed"
    yield paragraph(escaped(MEANING))
    yield figures([_drawing(methods)])
    yield table(*table_of(methods))
    yield paragraph(f"Errors in percent, after the last epoch; {over}.", is_note=True)


def table_of(methods: Mapping[str, Risks]) -> tuple[list[str], list[list[str]]]:
    """Headings, and for each method AURC, E-AURC and errors, means over seeds."""
    headings = ["method", "AURC", "E-AURC", *(f"{c} %" for c in COVERAGES)]
    rows = [
        [
            title(method),
            f"{risks.aurc.mean():.2f}",
            f"{risks.e_aurc.mean():.2f}",
            *(f"{risks.at[:, c - 1].mean():.2f}" for c in COVERAGES),
        ]
        for method, risks in methods.items()
    ]
    return headings, rows


@styled()
def figure_of(methods: Mapping[str, Risks]) -> "Figure":
    """Error by coverage for each method: mean ± std (ddof 1) over seeds."""
    figure = new_figure(7.2, 4)
    axes = figure.subplots()
    keys = _draw(axes, methods)
    for key in keys:
        axes.plot([], [], color=key.colour, linestyle=key.line, label=key.text)
    axes.legend(loc="best")
    axes.set_title(HEADING)
    return figure


@styled()
def _drawing(methods: Mapping[str, Risks]) -> str:
    """As `figure_of`, for a page."""
    (axes,) = panel()
    keys = _draw(axes, methods)
    return drawing(axes, HEADING, keys)


def _draw(axes: "Axes", methods: Mapping[str, Risks]) -> list[Key]:
    from matplotlib.colors import to_hex

    keys, coverage = [], np.arange(1, 101)
    for method, risks in methods.items():
        name, style = method_style(method)
        colour, line = to_hex(style["color"]), "--" if "linestyle" in style else "-"
        mean = risks.at.mean(axis=0)
        std = risks.at.std(axis=0, ddof=1) if len(risks.at) > 1 else 0 * mean
        low, high = np.maximum(0, mean - std), mean + std
        axes.fill_between(coverage, low, high, color=colour, alpha=0.2, lw=0)
        axes.plot(coverage, mean, color=colour, linestyle=line, linewidth=2)
        keys.append(Key(f"{name}, AURC {risks.aurc.mean():.2f}", colour, line))
    axes.set(xlabel="coverage (%)", ylabel="error (%)", xlim=(0, 100))
    axes.set_ylim(bottom=0)
    return keys
