"""The command line: what a user types, and the one line they get back."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fake_runs

ROOT = Path(__file__).parents[1]


def command(*arguments, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", ROOT / "run.py", *map(str, arguments)],
        cwd=cwd,
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
        ("--config.optim.momentun=0.5", "did you mean config.optim.momentum"),
        ("--config.model.options.width=3", "has no such entry"),
        ("quickstart", "nobody reads 'quickstart'"),
        ("--config.method=erm", "set --config.compare.methods=erm, or for a single"),
        ("--config=configs/tabular.py:noise=foo", "noise='foo' is unknown; choose"),
        ("--config=configs/tabular.py:rate=much", "a value of type float"),
        ("--config=configs/tabula.py", "did you mean configs/tabular.py"),
        ("--config.seed=x", "config.seed=x must be a whole number"),
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


@pytest.mark.parametrize(
    ("name", "title", "lines"),
    [
        (
            "animal10n",
            "ANIMAL-10N",
            ("training/ +50,000 images", "data_batch_1.bin +614,800,000 bytes"),
        ),
        (
            "clothing1m",
            "Clothing1M",
            ("noisy_train_key_list.txt +1,000,000", "0.tar to 9.tar"),
        ),
        (
            "food101n",
            "Food-101N",
            ("Food-101N_release.zip +310,009 images", "food-101.tar.gz +5 GB"),
        ),
        (
            "webfg496",
            "WebFG-496",
            ("web-bird.tar.gz +unpacks to web-bird/", "CUB_200_2011/"),
        ),
    ],
)
def test_data_that_are_absent_are_described(tmp_path, name, title, lines):
    (tmp_path / "data").mkdir()
    result = command(
        f"--config={ROOT}/configs/{name}.py",
        f"--workdir={tmp_path / 'run'}",
        CMWJAX_DATA_DIR=str(tmp_path / "data"),
    )
    assert result.returncode == 1
    assert f"no {title} in {tmp_path}/data/{name}" in result.stderr
    for line in lines:
        assert re.search(rf"^ +{line}", result.stderr, re.MULTILINE), result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    assert not any((tmp_path / "data").iterdir()) and not (tmp_path / "run").exists()


def test_without_an_argument_it_is_the_quickstart(tmp_path):
    folder = tmp_path / "runs" / "quickstart"
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("years of work")  # so that nothing is trained
    result = command(cwd=tmp_path)
    assert result.returncode == 1
    assert "workdir runs/quickstart exists and is not the folder" in result.stderr


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    result = command(f"--workdir={tmp_path}")
    assert result.returncode != 0
    assert "is not the folder of a run" in result.stderr + result.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_comparison_has_one_header_and_one_table(tmp_path):
    result = command(
        f"--config={ROOT}/configs/tabular.py:methods=erm,seeds=2",
        "--config.epochs=1",
        f"--workdir={tmp_path / 'run'}",
        JAX_PLATFORMS="",  # whatever there is, and no word of what there is not
    )
    assert result.returncode == 0, result.stderr
    assert "| ERM |" in result.stdout
    header = result.stderr.splitlines()
    assert header[0].startswith("ERM, seeds 0, 1: 1 epochs on breast_cancer, by ")
    for part in ("samples: ", "biases: ", "wrong labels: ", "family 0: "):
        assert sum(line.startswith(part) for line in header) == 1, result.stderr
    assert "\r" not in result.stderr and "backend" not in result.stderr


def test_the_mode_report_makes_the_page_and_trains_nothing(tmp_path):
    run = fake_runs.write_run(tmp_path / "run", epochs=2, size=60)
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    result = command("--mode=report", f"--workdir={run}")
    assert result.returncode == 0 and not result.stderr, result.stderr
    assert result.stdout == f"The report is {run / 'report.html'}\n"
    assert (run / "report.html").stat().st_size > 10_000
    after = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    assert after.keys() - before.keys() == {"report.html"}
    assert before.items() <= after.items()
    result = command("--mode=report", f"--workdir={tmp_path / 'other'}")
    assert result.returncode == 1 and not (tmp_path / "other").exists()
    assert re.fullmatch("error: .*samples.csv is missing: .*\n", result.stderr)
