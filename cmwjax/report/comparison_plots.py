"""ERM, MW-Net and CMW-Net side by side over the epochs: a figure and an animation."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cmwjax.files import SAMPLES, replacing
from cmwjax.report.families import read_borders, read_family_names
from cmwjax.report.method_styles import method_style
from cmwjax.report.plot_style import (
    MUTED,
    end_labels,
    family_colours,
    new_figure,
    save,
    styled,
    weight_limit,
)
from cmwjax.report.read import (
    find_runs,
    read_curves,
    read_scores,
    scored_on,
    task_of,
)
from cmwjax.report.risk_coverage import figure_of, risks_by_method
from cmwjax.report.samples import is_known, is_wrong, samples_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

MAX_FRAMES = 60
FRAME_MS, HOLD_MS = 80, 2000
# Animated artists are drawn one by one over a still background (and by `save` as well).
MOVING: dict[str, Any] = dict(animated=True, clip_on=False)

Curves = tuple[np.ndarray, np.ndarray]  # losses [E, G], weights [E, K, G]


def comparison_figures(comparison_dir: str | os.PathLike) -> list[Path]:
    """Writes `training_curves.png` and, where there is something to see, more.

    That is `animation.gif` if CMW-Net was run, and of selective classification
    `risk_coverage.png`.
    """
    folder = Path(comparison_dir)
    written = [save(training_curves(folder), folder / "training_curves.png")]
    if risks := risks_by_method(folder):
        written.append(save(figure_of(risks), folder / "risk_coverage.png"))
    if "cmw_net" in find_runs(folder):
        written.append(animation(folder, folder / "animation.gif"))
    return written


@styled()
def training_curves(comparison_dir: str | os.PathLike) -> "Figure":
    """Score of each method over the epochs: mean ± std (ddof 1) over seeds.

    It is that of the test set, or where there is none of the validation set.

    Of one seed there is no deviation, and the line is alone.
    """
    scores = read_scores(comparison_dir)
    figure = new_figure(7.2, 4)
    axes = figure.subplots()
    draw = _score_panel(axes, scores)
    draw(next(iter(scores.values())).shape[1])
    axes.set_title(f"{score_title(comparison_dir)} (%), {_over_seeds(scores)}")
    return figure


def animation(comparison_dir: str | os.PathLike, path: str | os.PathLike) -> Path:
    """Writes a looping GIF of the weighting functions and scores over the epochs.

    Left, the family curves of CMW-Net's first seed, with MW-Net's single curve; right,
    the scores so far, mean ± std over seeds. One frame per epoch, at most 60
    (then of evenly spaced epochs); the last is held for two seconds.

    Raises:
      FileNotFoundError: if the folder holds no run.
      ValueError: if no run has a weighting function of CMW-Net, or one is incomplete.
    """
    frames = []
    with styled():
        canvas, draw, epochs = _scene(comparison_dir)
        figure = canvas.figure
        canvas.draw()  # all that stands still; the rest is marked as animated
        still = canvas.copy_from_bbox(figure.bbox)
        moving = figure.findobj(lambda artist: artist.get_animated())
        moving.sort(key=lambda artist: artist.get_zorder())
        for epoch in np.linspace(1, epochs, min(epochs, MAX_FRAMES)).round():
            draw(int(epoch))
            canvas.restore_region(still)
            for artist in moving:
                figure.draw_artist(artist)
            frames.append(np.array(canvas.buffer_rgba())[..., :3])
    first, *others = _with_palette(frames)
    with replacing(path) as temporary:
        first.save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=others,
            duration=[FRAME_MS] * len(others) + [HOLD_MS],
            loop=0,
        )
    return Path(path)


def _with_palette(frames: Sequence[np.ndarray]) -> "list[Image.Image]":
    """Frames `[H, W, 3]` in the colours most frequent in the first, middle and last.

    These stay exact, so that flat areas and solid lines look as drawn. With one palette
    for all, each frame stores only what has changed; 255 colours, as one more stands
    for "unchanged".
    """
    from PIL import Image
    from sklearn.metrics import pairwise_distances_argmin

    # Colours alike in the upper five bits of each channel share a box, and an entry.
    def box(pixels: np.ndarray) -> np.ndarray:
        red, green, blue = np.moveaxis(pixels.astype(np.int32) >> 3, -1, 0)
        return red << 10 | green << 5 | blue

    shown = np.stack([frames[0], frames[len(frames) // 2], frames[-1]])
    codes = shown.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1])
    codes, counts = np.unique(codes, return_counts=True)
    codes = codes[np.argsort(-counts, kind="stable")]
    colours = codes[:, None] >> np.array([16, 8, 0]) & 255
    _, most_frequent = np.unique(box(colours), return_index=True)
    palette = colours[np.sort(most_frequent)[:255]]
    centres = np.stack(np.unravel_index(np.arange(1 << 15), (32, 32, 32)), axis=1)
    entry = pairwise_distances_argmin(8.0 * centres + 4, palette).astype(np.uint8)
    entry[box(palette)] = np.arange(len(palette))
    images = [Image.fromarray(entry[box(frame)]) for frame in frames]
    for image in images:
        image.putpalette(palette.astype(np.uint8).tobytes())
    return images


def _scene(comparison_dir: str | os.PathLike):
    """The canvas of the animation, what draws epoch 1..E on it, and E."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scores = read_scores(comparison_dir)
    runs = find_runs(comparison_dir)
    curves = {method: read_curves(folders[0]) for method, folders in runs.items()}
    if curves.get("cmw_net") is None:
        raise ValueError(
            f"{comparison_dir} holds no weighting function of CMW-Net: run the method "
            "cmw_net into it"
        )
    figure = Figure(figsize=(9, 3.8), dpi=100)
    left = figure.add_axes((0.045, 0.14, 0.31, 0.64))
    right = figure.add_axes((0.56, 0.14, 0.29, 0.64))
    shown = runs["cmw_net"][0]
    seen = "loss" if read_borders(shown) is None else "loss and target"
    noun = "label" if read_borders(shown) is None else "target"
    _heading(left, f"How much a {noun} is trusted", f"weight of a sample by its {seen}")
    wrong = _wrong_share(shown)
    _heading(
        right,
        score_title(comparison_dir),
        f"%, {_over_seeds(scores)}{wrong}",
    )
    clock = figure.text(
        0.985, 0.877, "", ha="right", color=MUTED, fontsize=12, animated=True
    )
    families = curves["cmw_net"]
    names = read_family_names(shown, families[1].shape[1], short=True)
    draw_curves = _curve_panel(left, families, names, curves.get("mw_net"))
    draw_scores = _score_panel(right, scores)

    def draw(epoch: int) -> None:
        clock.set_text(f"epoch {epoch}")
        draw_curves(epoch)
        draw_scores(epoch)

    return FigureCanvasAgg(figure), draw, scores["cmw_net"].shape[1]


