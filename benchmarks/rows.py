"""Rows of a benchmark, each written as soon as it is measured, within a time."""

import argparse
import json
import os
import pathlib
import statistics
import time
import traceback
from collections.abc import Callable
from typing import Any

# Dense FLOP/s by NVIDIA's data sheets. With float32 operands, JAX and PyTorch let cuDNN
# convolve in TF32.
PEAKS = {
    "NVIDIA H200": {"bfloat16": 989.5e12, "float32": 494.7e12},
    "NVIDIA H100 80GB HBM3": {"bfloat16": 989.5e12, "float32": 494.7e12},
    "NVIDIA A100": {"bfloat16": 312e12, "float32": 156e12},
}


def command_line(doc: str, *, seconds: float) -> argparse.ArgumentParser:
    """The options that a script of such rows has; `seconds` is a default."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--models", default="preact_resnet18,resnet32")
    parser.add_argument("--dtype", default="bfloat16", help="or float32")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=seconds, help="for all rows")
    parser.add_argument("--at_least", type=float, default=1.5, help="seconds of a row")
    parser.add_argument("--jsonl", type=pathlib.Path, required=True, help="is added to")
    return parser


class Rows:
    """A file of JSON lines that grows until the time is over."""

    def __init__(self, path: pathlib.Path, seconds: float, **common: Any):
        """Rows have the `common` fields; none begins more than `seconds` from now."""
        self._path, self._common = path, common
        self._deadline = time.monotonic() + seconds

    def add(self, measure: Callable[[], dict[str, Any]], **fields: Any) -> None:
        """Adds the fields and what `measure()` returns, or why that is nothing."""
        begin = time.monotonic()
        if begin > self._deadline:
            found = {"note": "no time left"}
        else:
            try:
                found = measure()
            except Exception as error:  # the rows that follow are worth having
                traceback.print_exc()
                found = {"note": f"{type(error).__name__}: {str(error)[:300]}"}
        row = fields | self._common | found
        row["seconds_in_all"] = round(time.monotonic() - begin, 1)
        line = json.dumps(row)
        with open(self._path, "a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(line, flush=True)


def cost(
    seconds: float, *, batch_size: int, flops: float, device: str, dtype: str
) -> dict[str, Any]:
    """What a step of so many seconds and FLOPs comes to."""
    known = [peak[dtype] for name, peak in PEAKS.items() if device.startswith(name)]
    return {
        "images_per_second": round(batch_size / seconds, 1),
        "milliseconds": round(1e3 * seconds, 3),
        "gigaflop": round(flops / 1e9, 2),
        "share_of_peak": round(flops / seconds / known[0], 4) if known else None,
    }


def seconds_per_call(call: Callable[[int], Any], at_least: float) -> float:
    """Median of three; `call(n)` does something n times and waits until it is done."""
    call(2)  # warms up
    repeats, seconds = 1, 0.0
    while seconds < at_least / 3:
        repeats *= 2
        seconds = _timed(call, repeats)
    times = [seconds, _timed(call, repeats), _timed(call, repeats)]
    return statistics.median(times) / repeats


def _timed(call, repeats):
    begin = time.perf_counter()
    call(repeats)
    return time.perf_counter() - begin
