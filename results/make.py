"""Makes the tables of results/README.md: cells x methods x seeds.

    CMWJAX_DATA_DIR=FOLDER python results/make.py --runs=runs/results \
        --files=embeddings=FILE.npz,human=FILE.npz,authors=FILE.npz
    ... python results/make.py --cells=cifar10-asym-0.8,cifar10-human-worse
    python results/make.py --tables_only

A cell is one bias; its runs are a comparison in `--runs`/CELL, which continues where it
was stopped and repeats nothing. What they gave is kept in results/cells/CELL.json, from
which the tables are written. A cell with such a file is not run again unless it is
named; one without has no table. Feature-dependent labels are made when a cell first
needs them, unless `--files` has their archive as `pmd`; `embeddings` are those of
CIFAR-10, `human` has their labels `worse_label` and `aggre_label` (CIFAR-10N), and
`authors` is the CMW-Net authors' vnet_119.npz or .pth.
"""

import datetime
import json
import os
import platform
from pathlib import Path

import jax
from absl import app, flags, logging

from cmwjax import compare, console
from cmwjax.files import write_json
from cmwjax.methods.catalogue import title
from cmwjax.training.workdir import is_finished
from results import make_pmd
from results.biases import CELLS, LEARNER, PMD, in_words, read_config, with_files
from results.tables import kept, write_tables

_CELLS = flags.DEFINE_list("cells", [], "cells to run; by default all")
_RUNS = flags.DEFINE_string("runs", "runs/results", "folder for the runs")
_FILES = flags.DEFINE_list("files", [], "NAME=PATH of data that some cells need")
_TABLES_ONLY = flags.DEFINE_bool("tables_only", False, "run nothing")


def main(_):
    console.set_up()
    logging.set_verbosity(logging.WARNING)
    unknown = set(_CELLS.value) - CELLS.keys()
    if unknown:
        raise app.UsageError(
            f"unknown cells {sorted(unknown)}; there are {list(CELLS)}"
        )
    if not _TABLES_ONLY.value:
        for name in _CELLS.value or [n for n in CELLS if not kept(n).exists()]:
            run_cell(name, CELLS[name])
            write_tables()
    write_tables()


def run_cell(name, cell):
    """Runs what is missing of a cell and keeps its summary."""
    workdir = Path(_RUNS.value) / name
    print(f"{name}: configs/{cell.config}", flush=True)
    compare.run(configuration(cell.config), workdir, on_run=report)
    # Compiled steps are memory maps, of which Linux lets a process have 65,530.
    jax.clear_caches()
    summary = json.loads((workdir / "summary.json").read_text())
    summary |= {
        "config": in_words(cell.config),
        "date": datetime.date.today().isoformat(),
        "hardware": hardware(),
        "jax": jax.__version__,
    }
    kept(name).parent.mkdir(exist_ok=True)
    write_json(kept(name), summary)


def hardware():
    """What the runs had, in words."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{jax.device_count()} x {device.device_kind}"
    cores = len(os.sched_getaffinity(0))
    return f"{cores} core{'s' * (cores > 1)}, {platform.machine()}"


def report(method, seed, result):
    """Prints a line on a run that has ended."""
    said = "diverged"
    if result is not None:
        said = f"{result.test_score:.1%}, {result.seconds:.0f} s"
    print(f"  {title(method)}, seed {seed}: {said}", flush=True)


def configuration(text):
    """The configuration of a cell; makes the files that it needs and does not find."""
    return read_config(with_files(text, given, learned))


def given(name):
    """A file that cells need, by its name."""
    files = dict(text.split("=", 1) for text in _FILES.value)
    if name in files:
        return files[name]
    if f"{{{name}}}" != PMD:
        raise app.UsageError(f"this cell needs a file: give --files={name}=FILE")
    archive = Path(_RUNS.value) / "pmd_fashion_mnist.npz"
    if not archive.exists():
        make_pmd.write(archive, config=make_pmd.classifier("fashion_mnist"))
    return archive


def learned(name):
    """The weighting function of a cell's first run, which is made if need be."""
    folder = Path(_RUNS.value) / name / LEARNER / "seed_0"
    if not is_finished(folder):
        run_cell(name, CELLS[name])
    return folder / "weighting.safetensors"


if __name__ == "__main__":
    app.run(main)
