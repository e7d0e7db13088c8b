"""Figures of a run and of a comparison of runs, drawn from their files alone.

Every function returns a matplotlib `Figure` (made without pyplot and its global state)
and `save` writes one as PNG; `run_figures` and `comparison_figures` write all of them.
"""

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cmwjax.files import SAMPLES
from cmwjax.report.comparison_plots import animation as animation
from cmwjax.report.comparison_plots import comparison_figures as comparison_figures
from cmwjax.report.comparison_plots import training_curves as training_curves
from cmwjax.report.families import read_family_names
from cmwjax.report.plot_style import (
    CLEAN,
    CORRUPTED,
    INK,
    MUTED,
    family_colours,
    headline,
    new_figure,
    save,
    styled,
    weight_limit,
)
from cmwjax.report.read import read_curves
from cmwjax.report.samples import (
    is_known,
    is_wrong,
    read_samples,
    wrong_label_auroc,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def run_figures(
    run_dir: str | os.PathLike,
    *,
    images: Any = None,
    class_names: Sequence[str] | None = None,
) -> list[Path]:
    """Writes every figure of one run into its folder.

    Args:
      run_dir: a finished run.
      images: its training images [N, H, W, C] or texts [N], for the list of suspects;
        or what has their number as `len` and gives them by position.
      class_names: names of the classes; their numbers by default.

    Returns:
      The files: `weight_curves.png`, `weight_histogram.png`; `transition_matrix.png`,
      or of a regression `targets.png`; and, with images or texts, `suspects.png`.
    """
    figures = {
        "weight_curves": weight_curves(run_dir),
        "weight_histogram": weight_histogram(run_dir),
    }
    if np.issubdtype(_read_samples(run_dir)["given_label"].dtype, np.floating):
        figures["targets"] = targets(run_dir)
    else:
        figures["transition_matrix"] = transition_matrix(
            run_dir, class_names=class_names
        )
    if images is not None and len(images):
        draw = text_suspects if isinstance(images[0], str) else suspects
        figures["suspects"] = draw(run_dir, images, class_names=class_names)
    folder = Path(run_dir)
    return [save(figure, folder / f"{name}.png") for name, figure in figures.items()]


@styled()
def weight_curves(run_dir: str | os.PathLike) -> "Figure":
    """The weighting function of each family, above the training losses it is fed.

    Losses of corrupted labels are stacked on those of clean ones where the truth is
    known. Without a weighting function (ERM) the weight is a constant one.
    """
    samples, learned = _read_samples(run_dir), read_curves(run_dir)
    reach = samples["loss"].max()
    if learned is None:
        losses, curves = [0, reach], np.ones((1, 2))
        names, colours = ["no weighting: every sample counts as one"], [MUTED]
    else:
        losses, curves = (values[-1] for values in learned)
        reach = max(reach, losses[-1])
        names = read_family_names(run_dir, len(curves), sizes=True)
        colours = family_colours(len(curves))
    figure = new_figure(6.8, 5.2)
    top, bottom = figure.subplots(2, sharex=True, height_ratios=(2.2, 1))
    for name, colour, curve in zip(names, colours, curves, strict=True):
        top.plot(losses, curve, color=colour, label=name)
    top.set(ylabel="weight", ylim=(0, 1.04 * weight_limit(curves)))
    top.set_title("Weight of a training sample by its loss")
    top.legend(loc="best")
    groups = _truth_groups(samples)
    bottom.hist(
        [samples["loss"][chosen] for _, chosen, _ in groups],
        bins=np.linspace(0, reach, 61),
        stacked=True,
        color=[colour for _, _, colour in groups],
        label=[f"{name} ({chosen.sum():,})" for name, chosen, _ in groups],
    )
    bottom.legend(loc="upper right")
    # Most losses are nearly zero: the root makes the long tail visible beside them.
    bottom.set_yscale("function", functions=(np.sqrt, np.square))
    bottom.set(xlabel="training loss", xlim=(0, reach))
    bottom.set_ylabel("samples (root scale)")
    return figure


@styled()
def weight_histogram(run_dir: str | os.PathLike) -> "Figure":
    """Weights of clean and of corrupted samples, one panel per family.

    Each distribution adds up to 100 %. The titles give the AUROC of "this label is
    wrong" by weight, where the truth is known.
    """
    samples = _read_samples(run_dir)
    families = np.unique(samples["family"])
    names = read_family_names(run_dir, max(1, families.max() + 1))
    columns = min(4, len(families))
    rows = -(-len(families) // columns)
    figure = new_figure(max(6.8, 3.2 * columns), 0.7 + 2.7 * rows)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes in panels[len(families) :]:
        axes.set_axis_off()
    for axes, family in zip(panels, families, strict=False):
        mine = {k: v[samples["family"] == family] for k, v in samples.items()}
        _weight_distributions(axes, mine)
        if len(families) > 1:
            axes.set_title(f"{names[family]}{_auroc(mine, ' · AUROC ')}", fontsize=10)
    panels[0].set_ylabel("share of the samples (%)")
    auroc = _auroc(samples, " · AUROC of “this label is wrong”: ")
    headline(figure, f"Weights{auroc}")
    return figure


def _weight_distributions(axes: "Axes", samples: dict[str, np.ndarray]) -> None:
    # Only ratios of weights matter where they are normalised by their sum: a family
    # of small weights gets an axis of its own.
    bins = np.linspace(0, weight_limit(samples["weight"]), 41)
    for label, chosen, colour in _truth_groups(samples):
        weights = samples["weight"][chosen]
        axes.hist(
            weights,
            bins=bins.tolist(),
            weights=np.full(weights.size, 100 / max(weights.size, 1)),
            color=colour,
            alpha=0.75,
            label=f"{label} ({weights.size:,})",
        )
    axes.legend(loc="best")
    axes.set(xlabel="weight", xlim=bins[[0, -1]])


@styled()
def transition_matrix(
    run_dir: str | os.PathLike, *, class_names: Sequence[str] | None = None
) -> "Figure":
    """How often a sample given one label is suggested another, in percent of its row.

    With more than 20 classes the cells are not annotated.
    """
    from sklearn.metrics import confusion_matrix

    samples = _read_samples(run_dir)
    given, suggested = samples["given_label"], samples["suggested_label"]
    names = _names(class_names, max(given.max(), suggested.max()) + 1, width=24)
    size = len(names)
    matrix = confusion_matrix(
        given, suggested, labels=np.arange(size), normalize="true"
    )
    side = 0.48 * min(max(size, 4), 20)
    room = 0.085 * max(0, max(map(len, names)) - 5)  # for long names
    figure = new_figure(side + room + 1.2, side + room + 1.1)
    axes = figure.subplots()
    axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="suggested label", ylabel="given label")
    axes.set_title("Suggested label, % of each given label")
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
    samples = _read_samples(run_dir)
    figure = new_figure(5.6, 5.2)
    axes = figure.subplots()
    for name, chosen, colour in _truth_groups(samples):
        axes.scatter(
            samples["given_label"][chosen],
            samples["suggested_label"][chosen],
            s=4 + 26 * samples["weight"][chosen],
            color=colour,
            alpha=0.7,
            linewidths=0,
            label=f"{name} ({chosen.sum():,})",
        )
    axes.axline((0, 0), slope=1, color=MUTED, linewidth=1)
    low, high = samples["given_label"].min(), samples["given_label"].max()
    room = 0.05 * (high - low)
    axes.set(xlim=(low - room, high + room), ylim=(low - room, high + room))
    axes.set(xlabel="given target", ylabel="suggested target")
    axes.set_title("Targets; the larger a dot, the more it weighs")
    axes.legend(loc="upper left")
    return figure


@styled()
def text_suspects(
    run_dir: str | os.PathLike,
    texts: Sequence[str],
    *,
    count: int = 24,
    class_names: Sequence[str] | None = None,
) -> "Figure":
    """The most suspicious texts with "given → suggested" before them, rank 1 first.

    Where the truth is known, labels that are indeed wrong are coloured.

    Args:
      run_dir: the run.
      texts: its training samples as a person reads them, in training-set order.
      count: how many to show.
      class_names: names of the classes; their numbers by default.

    Raises:
      ValueError: if the texts are fewer than the run has.
    """
    samples = _read_samples(run_dir)
    _check_all_there(run_dir, samples, len(texts), "texts")
    samples = {k: v[:count] for k, v in samples.items()}
    wrong, name = is_wrong(samples), _label_names(samples, class_names)
    size = len(wrong)
    figure = new_figure(9, 0.26 * size + 0.6)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(size, 0))
    for i in range(size):
        given, suggested = (
            name(samples[f"{kind}_label"][i]) for kind in ("given", "suggested")
        )
        text = " ".join(texts[samples["index"][i]].split())
        axes.text(
            0,
            i + 0.5,
            f"{given} → {suggested}",
            color=CORRUPTED if wrong[i] else INK,
            va="center",
        )
        row = f"sample {samples['index'][i]}"
        axes.text(0.27, i + 0.5, row, color=MUTED, va="center", fontsize=8)
        axes.text(0.36, i + 0.5, textwrap.shorten(text, 80), va="center", fontsize=9)
    title = f"The {size} most suspicious labels: given → suggested"
    known = is_known(samples["true_label"]).all()
    headline(figure, f"{title} ({wrong.sum()} indeed wrong)" if known else title)
    return figure


