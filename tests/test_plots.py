"""Tests of the figures of a run: what they show is what its files say."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

import fake_runs
from cmwjax.report import plots
from cmwjax.report.read import read_curves, read_metrics
from cmwjax.report.samples import read_samples, write_samples
from fake_runs import epochs_of, rows

EPOCHS = 7


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    return fake_runs.write_comparison(folder, seeds=3, epochs=EPOCHS)


@pytest.fixture
def run(comparison):
    return comparison / "cmw_net" / "seed_0"


@pytest.fixture
def erm(comparison):
    return comparison / "erm" / "seed_0"


@pytest.fixture(scope="module")
def without_truth(tmp_path_factory):
    folder = tmp_path_factory.mktemp("without_truth") / "run"
    return fake_runs.write_run(folder, truth=False, epochs=2, num_families=2)


def heights(container):
    return [bar.get_height() for bar in container]


def test_weight_curves_are_those_of_the_last_epoch(run):
    top, bottom = plots.weight_curves(run).axes
    last = epochs_of(run)[-1]
    assert len(top.lines) == 3
    grid = np.array(last["curve_loss"])
    for line, weights in zip(top.lines, last["curve"], strict=True):
        # Between the points of the record it neither swings nor has corners.
        x, y = line.get_data()
        inside = grid <= x[-1]
        np.testing.assert_allclose(
            np.interp(grid[inside], x, y), np.array(weights)[inside], atol=2e-4
        )
        assert np.all(np.diff(y) >= 0) or np.all(np.diff(y) <= 0)
    names = [text.get_text() for text in top.get_legend().get_texts()]
    assert names == [
        "small classes (~48 samples each)",
        "moderate classes (~140 samples each)",
        "large classes (~232 samples each)",
    ]
    assert len({line.get_color() for line in top.lines}) == 3
    # Where no sample is, there is no curve, and where no curve is, no axis.
    end = min(max(float(r["loss"]) for r in rows(run)), grid[-1])
    assert top.get_xlim() == bottom.get_xlim() == (0, end)
    assert all(line.get_xdata()[-1] == end for line in top.lines)


def test_losses_beyond_the_curves_are_counted_in_the_last_bar(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    lines = (copy / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    cut = 31  # of 61 points, up to a loss of 3
    last["curve_loss"] = last["curve_loss"][:cut]
    last["curve"] = [curve[:cut] for curve in last["curve"]]
    (copy / "metrics.jsonl").write_text(json.dumps(last) + "\n")
    losses = np.array([float(r["loss"]) for r in rows(copy)])
    top, bottom = plots.weight_curves(copy).axes
    assert top.get_xlim() == (0, 3) and losses.max() > 3
    beyond = np.sum(losses > 3)
    in_last = sum(bars[-1].get_height() for bars in bottom.containers)
    assert in_last == np.sum(losses >= 3 - 3 / 60) > beyond > 5
    said = f"also {beyond:,} larger ones, up to {losses.max():.3g}"
    assert said in bottom.get_xlabel()


def test_loss_histogram_stacks_corrupted_on_clean(run):
    _, bottom = plots.weight_curves(run).axes
    clean, corrupted = bottom.containers
    is_wrong = np.array([r["given_label"] != r["true_label"] for r in rows(run)])
    losses = np.array([float(r["loss"]) for r in rows(run)])
    edges = [bar.get_x() for bar in clean] + [clean[-1].get_x() + clean[-1].get_width()]
    for bars, chosen in ((clean, ~is_wrong), (corrupted, is_wrong)):
        counts = [
            sum((low <= losses[chosen]) & (losses[chosen] < high))
            for low, high in zip(edges[:-1], edges[1:], strict=True)
        ]
        np.testing.assert_allclose(heights(bars), counts, atol=1)  # an edge's rounding
        assert sum(heights(bars)) == chosen.sum()
    assert [bar.get_y() for bar in corrupted] == heights(clean)
    labels = [text.get_text() for text in bottom.get_legend().get_texts()]
    assert f"corrupted labels ({is_wrong.sum()})" in labels


def test_figures_without_truth_or_centres(without_truth):
    top, bottom = plots.weight_curves(without_truth).axes
    names = [text.get_text() for text in top.get_legend().get_texts()]
    assert names == ["small classes", "large classes"]
    (bars,) = bottom.containers
    assert sum(heights(bars)) == len(rows(without_truth))
    figure = plots.weight_histogram(without_truth)
    assert figure.get_suptitle() == "Weights"
    assert [len(axes.containers) for axes in figure.axes] == [1, 1]


def test_figures_of_ordinary_training(erm):
    top, bottom = plots.weight_curves(erm).axes
    (line,) = top.lines
    assert list(line.get_ydata()) == [1, 1]
    assert bottom.get_xlim()[1] == max(float(r["loss"]) for r in rows(erm))
    (axes,) = plots.weight_histogram(erm).axes
    assert not axes.containers  # one bar would look like a finding
    assert axes.texts[0].get_text().startswith("All samples have the weight 1:")


def test_weights_without_a_function_are_points(erm, tmp_path):
    copy = shutil.copytree(erm, tmp_path / "run")
    samples = read_samples(copy / "samples.csv")
    weights = (samples["loss"] < 1).astype(float)
    for weight, shape in ((weights, weights), (0 * weights, [0, 0])):
        write_samples(
            copy / "samples.csv",
            weights=weight,
            losses=samples["loss"],
            **{
                k: samples[k]
                for k in ("row", "given_label", "suggested_label", "quality")
            },
        )
        (line,) = plots.weight_curves(copy).axes[0].lines
        assert sorted(line.get_ydata()) == sorted(shape)
        assert (line.get_linestyle() == "None") == weight.any()


def test_weight_histogram_has_a_panel_per_family(run):
    figure = plots.weight_histogram(run)
    samples = rows(run)
    assert len(figure.axes) == 3
    for family, axes in enumerate(figure.axes):
        mine = [r for r in samples if r["family"] == str(family)]
        wrong = [r["given_label"] != r["true_label"] for r in mine]
        assert len(axes.containers) == len(set(wrong))
        for bars, is_wrong in zip(axes.containers, sorted(set(wrong)), strict=True):
            assert sum(heights(bars)) == pytest.approx(100)
            weights = [
                float(r["weight"])
                for r, w in zip(mine, wrong, strict=True)
                if w == is_wrong
            ]
            below = sum(bar.get_height() for bar in bars if bar.get_x() < 0.499)
            assert below == pytest.approx(100 * np.mean(np.array(weights) < 0.5))


@pytest.mark.parametrize("factor", [1 / 1000, 1 / 11])
def test_small_weights_get_an_axis_of_their_own(without_truth, tmp_path, factor):
    content = (without_truth / "samples.csv").read_text().splitlines()
    header = content[0].split(",")
    tiny = [header]
    for line in content[1:]:
        cells = dict(zip(header, line.split(","), strict=True))
        if cells["family"] == "1":
            cells["weight"] = str(float(cells["weight"]) * factor)
        tiny.append(cells.values())
    text = "\n".join(",".join(cells) for cells in tiny)
    (tmp_path / "samples.csv").write_text(text)
    small, large = plots.weight_histogram(tmp_path).axes
    assert small.get_xlim()[1] == 1
    assert small.get_xlabel() == "weight, on the same axis"
    weights = [float(r["weight"]) for r in rows(tmp_path) if r["family"] == "1"]
    end = f"{max(weights):.2g}"
    assert large.get_xlabel() == f"weight, on an axis of its own: to {end}"
    assert large.get_facecolor() != small.get_facecolor()
    assert large.get_xlim()[1] == max(weights) < factor
    assert np.count_nonzero(heights(large.containers[0])) > 10


def drawn(figure):
    """Lays a figure out, and returns what measures its artists."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def test_families_share_an_axis_that_shows_the_gap_between_them(run):
    limits = [axes.get_xlim() for axes in plots.weight_histogram(run).axes]
    assert limits == [(0, 1)] * 3


