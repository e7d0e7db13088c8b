"""The same step in PyTorch, as public packages write it, and here, by turns.

    pip install -e '.[benchmark]'
    python benchmarks/peers.py --json=results/peers.json
    python benchmarks/peers.py --models=mlp,small_conv --rounds=4
    python benchmarks/peers.py --check --models=mlp,small_conv,resnet8,wrn16_2
    python benchmarks/peers.py --table=results/peers.json

Each framework has a process of its own, which sleeps while the other computes; both
start from the same weights and batches, with as many threads as there are cores. A
round times every row once, and ratios are taken within a round. Shown are medians over
rounds, the first one dropped, with the interquartile range. PyTorch has its faster
layout of images in each row, tried before, and no running statistics.

With `--check` nothing is timed: in float64, one step of each row from the same weights
must give what ours gives, to rounding: meta gradient, weighting net and parameters.
With `--table`, the rows of a file as Markdown.
"""

import argparse
import importlib
import json
import multiprocessing
import os
import pathlib
import sys
import traceback
from typing import Any, NamedTuple

import numpy as np

from benchmarks.panel_tables import markdown

BATCHES = {"resnet32": 100, "wrn16_2": 32, "small_conv": 100, "mlp": 256}
CHECK_BATCH = 8
OURS, THEIRS = "cmwjax", "PyTorch"
MODULES = {OURS: "benchmarks.peers_jax", THEIRS: "benchmarks.peers_torch"}
ROUND_SECONDS = 0.2  # short steps are repeated until they take that long
TOLERANCE = 1e-9  # relative to the largest number of an array, in float64


class Row(NamedTuple):
    """One kind of step in one framework."""

    framework: str
    form: str

    @property
    def kind(self) -> str:
        return "ERM" if self.form == "ERM" else "meta step"