def _label_names(samples, class_names):
    """Says a label: the name of a class, or the number that a target is."""
    if np.issubdtype(samples["given_label"].dtype, np.floating):
        return lambda target: f"{target:.6g}"
    size = max(samples["given_label"].max(), samples["suggested_label"].max()) + 1
    names = _names(class_names, size, width=14)
    return lambda label: names[label]


@styled()
def suspects(
    run_dir: str | os.PathLike,
    images: Any,
    *,
    count: int = 32,
    class_names: Sequence[str] | None = None,
) -> "Figure":
    """The most suspicious images with "given → suggested" captions, rank 1 first.

    Where the truth is known, captions of labels that are indeed wrong are coloured.

    Args:
      run_dir: the run.
      images: its training images [N, H, W, C] with C of 1 or 3, in training-set order,
        or what gives them by position.
      count: how many to show.
      class_names: names of the classes; their numbers by default.

    Raises:
      ValueError: if the images have another shape, or are fewer than the run has.
    """
    samples = _read_samples(run_dir)
    _check_all_there(run_dir, samples, len(images), "images")
    shape = (len(images), *np.shape(images[0]))
    if len(shape) != 4 or shape[-1] not in (1, 3):
        raise ValueError(f"images has shape {shape}: give [N, H, W, 1 or 3]")
    name = _label_names(samples, class_names)
    top = {column: values[:count] for column, values in samples.items()}
    wrong = is_wrong(top)
    given, suggested = (
        [name(label) for label in top[f"{kind}_label"]]
        for kind in ("given", "suggested")
    )
    columns = min(8, wrong.size)
    rows = -(-wrong.size // columns)
    long = max(map(len, given + suggested)) > 5
    separator = "\n" if long else " "
    figure = new_figure(max(columns, 5.6), (1.3 if long else 1.12) * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for i, axes in enumerate(grid[: wrong.size]):
        axes.imshow(images[top["index"][i]], cmap="gray")  # a last axis of 1 is fine
        axes.set_title(
            f"{given[i]}{separator}→ {suggested[i]}",
            loc="center",
            pad=4,
            fontsize=8 if long else 10,
            color=CORRUPTED if wrong[i] else INK,
        )
    title = f"The {wrong.size} most suspicious labels: given → suggested"
    known = is_known(top["true_label"]).all()
    headline(figure, f"{title} ({wrong.sum()} indeed wrong)" if known else title)
    return figure


def _read_samples(run_dir: str | os.PathLike) -> dict[str, np.ndarray]:
    return read_samples(Path(run_dir) / SAMPLES)


def _check_all_there(
    run_dir: str | os.PathLike, samples: dict[str, np.ndarray], size: int, what: str
) -> None:
    last = samples["index"].max()
    if last >= size:
        raise ValueError(
            f"there are {size} {what}, but {run_dir} ranks sample {last}: give the "
            f"{what} of the whole training set"
        )


def _truth_groups(samples: dict[str, np.ndarray]) -> list[tuple[str, np.ndarray, str]]:
    """Name, mask and colour of the clean, the corrupted and the unknown samples."""
    known, wrong = is_known(samples["true_label"]), is_wrong(samples)
    groups = [
        ("clean labels", known & ~wrong, CLEAN),
        ("corrupted labels", wrong, CORRUPTED),
        ("truth unknown", ~known, MUTED),
    ]
    return [group for group in groups if group[1].any()]


def _auroc(samples: dict[str, np.ndarray], prefix: str) -> str:
    """`prefix` and the AUROC of the samples of known truth; empty if undefined."""
    known, wrong = is_known(samples["true_label"]), is_wrong(samples)
    auroc = wrong_label_auroc(samples["weight"][known], wrong[known])
    return "" if np.isnan(auroc) else f"{prefix}{auroc:.3f}"


def _names(
    class_names: Sequence[str] | None, num_classes: int, *, width: int
) -> Sequence[str]:
    """Names of classes in one line each, cut off after `width` characters."""
    names = class_names or [str(label) for label in range(num_classes)]
    if len(names) < num_classes:
        raise ValueError(
            f"class_names has {len(names)} names, but the run has a label "
            f"{num_classes - 1}: give one name per class"
        )
    lines = [" ".join(name.split()) for name in names]
    return [x if len(x) <= width else x[: width - 1] + "…" for x in lines]