@pytest.mark.parametrize("borders", [None, [-1234567.5, 1234567.5]])
def test_titles_and_legends_of_the_weight_histogram_touch_nothing(
    run, tmp_path, borders
):
    copy = shutil.copytree(run, tmp_path / "run")
    if borders:
        (copy / "problem.json").write_text(json.dumps({"borders": borders}))
    figure = plots.weight_histogram(copy)
    renderer = drawn(figure)
    titles = [axes._left_title.get_window_extent(renderer) for axes in figure.axes]
    assert len(titles) == 3
    for left, right in zip(titles[:-1], titles[1:], strict=True):
        assert left.x1 + 4 < right.x0
    assert titles[-1].x1 < figure.bbox.x1
    for axes in figure.axes:
        legend = axes.get_legend().get_window_extent(renderer)
        for bars in axes.containers:
            tallest = max(bar.get_window_extent(renderer).y1 for bar in bars)
            assert tallest < legend.y0


@pytest.mark.parametrize("classes", [2, 3, 4, 10])
def test_the_title_of_a_transition_matrix_fits(tmp_path, classes):
    labels = np.arange(40) % classes
    write_samples(
        tmp_path / "samples.csv",
        row=np.arange(40),
        given_label=labels,
        suggested_label=labels,
        quality=np.ones(40),
        weights=np.ones(40),
        losses=np.ones(40),
    )
    figure = plots.transition_matrix(tmp_path)
    renderer = drawn(figure)
    title = figure._suptitle.get_window_extent(renderer)
    assert figure.bbox.x0 <= title.x0 and title.x1 <= figure.bbox.x1


