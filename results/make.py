"""Makes the tables of results/README.md: cells x methods x seeds.

    CMWJAX_DATA_DIR=FOLDER python results/make.py --runs=runs/results
    ... python results/make.py --cells=cifar10-asym-0.8,cifar10-human-worse
    python results/make.py --tables_only

A cell is one bias; its runs are a comparison in `--runs`/CELL, which continues where it
was stopped and repeats nothing. What they gave is kept in results/cells/CELL.json, from
which the tables are written. A cell with such a file is not run again unless it is
named; one without has no table.
"""

import datetime
import importlib.util
import json
import os
import platform
from pathlib import Path
from typing import NamedTuple

import jax
from absl import app, flags, logging

from cmwjax import compare, record
from cmwjax.config import METHODS

HERE = Path(__file__).parent
_CELLS = flags.DEFINE_list("cells", [], "cells to run; by default all")
_RUNS = flags.DEFINE_string("runs", "runs/results", "folder for the runs")
_TABLES_ONLY = flags.DEFINE_bool("tables_only", False, "run nothing")


class Cell(NamedTuple):
    """One bias, and the methods compared under it."""

    title: str
    config: str  # as after --config=configs/
    paper: dict[str, str] = {}  # method -> accuracy in the paper, its own schedule


MAIN = "methods=erm+erm_mixup_ema+constant+mw_net+cmw_net"
FASHION = {
    "asym-0.4": "noise=asym,rate=0.4",
    "asym-0.6": "noise=asym,rate=0.6",
    "asym-0.8": "noise=asym,rate=0.8",
    "sym-0.4": "noise=sym,rate=0.4",
    "sym-0.6": "noise=sym,rate=0.6",
    "lt-100": "imbalance=100,meta=balanced",
    "lt-50-sym-0.2": "imbalance=50,noise=sym,rate=0.2",
}
SECTIONS = {
    "Digits, MLP, 60 epochs": {
        "digits-asym-0.6": Cell(
            "asymmetric noise 0.6, 100 trusted samples", "quickstart.py"
        ),
        "digits-asym-0.8": Cell(
            "asymmetric noise 0.8, no clean data",
            "quickstart.py:rate=0.8,meta=lowest_loss",
        ),
    },
    "Fashion-MNIST, MLP, 20,000 images, 30 epochs": {
        "fashion-20k-asym-0.8": Cell(
            "asymmetric noise 0.8, no clean data", "fashion_mnist.py"
        ),
    },
    "CIFAR-10, small conv net, 10,000 images, 15 epochs": {
        "cifar10-asym-0.6": Cell(
            "asymmetric noise 0.6",
            f"cifar.py:noise=asym,rate=0.6,fast,{MAIN}",
            {"erm": "69.7", "mw_net": "68.6", "cmw_net": "91.3"},
        ),
        "cifar10-asym-0.8": Cell(
            "asymmetric noise 0.8",
            f"cifar.py:noise=asym,rate=0.8,fast,{MAIN}",
            {"erm": "55.2", "mw_net": "58.3", "cmw_net": "87.5"},
        ),
        "cifar10-human-worse": Cell(
            "human labels (CIFAR-10N worse)", "cifar.py:labels=human_worse,fast"
        ),
        "cifar10-pmd-1-35": Cell(
            "feature-dependent noise (PMD type I, 35 %)",
            "cifar.py:labels=pmd_type1_035,fast",
            {"erm": "78.1", "mw_net": "82.2", "cmw_net": "82.3"},
        ),
        "cifar10-lt-100": Cell(
            "long tail, imbalance factor 100",
            "cifar_lt.py:fast",
            {"erm": "70.4", "mw_net": "73.6", "cmw_net": "78.9"},
        ),
        "cifar10-lt-100-sym-0.2": Cell(
            "long tail 100 and symmetric noise 0.2",
            "cifar_lt.py:noise=sym,rate=0.2,fast",
        ),
    },
    "Fashion-MNIST, MLP, 10,000 images, 15 epochs": {
        f"fashion-{name}": Cell(
            name, f"fashion_mnist.py:{bias},fast,validation=0.1,methods=every"
        )
        for name, bias in FASHION.items()
    },
}


def main(_):
    logging.set_verbosity(logging.WARNING)
    cells = {name: cell for part in SECTIONS.values() for name, cell in part.items()}
    unknown = set(_CELLS.value) - cells.keys()
    if unknown:
        raise app.UsageError(
            f"unknown cells {sorted(unknown)}; there are {list(cells)}"
        )
    if not _TABLES_ONLY.value:
        for name in _CELLS.value or filter(lambda name: not kept(name).exists(), cells):
            run_cell(name, cells[name])
            write_tables()
    write_tables()


def run_cell(name, cell):
    """Runs what is missing of a cell and keeps its summary."""
    config = read_config(cell.config)
    workdir = Path(_RUNS.value) / name
    print(f"{name}: configs/{cell.config}", flush=True)
    compare.run(config, workdir)
    summary = json.loads((workdir / "summary.json").read_text())
    device = jax.devices()[0]
    summary |= {
        "config": cell.config,
        "date": datetime.date.today().isoformat(),
        "hardware": f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}"
        if device.platform == "cpu"
        else f"{jax.device_count()} x {device.device_kind}",
        "jax": jax.__version__,
    }
    kept(name).parent.mkdir(exist_ok=True)
    record.write_json(kept(name), summary)


def kept(name):
    """Where the summary of a cell is kept."""
    return HERE / "cells" / f"{name}.json"


def read_config(text):
    """The configuration that `--config=configs/TEXT` means."""
    file, _, argument = text.partition(":")
    path = HERE.parent / "configs" / file
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument or None)


def write_tables():
    """Writes README.md beside this file from the summaries of all cells."""
    text = [(HERE / "introduction.md").read_text()]
    for section, cells in SECTIONS.items():
        tables = [table(name, cell) for name, cell in cells.items()]
        if any(tables):
            text += [f"## {section}\n", *filter(None, tables)]
    (HERE / "README.md").write_text("\n".join(text))


def table(name, cell):
    """Markdown of one cell, or None before it has been run."""
    if not kept(name).exists():
        return None
    summary = json.loads(kept(name).read_text())
    lines = [
        f"### {cell.title}\n",
        f"`--config=configs/{summary['config']}`, seeds "
        f"{', '.join(map(str, summary['seeds']))}; {summary['hardware']}, JAX "
        f"{summary['jax']}, {summary['date']}\n",
        "| method | last epoch | selected | AUROC of wrong labels "
        "| seconds a run | paper |",
        "|---|---|---|---|---|---|",
    ]
    for method, values in summary["methods"].items():
        cells = [
            METHODS[method],
            compare.mean_and_std(values["last_epoch"], 1),
            compare.mean_and_std(values["selected_epoch"], 1),
            compare.mean_and_std(values["wrong_label_auroc"], 3),
            compare.mean_and_std(values["seconds"], 0),
            cell.paper.get(method, ""),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    app.run(main)
