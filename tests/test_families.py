"""What families are called: by the sizes of classes, or by ranges of targets."""

import json

import numpy as np
import pytest

from cmwjax.bias.problem import prepare
from cmwjax.core.families import family_names
from cmwjax.data.dataset import Dataset
from cmwjax.report import plots
from cmwjax.report.families import read_borders, read_family_names
from cmwjax.report.problem import describe_problem, summarise_problem
from cmwjax.report.samples import write_samples
from configs import regression


@pytest.mark.parametrize(
    ("num_families", "borders", "names"),
    [
        (1, None, ["all classes"]),
        (2, None, ["small classes", "large classes"]),
        (3, None, ["small classes", "moderate classes", "large classes"]),
        (4, None, ["family 1", "family 2", "family 3", "family 4"]),
        (1, [], ["all targets"]),
        (1, [94.0, 170.5], ["all targets"]),  # MW-Net, where CMW-Net would have three
        (2, [-0.25], ["targets below -0.25", "targets from -0.25"]),
        (
            3,
            [94.0, 170.5],
            ["targets below 94", "targets 94 to 170.5", "targets from 170.5"],
        ),
        (
            3,
            [1234567.25, 1234567.5],  # what tells them apart is shown
            [
                "targets below 1234567",
                "targets 1234567 to 1234568",
                "targets from 1234568",
            ],
        ),
        (2, [1.0, 2.0], ["family 1", "family 2"]),  # a function learned elsewhere
    ],
)
def test_names(num_families, borders, names):
    assert family_names(num_families, borders) == names
    short = family_names(num_families, borders, short=True)
    assert short == [n.replace("targets ", "") for n in names]


@pytest.fixture(scope="module")
def regression_run(tmp_path_factory):
    """Files of a regression with three ranges, as a run leaves them."""
    folder = tmp_path_factory.mktemp("regression")
    rng = np.random.default_rng(0)
    given = np.round(rng.uniform(20, 350, 90), 1)
    family = np.array([(t >= 94) + int(t >= 170.5) for t in given])
    write_samples(
        folder / "samples.csv",
        row=np.arange(90),
        given_label=given,
        suggested_label=given + rng.normal(0, 20, 90),
        true_label=given + (np.arange(90) % 3 == 0),
        family=family,
        quality=rng.random(90),
        weights=rng.random(90),
        losses=rng.random(90),
    )
    curve = {"curve_loss": [0, 1, 2], "curve": [[1, 0.5, k / 3] for k in range(3)]}
    (folder / "metrics.jsonl").write_text(json.dumps({"epoch": 1, **curve}) + "\n")
    (folder / "problem.json").write_text(json.dumps({"borders": [94.0, 170.5]}))
    return folder


RANGES = ["targets below 94", "targets 94 to 170.5", "targets from 170.5"]


def test_figures_of_a_regression_name_ranges_of_targets(regression_run):
    assert read_family_names(regression_run, 3, sizes=True) == RANGES
    assert read_borders(regression_run) == [94.0, 170.5]
    assert read_borders(regression_run.parent) is None
    top, _ = plots.weight_curves(regression_run).axes
    assert [text.get_text() for text in top.get_legend().get_texts()] == RANGES
    panels = plots.weight_histogram(regression_run).axes
    titles = [axes.get_title(loc="left").split("\n")[0] for axes in panels]
    assert titles == RANGES


def test_a_regression_is_described_by_its_ranges():
    config = regression.get_config("methods=cmw_net,rate=0.3,per_class=3")
    targets = np.r_[np.arange(60.0), np.arange(60.0)] * 10
    inputs = np.arange(120, dtype=np.float32)[:, None]
    data = Dataset(inputs, targets, inputs, targets, 0, (), kind="rows")
    problem = prepare(config, data)
    summary = json.loads(json.dumps(summarise_problem(config, problem)))
    assert summary["borders"] == [200, 400]
    lines = describe_problem(summary)[-3:]
    observed = problem.labels[problem.train_index]
    wrong = observed != targets[problem.train_index]
    ends = [(-1, 200, "below 200"), (200, 400, "200 to 400"), (400, 999, "from 400")]
    for k, (low, high, name) in enumerate(ends):
        mine = [i for i, target in enumerate(observed) if low <= target < high]
        share = 100 * sum(wrong[mine]) / len(mine)
        assert lines[k] == (
            f"family {k}: targets {name}, {len(mine)} observed samples (mean "
            f"{sum(observed[mine]) / len(mine):.6g}), {share:.1f}% of them wrong"
        )