def test_titles_of_the_weight_histogram_count_pairs(run):
    figure, samples = plots.weight_histogram(run), rows(run)

    def auroc(samples):
        wrong, right = [], []
        for r in samples:
            clean = r["given_label"] == r["true_label"]
            (right if clean else wrong).append(float(r["weight"]))
        gap = np.array(right) - np.array(wrong)[:, None]
        return np.mean((gap > 0) + 0.5 * (gap == 0))

    assert figure.get_suptitle().endswith(f"{auroc(samples):.3f}")
    large = [r for r in samples if r["family"] == "2"]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [
        "small classes\n",  # their first lines are on one height
        "moderate classes\n",
        f"large classes\nAUROC by weight {auroc(large):.3f}",
    ]


def test_transition_matrix_counts_suggestions(run):
    (axes,) = plots.transition_matrix(run).axes
    shown = axes.images[0].get_array()
    expected = np.zeros((10, 10))
    for r in rows(run):
        expected[int(r["given_label"]), int(r["suggested_label"])] += 1
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shown, expected)
    by_place = {text.get_position(): text.get_text() for text in axes.texts}
    assert len(by_place) == np.count_nonzero(expected)
    assert by_place[2, 0] == f"{100 * expected[0, 2]:.0f}"  # x is the suggested label
    assert axes.get_xlabel() == "suggested label"
    assert axes.get_ylabel() == "given label"


def caption(row, separator=" → "):
    """What is said of the labels: the suggested one only if it is another."""
    given, suggested = row["given_label"], row["suggested_label"]
    return given if given == suggested else f"{given}{separator}{suggested}"


