"""Figures of a run and of a comparison of runs, drawn from their files alone.

Every function returns a matplotlib `Figure` (made without pyplot and its global state)
and `save` writes one as PNG; `run_figures` and `comparison_figures` write all of them.
"""

import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from cmwjax.report.comparison_plots import animation as animation
from cmwjax.report.comparison_plots import comparison_figures as comparison_figures
from cmwjax.report.comparison_plots import training_curves as training_curves
from cmwjax.report.families import read_classes, read_family_names
from cmwjax.report.panels import (
    draw_losses,
    draw_weighting,
    draw_weights,
    legend,
    truth_groups,
    weighting_of,
)
from cmwjax.report.plot_style import (
    INK,
    MUTED,
    headline,
    new_figure,
    one_line,
    save,
    styled,
    weight_limit,
)
from cmwjax.report.read import task_of
from cmwjax.report.samples import (
    is_known,
    is_regression,
    is_wrong,
    noun,
    samples_of,
    wrong_label_auroc,
)
from cmwjax.report.suspect_plots import suspects as suspects
from cmwjax.report.suspect_plots import text_suspects as text_suspects

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TINTED = "#F7F1E8"  # ground of an axis that is not that of the others
# Of the shared axis: a family whose weights are all below would lie in a few bars.
OWN_AXIS = 0.1


def run_figures(
    run_dir: str | os.PathLike,
    *,
    images: Any = None,
    rows: ArrayLike | None = None,
) -> list[Path]:
    """Writes every figure of one run into its folder.

    Args:
      run_dir: a finished run.
      images: its training images [N, H, W, C] or texts [N], for the list of suspects;
        or what has their number as `len` and gives them by position.
      rows: the row of each image or text, [N]; None: its position.

    Returns:
      The files: `weight_curves.png`, `weight_histogram.png`; `transition_matrix.png`,
      or of a regression `targets.png`; and, with images or texts, `suspects.png`.
    """
    figures = {
        "weight_curves": weight_curves(run_dir),
        "weight_histogram": weight_histogram(run_dir),
    }
    if is_regression(samples_of(run_dir)):
        figures["targets"] = targets(run_dir)
    elif not task_of(run_dir).has_sets:
        figures["transition_matrix"] = transition_matrix(run_dir)
    if images is not None and len(images):
        draw = text_suspects if isinstance(images[0], str) else suspects
        figures["suspects"] = draw(run_dir, images, rows=rows)
    folder = Path(run_dir)
    return [save(figure, folder / f"{name}.png") for name, figure in figures.items()]


@styled()
def weight_curves(run_dir: str | os.PathLike) -> "Figure":
    """The weighting function of each family, above the training losses it is fed.

    Losses of corrupted labels are stacked on those of clean ones where the truth is
    known. Without a weighting function all samples weigh the same (ERM), or a point is
    what one of them weighs. The axis ends where the curves do: larger losses are in the
    last bar, and counted below it.
    """
    samples = samples_of(run_dir)
    view = weighting_of(run_dir, samples)
    figure = new_figure(6.8, 5.2)
    top, bottom = figure.subplots(2, sharex=True, height_ratios=(2.2, 1))
    draw_weighting(top, view)
    top.set_title("Weight of a training sample by its loss")
    top.legend(loc="best")
    beyond = draw_losses(bottom, samples, view.reach)
    bottom.legend(loc="upper right")
    end = "up to the largest"
    if beyond:
        largest = samples["loss"].max()
        end = f"the last bar: also {beyond:,} larger ones, up to {largest:.3g}"
    bottom.set_xlabel(f"training loss ({end})")
    return figure


