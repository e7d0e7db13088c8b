"""How our figures look: colours, fonts, labels at line ends; and how they are saved."""

import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from cmwjax.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, RULE, FAINT = "#1F2933", "#6B7785", "#B4BCC6", "#EBEEF2"
# Told apart with any colour vision, and in grey (after Okabe and Ito).
FAMILY_COLOURS = ("#0072B2", "#009E73", "#E66100", "#CC79A7", "#56B4E9", "#B79F00")
CLEAN, CORRUPTED = "#AAB4C0", "#A5176E"
METHOD_COLOURS = {"erm": "#B8860B", "mw_net": "#7B8794", "cmw_net": "#4B2E9E"}
STYLE = {
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": RULE,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.framealpha": 0.85,
    "legend.edgecolor": "none",
    "legend.fontsize": 9,
    "text.parse_math": False,  # a dollar in names and texts is a dollar
    "lines.linewidth": 2.5,
    "lines.solid_capstyle": "round",
}


@contextmanager
def styled():
    """Our style on matplotlib's defaults, whatever the user's own settings."""
    import matplotlib.style

    with matplotlib.style.context(["default", STYLE]):
        yield


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches, that arranges its contents when drawn."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    return Figure(figsize=(width, height), layout=layout)


def headline(figure: "Figure", text: str) -> None:
    """A title of the whole figure, in the look of an axes' title."""
    figure.suptitle(text, x=0.02, ha="left", fontsize=12, fontweight="bold")


def save(figure: "Figure", path: str | os.PathLike) -> Path:
    """Writes `figure` as PNG, replacing `path` atomically, and returns the path."""
    with replacing(path) as temporary, warnings.catch_warnings():
        # Letters of another script than the font has are drawn as boxes.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        figure.savefig(temporary, format="png", dpi=160)
    return Path(path)


def family_colours(num_families: int) -> list[str]:
    """Colour of each family, in ascending order."""
    if num_families == 1:
        return [INK]
    return [FAMILY_COLOURS[k % len(FAMILY_COLOURS)] for k in range(num_families)]


def weight_limit(weights: ArrayLike) -> float:
    """Where a weight axis ends: one, unless all weights are small."""
    weights = np.asarray(weights)
    top = weights.max(where=np.isfinite(weights), initial=0)
    return float(top) if 0 < top <= 0.5 else 1.0


def one_line(name: str, *, width: int, keep_end: bool = False) -> str:
    """A name in one line, of at most `width` characters: cut off, or its end."""
    # Bytes that are no text, as the name of a file may have, cannot be drawn.
    line = " ".join(name.encode(errors="replace").decode().split())
    if len(line) <= width:
        return line
    return "…" + line[1 - width :] if keep_end else line[: width - 1] + "…"


def end_labels(
    axes: "Axes", colours: Sequence[str]
) -> Callable[[Sequence[tuple[str, float, float]]], None]:
    """Labels beside line ends, apart from each other; returns what moves them.

    That function takes text, x and y of each line's end, in data coordinates.
    """
    labels = [
        axes.annotate(
            "",
            (0, 0),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontweight="bold",
            annotation_clip=False,
            animated=True,
        )
        for colour in colours
    ]

    def update(ends: Sequence[tuple[str, float, float]]) -> None:
        low, high = axes.get_ylim()
        gap = min(0.07, 1 / (len(ends) + 1)) * (high - low)
        heights = [y for _, _, y in ends]
        places = spread(heights, gap=gap, low=low + gap / 3, high=high)
        for label, (text, x, _), y in zip(labels, ends, places, strict=True):
            label.set_text(text)
            label.xy = (x, y)

    return update


def spread(
    values: Sequence[float], *, gap: float, low: float, high: float
) -> np.ndarray:
    """Places in [low, high], `gap` or more apart, nearest to `values` (least squares).

    Less a step of `gap` per rank, such places need only not decrease: a monotone fit.
    """
    from sklearn.isotonic import isotonic_regression

    wanted = np.asarray(values, float)
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(wanted))
    places = np.empty_like(wanted)
    fit = isotonic_regression(wanted[order] - steps, y_min=low, y_max=high - steps[-1])
    places[order] = fit + steps
    return places
