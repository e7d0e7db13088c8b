"""What figures and pages draw alike, each into axes that somebody has arranged."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cmwjax.report.families import read_family_names
from cmwjax.report.plot_style import (
    CLEAN,
    CORRUPTED,
    MUTED,
    family_colours,
    weight_limit,
)
from cmwjax.report.read import read_curves
from cmwjax.report.samples import is_known, is_wrong, noun

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Samples = dict[str, np.ndarray]
LOSS_BARS, BARS = 60, 20
POINTS = 300  # of a smooth curve


class Weighting(NamedTuple):
    """The weights of a run by loss, one curve for each family.

    Attributes:
      names: of the families, K; or what there is instead.
      colours: K.
      losses: where weights are known, ascending where there is a curve, `[G]`.
      weights: `[K, G]`.
      reach: up to which loss there is something to see.
      is_curve: whether it is one; else every point is a sample.
    """

    names: list[str]
    colours: list[str]
    losses: np.ndarray
    weights: np.ndarray
    reach: float
    is_curve: bool = True


class Group(NamedTuple):
    """Samples of which the same is known."""

    name: str
    chosen: np.ndarray  # bool [N]
    colour: str


def weighting_of(run_dir: str | os.PathLike, samples: Samples) -> Weighting:
    """The weights by loss of a run, up to the largest loss or the end of its curves."""
    learned = read_curves(run_dir)
    reach = float(samples["loss"].max()) or 1.0
    if learned is not None:
        losses, weights = (values[-1] for values in learned)
        names = read_family_names(run_dir, len(weights), sizes=True)
        reach = min(reach, float(losses[-1]))
        return Weighting(names, family_colours(len(weights)), losses, weights, reach)
    if np.ptp(samples["weight"]):
        names = ["no weighting function: the weight of each sample"]
        points = samples["weight"][None]
        return Weighting(names, [MUTED], samples["loss"], points, reach, False)
    weight = float(samples["weight"][0])
    names = [f"no weighting: every sample counts {weight:.4g}"]
    ends = np.array([0, reach])
    return Weighting(names, [MUTED], ends, np.full((1, 2), weight), reach)


def draw_weighting(axes: "Axes", view: Weighting, points: int | None = None) -> None:
    """Weights by loss; at most so many points where there is no curve."""
    lines = zip(view.names, view.colours, view.weights, strict=True)
    for name, colour, weights in lines:
        if not view.is_curve:
            step = 1 if points is None else -(-len(weights) // points)
            style: dict[str, Any] = dict(linestyle="", marker=".")
            x, y = view.losses[::step], weights[::step]
        else:
            x, y = _smooth(view.losses, weights, view.reach)
            style = {}
        axes.plot(x, y, color=colour, label=name, **style)
    shown = view.weights
    if view.is_curve:
        shown = shown[:, np.append(True, view.losses[:-1] < view.reach)]
    axes.set(ylabel="weight", ylim=(0, 1.04 * weight_limit(shown)))
    axes.set_xlim(0, view.reach)


def _smooth(
    losses: np.ndarray, weights: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """The curve without corners, through its points and monotone between them."""
    if len(losses) < 3:
        return losses, weights
    from scipy.interpolate import PchipInterpolator

    x = np.linspace(0, reach, POINTS)
    return x, PchipInterpolator(losses, weights)(x)


def draw_losses(axes: "Axes", samples: Samples, reach: float) -> int:
    """How many samples have which loss; those beyond `reach` are in the last bar.

    Returns:
      The number of these.
    """
    from matplotlib.ticker import EngFormatter

    groups = truth_groups(samples)
    within = np.minimum(samples["loss"], reach)
    axes.hist(
        [within[g.chosen] for g in groups],
        bins=np.linspace(0, reach, LOSS_BARS + 1).tolist(),
        stacked=True,
        color=[g.colour for g in groups],
        label=[legend(g) for g in groups],
    )
    # Most losses are nearly zero: the root makes the long tail visible beside them.
    axes.set_yscale("function", functions=(np.sqrt, np.square))
    top = axes.dataLim.y1
    axes.set_yticks(root_ticks(top))
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))  # 500k
    axes.set(xlim=(0, reach), ylim=(0, 1.1 * top))
    axes.set_ylabel("samples (root scale)")
    return int(np.sum(samples["loss"] > reach))


def root_ticks(top: float) -> list[int]:
    """Round numbers up to `top` that stand apart on a root scale, and 0."""
    ticks: list[int] = []
    candidates = (m * 10**k for k in range(12, -1, -1) for m in (5, 2, 1))
    for tick in candidates:
        above = np.sqrt(ticks[-1]) if ticks else np.inf
        if tick <= top and above - np.sqrt(tick) >= 0.22 * np.sqrt(top):
            ticks.append(tick)
    while ticks and np.sqrt(ticks[-1]) < 0.18 * np.sqrt(top):
        ticks.pop()
    return [0, *ticks[::-1]]


def draw_weights(axes: "Axes", samples: Samples, limit: float) -> None:
    """Weights from 0 to `limit`, clean and corrupted side by side, each 100 %."""
    draw_shares(axes, samples, samples["weight"], limit)


def draw_shares(
    axes: "Axes", samples: Samples, values: np.ndarray, limit: float
) -> None:
    """Distributions of `values`, which end at `limit`: bars side by side."""
    groups = truth_groups(samples)
    axes.hist(
        [values[g.chosen] for g in groups],
        bins=np.linspace(0, limit, BARS + 1).tolist(),
        weights=[np.full(g.chosen.sum(), 100 / g.chosen.sum()) for g in groups],
        color=[g.colour for g in groups],
        label=[legend(g) for g in groups],
    )
    axes.set_xlim(0, limit)


def truth_groups(samples: Samples) -> list[Group]:
    """The clean, the corrupted and the unknown samples, as far as there are some."""
    known, wrong = is_known(samples["true_label"]), is_wrong(samples)
    what = noun(samples)
    groups = [
        Group(f"clean {what}s", known & ~wrong, CLEAN),
        Group(f"corrupted {what}s", wrong, CORRUPTED),
        Group("truth unknown", ~known, MUTED),
    ]
    return [group for group in groups if group.chosen.any()]


def legend(group: Group) -> str:
    """What a legend says of a group."""
    return f"{group.name} ({group.chosen.sum():,})"


def draw_over_time(
    axes: "Axes", lines: Sequence[tuple[np.ndarray, np.ndarray, str, str]]
) -> None:
    """Lines over the epochs: epochs `[E]`, values `[E]`, colour and style of each."""
    from matplotlib.ticker import MaxNLocator

    for epochs, values, colour, style in lines:
        known = np.isfinite(values)
        dot = "o" if known.sum() < 3 else ""  # a line of one point is none
        axes.plot(
            epochs[known],
            values[known],
            color=colour,
            linestyle=style,
            linewidth=2,
            marker=dot,
            markersize=4,
        )
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