@styled()
def weight_histogram(run_dir: str | os.PathLike) -> "Figure":
    """Weights of clean and of corrupted samples, one panel per family.

    Each distribution adds up to 100 %, its bars beside those of the other. The titles
    give the AUROC of "this label is wrong" by weight, where the truth is known. Panels
    share one axis of weights, which shows how far families are apart; a family whose
    weights would all lie in its first tenth has an axis of its own, says so, and has
    another ground. Where all samples weigh the same (ERM), there is no distribution,
    and the figure says that.
    """
    samples = samples_of(run_dir)
    if np.ptp(samples["weight"]) == 0:
        return _one_weight(samples["weight"][0])
    families = np.unique(samples["family"])
    names = read_family_names(run_dir, max(1, families.max() + 1))
    columns = min(4, len(families))
    rows = -(-len(families) // columns)
    figure = new_figure(max(6.8, 3.2 * columns), 0.7 + 2.7 * rows)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes in panels[len(families) :]:
        axes.set_axis_off()
    shared, titles = weight_limit(samples["weight"]), []
    for axes, family in zip(panels, families, strict=False):
        mine = {k: v[samples["family"] == family] for k, v in samples.items()}
        largest = mine["weight"].max()
        is_own = largest < OWN_AXIS * shared
        draw_weights(axes, mine, (largest or 1.0) if is_own else shared)
        axes.legend(loc="upper left")
        axis = "weight, on the same axis" if len(families) > 1 else "weight"
        if is_own:  # as the eye compares places
            axis = f"weight, on an axis of its own: to {largest:.2g}"
            axes.set_facecolor(TINTED)
        axes.set_xlabel(axis)
        titles.append(
            textwrap.wrap(names[family], 30) + _auroc(mine, "AUROC by weight ")
        )
    if len(families) > 1:
        lines = max(map(len, titles))
        for axes, title in zip(panels, titles, strict=False):  # from one line on
            text = "\n".join(title + [""] * (lines - len(title)))
            axes.set_title(text, fontsize=10)
    # Legends have the room above the tallest bar.
    panels[0].set_ylim(0, 1.4 * max(axes.dataLim.y1 for axes in panels))
    top = min(100, panels[0].get_ylim()[1])
    panels[0].set_yticks([t for t in panels[0].get_yticks() if 0 <= t <= top])
    panels[0].set_ylabel("share of the samples (%)")
    about = f" · AUROC of “this {noun(samples)} is wrong” by weight: "
    headline(figure, "".join(["Weights", *_auroc(samples, about)]))
    return figure


def _one_weight(weight: float) -> "Figure":
    figure = new_figure(6.8, 1.4)
    axes = figure.subplots()
    axes.set_axis_off()
    text = f"All samples have the weight {weight:.4g}: no weighting tells them apart."
    axes.text(0, 0.5, text, va="center", transform=axes.transAxes)
    headline(figure, "Weights")
    return figure


@styled()
def transition_matrix(run_dir: str | os.PathLike) -> "Figure":
    """How often a sample given one label is suggested another, in percent of its row.

    Classes are in the order of the data, or of their names where the run's files do
    not tell it. With more than 20 classes the cells are not annotated.
    """
    from sklearn.metrics import confusion_matrix

    samples = samples_of(run_dir)
    given, suggested = samples["given_label"], samples["suggested_label"]
    classes = read_classes(run_dir) or sorted({*given, *suggested})
    names = [one_line(name, width=24) for name in classes]
    size = len(names)
    matrix = confusion_matrix(given, suggested, labels=classes, normalize="true")
    side = 0.48 * min(max(size, 4), 20)
    room = 0.085 * max(0, max(map(len, names)) - 5)  # for long names
    # No narrower than the headline.
    figure = new_figure(max(4.3, side + room + 1.2), side + room + 1.1)
    axes = figure.subplots()
    axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="suggested label", ylabel="given label")
    headline(figure, "Confusion of given and suggested\nlabels, % of each given label")
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if size > 20:
        return figure
    turned = 90 if max(map(len, names)) > 3 else 0
    axes.set_xticks(range(size), names, rotation=turned)
    axes.set_yticks(range(size), names)
    for row, column in np.argwhere(matrix):
        share = matrix[row, column]
        axes.text(
            column,
            row,
            f"{100 * share:.0f}" if share >= 0.005 else "<1",
            ha="center",
            va="center",
            fontsize=9,
            color="white" if share > 0.5 else INK,
        )
    return figure


@styled()
def targets(run_dir: str | os.PathLike) -> "Figure":
    """Given and suggested targets of a regression, coloured by the truth if known."""
    samples = samples_of(run_dir)
    figure = new_figure(5.6, 5.2)
    axes = figure.subplots()
    for group in truth_groups(samples):
        axes.scatter(
            samples["given_label"][group.chosen],
            samples["suggested_label"][group.chosen],
            s=4 + 26 * samples["weight"][group.chosen],
            color=group.colour,
            alpha=0.7,
            linewidths=0,
            label=legend(group),
        )
    axes.axline((0, 0), slope=1, color=MUTED, linewidth=1)
    low, high = samples["given_label"].min(), samples["given_label"].max()
    room = 0.05 * (high - low)
    axes.set(xlim=(low - room, high + room), ylim=(low - room, high + room))
    axes.set(xlabel="given target", ylabel="suggested target")
    axes.set_title("Targets; the larger a dot, the more it weighs")
    axes.legend(loc="upper left")
    return figure


def _auroc(samples: dict[str, np.ndarray], prefix: str) -> list[str]:
    """`prefix` and the AUROC by weight where the truth is known, or nothing."""
    known, wrong = is_known(samples["true_label"]), is_wrong(samples)
    auroc = wrong_label_auroc(samples["weight"][known], wrong[known])
    return [] if np.isnan(auroc) else [f"{prefix}{auroc:.3f}"]
