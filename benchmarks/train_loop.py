"""How fast a run trains, end to end, beside its own steps alone; and what else it does.

    python benchmarks/train_loop.py --models=mlp,small_conv --json=train_loop.json

Epochs of the trainer's own loop with CMW-Net-SL, on noise in the place of images, all
of which lie on the device: a look at every training sample, the meta set of lowest loss
drawn anew, the steps, scores of the test set, metrics. In every round the bare steps
take a turn: the same compiled programs, as often, on one batch that is on the device.
Ratios are taken within a round, and the first rounds, which compile, are dropped.

`steps` are those of the loop with all that happens between them: rows of positions
from the host, the check for signals, a checkpoint every 500 steps. Input of images on
disk is measured by benchmarks/input.py, checkpoints by their size by
benchmarks/checkpoint_cost.py.
"""

import argparse
import json
import pathlib
import tempfile
import time
from collections import defaultdict
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from typing import Any
from unittest import mock

import jax
import numpy as np

from benchmarks.meta_step import IMAGES, NUM_CLASSES, environment
from cmwjax import train
from cmwjax.config import base_config
from cmwjax.data.sources import InMemory
from cmwjax.stopping import Signals
from cmwjax.training import export, measure
from cmwjax.training.run import Progress, Run, assemble

WARMUP = 1  # epochs
DROPPED = 2  # rounds: the warm-up, and one that compiles what comes after it
# What is told apart inside of an epoch -> where it is done.
INSIDE = {
    "look at all samples": (Run, "score_training"),
    "meta set": (train, "choose_meta_set"),
    "scores of the test set": (measure, "epoch_metrics"),
    "classifier file": (export, "save_if_selected"),
    "metrics file": (train, "append_metrics"),
}


class Loop:
    """A run that trains an epoch at a time, and its own bare steps."""

    def __init__(self, folder: pathlib.Path, args: argparse.Namespace, model: str):
        write_noise(folder / "noise.npz", model, args.train, args.test)
        config = base_config()
        config.model.options = {}
        config.update_from_flattened_dict(
            {
                "method": args.method,
                "data.name": str(folder / "noise.npz"),
                "data.batch_size": args.batch_size,
                "noise.kind": "symmetric",
                "noise.rate": 0.4,
                "meta_set.policy": "lowest_loss",
                "meta_set.batch_size": args.batch_size,
                "meta_every": args.meta_every,
                "model.name": model,
                "epochs": args.rounds + DROPPED,
                "warmup_epochs": WARMUP,
                "optim.learning_rate": 0.01,
            }
        )
        self.run = assemble(config, folder / "run", devices=tuple(jax.devices()[:1]))
        self.progress = train.begin(self.run)
        self.bare = Progress.of(self.run, self.run.start).state
        split = self.run.program.layout.split
        batch = jax.device_put(split({"index": self.run.order(0)}))
        self.inputs = self.run.sets.train.table, batch

    def epochs(self) -> Generator[dict[str, float], None, None]:
        """Trains epoch after epoch; seconds by what they were spent on."""
        run, progress = self.run, self.progress
        steps = range(run.total_steps)
        rows = run.sets.train.source.training(run.order, steps)
        with closing(rows), run.checkpoints, Signals() as signals, timed() as spent:
            for epoch in range(run.config.epochs):
                spent.clear()
                begin = time.perf_counter()
                train.begin_epoch(run, progress, epoch, signals)
                jax.block_until_ready(progress.state)
                steps_begin = time.perf_counter()
                train.train_epoch(run, progress, epoch, rows, signals)
                jax.block_until_ready(progress.state)
                steps_end = time.perf_counter()
                train.end_epoch(run, progress, signals, None)
                end = time.perf_counter()
                found = dict(spent)
                yield {
                    "epoch": end - begin,
                    "before the steps": steps_begin - begin,
                    "steps": steps_end - steps_begin,
                    "after the steps": end - steps_end,
                    "checkpoint": progress.stall,
                    "compiling": progress.compiling.seconds,
                    **{name: found.get(name, 0.0) for name in (*INSIDE, "input")},
                }

    def bare_seconds(self) -> float:
        """Seconds of the steps of an epoch, on one batch."""
        program, (table, batch) = self.run.program, self.inputs
        jax.block_until_ready(self.bare)
        begin = time.perf_counter()
        for step in range(self.run.steps_per_epoch):
            if step % self.run.config.meta_every:
                self.bare = program.step.weighted(self.bare, table, batch)
            else:
                self.bare = program.step.meta(self.bare, table, batch, batch)
        jax.block_until_ready(self.bare)
        return time.perf_counter() - begin


