"""Weighting functions as a product: the zoo, apply, describe and the picture."""

import jax
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import cmwjax
from cmwjax.config import base_config
from cmwjax.core import zoo
from cmwjax.core.weighting_file import WeightingFunction, load_weighting
from cmwjax.core.weighting_words import tendency
from cmwjax.report.plot_style import family_colours
from cmwjax.training.program import weighting_function

ZOO = sorted(zoo.weighting_zoo())
LOSSES = np.linspace(0, 9, 12, dtype=np.float32)


def steps(*slopes, seen=None, hidden=2):
    """A function of one family for each slope: the logit is slope times the loss."""
    count = len(slopes)
    params = {
        "shared": {
            "kernel": np.eye(1, hidden, dtype=np.float32),
            "bias": np.zeros(hidden, np.float32),
        },
        "heads": {
            "kernel": np.zeros((hidden, count), np.float32),
            "bias": np.zeros(count, np.float32),
        },
    }
    params["heads"]["kernel"][0] = slopes
    centres = np.arange(1.0, count + 1) * 100 if count > 1 else None
    return WeightingFunction(params, centres, seen=seen)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


# --- the zoo -------------------------------------------------------------------------


def test_the_index_names_the_files_and_they_are_small():
    folder = zoo.zoo_file(ZOO[0]).parent
    files = list(folder.glob("*.safetensors"))
    assert sorted(path.stem for path in files) == ZOO
    assert sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) < 1e5


@pytest.mark.parametrize("name", ZOO)
def test_every_function_of_the_zoo(name):
    function = load_weighting(f"zoo:{name}")
    assert function.provenance["seed"] == 0  # of a run of ours
    text = function.describe()
    assert "/" not in text.replace("configs/", "")  # nobody's folders
    family = np.arange(12) % function.num_families
    weights = np.asarray(function(LOSSES, family))
    assert np.all((weights >= 0) & (weights <= 1)) and np.ptp(weights) > 0.1
    assert len(zoo.weighting_zoo()[name]) > 20


def test_an_unknown_name_is_refused_by_all_that_there_are():
    with pytest.raises(ValueError, match="'zoo:none' is no .*zoo:cifar10_hybrid_asym"):
        load_weighting("zoo:none")


# --- apply ---------------------------------------------------------------------------


def test_apply_knows_classes_by_their_sizes():
    function = steps(0.0, 0.5, -1.0)
    labels = np.repeat([2, 0, 3, 1], [500, 60, 50, 10])  # 1 is small, 0 and 3 moderate
    losses = np.random.default_rng(0).uniform(0, 4, len(labels)).astype(np.float32)
    slope = {1: 0.0, 0: 0.5, 3: 0.5, 2: -1.0}
    wanted = [sigmoid(slope[c] * loss) for c, loss in zip(labels, losses, strict=True)]
    np.testing.assert_allclose(function.apply(losses, labels), wanted, atol=1e-6)
    # A batch has the sizes of all samples.
    chosen = [0, 505, 565, 615]
    few = function.apply(losses[chosen], labels[chosen], class_sizes=[60, 10, 500, 50])
    np.testing.assert_allclose(few, np.array(wanted)[chosen], atol=1e-6)


def test_apply_where_sizes_are_alike_is_the_mean_of_the_families():
    function = steps(0.0, 0.5, -1.0)
    losses = np.float32([0.5, 1, 2, 3])
    wanted = np.mean([sigmoid(s * losses) for s in (0.0, 0.5, -1.0)], axis=0)
    for sizes in ([100, 120, 150, 190], [100] * 4):
        weights = function.apply(losses, [0, 1, 2, 3], class_sizes=sizes)
        np.testing.assert_allclose(weights, wanted, atol=1e-6)
    np.testing.assert_allclose(function.apply(losses), wanted, atol=1e-6)


def test_one_family_needs_no_labels():
    losses = np.float32([0.0, 1.0, 3.0])
    weights = steps(-1.0).apply(losses)
    np.testing.assert_allclose(weights, sigmoid(-losses), atol=1e-6)
    again = steps(-1.0).apply(losses, [0, 1, 5], class_sizes=[1, 9, 0, 3, 7, 50])
    np.testing.assert_allclose(again, weights)


def test_apply_under_jit():
    function, sizes = steps(0.0, 0.5, -1.0), [10, 100, 1000]

    @jax.jit
    def weights(losses, labels):
        return function.apply(losses, labels, class_sizes=sizes)

    losses, labels = np.float32([1, 1, 1, 1, 1]), np.array([0, 1, 2, -1, 3])
    found = weights(losses, labels)
    np.testing.assert_allclose(found[:3], sigmoid([0.0, 0.5, -1.0]), atol=1e-6)
    assert np.isnan(found[3:]).all()


