"""Which kinds of kernels the time of a step goes to, from a trace of gpu_steps.py.

    python benchmarks/gpu_trace.py OUT/preact_resnet18_meta_step.trace.json.gz

Milliseconds and kernels per step, a line of JSON for each file. cuDNN's convolutions go
by direction; XLA's fusions by what they end in: a reduction (batch norm's statistics
and their gradients), a transposition (of kernels and their gradients between cuDNN's
layout and the parameters'), or neither.
"""

import argparse
import gzip
import json
import pathlib
from collections import defaultdict

# What a kernel's name contains -> what it is counted as; the first that fits.
KINDS = {
    "fprop": "convolution, forward",
    "dgrad": "convolution, gradient of the input",
    "wgrad": "convolution, gradient of the kernel",
    "cudnn": "convolution, other",
    "transpose": "fusion, transposition",
    "reduce": "fusion, reduction",
    "fusion": "fusion, elementwise",
}


def kernels(path: pathlib.Path) -> list[dict]:
    """The events of a trace that the device itself was busy with."""
    with gzip.open(path) as file:
        events = json.load(file)["traceEvents"]
    threads = {
        (e["pid"], e["tid"]): e["args"]["name"]
        for e in events
        if e.get("ph") == "M" and e["name"] == "thread_name"
    }
    return [
        e
        for e in events
        if e.get("ph") == "X" and "Stream" in threads.get((e["pid"], e["tid"]), "")
    ]


def kind(name: str) -> str:
    """What a kernel of this name is counted as."""
    return next((value for key, value in KINDS.items() if key in name), "other")


def summary(path: pathlib.Path, steps: int) -> dict:
    """Milliseconds and kernels of a step, in all and by kind."""
    milliseconds: dict[str, float] = defaultdict(float)
    count: dict[str, float] = defaultdict(float)
    for event in kernels(path):
        of = kind(event["name"])
        milliseconds[of] += event["dur"] / 1e3 / steps
        count[of] += 1 / steps
    order = sorted(milliseconds, key=milliseconds.__getitem__, reverse=True)
    return {
        "trace": path.name,
        "milliseconds": round(sum(milliseconds.values()), 3),
        "kernels": round(sum(count.values())),
        "by_kind": {of: round(milliseconds[of], 3) for of in order},
        "kernels_by_kind": {of: round(count[of]) for of in order},
    }


def main() -> None:
    """Parses the command line; prints a line for each file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("traces", nargs="+", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=3, help="that each trace holds")
    args = parser.parse_args()
    for path in args.traces:
        print(json.dumps(summary(path, args.steps)))


if __name__ == "__main__":
    main()
