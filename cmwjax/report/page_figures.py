"""The drawings of a page, each as wide as a telephone: they grow with the screen."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cmwjax.report.facts import Facts
from cmwjax.report.families import read_family_names
from cmwjax.report.page_parts import Key, drawing
from cmwjax.report.panels import (
    Samples,
    draw_losses,
    draw_over_time,
    draw_shares,
    draw_weighting,
    legend,
    truth_groups,
    weighting_of,
)
from cmwjax.report.plot_style import (
    CORRUPTED,
    FAINT,
    FAMILY_COLOURS,
    INK,
    METHOD_COLOURS,
    MUTED,
    styled,
    weight_limit,
)
from cmwjax.report.samples import noun

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 4.9, 2.7  # inches of 72 points, which a telephone has about 350 of
LEFT, RIGHT, BELOW, ABOVE = 0.62, 0.12, 0.48, 0.1  # room for numbers and names, inches
DOTS = 400  # samples drawn one by one
EXAMPLES = ("-", "--", ":")  # styles of the followed samples, of either kind
SCORES = {  # metric -> what it is of, and how it is drawn
    "test": ("test", METHOD_COLOURS["cmw_net"], "-"),
    "validation": ("validation", FAMILY_COLOURS[1], "--"),
    "meta": ("meta set", FAMILY_COLOURS[2], ":"),
}


def panel(height: float = HEIGHT, parts: Sequence[float] = (1,)) -> "list[Axes]":
    """Axes above each other, of these shares of the height, with one axis of x."""
    from matplotlib.figure import Figure

    figure: Figure = Figure(figsize=(WIDTH, height))
    gap = 0.16
    room = height - BELOW - ABOVE - gap * (len(parts) - 1)
    axes, top = [], height - ABOVE
    for part in parts:
        own = room * part / sum(parts)
        box = (LEFT, top - own, WIDTH - LEFT - RIGHT, own)
        scale = np.array([WIDTH, height, WIDTH, height])
        axes.append(figure.add_axes(tuple(np.array(box) / scale)))
        top -= own + gap
    for one in axes[:-1]:
        one.tick_params(labelbottom=False)
    return axes


@styled()
def scores(facts: Facts) -> str:
    """The score on test, validation and meta set over the epochs, in percent."""
    (axes,) = panel()
    epochs = np.array([row["epoch"] for row in facts.metrics])
    keys, shown = [], []
    for name, (text, colour, style) in SCORES.items():
        values = _column(facts, f"{name}_{facts.task.criterion}") * 100
        if np.isfinite(values).any():
            draw_over_time(axes, [(epochs, values, colour, style)])
            keys.append(Key(text, colour, style))
            shown.append(values[np.isfinite(values)])
    axes.set(ylim=score_limits(np.concatenate(shown or [np.zeros(1)])), ylabel="%")
    title = f"{facts.task.title.capitalize()} over the epochs"
    return drawing(axes, title, keys)


def score_limits(values: np.ndarray) -> tuple[float, float]:
    """Where an axis of scores in percent begins and ends: in tens, but for the top."""
    low = max(-100.0, 10 * np.floor(values.min() / 10))
    high = min(100.0, 10 * np.ceil(values.max() / 10))
    low = min(low, high - 10)
    return low, high + 0.02 * (high - low)  # a line at the top is seen


@styled()
def losses(facts: Facts) -> str:
    """The mean training loss, and the one on the meta set, over the epochs."""
    (axes,) = panel()
    epochs = np.array([row["epoch"] for row in facts.metrics])
    keys, top = [], 0.0
    lines = (
        ("loss", "training, as weighted", INK, "-"),
        ("meta_loss", "meta set, a step ahead", FAMILY_COLOURS[2], ":"),
    )
    for name, text, colour, style in lines:
        values = _column(facts, name)
        if np.isfinite(values).any():
            draw_over_time(axes, [(epochs, values, colour, style)])
            keys.append(Key(text, colour, style))
            top = max(top, np.nanmax(values))
    axes.set_ylim(0, 1.05 * top if top > 0 else 1)
    axes.set_ylabel("loss")
    return drawing(axes, "Loss over the epochs", keys)


@styled()
def weighting(facts: Facts) -> tuple[str, int]:
    """The weighting function above the losses it is fed, and how many are beyond."""
    view = weighting_of(facts.folder, facts.samples)
    top, bottom = panel(1.5 * HEIGHT, (1.6, 1))
    draw_weighting(top, view, DOTS)
    beyond = draw_losses(bottom, facts.samples, view.reach)
    bottom.set(xlabel="training loss", ylabel="samples")
    keys = [Key(n, c) for n, c in zip(view.names, view.colours, strict=True)]
    keys += _truth_keys(facts.samples)
    return drawing(top, "Weight of a sample by its loss", keys), beyond


@styled()
def quality(facts: Facts) -> str:
    """The quality of clean and of corrupted labels."""
    (axes,) = panel()
    what = noun(facts.samples)
    draw_shares(axes, facts.samples, facts.samples["quality"], 1.0)
    axes.set(xlabel=f"quality of the {what}", ylabel="share of the samples (%)")
    if facts.has_margin:
        axes.axvline(0.5, color=MUTED, linewidth=1, linestyle=":")
    title = f"How many {what}s have which quality"
    return drawing(axes, title, _truth_keys(facts.samples))


@styled()
def weights(facts: Facts) -> list[str]:
    """The weights in each family, on one axis, or larger where they are small."""
    samples = facts.samples
    if np.ptp(samples["weight"]) == 0:
        return []
    families = np.unique(samples["family"])
    names = read_family_names(facts.folder, max(1, families.max() + 1))
    drawn, shared = [], weight_limit(samples["weight"])
    for family in families:
        mine = {k: v[samples["family"] == family] for k, v in samples.items()}
        largest = float(mine["weight"].max())
        is_own = largest < 0.1 * shared
        (axes,) = panel(0.8 * HEIGHT)
        limit = (largest or 1.0) if is_own else shared
        draw_shares(axes, mine, mine["weight"], limit)
        end = f"weight, from 0 to {limit:.2g} only" if is_own else "weight"
        axes.set(xlabel=end, ylabel="share (%)")
        name = names[family] if family >= 0 else "all samples"
        drawn.append(drawing(axes, f"Weights: {name}", _truth_keys(mine)))
    return drawn


@styled()
def over_time(facts: Facts) -> str:
    """Loss and weight of a few samples over the epochs; '' where nothing was kept."""
    history = facts.history
    if history is None or len(history["epoch"]) < 2:
        return ""
    order = np.argsort(facts.samples["row"])
    at = np.searchsorted(facts.samples["row"], history["row"], sorter=order)
    rank = order[at]  # samples are in the order of their ranks
    by_rank = np.argsort(rank)
    count = min(len(EXAMPLES), len(rank) // 2)
    kinds = ((by_rank[:count], CORRUPTED), (by_rank[-count:], FAMILY_COLOURS[0]))
    top, bottom = panel(1.5 * HEIGHT, (1, 1))
    keys = []
    for axes, name in ((top, "loss"), (bottom, "weight")):
        values = history[name]
        low, high = np.quantile(values, (0.1, 0.9), axis=1)
        axes.fill_between(history["epoch"], low, high, color=FAINT, lw=0)
        for chosen, colour in kinds:
            for column, style in zip(chosen, EXAMPLES, strict=False):
                line = (history["epoch"], values[:, column], colour, style)
                draw_over_time(axes, [line])
        limit = max(1e-9, float(values.max()))
        axes.set(ylabel=name, ylim=(0, 1.04 * limit))
    top.set_xlabel("")
    for chosen, colour in kinds:
        for column, style in zip(chosen, EXAMPLES, strict=False):
            keys.append(Key(identity(facts.samples, rank[column]), colour, style))
    keys.append(Key(f"10 to 90 % of {len(rank)} samples drawn at random", FAINT, "s"))
    return drawing(top, "Loss and weight of some samples over the epochs", keys)


@styled()
def targets(facts: Facts) -> str:
    """Given and suggested targets of a regression; at most some hundred samples."""
    step = -(-len(facts.samples["row"]) // DOTS)
    samples = {name: values[::step] for name, values in facts.samples.items()}
    (axes,) = panel(1.4 * HEIGHT)
    given = samples["given_label"]
    for group in truth_groups(samples):
        points = given[group.chosen], samples["suggested_label"][group.chosen]
        axes.plot(*points, ".", color=group.colour, markersize=5)
    axes.axline((given.min(), given.min()), slope=1, color=MUTED, linewidth=1)
    room = 0.05 * np.ptp(given) or 1
    limits = (given.min() - room, given.max() + room)
    axes.set(xlim=limits, ylim=limits)
    axes.set(xlabel="given target", ylabel="suggested target")
    keys = [Key(key.text, key.colour, "s") for key in _truth_keys(facts.samples)]
    return drawing(axes, "Given and suggested targets", keys)


def identity(samples: Samples, position: int) -> str:
    """A sample as its owner knows it, and its labels: 'row 12: 7 → 4'."""
    file = samples["file"][position]
    name = file or f"row {samples['row'][position]}"
    return f"{name}: {labels(samples, position)}"


def labels(samples: Samples, position: int) -> str:
    """The given label, and the suggested one if it is another: '7 → 4'."""
    pair = samples["given_label"][position], samples["suggested_label"][position]
    given, suggested = (
        f"{label:.6g}" if isinstance(label, float) else str(label) for label in pair
    )
    return given if given == suggested else f"{given} → {suggested}"


def _truth_keys(samples: Samples) -> list[Key]:
    return [Key(legend(g), g.colour, "s") for g in truth_groups(samples)]


def _column(facts: Facts, name: str) -> np.ndarray:
    values = [row.get(name) for row in facts.metrics]
    return np.array([np.nan if value is None else value for value in values], float)
