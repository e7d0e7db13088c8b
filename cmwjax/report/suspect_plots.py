"""The most suspicious samples of a run, as a person sees them: texts, rows, images."""

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cmwjax.files import SAMPLES
from cmwjax.report.plot_style import (
    CORRUPTED,
    INK,
    MUTED,
    class_lines,
    headline,
    new_figure,
    styled,
)
from cmwjax.report.samples import (
    is_known,
    is_regression,
    is_wrong,
    noun,
    read_samples,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled()
def text_suspects(
    run_dir: str | os.PathLike,
    texts: Sequence[str],
    *,
    count: int = 24,
    class_names: Sequence[str] | None = None,
) -> "Figure":
    """The most suspicious texts with "given → suggested" before them, rank 1 first.

    Ranks are by weight, the lowest first, and among equal weights by loss. A text has
    two lines; what does not fit is cut off. Where the truth is known, labels that are
    indeed wrong are coloured.

    Args:
      run_dir: the run.
      texts: its training samples as a person reads them, in training-set order.
      count: how many to show.
      class_names: names of the classes; their numbers by default.

    Raises:
      ValueError: if the texts are fewer than the run has.
    """
    samples = read_samples(Path(run_dir) / SAMPLES)
    _check_all_there(run_dir, samples, len(texts), "texts")
    samples = {k: v[:count] for k, v in samples.items()}
    wrong, name = is_wrong(samples), _label_names(samples, class_names)
    size = len(wrong)
    given, suggested = (
        [name(label) for label in samples[f"{kind}_label"]]
        for kind in ("given", "suggested")
    )
    labels = [f"{one} → {other}" for one, other in zip(given, suggested, strict=True)]
    # In inches: where columns begin, by the room that a letter takes.
    width, at_row = 11, 0.15 + 0.088 * max(map(len, labels))
    at_text = at_row + 0.25 + 0.065 * len(f"sample {samples['index'].max()}")
    letters = int((width - 0.2 - at_text) / 0.072)
    shown = []
    for i in samples["index"]:
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
        row = f"sample {samples['index'][i]}"
        axes.text(at_row, i + 0.5, row, color=MUTED, va="center", fontsize=8)
        text = "\n".join(shown[i])
        axes.text(at_text, i + 0.5, text, va="center", fontsize=9)
    headline(figure, _suspects_title(samples))
    return figure


def _suspects_title(samples: dict[str, np.ndarray]) -> str:
    wrong = is_wrong(samples)
    title = f"The {wrong.size} most suspicious {noun(samples)}s: given → suggested"
    known = is_known(samples["true_label"]).all()
    return f"{title} ({wrong.sum()} indeed wrong)" if known else title


def _label_names(samples, class_names):
    """Says a label: the name of a class, or the number that a target is."""
    if is_regression(samples):
        return lambda target: f"{target:.6g}"
    size = max(samples["given_label"].max(), samples["suggested_label"].max()) + 1
    names = class_lines(class_names, size, width=14)
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

    Ranks are by weight, the lowest first, and among equal weights by loss. Where the
    truth is known, captions of labels that are indeed wrong are coloured.

    Args:
      run_dir: the run.
      images: its training images [N, H, W, C] with C of 1 or 3, in training-set order,
        or what gives them by position.
      count: how many to show.
      class_names: names of the classes; their numbers by default.

    Raises:
      ValueError: if the images have another shape, or are fewer than the run has.
    """
    samples = read_samples(Path(run_dir) / SAMPLES)
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
    headline(figure, _suspects_title(top))
    return figure


def _check_all_there(
    run_dir: str | os.PathLike, samples: dict[str, np.ndarray], size: int, what: str
) -> None:
    last = samples["index"].max()
    if last >= size:
        raise ValueError(
            f"there are {size} {what}, but {run_dir} ranks sample {last}: give the "
            f"{what} of the whole training set"
        )