def _curve_panel(
    axes: "Axes", families: Curves, names: Sequence[str], single: Curves | None
) -> Callable[[int], None]:
    """Lines with labels at their ends; returns what draws epoch 1..E into them."""
    lines, data = [], []  # name, losses [E, G], weights [E, G]
    if single is not None:
        name, style = method_style("mw_net")
        lines += axes.plot([], [], **MOVING, **(style | {"linewidth": 1.5}))
        data.append((name, single[0], single[1][:, 0]))
    for k, name in enumerate(names):
        colour = family_colours(len(names))[k]
        lines += axes.plot([], [], **MOVING, color=colour, linewidth=3)
        data.append((name, families[0], families[1][:, k]))
    top = weight_limit([weights.max() for _, _, weights in data])
    axes.set(xlabel="training loss", ylim=(0, 1.04 * top))
    axes.set(xlim=(0, max(losses.max() for _, losses, _ in data)))
    move_labels = end_labels(axes, [line.get_color() for line in lines])

    def draw(epoch: int) -> None:
        for line, (_, losses, weights) in zip(lines, data, strict=True):
            line.set_data(losses[epoch - 1], weights[epoch - 1])
        move_labels([(name, x[epoch - 1, -1], y[epoch - 1, -1]) for name, x, y in data])

    return draw