class Worker:
    """The `Side` of one framework in a process of its own."""

    def __init__(self, framework: str):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = MODULES[framework], theirs
        self._process = context.Process(target=serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()

    def __call__(self, method: str, *args: Any) -> Any:
        """Calls a method there and waits.

        Raises:
          RuntimeError: with the traceback, if it fails.
        """
        self._pipe.send((method, args))
        failure, result = self._pipe.recv()
        if failure:
            raise RuntimeError(f"{method}{args[:1]} failed in its process:\n{failure}")
        return result


def serve(module: str, pipe: Any) -> None:
    """Answers calls, one after the other, until nobody asks any more."""
    side = None
    while True:
        try:
            method, args = pipe.recv()
        except EOFError:
            return
        try:
            side = side or importlib.import_module(module).Side()
            pipe.send((None, getattr(side, method)(*args)))
        except Exception:
            pipe.send((traceback.format_exc(), None))


def check(workers: dict[str, Worker], name: str) -> dict[str, float]:
    """Form of PyTorch's -> largest difference to ours after one step, in float64."""
    problem = workers[OURS]("make", name, CHECK_BATCH, "float64")
    ours = {form: workers[OURS]("after", form) for form in ("ERM", "meta_step")}
    differences = {}
    for form in workers[THEIRS]("make", name, problem):
        expected = ours["ERM" if form == "ERM" else "meta_step"]
        found = workers[THEIRS]("after", form)
        apart = [largest_difference(found[what], expected[what]) for what in expected]
        differences[form] = float(np.max(apart))
    return differences


def largest_difference(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """Between arrays, each relative to the largest number expected in it."""
    pairs = zip(found, expected, strict=True)
    differences = [np.max(abs(x - y)) / np.max(abs(y)) for x, y in pairs]
    return float(np.max([0, *differences]))


def measure(workers: dict[str, Worker], name: str, *, rounds: int) -> list[dict]:
    """Times all rows of a net by turns."""
    batch_size = BATCHES[name]
    problem = workers[OURS]("make", name, batch_size, "float32")
    forms = workers[THEIRS]("make", name, problem)
    rows = [Row(THEIRS, "ERM"), Row(OURS, "ERM"), Row(OURS, "meta_step")]
    rows += [Row(THEIRS, form) for form in forms if form != "ERM"]
    found = {row: workers[row.framework]("calibrate", row.form) for row in rows}
    for calibrated in found.values():
        calibrated["steps_per_round"] = max(
            1, round(ROUND_SECONDS / calibrated.pop("seconds"))
        )
    times = np.empty((rounds, len(rows)))
    for i in range(rounds):
        # Back and forth, so that nobody always has the same one before it.
        columns = range(len(rows))[:: -1 if i % 2 else 1]
        for column in columns:
            row = rows[column]
            times[i, column] = workers[row.framework](
                "seconds", row.form, found[row]["steps_per_round"]
            )
    summaries = summarise(rows, times[1:], batch_size=batch_size)
    return [found[row] | summary for row, summary in zip(rows, summaries, strict=True)]


def summarise(rows: list[Row], times: np.ndarray, *, batch_size: int) -> list[dict]:
    """Medians and quartiles over rounds of the seconds of a step, `[rounds, rows]`.

    `time_ratio` is to ERM in the same framework, `ours_is_faster` how many times as
    long a row takes as ours of its kind does.
    """

    def spread(name, values):
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
        return {name: median, f"{name}_quartiles": [low, high]}

    seconds = dict(zip(rows, times.T, strict=True))
    ours = {row.kind: seconds[row] for row in rows if row.framework == OURS}
    return [
        row._asdict()
        | {"batch_size": batch_size}
        | spread("images_per_second", batch_size / seconds[row])
        | spread("time_ratio", seconds[row] / seconds[Row(row.framework, "ERM")])
        | spread("ours_is_faster", seconds[row] / ours[row.kind])
        | {"seconds_per_round": seconds[row].tolist()}
        for row in rows
    ]


def table(report: dict[str, Any]) -> str:
    """Medians with the interquartile range, as Markdown."""
    head = ["net", "batch", "step", "images/s", "x own ERM", "x ours"]
    lines = [head, ["---"] * len(head)]
    for name, rows in report["models"].items():
        for row in rows:
            net = [name, str(row["batch_size"])] if row is rows[0] else ["", ""]
            lines.append(
                [
                    *net,
                    f"{row['framework']}, {row['form']}",
                    cell(row, "images_per_second"),
                    cell(row, "time_ratio"),
                    cell(row, "ours_is_faster"),
                ]
            )
    return markdown(lines)


def cell(row: dict[str, Any], name: str) -> str:
    """A median and its quartiles to three digits."""
    numbers = [row[name], *row[f"{name}_quartiles"]]
    median, low, high = (f"{x:.2f}" if x < 10 else f"{x:,.0f}" for x in numbers)
    return f"{median} [{low}, {high}]"


def main() -> None:
    """Parses the command line; checks, or measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--models", help=f"comma-separated; timed are {', '.join(BATCHES)}"
    )
    parser.add_argument("--rounds", type=int, default=8, help="at least 2")
    parser.add_argument("--json", type=pathlib.Path, help="file to write")
    parser.add_argument("--check", action="store_true", help="compare, time nothing")
    parser.add_argument("--table", type=pathlib.Path, help="print a file, run nothing")
    args = parser.parse_args()
    if args.table:
        print(table(json.loads(args.table.read_text())))
        return
    names = args.models.split(",") if args.models else list(BATCHES)
    if args.rounds < 2:
        parser.error(f"--rounds={args.rounds} must be at least 2")
    if not args.check and not set(names) <= set(BATCHES):
        parser.error(f"--models={args.models} must be of {', '.join(BATCHES)}")
    workers = {framework: Worker(framework) for framework in MODULES}
    environment = workers[OURS]("versions") | workers[THEIRS]("versions")
    left_out = workers[THEIRS]("left_out")
    report = environment | {
        "load_before": os.getloadavg()[0],
        "rounds": args.rounds,
        "left_out": left_out,
        "models": {},
    }
    print(", ".join(f"{k} {v}" for k, v in report.items() if k != "models"), flush=True)
    if report["load_before"] > 0.5 and not args.check:
        print("This machine is busy; PyTorch's threads, which wait for each other in")
        print("every operation, suffer more from that than XLA's do.", flush=True)
    if args.check:
        agree = True
        for name in names:
            for form, difference in check(workers, name).items():
                print(f"{name:<12} {form:<28} {difference:.1e}", flush=True)
                agree &= difference <= TOLERANCE  # not where it is NaN
        sys.exit(0 if agree else f"more than {TOLERANCE} apart")
    for name in names:
        report["models"][name] = measure(workers, name, rounds=args.rounds)
        if args.json:
            args.json.write_text(json.dumps(report, indent=2) + "\n")
        print(table(report | {"models": {name: report["models"][name]}}), flush=True)


if __name__ == "__main__":
    main()
