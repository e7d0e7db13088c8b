"""Partial labels in the paper's two stages: a base, and who learns what it has made.

    CMWJAX_DATA_DIR=FOLDER python benchmarks/partial.py --runs=FOLDER \
        --jsonl=results/partial.jsonl --files embeddings=FILE.npz --seeds 0 1 2
    ... --cells fashion-0.7 fashion-0.1 --seeds 0
    python benchmarks/partial.py --jsonl=results/partial.jsonl --page=results/partial.md

Adds a line to the file for each cell and seed; those that are there already are not
repeated, and runs that have been interrupted go on in their folders. A line has, in
percent after the last epoch, the test accuracy of the base, of a new net that learns
its labels by the cross entropy alone (all weights constant), and of one that CMW-Net
weights; and how many of the base's labels are right. With `--page`, nothing is trained,
and the tables of that page are written anew, below its last comment.
"""

import argparse
import collections
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging

from benchmarks.panel_tables import markdown
from cmwjax import compare
from cmwjax.bias.problem import prepare
from cmwjax.files import RESOLVED
from cmwjax.report.summary import mean_and_std
from results.biases import read_config

DATA = {"fashion": "fashion_mnist", "embeddings": "{embeddings}"}
RATES = (0.7, 0.1, 0.3, 0.5)
CELLS = {
    f"{name}-{rate}{suffix}": f"data={data},q={rate}{loss}"
    for suffix, loss in (("", ""), ("-cc", ",loss=cc"))
    for name, data in DATA.items()
    for rate in RATES
}
END = "<!-- What follows is written by benchmarks/partial.py --page. -->\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line; runs what is missing, or writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jsonl", type=Path, required=True, help="is added to")
    parser.add_argument("--runs", type=Path, help="folder of the runs")
    parser.add_argument("--files", nargs="*", default=[], help="NAME=PATH of data")
    parser.add_argument("--cells", nargs="*", default=list(CELLS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--page", type=Path, help="whose tables are written")
    options = parser.parse_args(argv)
    rows = [
        json.loads(line)
        for line in (
            options.jsonl.read_text().splitlines() if options.jsonl.exists() else []
        )
    ]
    if options.page:
        head = options.page.read_text().partition(END)[0]
        options.page.write_text(head + END + "\n" + table(rows))
        return
    if not options.runs:
        parser.error("--runs is the folder that the runs are kept in.")
    logging.set_verbosity(logging.ERROR)
    files = dict(text.split("=", 1) for text in options.files)
    done = {(row["cell"], row["seed"]) for row in rows}
    for seed in options.seeds:
        for cell in options.cells:
            if (cell, seed) in done:
                continue
            row = {"cell": cell, "seed": seed}
            row |= measured(CELLS[cell].format(**files), options.runs / cell, seed)
            print(row, flush=True)
            with options.jsonl.open("a") as file:
                file.write(json.dumps(row) + "\n")


def measured(arguments: str, folder: Path, seed: int) -> dict[str, float]:
    """What a line says of a cell with a seed; the runs are below the folder."""
    begin, first = time.perf_counter(), folder / "first"
    stages = {
        "base": ("erm", f"{arguments},stage=1", first),
        "constant": ("erm", None, folder / "second"),
        "cmw_net": ("cmw_net", None, folder / "second"),
    }
    data = arguments.split(",")[0]
    row = {}
    for name, (method, stage, workdir) in stages.items():
        base = read_config(f"partial.py:{stage or f'{data},stage=2,first={first}'}")
        config = compare.one_run(base, method, seed)
        run = workdir / method / f"seed_{seed}"
        result = compare.run_or_diverge(config, run)
        row[name] = float("nan") if result is None else 100 * result.test_score
        if name == "base":
            problem = prepare(config, None)
            found = np.load(run / RESOLVED)
            true = problem.true_labels[problem.train_index]
            right = found["label"][problem.train_index] == true
            row["right"] = 100 * float(right.mean())
    return row | {"seconds": round(time.perf_counter() - begin, 1)}


def table(rows: Sequence[dict[str, float]]) -> str:
    """A row for each cell: mean ± std over seeds, and what CMW-Net is above both."""
    cells = collections.defaultdict(list)
    for row in rows:
        cells[row["cell"]].append(row)
    headings = ["cell", "seeds", "base", "its labels", "constant weights", "CMW-Net"]
    headings += ["above the base", "above constant weights"]
    lines = [headings, len(headings) * ["---"]]
    for cell in (cell for cell in CELLS if cell in cells):
        found = {
            name: np.array([row[name] for row in cells[cell]])
            for name in ("base", "right", "constant", "cmw_net")
        }
        columns = [mean_and_std(list(values), 2) for values in found.values()]
        above = [
            f"{np.mean(found['cmw_net'] - found[name]):+.2f}"
            for name in ("base", "constant")
        ]
        lines.append([cell, str(len(cells[cell])), *columns, *above])
    return markdown(lines)


if __name__ == "__main__":
    main()
