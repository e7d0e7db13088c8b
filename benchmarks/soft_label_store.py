"""What remembering the largest probabilities of each sample costs, and what it loses.

    python benchmarks/soft_label_store.py --json=results/soft_label_store.json
    python benchmarks/soft_label_store.py --accuracy --json=results/top_k.json
    ... --accuracy --config=embeddings.py:data=FILE.npz --tops=0,2,3,5

The first is about the memory of soft labels alone, by default for as many samples and
classes as WebVision has, on the default device: bytes; milliseconds of a step's lookup,
and of its update with the lookup before it, medians and quartiles over rounds by turns;
bytes and seconds of a checkpoint, of random numbers. All probabilities of all samples,
top_k = 0, are measured where `--exact` says that there is room, which they want three
times; else their bytes are computed.

The second trains by CMW-Net-SL and ELR for each number of probabilities that are kept,
0 for all, and shows test accuracy of the last epoch, mean and standard error over
seeds, and the difference to all of them, seed by seed. Soft labels are averaged over
visits with a momentum of 0.9; with one of 0, nothing of what is remembered is used.
Without `--config` the data are made up: `--classes` classes in families of ten that are
alike, 40 % of whose labels are wrong, most of them within the family.
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
from absl import logging

from benchmarks.panel_tables import markdown
from cmwjax import compare, train
from cmwjax.methods.soft_labels import soft_label_memory
from cmwjax.training.checkpoints import Checkpoints, to_host
from results.biases import read_config

SAMPLES, CLASSES = 2_439_574, 1000  # of WebVision 1.0
BATCH, SHARDS = 256, 4
METHODS = ("cmw_net_sl", "elr")


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line; measures or trains, prints a table and writes it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--classes", type=int)
    parser.add_argument("--tops", default="", help="k, k, ... in place of the default")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--exact", action="store_true", help="measure top_k=0 as well")
    parser.add_argument("--accuracy", action="store_true", help="train")
    parser.add_argument("--config", default="", help="as after --config=configs/")
    parser.add_argument("--methods", nargs="*", default=METHODS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=0, help="0: as configured")
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args(argv)
    logging.set_verbosity(logging.ERROR)
    rows = accuracies(options) if options.accuracy else costs(options)
    if options.json:
        head = {"jax": jax.__version__, "python": platform.python_version()}
        head |= {"device": jax.devices()[0].device_kind}
        given = {k: v for k, v in vars(options).items() if k != "json"}
        text = json.dumps(head | {"options": given, "rows": rows}, indent=1)
        options.json.write_text(text + "\n")


def numbers(text: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """`'0,8'` -> `(0, 8)`; the default of nothing."""
    return tuple(map(int, text.split(","))) if text else default


# --- cost ----------------------------------------------------------------------------


def costs(options) -> list[dict[str, Any]]:
    """A row for each k, which is printed."""
    classes = options.classes or CLASSES
    tops = numbers(options.tops, (8, 16, 24))
    exact = {"top_k": 0, "bytes": 4 * options.samples * classes}
    measured = [Measured(k, options.samples, classes) for k in tops]
    if options.exact:
        measured.insert(0, Measured(0, options.samples, classes))
    for _ in range(options.rounds + 1):  # the first round compiles
        for one in measured:
            one.round()
    rows = [one.row() for one in measured]
    if not options.exact:
        rows.insert(0, exact)
    headings = ["top_k", "MB", "lookup, ms", "lookup and update, ms", "file, MB", "s"]
    table = [headings, len(headings) * ["---"]]
    for row in rows:
        table.append(
            [
                str(row["top_k"]),
                f"{row['bytes'] / 1e6:,.0f}",
                quartiles(row.get("lookup_ms")),
                quartiles(row.get("update_ms")),
                f"{row['file_bytes'] / 1e6:,.0f}" if "file_bytes" in row else "",
                f"{row['save_seconds']:.1f}" if "save_seconds" in row else "",
            ]
        )
    print(markdown(table))
    return rows


class Measured:
    """One memory, and the times that its lookups and updates have taken.

    Args:
      top_k: how many probabilities of a sample are kept; 0: all.
      samples: how many there are.
      classes: how many there are.
    """

    def __init__(self, top_k: int, samples: int, classes: int) -> None:
        self._memory = soft_label_memory(0.9, top_k=top_k, shards=SHARDS)
        problem = SimpleNamespace(
            labels=np.zeros(samples, np.int32),
            train_index=np.arange(samples, dtype=np.int32),
            dataset=SimpleNamespace(num_classes=classes),
        )
        self._top_k, self._samples = top_k, samples
        self._state = jax.device_put(self._memory.init(problem))
        self._rng = np.random.default_rng(0)
        logits = self._rng.normal(0, 2, (BATCH, classes))
        self._predicted = jax.nn.softmax(logits).astype(np.float32)

        def before(state, index):
            return self._memory.before(state, {"index": index}, self._predicted, None)

        # What nobody asks for is not computed: of a lookup, the update.
        self._look_up = jax.jit(lambda state, index: before(state, index)[1])
        self._update = jax.jit(before, donate_argnums=0)
        self._times = {"lookup": [], "update": []}

    def round(self) -> None:
        """Looks up the samples of a random batch, then updates them."""
        each = self._samples // SHARDS
        place = [self._rng.choice(each, BATCH // SHARDS, False) for _ in range(SHARDS)]
        index = np.concatenate([SHARDS * p + s for s, p in enumerate(place)])
        index = jax.device_put(index.astype(np.int32))
        begin = time.perf_counter()
        jax.block_until_ready(self._look_up(self._state, index))
        middle = time.perf_counter()
        self._state, batch = self._update(self._state, index)
        jax.block_until_ready((self._state, batch))
        self._times["lookup"].append(1e3 * (middle - begin))
        self._times["update"].append(1e3 * (time.perf_counter() - middle))

    def row(self) -> dict[str, Any]:
        """What was measured, and what a checkpoint of random numbers takes."""
        host = jax.tree.map(self._random, to_host(self._state))
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            with Checkpoints(Path(folder), keep=1, config={}) as checkpoints:
                checkpoints.save(1, host)
            seconds = time.perf_counter() - begin
            if checkpoints.failures:
                raise RuntimeError("the checkpoint could not be written")
            size = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
        times = {
            f"{name}_ms": np.percentile(values[1:], (25, 50, 75)).tolist()
            for name, values in self._times.items()
        }
        return {
            "top_k": self._top_k,
            "bytes": sum(x.nbytes for x in jax.tree.leaves(host)),
            "file_bytes": size,
            "save_seconds": seconds,
        } | times

    def _random(self, x: np.ndarray) -> np.ndarray:
        """In place of zeros, which would be compressed."""
        if x.dtype == np.uint16:
            return self._rng.integers(2**16, size=x.shape, dtype=x.dtype)
        return x if x.dtype == np.int32 else self._rng.random(x.shape, np.float32)


def quartiles(values: list[float] | None) -> str:
    """The median, and quartiles around it."""
    return "" if values is None else "{1:.2f} [{0:.2f}, {2:.2f}]".format(*values)


# --- accuracy ------------------------------------------------------------------------


def accuracies(options) -> list[dict[str, Any]]:
    """A row for each method and k, which is printed."""
    headings = ["method", "top_k", "test accuracy", "difference to all"]
    table, rows = [headings, len(headings) * ["---"]], []
    with tempfile.TemporaryDirectory() as folder:
        text = options.config
        if not text:
            file = Path(folder, "many_classes.npz")
            write_many_classes(file, options.classes or 200)
            text = f"embeddings.py:data={file},noise=none,meta=lowest_loss,per_class=5"
        for method in options.methods:
            exact = None
            for top_k in numbers(options.tops, (0, 2, 5, 24)):
                found = np.array(
                    [
                        accuracy(text, method, seed, top_k, options.epochs)
                        for seed in range(options.seeds)
                    ]
                )
                exact = found if exact is None else exact
                row = {"method": method, "top_k": top_k, "accuracy": found.tolist()}
                rows.append(row)
                difference = "" if exact is found else mean_and_error(found - exact)
                table.append([method, str(top_k), mean_and_error(found), difference])
                print(json.dumps(row), flush=True)
    print(markdown(table))
    return rows


def accuracy(text: str, method: str, seed: int, top_k: int, epochs: int) -> float:
    """Of the last epoch, on the test set, in percent."""
    config = compare.one_run(read_config(text), method, seed)
    config.soft_labels.momentum = 0.9
    config.memory.top_k = top_k
    config.epochs = epochs or config.epochs
    with tempfile.TemporaryDirectory() as folder:
        result = train.run(config, Path(folder) / "run", header=False, report=False)
    return 100 * result.test_score


def write_many_classes(file: Path, classes: int, per_class: int = 60) -> None:
    """Rows of classes that come in families of ten, 40 % of the labels wrong."""
    rng = np.random.default_rng(0)
    families = rng.normal(size=(-(-classes // 10), 64))
    centres = families[np.arange(classes) // 10] + 0.5 * rng.normal(size=(classes, 64))
    parts = {}
    for name, number in (("train", per_class), ("test", 20)):
        true = np.repeat(np.arange(classes), number)
        rows = centres[true] + 0.8 * rng.normal(size=(len(true), 64))
        label = true.copy()
        if name == "train":
            wrong = rng.random(len(true)) < 0.4
            near = true // 10 * 10 + rng.integers(10, size=len(true))
            far = rng.integers(classes, size=len(true))
            other = np.where(rng.random(len(true)) < 0.8, near, far) % classes
            label = np.where(wrong, other, true)
        parts |= {f"x_{name}": rows.astype(np.float32), f"y_{name}": label}
    np.savez(file, **parts)


def mean_and_error(values: np.ndarray) -> str:
    """With the standard error of the mean, where there are several."""
    if len(values) < 2:
        return f"{values.mean():.2f}"
    return f"{values.mean():.2f} ± {values.std(ddof=1) / np.sqrt(len(values)):.2f}"


if __name__ == "__main__":
    main()
