"""What devices tell each other in a step, and what that leaves of their speed.

    python benchmarks/collectives.py --json=results/collectives.json

Compiles the steps of `configs/cifar.py`'s nets and methods for four CPU devices, counts
the reductions over all devices in the programs, and adds up the bytes of their results.
Compilers for GPUs and TPUs may join reductions, so that counts are upper bounds; bytes
stay. From the bytes follows, on paper, the share of an ideal speed-up that is left
where nothing is overlapped: a ring moves 2 (N - 1) / N bytes for each, over links of
`LINKS`, and a step of a device takes `--milliseconds`, as measured in results/h100.md.
"""

import argparse
import json
import math
import re
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cmwjax.config import base_config
from cmwjax.training.run import Progress, assemble

NETS = ("resnet32", "preact_resnet18")
METHODS = ("erm", "cmw_net", "cmw_net_sl")
BATCH = 128  # of all devices
MODES = ("pmap", "shard_map")
WIDTHS = {"f32": 4, "bf16": 2, "s32": 4, "u32": 4, "pred": 1, "f64": 8, "s64": 8}
# Bytes per second that a device sends, one way: NVLink 4 within a host (900 GB/s both
# ways, https://www.nvidia.com/en-us/data-center/h100/), and InfiniBand NDR of 400 Gb/s
# for each device between hosts.
LINKS = {8: 450e9, 64: 50e9, 256: 50e9}
REDUCTION = re.compile(r"= (.*?) (all-reduce|all-gather)(?:-start)?\(")


def main() -> None:
    """Parses the command line; compiles, counts and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="where to write")
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--milliseconds", type=float, default=5.1)
    args = parser.parse_args()
    rows = []
    for net in args.nets.split(","):
        for method in METHODS:
            for mode in MODES:
                for step, found in reductions(net, method, mode).items():
                    row = {"net": net, "method": method, "parallel": mode, "step": step}
                    rows.append(row | found | efficiency(found, args.milliseconds))
                    print(json.dumps(rows[-1]), flush=True)
    head = {"jax": jax.__version__, "devices": len(jax.devices()), "batch": BATCH}
    args.json.write_text(json.dumps(head | {"rows": rows}, indent=1) + "\n")


def reductions(net: str, method: str, mode: str) -> dict[str, dict[str, Any]]:
    """By step: how many reductions and gathers there are, and of how many bytes."""
    config = base_config()
    config.method, config.parallel, config.model.name = method, mode, net
    config.model.options = {}
    config.data.train_size = 1000
    config.data.batch_size = config.meta_set.batch_size = BATCH
    with tempfile.TemporaryDirectory() as folder:
        run = assemble(config, Path(folder) / "run")
    state = Progress.of(run, run.start).state
    index = np.zeros(BATCH, np.int32)
    rows = run.program.layout.split({"index": index})
    compiled: Any = run.program.step
    arguments = state, run.sets.train.table, rows
    steps = {"ordinary": compiled.weighted.lower(*arguments)}
    if run.program.method.has_meta_step:
        steps["meta"] = compiled.meta.lower(*arguments, rows)
    return {
        name: counted(lowered.compile().as_text()) for name, lowered in steps.items()
    }


def counted(program: str) -> dict[str, int]:
    """Reductions over all devices in the text of a compiled program."""
    found = {"all_reduces": 0, "all_gathers": 0, "bytes": 0}
    for results, kind in REDUCTION.findall(program):
        found["all_reduces" if kind == "all-reduce" else "all_gathers"] += 1
        for name, shape in re.findall(r"(\w+)\[([\d,]*)\]", results):
            sizes = map(int, filter(None, shape.split(",")))
            found["bytes"] += WIDTHS[name] * math.prod(sizes)
    return found


def efficiency(found: dict[str, int], milliseconds: float) -> dict[str, float]:
    """Share of the ideal speed-up, by number of devices, with nothing overlapped."""
    shares = {}
    for devices, speed in LINKS.items():
        seconds = 2 * (devices - 1) / devices * found["bytes"] / speed
        own = milliseconds / 1e3
        shares[f"efficiency_{devices}"] = round(own / (own + seconds), 3)
    return shares


if __name__ == "__main__":
    main()
