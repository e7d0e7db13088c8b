"""Makes the tables of results/README.md: cells x methods x seeds.

    CMWJAX_DATA_DIR=FOLDER python results/make.py --runs=runs/results
    ... python results/make.py --cells=cifar10-asym-0.8,cifar10-human-worse
    python results/make.py --tables_only

A cell is one bias; its runs are a comparison in `--runs`/CELL, which continues where it
was stopped and repeats nothing. What they gave is kept in results/cells/CELL.json, from
which the tables are written. A cell with such a file is not run again unless it is
named; one without has no table. Feature-dependent labels are made when a cell first
needs them.
"""

import datetime
import json
import os
import platform
import re
from pathlib import Path

import jax
from absl import app, flags, logging

from cmwjax import compare, console
from cmwjax.files import write_json
from cmwjax.methods.catalogue import title
from cmwjax.training.workdir import is_finished
from results import make_pmd
from results.biases import AUTHORS, CELLS, LEARNED, LEARNER, PMD, read_config
from results.tables import kept, write_tables

_CELLS = flags.DEFINE_list("cells", [], "cells to run; by default all")
_RUNS = flags.DEFINE_string("runs", "runs/results", "folder for the runs")
_AUTHORS = flags.DEFINE_string(
    "authors", None, "the CMW-Net authors' vnet_119.npz or .pth, which two cells apply"
)
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
        "config": with_files(
            cell.config, "PMD.npz", "AUTHORS.npz", lambda _: "LEARNED"
        ),
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
    archive = Path(_RUNS.value) / "pmd_fashion_mnist.npz"
    if PMD in text and not archive.exists():
        make_pmd.write(archive, config=make_pmd.classifier("fashion_mnist"))
    if AUTHORS in text and not _AUTHORS.value:
        raise app.UsageError("this cell applies the authors' file: give --authors=FILE")
    return read_config(with_files(text, archive, _AUTHORS.value, learned))


def learned(name):
    """The weighting function of a cell's first run, which is made if need be."""
    folder = Path(_RUNS.value) / name / LEARNER / "seed_0"
    if not is_finished(folder):
        run_cell(name, CELLS[name])
    return folder / "weighting.safetensors"


def with_files(text, archive, authors, of_cell):
    """A cell's configuration with paths in place of what stands for them."""
    text = text.replace(PMD, str(archive)).replace(AUTHORS, str(authors))
    return re.sub(LEARNED.format("([^}]*)"), lambda match: str(of_cell(match[1])), text)


if __name__ == "__main__":
    app.run(main)
