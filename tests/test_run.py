"""The command line: what a user types, and the one line they get back."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", ROOT / "run.py", *map(str, arguments)],
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.noise.rate=1.5", "config.noise.rate=1.5 is out of range"),
        ("--config=configs/quickstart.py:rat=0.5", "unknown argument 'rat'"),
        ("--config.data.name=/nowhere.npz", "/nowhere.npz"),
        ("--config.optim.momentun=0.5", 'Did you mean "momentum"'),
        ("--config=configs/tabular.py:noise=foo", "noise='foo' is unknown; choose"),
        ("--config=configs/tabular.py:rate=much", "a value of type float"),
        ("--config=configs/nowhere.py", "configs/nowhere.py"),
        ("--config.seed=x", "config.seed=x"),
        ("--confg=configs/tabular.py", "flag 'confg'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, argument, message):
    argument = argument.replace("configs/", f"{ROOT}/configs/")
    result = command(argument, f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 1
    assert re.fullmatch("error: .*\n", result.stderr), result.stderr
    assert message in result.stderr and not result.stdout
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("argument", "archives"),
    [
        ("", {"google": "17 GB", "flickr": "about 30 GB"}),
        (":mini", {"google": "17 GB"}),
    ],
)
def test_webvision_without_its_data_says_what_to_download(tmp_path, argument, archives):
    (tmp_path / "data").mkdir()
    result = command(
        f"--config={ROOT}/configs/webvision.py{argument}",
        f"--workdir={tmp_path / 'run'}",
        CMWJAX_DATA_DIR=str(tmp_path / "data"),
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: "), result.stderr
    assert f"no WebVision in {tmp_path}/data/webvision" in result.stderr
    for archive, size in archives.items():
        line = rf"^ +{archive}_resized_256\.tar +{size} "
        assert re.search(line, result.stderr, re.MULTILINE), result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    assert not any((tmp_path / "data").iterdir()) and not (tmp_path / "run").exists()


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    result = command(f"--workdir={tmp_path}")
    assert result.returncode != 0
    assert "is not the folder of a run" in result.stderr + result.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


COMPARISON = (
    f"--config={ROOT}/configs/tabular.py:methods=erm,seeds=1",
    "--config.epochs=1",
)


@pytest.mark.parametrize("loud", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_comparison_shows_its_bar_and_its_table(tmp_path, loud):
    arguments = ("--verbosity=0",) if loud else ()
    result = command(*COMPARISON, *arguments, f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 0, result.stderr
    assert "| ERM |" in result.stdout and "100%" in result.stderr
    logged = re.findall(r"^[IW]\d{4} .*", result.stderr, re.MULTILINE)
    assert bool(logged) == loud, result.stderr
