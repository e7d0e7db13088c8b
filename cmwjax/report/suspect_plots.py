"""The most suspicious samples of a run, as a person sees them: texts, rows, images."""

import itertools
import os
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from cmwjax.report.plot_style import (
    CORRUPTED,
    INK,
    MUTED,
    headline,
    new_figure,
    one_line,
    styled,
)
from cmwjax.report.samples import (
    is_known,
    is_regression,
    is_wrong,
    noun,
    samples_of,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled()
def text_suspects(
    run_dir: str | os.PathLike,
    texts: Sequence[str],
    *,
    rows: ArrayLike | None = None,
    count: int = 24,
) -> "Figure":
    """The most suspicious texts with "given → suggested" before them, rank 1 first.

    Ranks are by quality, the lowest first, and among equal ones by loss. A label that
    the model would give, too, stands alone. A text has two lines; what does not fit is
    cut off. Where the truth is known, labels that are indeed wrong are coloured.

    Args:
      run_dir: the run.
      texts: samples as a person reads them, N.
      rows: the row of each in what the owner gave, [N]; None: its position.
      count: how many to show.

    Raises:
      ValueError: if the run has rows that the texts do not.
    """
    samples = samples_of(run_dir)
    at = _positions(run_dir, samples["row"], rows, len(texts), "texts")
    samples = {k: v[:count] for k, v in samples.items()}
    wrong = is_wrong(samples)
    size = len(wrong)
    labels = [" → ".join(names) for names in _label_names(samples, width=14)]
    # In inches: where columns begin, by the room that a letter takes.
    width, at_row = 11, 0.15 + 0.088 * max(map(len, labels))
    at_text = at_row + 0.25 + 0.065 * len(f"row {samples['row'].max()}")
    letters = int((width - 0.2 - at_text) / 0.072)
    shown = []
    for i in at[:count]:
        # A line does not end between the name of a column and its number.
        text = " ".join(texts[i].split()).replace(" = ", "\xa0=\xa0")
        shown.append(textwrap.wrap(text, letters, max_lines=2, placeholder=" …"))
    lines = max(map(len, shown))
    figure = new_figure(width, (0.1 + 0.16 * lines) * size + 0.6)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(size, 0))
    for i in range(size):
        colour = CORRUPTED if wrong[i] else INK
        axes.text(0, i + 0.5, labels[i], color=colour, va="center")
        row = f"row {samples['row'][i]}"
        axes.text(at_row, i + 0.5, row, color=MUTED, va="center", fontsize=8)
        text = "\n".join(shown[i])
        axes.text(at_text, i + 0.5, text, va="center", fontsize=9)
    headline(figure, _suspects_title(samples))
    return figure


def _suspects_title(samples: dict[str, np.ndarray]) -> str:
    wrong = is_wrong(samples)
    title = f"The {wrong.size} most suspicious {noun(samples)}s: given → suggested"
    if is_known(samples["true_label"]).all():
        title += f" ({wrong.sum()} indeed wrong, in magenta)"
    if np.any(samples["given_label"] == samples["suggested_label"]):
        title += f"\nA {noun(samples)} alone is suggested, too, but was doubted before"
    return title


def _label_names(samples: dict[str, np.ndarray], *, width: int) -> list[list[str]]:
    """Of each sample, the given label and, if that is another one, the suggested."""
    is_target = is_regression(samples)

    def say(label):
        return f"{label:.6g}" if is_target else one_line(label, width=width)

    pairs = zip(samples["given_label"], samples["suggested_label"], strict=True)
    return [list(dict.fromkeys(map(say, pair))) for pair in pairs]


@styled()
def suspects(
    run_dir: str | os.PathLike,
    images: Any,
    *,
    rows: ArrayLike | None = None,
    count: int = 32,
) -> "Figure":
    """The most suspicious images, rank 1 first, and above each what it is.

    That is its file, or its row, and "given → suggested", or one label if the model
    would give it, too. Ranks are by quality, the lowest first, and among equal ones
    by loss. Where the truth is known, captions of labels that are indeed wrong are
    coloured.

    Args:
      run_dir: the run.
      images: images [N, H, W, C] with C of 1 or 3, or what gives them by position.
      rows: the row of each in what the owner gave, [N]; None: its position.
      count: how many to show.

    Raises:
      ValueError: if the images have another shape, or the run has rows that they do
        not.
    """
    samples = samples_of(run_dir)
    at = _positions(run_dir, samples["row"], rows, len(images), "images")
    shape = (len(images), *np.shape(images[0]))
    if len(shape) != 4 or shape[-1] not in (1, 3):
        raise ValueError(f"images has shape {shape}: give [N, H, W, 1 or 3]")
    top = {column: values[:count] for column, values in samples.items()}
    wrong, labels = is_wrong(top), _label_names(top, width=12)
    columns = min(8, wrong.size)
    lines = -(-wrong.size // columns)
    long = max(map(len, itertools.chain(*labels))) > 5
    separator = "\n→ " if long else " → "
    figure = new_figure(max(columns, 5.6), (1.5 if long else 1.32) * lines + 0.5)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for i, axes in enumerate(grid[: wrong.size]):
        axes.imshow(images[at[i]], cmap="gray")  # a last axis of 1 is fine
        file = one_line(top["file"][i], width=12, keep_end=True)
        axes.set_title(
            f"{file or 'row ' + str(top['row'][i])}\n{separator.join(labels[i])}",
            loc="center",
            pad=4,
            fontsize=8,
            color=CORRUPTED if wrong[i] else INK,
        )
    headline(figure, _suspects_title(top))
    return figure


def _positions(
    run_dir: str | os.PathLike,
    wanted: np.ndarray,
    rows: ArrayLike | None,
    size: int,
    what: str,
) -> np.ndarray:
    """Where rows of the run are among those of `size` images or texts, int `[N]`."""
    known = np.arange(size) if rows is None else np.asarray(rows)
    if known.shape != (size,):
        raise ValueError(
            f"rows has shape {known.shape}, but there are {size} {what}: give the row "
            "of each"
        )
    missing = np.setdiff1d(wanted, known)
    if missing.size:
        raise ValueError(
            f"there are {size} {what}, but {run_dir} ranks row {missing.max()}, which "
            f"is none of theirs: give the {what} of the whole training set, and the "
            "row of each"
        )
    order = np.argsort(known)
    return order[np.searchsorted(known, wanted, sorter=order)]