@contextmanager
def timed() -> Generator[dict[str, float], None, None]:
    """Seconds that the host spends in each of `INSIDE`, and on making rows."""
    spent: dict[str, float] = defaultdict(float)

    def counting(function, name):
        def call(*args, **kwargs):
            begin = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent[name] += time.perf_counter() - begin

        return call

    def counting_rows(training):
        def rows(*args, **kwargs):
            with closing(training(*args, **kwargs)) as made:
                one = counting(lambda: next(made, None), "input")
                while (row := one()) is not None:
                    yield row

        return rows

    with ExitStack() as stack:
        for name, (owner, attribute) in INSIDE.items():
            new = counting(getattr(owner, attribute), name)
            stack.enter_context(mock.patch.object(owner, attribute, new))
        new = counting_rows(InMemory.training)
        stack.enter_context(mock.patch.object(InMemory, "training", new))
        yield spent


def write_noise(path: pathlib.Path, model: str, train: int, test: int) -> None:
    """An archive of images that there is nothing to learn from."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for name, count in (("train", train), ("test", test)):
        shape = (count, *IMAGES.get(model, (32, 32, 3)))
        arrays[f"x_{name}"] = rng.integers(256, size=shape, dtype=np.uint8)
        arrays[f"y_{name}"] = np.arange(count) % NUM_CLASSES
    np.savez(path, **arrays)


def measure_model(model: str, args: argparse.Namespace) -> dict[str, Any]:
    """Rounds of bare steps and an epoch of the loop."""
    with tempfile.TemporaryDirectory() as folder:
        loop, rounds = Loop(pathlib.Path(folder), args, model), []
        images = loop.run.steps_per_epoch * args.batch_size
        with closing(loop.epochs()) as epochs:
            for i, row in enumerate(epochs):
                if i + 1 < DROPPED:
                    continue
                row["bare"] = loop.bare_seconds()  # first of all, it compiles
                if i >= DROPPED:
                    rounds.append(row)
    seconds = {name: float(np.median([r[name] for r in rounds])) for name in rounds[0]}
    return {
        "images_per_epoch": images,
        "images_per_second": {
            name: images / seconds[name] for name in ("bare", "steps", "epoch")
        },
        "steps_over_bare": quartiles(r["steps"] / r["bare"] for r in rounds),
        "epoch_over_bare": quartiles(r["epoch"] / r["bare"] for r in rounds),
        "seconds": seconds,
        "rounds": rounds,
    }


def quartiles(values) -> list[float]:
    """Lower quartile, median and upper quartile."""
    return np.quantile(list(values), [0.25, 0.5, 0.75]).tolist()


def print_model(model: str, found: dict[str, Any]) -> None:
    """Rates, ratios, and what an epoch is made of."""
    print(f"\n{model}: {found['images_per_epoch']} images an epoch")
    for name, rate in found["images_per_second"].items():
        low, middle, high = found.get(f"{name}_over_bare", (1.0, 1.0, 1.0))
        print(
            f"  {name:<8} {rate:>9.0f} images/s, time over that of bare steps "
            f"{middle:.3f} [{low:.3f}, {high:.3f}]"
        )
    seconds = found["seconds"]
    for name, spent in seconds.items():
        share = spent / seconds["epoch"]
        print(f"  {name:<24} {1e3 * spent:>9.1f} ms, {share:>6.1%} of an epoch")


def main() -> None:
    """Parses the command line, measures model after model, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="mlp,small_conv")
    parser.add_argument("--method", default="cmw_net_sl")
    parser.add_argument("--meta_every", type=int, default=1)
    parser.add_argument("--batch_size", type=int, default=100)
    parser.add_argument("--train", type=int, default=5000, help="training images")
    parser.add_argument("--test", type=int, default=1000, help="test images")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=pathlib.Path, help="file to write")
    args = parser.parse_args()
    settings = ("method", "meta_every", "batch_size", "train", "test", "rounds")
    report = environment() | {name: getattr(args, name) for name in settings}
    report["models"] = {}
    for model in args.models.split(","):
        found = measure_model(model, args)
        report["models"][model] = found
        print_model(model, found)
        if args.json:
            args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