@pytest.mark.parametrize(
    ("losses", "labels", "sizes", "message"),
    [
        (np.ones(3), [0, 1, 3], [5, 50, 500], r"in \[0, 3\), got 3 at position 2"),
        (np.ones(3), [0.0, 1.0, 2.0], [5, 50, 500], "labels are float32"),
        (np.ones(2), [0, 1, 2], [5, 50, 500], r"labels are int32 of shape \[3\]"),
        (np.ones(3), [0, 1, 1], [5, 500], "tells 3 class families apart"),
        (np.ones(3), [0, 1, 1], [5, -1, 9], "must be a vector of class sizes"),
    ],
)
def test_bad_arguments_of_apply(losses, labels, sizes, message):
    with pytest.raises(ValueError, match=message):
        steps(0.0, 0.5, -1.0).apply(losses, labels, class_sizes=sizes)


# --- describe ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([0.5, 0.5, 0.52], "the same weight"),
        ([0.2, 0.5, 0.9], "rises with"),
        ([0.9, 0.5, 0.01], "falls with the loss: leaves out"),
        ([0.9, 0.5, 0.3], "falls with the loss: trusts"),
        ([0.9, 0.3, 0.8], "falls, then rises"),
        ([0.3, 0.9, 0.2], "rises, then falls"),
    ],
)
def test_words_for_a_curve(weights, words):
    assert tendency(np.array(weights)).startswith(words)


def test_a_description_has_families_losses_and_origin():
    function = steps(0.0, 0.5, -1.0, seen=(0.01, 16.0))
    function = function._replace(provenance={"data": "digits", "noise": {"rate": 0.4}})
    first, small, moderate, large, seen, origin = function.describe().splitlines()
    assert first == "CMW-Net weighting function of cross_entropy, 3 families."
    assert small.startswith("Small classes (~100 samples each): the same weight")
    assert moderate.startswith("Moderate classes (~200 samples each): rises")
    assert "0.50 at 0, 0.27 at 1, 0.12 at 2, 0.02 at 4, 0.00 at 16" in large
    assert seen == "It has seen losses from 0.01 to 16."
    assert origin == "Learned on: data digits, noise.rate 0.4."
    assert "is not known" in steps(-1.0).describe()


def test_seen_losses_are_kept(tmp_path):
    path = tmp_path / "f.safetensors"
    for seen in (None, (0.25, 7.5)):
        cmwjax.save_weighting(path, steps(-1.0, seen=seen))
        assert load_weighting(path).seen == seen
    cmwjax.save_weighting(path, steps(-1.0, seen=(3.0, 2.0)))
    with pytest.raises(ValueError, match="losses seen from 3.0 to 2.0"):
        load_weighting(path)


# --- the picture ---------------------------------------------------------------------


def test_the_picture_has_the_curves():
    function = steps(0.0, 0.5, -1.0, seen=(0.0, 10.0))
    figure = cmwjax.plot_weighting(function)
    (axes,) = figure.axes
    for line, slope, colour in zip(
        axes.lines, (0.0, 0.5, -1.0), family_colours(3), strict=True
    ):
        wanted = sigmoid(slope * line.get_xdata())
        np.testing.assert_allclose(line.get_ydata(), wanted, atol=1e-6)
        assert to_hex(line.get_color()) == colour.lower()
    assert axes.get_xlim() == pytest.approx((0, 11))
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend[0] == "small classes (~100 samples each)"
    assert legend[-1] == "no such loss seen"


def test_where_the_picture_goes(tmp_path):
    mine = Figure().subplots()
    assert cmwjax.plot_weighting(steps(-1.0), mine, reach=3) is mine.figure
    assert mine.get_xlim() == (0, 3) and len(mine.lines) == 1
    cmwjax.plot_weighting(steps(-1.0), tmp_path / "f.png")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="reach=-1 must be"):
        cmwjax.plot_weighting(steps(-1.0), reach=-1)


# --- in a run ------------------------------------------------------------------------


def test_a_run_takes_a_function_by_its_name():
    config = base_config()
    config.weighting.load = f"zoo:{ZOO[0]}"
    wanted = load_weighting(config.weighting.load)
    found = weighting_function(config)
    np.testing.assert_array_equal(
        found.params["heads"]["kernel"], wanted.params["heads"]["kernel"]
    )
    config.weighting.load = "zoo:none"
    with pytest.raises(ValueError, match="config.weighting.load: 'zoo:none' is no "):
        weighting_function(config)
