"""Tests of the figures that compare methods, against their files."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import fake_runs
from cmwjax.report import comparison_plots, plot_style, plots
from cmwjax.report.read import find_runs
from fake_runs import epochs_of, rows

EPOCHS = 7


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    return fake_runs.write_comparison(folder, seeds=3, epochs=EPOCHS)


def test_training_curves_are_mean_and_std_over_seeds(comparison):
    (axes,) = plots.training_curves(comparison).axes
    lines = [line for line in axes.lines if len(line.get_xdata())]
    assert len(lines) == len(axes.collections) == 3
    for method, line, band in zip(
        ("erm", "mw_net", "cmw_net"), lines, axes.collections, strict=True
    ):
        seeds = [epochs_of(comparison / method / f"seed_{k}") for k in range(3)]
        values = 100 * np.array([[e["test_accuracy"] for e in s] for s in seeds])
        mean = values.sum(axis=0) / 3
        std = np.sqrt(((values - mean) ** 2).sum(axis=0) / 2)
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, EPOCHS + 1))
        np.testing.assert_allclose(line.get_ydata(), mean)
        outline = band.get_paths()[0].vertices
        for epoch in range(EPOCHS):
            edge = outline[outline[:, 0] == epoch + 1][:, 1]
            assert edge.min() == pytest.approx(mean[epoch] - std[epoch])
            assert edge.max() == pytest.approx(mean[epoch] + std[epoch])
        label = line.get_color(), f"{mean[-1]:.1f}"
        found = [(t.get_color(), t.get_text().split()[-1]) for t in axes.texts]
        assert label in found
    assert "3 seeds" in axes.get_title(loc="left")


def test_one_seed_has_no_deviation(tmp_path):
    folder = fake_runs.write_comparison(tmp_path, seeds=1, epochs=3)
    (axes,) = plots.training_curves(folder).axes
    assert "one seed" in axes.get_title(loc="left")
    lines = [line for line in axes.lines if len(line.get_xdata())]
    for line, band in zip(lines, axes.collections, strict=True):
        edges = band.get_paths()[0].vertices[:, 1]
        np.testing.assert_array_equal(np.unique(edges), np.unique(line.get_ydata()))


def test_scene_draws_one_epoch(comparison):
    canvas, draw, epochs = comparison_plots._scene(comparison)
    figure = canvas.figure
    assert epochs == EPOCHS
    left, right = figure.axes
    cmw = epochs_of(comparison / "cmw_net" / "seed_0")
    mw = epochs_of(comparison / "mw_net" / "seed_0")
    for epoch in (3, 1, EPOCHS):
        draw(epoch)
        single, *families = left.lines
        np.testing.assert_array_equal(single.get_ydata(), mw[epoch - 1]["curve"][0])
        for line, weights in zip(families, cmw[epoch - 1]["curve"], strict=True):
            np.testing.assert_array_equal(line.get_ydata(), weights)
        assert [len(line.get_xdata()) for line in right.lines] == [epoch] * 3
        assert f"epoch {epoch}" in [text.get_text() for text in figure.texts]
    labels = {"small classes", "moderate classes", "large classes", "MW-Net"}
    assert labels <= {text.get_text() for text in left.texts}
    ends = {t.get_text(): t.xy[1] for t in left.texts if t.get_text() in labels}
    sizes = ("small", "moderate", "large")
    small, moderate, large = (ends[f"{size} classes"] for size in sizes)
    assert small > moderate > large
    wrong = np.mean(
        [
            r["given_label"] != r["true_label"]
            for r in rows(comparison / "cmw_net" / "seed_0")
        ]
    )
    assert any(
        text.endswith(f"{100 * wrong:.0f} % of labels wrong")
        for text in [t.get_text() for t in right.texts]
    )


def test_names_of_families_do_not_reach_the_scores(comparison):
    with plot_style.styled():
        canvas, draw, _ = comparison_plots._scene(comparison)
        draw(EPOCHS)
        renderer = canvas.get_renderer()
        left, right = canvas.figure.axes
        canvas.draw()
        names = [t for t in left.texts if t.get_text().endswith("classes")]
        ends = [t.get_window_extent(renderer).x1 for t in names]
        numbers = [t for t in right.get_yticklabels() if t.get_text()]
        begins = [t.get_window_extent(renderer).x0 for t in numbers]
    assert len(ends) == 3 and max(ends) < min(begins)


@pytest.mark.parametrize(
    ("means", "stds", "limits"),
    [
        ([[61, 78], [55, 93]], [[1, 1], [7, 1]], (40, 100)),
        ([[3, 78], [55, 96]], [[9, 1], [1, 9]], (0, 100)),  # accuracy ends at both
        ([[100, 100]], [[0, 0]], (90, 100)),
        ([[0, 0]], [[0, 0]], (0, 10)),
        ([[-37, 25]], [[0, 0]], (-40, 30)),  # R²
        ([[-4000, 25], [-20, -9]], [[0, 0], [0, 0]], (-100, 30)),
        ([[-4000, -305], [-20, 9]], [[0, 0], [0, 0]], (-310, 10)),
    ],
)
def test_scores_have_an_axis_that_holds_them(means, stds, limits):
    means, stds = np.array(means, float), np.array(stds, float)
    assert comparison_plots._score_limits(means, stds) == limits


def test_a_regression_has_its_ranges_and_no_lines_below_the_axis(comparison, tmp_path):
    copy = shutil.copytree(comparison, tmp_path / "comparison")
    for path in copy.glob("*/*/metrics.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            line["test_r2"] = line.pop("test_accuracy") - (line["epoch"] == 1) * 70
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        (path.parent / "config.json").write_text('{"task": "regression"}')
    problem = {"borders": [94.0, 170.5]}
    (copy / "cmw_net" / "seed_0" / "problem.json").write_text(json.dumps(problem))
    canvas, draw, _ = comparison_plots._scene(copy)
    draw(EPOCHS)
    left, right = canvas.figure.axes
    shown = {text.get_text() for text in left.texts}
    assert {"below 94", "94 to 170.5", "from 170.5", "MW-Net"} <= shown
    assert "weight of a sample by its loss and target" in shown
    assert left.get_title() == "How much a target is trusted"
    assert any(text.get_text().endswith("of targets wrong") for text in right.texts)
    assert right.get_ylim()[0] == -100
    assert all(line.get_clip_on() for line in right.lines)
    canvas, _, _ = comparison_plots._scene(comparison)
    assert not any(line.get_clip_on() for line in canvas.figure.axes[1].lines)


@pytest.mark.parametrize("most", [60, 5])
def test_animation_has_a_frame_per_epoch_and_holds_the_last(
    comparison, tmp_path, monkeypatch, most
):
    monkeypatch.setattr(comparison_plots, "MAX_FRAMES", most)
    frames = min(most, EPOCHS)
    path = plots.animation(comparison, tmp_path / "animation.gif")
    assert path.stat().st_size < 16_000 * frames  # 60 frames: below 1 MB
    with Image.open(path) as gif:
        assert gif.size == (900, 380)
        assert gif.n_frames == frames
        assert gif.info["loop"] == 0  # for ever
        durations, pictures = [], []
        for number in range(frames):
            gif.seek(number)
            durations.append(gif.info["duration"])
            pictures.append(np.asarray(gif.convert("RGB"), int))
    assert durations == [80] * (frames - 1) + [2000]
    assert (pictures[0] != pictures[-1]).any(axis=-1).mean() > 0.01
    # The last frame is the whole scene, as drawn afresh (up to the palette).
    with plot_style.styled():
        canvas, draw, _ = comparison_plots._scene(comparison)
        draw(EPOCHS)
        for artist in canvas.figure.findobj(lambda artist: artist.get_animated()):
            artist.set_animated(False)
        canvas.draw()
        whole = np.asarray(canvas.buffer_rgba(), int)[..., :3]
    difference = np.abs(whole - pictures[-1]).max(axis=-1)
    assert np.mean(difference > 40) < 0.002
    for picture in pictures:  # the paper is white, as drawn
        assert (picture[:5] == 255).all()


def test_frequent_colours_stay_exact():
    frame = np.full((4, 6, 3), 255, np.uint8)
    frame[0] = 232, 232, 232
    frame[1] = 240, 236, 236  # nearer than the former to the middle of its box
    frame[2] = 0, 114, 178
    (image,) = comparison_plots._with_palette([frame])
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), frame)


def test_comparison_figures_without_cmw_net(comparison, tmp_path):
    shutil.copytree(comparison / "erm", tmp_path / "erm")
    assert [p.name for p in plots.comparison_figures(tmp_path)] == [
        "training_curves.png"
    ]
    with pytest.raises(ValueError, match="run the method cmw_net"):
        plots.animation(tmp_path, tmp_path / "animation.gif")
    shutil.copytree(comparison / "cmw_net", tmp_path / "cmw_net")
    names = [path.name for path in plots.comparison_figures(tmp_path)]
    assert names == ["training_curves.png", "animation.gif"]


def test_labels_are_spread_as_little_as_needed():
    spread = plot_style.spread
    places = spread([0.5, 0.9, 0.52], gap=0.1, low=0, high=1)
    np.testing.assert_allclose(places, [0.46, 0.9, 0.56])
    np.testing.assert_allclose(spread([0, 0], gap=0.1, low=0, high=1), [0, 0.1])
    np.testing.assert_allclose(spread([1, 1], gap=0.1, low=0, high=1), [0.9, 1.0])
    np.testing.assert_allclose(spread([0.2, 0.7], gap=0.1, low=0, high=1), [0.2, 0.7])


def test_seeds_are_in_numerical_order(tmp_path):
    for seed in (10, 9, 0):
        (tmp_path / "erm" / f"seed_{seed}").mkdir(parents=True)
    names = [run.name for run in find_runs(tmp_path)["erm"]]
    assert names == ["seed_0", "seed_9", "seed_10"]


def test_unfit_comparison_folders_are_named(comparison, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no run: .*METHOD/seed_K"):
        plots.training_curves(tmp_path)
    copy = shutil.copytree(comparison, tmp_path / "comparison")
    metrics = copy / "mw_net" / "seed_1" / "metrics.jsonl"
    lines = metrics.read_text().splitlines()
    metrics.write_text("\n".join(lines[:-2]))
    with pytest.raises(
        ValueError, match=f"mw_net/seed_1 has {EPOCHS - 2} of {EPOCHS} epochs"
    ):
        plots.animation(copy, tmp_path / "animation.gif")
    last = json.loads(lines[-1]) | {"test_accuracy": None}
    metrics.write_text("\n".join([*lines[:-1], json.dumps(last)]))
    with pytest.raises(ValueError, match=f"lacks test_accuracy in epoch {EPOCHS}"):
        plots.training_curves(copy)
    assert not list(tmp_path.glob("*.gif"))