def test_suspects_are_shown_in_the_order_of_their_ranks(run):
    samples = rows(run)
    images = np.zeros((len(samples), 4, 4, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(samples)) % 251
    figure = plots.suspects(run, images, count=10)
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 10
    ranked = sorted(samples, key=lambda r: float(r["quality"]))
    for axes, r in zip(shown, ranked, strict=False):
        assert np.max(axes.images[0].get_array()) == int(r["row"]) % 251
        assert axes.get_title() == f"row {r['row']}\n{caption(r)}"
    wrong = sum(r["given_label"] != r["true_label"] for r in ranked[:10])
    assert f"({wrong} indeed wrong, in magenta)" in figure.get_suptitle()


def test_suspects_are_found_by_their_rows_and_named_by_their_files(tmp_path):
    """Rows 70, 60, ..., 10 of files whose images hold a tenth of them."""
    rows = np.arange(7, 0, -1)
    write_samples(
        tmp_path / "samples.csv",
        row=10 * rows[2:],
        file=[f"train/class {row}/{row}.png" for row in rows[2:]],
        given_label=list("babab"),
        suggested_label=["a", "b", "c,\nd", "b", "b"],
        quality=1 / rows[2:],
        weights=np.ones(5),
        losses=np.ones(5),
    )
    images = np.zeros((7, 2, 2, 1), np.uint8) + rows[:, None, None, None]
    figure = plots.suspects(tmp_path, images, rows=10 * rows)
    shown = [axes for axes in figure.axes if axes.images]
    assert [np.max(axes.images[0].get_array()) for axes in shown] == [5, 4, 3, 2, 1]
    files = [f"…ass {row}/{row}.png" for row in rows[2:]]
    labels = ["b → a", "a → b", "b → c, d", "a → b", "b"]
    titles = [axes.get_title().replace("\n→", " →") for axes in shown]
    assert titles == [f"{f}\n{names}" for f, names in zip(files, labels, strict=True)]
    texts = plots.text_suspects(tmp_path, [f"text {r}" for r in rows], rows=10 * rows)
    found = [text.get_text() for text in texts.axes[0].texts]
    assert found[1::3] == ["row 50", "row 40", "row 30", "row 20", "row 10"]
    assert found[2::3] == ["text 5", "text 4", "text 3", "text 2", "text 1"]


def test_captions_of_files_and_long_names_do_not_touch(tmp_path):
    size, labels = 16, np.array(["golden retriever", "labrador"], object)
    write_samples(
        tmp_path / "samples.csv",
        row=np.arange(size),
        file=[f"train/golden \udcff/{i:08}.jpeg" for i in range(size)],  # no UTF-8
        given_label=labels[np.arange(size) % 2],
        suggested_label=labels[1 - np.arange(size) % 2],
        quality=np.ones(size),
        weights=np.ones(size),
        losses=np.ones(size),
    )
    figure = plots.suspects(tmp_path, np.zeros((size, 4, 4, 1), np.uint8))
    renderer = drawn(figure)
    rows = [figure.axes[:8], figure.axes[8:]]
    for row in rows:
        boxes = [axes.title.get_window_extent(renderer) for axes in row]
        for left, right in zip(boxes[:-1], boxes[1:], strict=True):
            assert left.x1 < right.x0
    lowest = min(axes.get_window_extent(renderer).y0 for axes in rows[0])
    titles = [axes.title.get_window_extent(renderer).y1 for axes in rows[1]]
    assert max(titles) < lowest


@pytest.fixture(scope="module")
def regression_run(tmp_path_factory):
    """Samples of a regression, of which some are wrong and some nobody knows."""
    folder = tmp_path_factory.mktemp("targets")
    rng = np.random.default_rng(2)
    given = np.round(rng.uniform(20, 350, 60), 1)
    true = given.copy()
    true[::4] += 50
    true[1::4] = np.nan
    write_samples(
        folder / "samples.csv",
        row=rng.permutation(60),
        given_label=given,
        suggested_label=given + rng.normal(0, 20, 60),
        true_label=true,
        quality=rng.random(60),
        weights=rng.random(60),
        losses=rng.random(60),
    )
    (folder / "problem.json").write_text(json.dumps({"borders": []}))
    return folder


def test_targets_are_a_dot_each_by_what_is_known_of_them(regression_run):
    (axes,) = plots.targets(regression_run).axes
    samples = rows(regression_run)
    colours = set()
    for dots, kind in zip(axes.collections, ("clean", "wrong", ""), strict=True):
        mine = [r for r in samples if kind_of(r) == kind]
        assert dots.get_label().endswith(f"({len(mine)})") and len(mine) >= 15
        shown = zip(dots.get_offsets(), dots.get_sizes(), strict=True)
        found = sorted((*map(float, place), float(size)) for place, size in shown)
        want = [
            (
                float(r["given_label"]),
                float(r["suggested_label"]),
                4 + 26 * float(r["weight"]),
            )
            for r in mine
        ]
        np.testing.assert_allclose(found, sorted(want))
        colours.add(tuple(dots.get_facecolor()[0]))
    assert len(colours) == 3
    given = [float(r["given_label"]) for r in samples]
    low, high = axes.get_xlim()
    assert low < min(given) and max(given) < high and axes.get_ylim() == (low, high)
    assert axes.get_xlabel() == "given target"
    assert axes.get_ylabel() == "suggested target"


def kind_of(row):
    """What is known of a sample of a regression."""
    if not row["true_label"]:
        return ""
    return "clean" if row["true_label"] == row["given_label"] else "wrong"


def test_text_suspects_are_in_the_order_of_their_ranks(run):
    samples = rows(run)
    texts = [f"text   {i}\nand more" for i in range(len(samples))]
    figure = plots.text_suspects(run, texts, count=400)
    (axes,) = figure.axes
    found = {}
    for text in axes.texts:
        x, y = text.get_position()
        found.setdefault(y, {})[x] = text
    ranked = sorted(samples, key=lambda r: float(r["quality"]))
    assert len(found) == 400
    colours = {}
    for y, r in zip(sorted(found), ranked, strict=False):
        label, row, text = (found[y][x] for x in sorted(found[y]))
        assert label.get_text() == caption(r)
        assert row.get_text() == f"row {r['row']}"
        assert text.get_text() == f"text {r['row']} and more"
        wrong = r["given_label"] != r["true_label"]
        colours.setdefault(wrong, set()).add(label.get_color())
    assert {len(c) for c in colours.values()} == {1} and colours[True] != colours[False]
    wrong = sum(r["given_label"] != r["true_label"] for r in ranked[:400])
    title = f"400 most suspicious labels: given → suggested ({wrong} indeed wrong, in "
    assert title in figure.get_suptitle()


def test_rows_use_the_room_there_is_and_no_more(tmp_path):
    names = ["malignant", "b9", *map(str, range(8))]
    run = fake_runs.write_run(tmp_path / "run", epochs=2, names=names)
    columns = ", ".join(f"mean of column {c} = {c / 7:.4g}" for c in range(40))
    texts = [columns] * len(rows(run))
    figure = plots.text_suspects(run, texts)
    renderer = drawn(figure)
    label, row, text = figure.axes[0].texts[:3]
    shown = text.get_text().replace("\xa0", " ")
    assert shown.count(" = ") >= 8 and shown.endswith("…") and shown.count("\n") == 1
    for line in text.get_text().split("\n"):
        assert not line.startswith("=") and not line.endswith("=")
    boxes = [t.get_window_extent(renderer) for t in (label, row, text)]
    assert boxes[0].x1 < boxes[1].x0 and boxes[1].x1 < boxes[2].x0
    room = figure.bbox.x1 - boxes[2].x1
    assert 0 < room < 0.15 * figure.bbox.width


def test_figures_of_a_regression_speak_of_targets(regression_run):
    figure = plots.weight_histogram(regression_run)
    assert "this target is wrong" in figure.get_suptitle()
    names = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert names[0].startswith("clean targets") and "corrupted targets" in names[1]
    title = plots.text_suspects(regression_run, ["a row"] * 60).get_suptitle()
    assert title.startswith("The 24 most suspicious targets:")


def test_text_suspects_of_a_regression_say_targets(regression_run):
    figure = plots.text_suspects(regression_run, ["a row"] * 60)
    first = min(rows(regression_run), key=lambda r: float(r["quality"]))
    given, suggested = (float(first[f"{k}_label"]) for k in ("given", "suggested"))
    shown = figure.axes[0].texts[0].get_text()
    assert shown.startswith(f"{given:.6g} → ")
    assert float(shown.split(" → ")[1]) == pytest.approx(suggested, rel=1e-5)
    assert "indeed wrong" not in figure.get_suptitle()  # of some nobody knows


def test_suspects_of_a_regression_on_images_say_targets(regression_run):
    images = np.zeros((60, 4, 4, 1), np.uint8)
    figure = plots.suspects(regression_run, images, count=9)
    first = sorted(rows(regression_run), key=lambda r: float(r["quality"]))[:9]
    shown = [axes.get_title() for axes in figure.axes if axes.images]
    for title, r in zip(shown, first, strict=True):
        given, suggested = (float(r[f"{k}_label"]) for k in ("given", "suggested"))
        assert title == f"row {r['row']}\n{given:.6g}\n→ {suggested:.6g}"


DOLLARS = ["$x^2$", "a $ b $", r"\$5$", "$\\frac$", *"abcdef"]  # not all are TeX


def texts_of(figure):
    return [t for t in figure.findobj(Text) if t.get_text()]


@pytest.mark.parametrize("draw", ["transition_matrix", "suspects", "text_suspects"])
def test_a_dollar_in_texts_and_names_is_a_dollar(tmp_path, draw):
    run = fake_runs.write_run(tmp_path / "run", epochs=2, names=DOLLARS)
    size = len(rows(run))
    inputs = {
        "suspects": [np.zeros((size, 4, 4, 1), np.uint8)],
        "text_suspects": [["costs $5 or $6 $\\undefined$"] * size],
    }.get(draw, [])
    figure = getattr(plots, draw)(run, *inputs)
    plots.save(figure, tmp_path / "figure.png")  # mathematics would be refused here
    found = [t for t in texts_of(figure) if "$" in t.get_text()]
    assert len(found) > 4 and not any(t.get_parse_math() for t in found)


def test_long_names_and_letters_of_any_script_fit_the_figures(tmp_path):
    names = ["y" * 300, "two\nlines", "\u4e2d\u6587", *(f"c{i}" for i in range(3, 10))]
    run = fake_runs.write_run(tmp_path / "run", epochs=2, names=names)
    matrix = plots.transition_matrix(run)
    plots.save(matrix, tmp_path / "matrix.png")  # a warning would be an error here
    shown = [label.get_text() for label in matrix.axes[0].get_yticklabels()]
    assert matrix.axes[0].get_window_extent().width > 100
    assert shown[:3] == ["y" * 23 + "…", "two lines", "\u4e2d\u6587"]
    texts = ["\u4e2d\u6587 \x07"] * len(rows(run))
    figure = plots.text_suspects(run, texts)
    plots.save(figure, tmp_path / "suspects.png")
    given = {t.get_text().split(" → ")[0] for t in figure.axes[0].texts[::3]}
    assert given <= {"y" * 13 + "…", "two lines", *names[2:]}


def test_run_figures_writes_pngs(run, without_truth, tmp_path):
    for folder, images, count in (
        (run, np.zeros((1400, 8, 8, 3), np.uint8), 4),
        (without_truth, None, 3),
    ):
        copy = shutil.copytree(folder, tmp_path / str(count))
        paths = plots.run_figures(copy, images=images)
        assert len(paths) == count
        for path in paths:
            with Image.open(path) as image:
                assert image.format == "PNG"
                assert image.width > 700
                assert len(image.convert("RGB").getcolors(1 << 20)) > 20
        assert len(list(copy.glob(".*"))) == 0  # no temporary file is left


def test_the_last_record_of_an_epoch_counts(tmp_path):
    lines = [
        {"epoch": 1, "x": 0},
        {"epoch": 2, "x": 1},
        {"epoch": 2, "x": 2},
        {"epoch": 3, "x": 3},
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [row["x"] for row in read_metrics(tmp_path)] == [0, 2, 3]


def test_epochs_before_the_net_works_weigh_everything_with_one(tmp_path):
    late = {"epoch": 2, "curve_loss": [0, 1], "curve": [[0.3, 0.2], [0.8, 0.9]]}
    lines = [json.dumps({"epoch": 1}), json.dumps(late)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    losses, weights = read_curves(tmp_path)
    np.testing.assert_array_equal(losses, [[0, 1], [0, 1]])
    np.testing.assert_array_equal(weights, [[[1, 1], [1, 1]], late["curve"]])


def test_unfit_run_folders_are_named(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="samples.csv is missing"):
        plots.weight_histogram(tmp_path)
    copy = shutil.copytree(run, tmp_path / "run")
    metrics = copy / "metrics.jsonl"
    content = metrics.read_text()
    metrics.write_text(content[:-20])
    with pytest.raises(
        ValueError, match=f"line {EPOCHS} is not the record of an epoch"
    ):
        plots.weight_curves(copy)
    metrics.write_text("")
    with pytest.raises(ValueError, match="metrics.jsonl holds no epoch"):
        plots.weight_curves(copy)
    metrics.unlink()
    with pytest.raises(FileNotFoundError, match="metrics.jsonl is missing"):
        plots.weight_curves(copy)


def test_unfit_images_are_named(run):
    with pytest.raises(ValueError, match=r"images has shape \(1400, 8, 8\)"):
        plots.suspects(run, np.zeros((1400, 8, 8)))
    with pytest.raises(ValueError, match="there are 10 images, .*ranks row 1399"):
        plots.suspects(run, np.zeros((10, 8, 8, 1)))
    for texts in (["a text"] * 1399, []):
        message = f"there are {len(texts)} texts, .*ranks row 1399"
        with pytest.raises(ValueError, match=message):
            plots.text_suspects(run, texts)
    with pytest.raises(ValueError, match="there are 0 images, .*ranks row 1399"):
        plots.suspects(run, np.zeros((0, 8, 8, 1)))
    images = np.zeros((10, 8, 8, 1), np.uint8)
    with pytest.raises(ValueError, match=r"rows has shape \(1400,\), but there are 10"):
        plots.suspects(run, images, rows=range(1400))


def test_matplotlib_loads_late_and_pyplot_never(run):
    code = f"""
import sys
from cmwjax.report import plots
heavy = "matplotlib", "PIL", "sklearn"
assert not [name for name in heavy if name in sys.modules], "loaded early"
plots.save(plots.weight_curves({str(run)!r}), {str(run / "test.png")!r})
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