def _score_panel(axes: "Axes", scores: dict[str, np.ndarray]) -> Callable[[int], None]:
    """The same for scores in percent, [seeds, E] by method."""
    lines, bands, data = [], [], []  # label, mean [E], std [E]
    for method, values in scores.items():
        label, style = method_style(method)
        lines += axes.plot([], [], **MOVING, **style, marker="o", markevery=[-1], ms=5)
        band = axes.fill_between([], [], color=style["color"], alpha=0.18, lw=0)
        band.set_animated(True)
        bands.append(band)
        mean = values.mean(axis=0)
        std = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros_like(mean)
        data.append((label, mean, std))
    epochs = np.arange(1, len(data[0][1]) + 1)
    means, stds = (np.stack(values) for values in list(zip(*data, strict=True))[1:])
    low, high = _score_limits(means, stds)
    first = min(1, epochs[-1] - 1)  # of one epoch, there is room at its left
    axes.set(xlabel="epoch", xlim=(first, epochs[-1]), ylim=(low, high))
    if means.min() < low:
        for artist in (*lines, *bands):
            artist.set_clip_on(True)
    move_labels = end_labels(axes, [line.get_color() for line in lines])

    def draw(epoch: int) -> None:
        x = epochs[:epoch]
        for line, band, (_, mean, std) in zip(lines, bands, data, strict=True):
            line.set_data(x, mean[:epoch])
            band.set_data(x, (mean - std)[:epoch], (mean + std)[:epoch])
        now = [(label, mean[epoch - 1]) for label, mean, _ in data]
        move_labels([(f"{label} {value:.1f}", epoch, value) for label, value in now])

    return draw


def _score_limits(means: np.ndarray, stds: np.ndarray) -> tuple[float, float]:
    """Where a score axis begins and ends, in tens of percent, by `[methods, E]`.

    Accuracy begins at 0. R² may be far below in its first epochs: what is below -100 is
    cut off, if it is above in the end.
    """
    bottom = 0 if means.min() >= 0 else min(-100, means[:, -1].min())
    low = 10 * np.floor(max(bottom, (means - stds).min()) / 10)
    high = min(100, 10 * np.ceil((means + stds).max() / 10))
    low = min(low, 90)  # of scores that are all 100
    return low, max(high, low + 10)


def _heading(axes: "Axes", title: str, subtitle: str) -> None:
    axes.set_title(title, pad=26)
    axes.annotate(
        subtitle,
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 10),
        textcoords="offset points",
        color=MUTED,
    )


def score_title(comparison_dir: str | os.PathLike) -> str:
    """What the score is: accuracy or R², and of what."""
    run = next(iter(find_runs(comparison_dir).values()))[0]
    of, name = scored_on(run), task_of(run).title
    by = " by given labels" if of == "validation" else ""
    return f"{of.capitalize()} {name}{by}"


def _over_seeds(scores: dict[str, np.ndarray]) -> str:
    seeds = sorted({len(values) for values in scores.values()})
    if seeds == [1]:
        return "one seed"
    return f"mean ± std over {'–'.join(map(str, seeds))} seeds"


def _wrong_share(run_dir: Path) -> str:
    """Says how many of the given labels are wrong, where the run's files tell."""
    if not (run_dir / SAMPLES).is_file():
        return ""
    samples = samples_of(run_dir)
    if not is_known(samples["true_label"]).all():
        return ""
    wrong = np.mean(is_wrong(samples))
    noun = "labels" if read_borders(run_dir) is None else "targets"
    return f" · {100 * wrong:.0f} % of {noun} wrong"
