"""The comparison with PyTorch: what its table says, and that both do the same work."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.peers import OURS, THEIRS, Row, largest_difference, summarise, table

ROOT = pathlib.Path(__file__).parents[1]
ROWS = [Row(THEIRS, "ERM"), Row(OURS, "ERM"), Row(OURS, "meta_step"), Row(THEIRS, "x")]
SECONDS = np.array([[1, 2, 4, 8], [2, 2, 6, 9], [4, 2, 6, 24]])  # a round each


def test_ratios_are_taken_within_a_round():
    rows = summarise(ROWS, SECONDS, batch_size=12)
    x = rows[3]
    assert x["images_per_second"] == 12 / 9
    assert x["time_ratio"] == 6  # of 8/1, 9/2, 24/4; that of the medians is 4.5
    assert x["ours_is_faster"] == 2  # of 8/4, 9/6, 24/6; that of the medians is 1.5
    assert x["ours_is_faster_quartiles"] == [1.75, 3]
    assert [r["ours_is_faster"] for r in rows[:3]] == [1, 1, 1]  # 1/2, 2/2, 4/2
    assert rows[2]["time_ratio"] == 3


def test_the_table_shows_medians_and_spread():
    rows = summarise(ROWS, SECONDS / 1000, batch_size=12)
    lines = table({"models": {"mlp": rows}}).splitlines()
    assert len(lines) == 2 + len(rows)
    cells = [cell.strip() for cell in lines[-1].strip("|").split("|")]
    assert cells[2] == "PyTorch, x"
    # 12 / 8, 12 / 9 and 12 / 24, in thousands
    assert cells[3] == "1,333 [917, 1,417]"
    assert cells[4:] == ["6.00 [5.25, 7.00]", "2.00 [1.75, 3.00]"]
    assert lines[2].split("|")[1:3] == [" mlp ", " 12 "]


def test_differences_are_relative_to_each_array():
    expected = [np.array([100.0, 1.0]), np.array([1e-6])]
    assert largest_difference(expected, expected) == 0
    assert largest_difference([expected[0] + 1, expected[1]], expected) == 0.01
    assert largest_difference([expected[0], np.array([2e-6])], expected) == 1
    assert np.isnan(largest_difference([np.array([np.nan, 1]), expected[1]], expected))


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec("torch"), reason="needs the extra 'benchmark'"
)
def test_every_form_in_pytorch_computes_our_meta_step():
    names = ["mlp", "small_conv"]
    command = ["benchmarks/peers.py", "--check", f"--models={','.join(names)}"]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    differences = [line.split()[-1] for line in done.stdout.splitlines()[1:]]
    assert len(differences) >= 4 * len(names)  # without TorchOpt and higher
    assert max(map(float, differences)) < 1e-9
