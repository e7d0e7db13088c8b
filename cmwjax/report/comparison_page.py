"""The page about a comparison of runs: one table, and where each run has its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cmwjax.files import CONFIG, REPORT, read_json
from cmwjax.methods.catalogue import title
from cmwjax.report import page_words as words
from cmwjax.report import risk_coverage
from cmwjax.report.comparison_plots import score_title
from cmwjax.report.facts import data_title, step_seconds
from cmwjax.report.method_styles import method_style
from cmwjax.report.page_figures import panel, score_limits
from cmwjax.report.page_parts import (
    Key,
    count,
    drawing,
    escaped,
    facts,
    figures,
    page,
    paragraph,
    percent,
    section,
    table,
)
from cmwjax.report.panels import draw_over_time, draw_weighting, weighting_of
from cmwjax.report.plot_style import styled
from cmwjax.report.read import find_runs, read_metrics, read_scores
from cmwjax.report.result import duration
from cmwjax.report.samples import samples_of
from cmwjax.report.summary import cells, choice, read_summary, score

Runs = dict[str, list[Path]]


def comparison_page(folder: Path, *, is_inside: bool) -> str:
    """The page about the runs in a folder.

    Args:
      folder: of a comparison that has its `summary.json`.
      is_inside: whether the page lies in it, so that it can lead to those of the runs.
    """
    summary = read_summary(folder)
    config = read_json(folder / CONFIG)
    runs = _runs(folder)
    name = data_title(config.get("data", {}).get("name", "data"))
    sections = list(_sections(folder, summary, config, runs, is_inside))
    links = [(f"#{name}", name.capitalize()) for name, *_ in sections]
    methods = [title(method) for method in summary["methods"]]
    heading = f"{_listed(methods)} on {name}"
    return page(heading, links, [section(*parts) for parts in sections])


def _runs(folder: Path) -> Runs:
    try:
        return find_runs(folder)
    except FileNotFoundError:  # all of them diverged
        return {}


def _sections(
    folder: Path,
    summary: dict[str, Any],
    config: dict[str, Any],
    runs: Runs,
    is_inside: bool,
) -> Iterator[tuple[str, ...]]:
    """Name, heading and contents of each part of the page."""
    headings, rows = cells(summary)
    costs = {method: _cost(folders) for method, folders in runs.items()}
    base = costs.get("erm")
    headings = [*headings, "per step"] + (["× ERM"] if base else [])
    for method, row in zip(summary["methods"], rows, strict=True):
        cost = costs.get(method)
        row.append("–" if cost is None else f"{1000 * cost:.3g} ms")
        if base:
            row.append("–" if cost is None else f"{cost / base:.2f}")
    seeds = len(summary["seeds"])
    over = f"over {seeds} seeds" if seeds > 1 else "of one seed"
    spread = "Mean ± standard deviation (ddof 1)" if seeds > 1 else "Numbers are"
    first = next(iter(runs.values()), [None])[0]
    yield (
        "summary",
        "Summary",
        *map(paragraph, map(escaped, _words(summary, first))),
        table(headings, rows),
        paragraph(
            f"{spread} {over}; in percent, but for the AUROC, the chance that a wrong "
            f"label has a lower quality than a right one. {_which_epoch(summary)} Per "
            "step: the median over epochs and seeds, with all evaluation.",
            is_note=True,
        ),
    )
    if runs:
        drawings = [_scores(folder), *_weightings(runs)]
        yield "curves", "Scores and weights", figures(drawings)
    if risks := risk_coverage.risks_by_method(folder) if runs else {}:
        yield "coverage", risk_coverage.HEADING, *risk_coverage.contents(risks)
    yield "runs", "Runs", *_every_run(folder, summary, is_inside)
    details = {"data": data_title(config.get("data", {}).get("name", "data"))}
    details["epochs"] = count(config.get("epochs", 0))
    details["seeds"] = ", ".join(map(str, summary["seeds"]))
    spent = duration(summary["seconds"], summary.get("compile_seconds", 0.0))
    details["time"] = f"{spent} in all"
    yield "details", "Details", facts(details.items())


def _words(summary: dict[str, Any], first: Path | None) -> Iterator[str]:
    """What was compared on what, and what came out, in sentences."""
    if first is not None:
        yield words.problem(first)
    means = {
        title(method): float(np.mean(values["last_epoch"]))
        for method, values in summary["methods"].items()
        if None not in values["last_epoch"]
    }
    if len(means) < 2:
        return
    best, other = sorted(means, key=lambda method: -means[method])[:2]
    yield (
        f"After the last epoch {best} has the highest {score(summary)}, "
        f"{percent(means[best] / 100)}, followed by {other} with "
        f"{percent(means[other] / 100)}."
    )


def _which_epoch(summary: dict[str, Any]) -> str:
    """What is said of the epoch of the second score."""
    if summary.get("scored_on") == "validation":
        return "The best epoch is that of the highest such score, which flatters it."
    return (
        "The selected epoch is the best on the validation set, or on a meta set that "
        "was held out."
    )


def _cost(folders: list[Path]) -> float | None:
    """Median seconds per step over the runs of a method."""
    seconds = [step_seconds(read_metrics(run)) for run in folders]
    known = [s for s in seconds if s is not None]
    return float(np.median(known)) if known else None


@styled()
def _scores(folder: Path) -> str:
    """The scores of the methods over the epochs, mean ± std over the seeds."""
    from matplotlib.colors import to_hex

    (axes,) = panel()
    keys, scores = [], read_scores(folder)
    for method, values in scores.items():
        name, style = method_style(method)
        colour, line = to_hex(style["color"]), "--" if "linestyle" in style else "-"
        epochs = np.arange(1, values.shape[1] + 1)
        mean = values.mean(axis=0)
        std = values.std(axis=0, ddof=1) if len(values) > 1 else 0 * mean
        axes.fill_between(epochs, mean - std, mean + std, color=colour, alpha=0.2, lw=0)
        draw_over_time(axes, [(epochs, mean, colour, line)])
        keys.append(Key(f"{name} {mean[-1]:.1f}", colour, line))
    axes.set(ylim=score_limits(np.concatenate([*scores.values()])), ylabel="%")
    return drawing(axes, f"{score_title(folder)} over the epochs", keys)


@styled()
def _weightings(runs: Runs) -> list[str]:
    """The weighting functions that were learned, each of its method's first run."""
    drawn = []
    for method, (first, *_) in runs.items():
        view = weighting_of(first, samples_of(first))
        if not view.is_curve or len(view.losses) < 3:
            continue
        (axes,) = panel()
        draw_weighting(axes, view)
        axes.set_xlabel("training loss")
        pairs = zip(view.names, view.colours, strict=True)
        text = f"{title(method)}: weight of a sample by its loss"
        drawn.append(drawing(axes, text, [Key(*pair) for pair in pairs]))
    return drawn


def _every_run(folder: Path, summary: dict[str, Any], is_inside: bool) -> Iterator[str]:
    """A row for each run, and where its own page is."""
    rows = []
    for method, values in summary["methods"].items():
        for k, seed in enumerate(summary["seeds"]):
            last, selected = (values[n][k] for n in ("last_epoch", "selected_epoch"))
            auroc = values["wrong_label_auroc"][k]
            own = Path(method) / f"seed_{seed}" / REPORT
            name = escaped(title(method))
            if is_inside and (folder / own).is_file():
                name = f'<a href="{escaped(own.as_posix())}">{name}</a>'
            rows.append(
                [
                    name,
                    str(seed),
                    "diverged" if last is None else f"{last:.1f}",
                    "–" if selected is None else f"{selected:.1f}",
                    "–" if auroc is None else f"{auroc:.3f}",
                ]
            )
    headings = ["method", "seed", f"{score(summary)}, last epoch", choice(summary)]
    headings.append(f"AUROC of wrong {summary.get('labels', 'labels')}")
    if is_inside:
        yield paragraph(
            "Each run has a page of its own, with the samples that it distrusts."
        )
    yield table(headings, rows, is_escaped=True)


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
