"""What a step costs on an accelerator, row after row, within a time.

    python benchmarks/gpu_steps.py --jsonl=steps.jsonl --seconds=120 --dtype=bfloat16

The steps are those of benchmarks/meta_step.py. That one takes turns between programs,
for machines that others use as well; here a program is compiled and measured alone and
its row written before the next is thought of, for a machine that is there for minutes.
Memory is what XLA plans for the program: arguments, results and temporaries. With
`--trace=FOLDER`, what the device does in some steps is written there as well.
"""

import pathlib
import shutil
import tempfile
import time
from functools import partial
from typing import Any

import jax

from benchmarks.meta_step import VARIANTS, make_programs
from benchmarks.rows import Rows, command_line, cost, seconds_per_call

# What is worth most, first.
ORDER = (
    "ERM",
    "meta_step, equal meta batch",
    "weighted_step",
    "meta_step every 10th step",
    "meta_step, lean",
)
TRACES = {
    "ERM": "erm",
    "weighted_step": "weighted_step",
    "meta_step, equal meta batch": "meta_step",
    "meta_step, lean": "lean",
}


class Net:
    """The programs of one net, compiled when they are first needed."""

    def __init__(self, name: str, **sizes):
        self._programs, self._sizes = make_programs(name, **sizes), sizes
        self._compiled, self._flops = {}, {}

    def measure(self, variant: str, at_least: float) -> dict[str, Any]:
        """A row; times what the variant runs for about `at_least` seconds."""
        cycle, begin = VARIANTS[variant], time.perf_counter()
        for key in set(cycle) - self._compiled.keys():
            self._compiled[key] = self._programs[key].lower().compile()
        compile_seconds = time.perf_counter() - begin
        for key in set(cycle) - self._flops.keys():
            self._flops[key] = self._programs[key].flops()

        def call(repeats):
            state = self._programs[cycle[0]].state
            for key in repeats * cycle:
                state, _ = self._compiled[key](state, *self._programs[key].inputs)
            jax.block_until_ready(state)

        return {
            **cost(
                seconds_per_call(call, at_least) / len(cycle),
                flops=sum(self._flops[key] for key in cycle) / len(cycle),
                device=jax.devices()[0].device_kind,
                **self._sizes,
            ),
            "memory_mib": round(max(self._bytes(key) for key in cycle) / 2**20, 1),
            "compile_seconds": round(compile_seconds, 1),
        }

    def trace(self, variant: str, path: pathlib.Path, steps: int = 3) -> dict[str, Any]:
        """A row; writes the events of some steps of a measured variant to a file."""
        key = VARIANTS[variant][0]
        state, inputs = self._programs[key].state, self._programs[key].inputs
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder):
                for _ in range(steps):
                    state, _ = self._compiled[key](state, *inputs)
                jax.block_until_ready(state)
            (found,) = pathlib.Path(folder).rglob("*.trace.json.gz")
            shutil.copy(found, path)
        return {"trace": path.name, "steps": steps}

    def _bytes(self, key):
        """Of a program's arguments, results and temporaries."""
        plan = self._compiled[key].memory_analysis()
        kept = plan.argument_size_in_bytes + plan.output_size_in_bytes
        return kept + plan.temp_size_in_bytes - plan.alias_size_in_bytes


def main() -> None:
    """Parses the command line; measures and writes row after row."""
    parser = command_line(__doc__, seconds=120)
    parser.add_argument("--trace", type=pathlib.Path, help="folder for traces")
    args = parser.parse_args()
    sizes = {"batch_size": args.batch_size, "dtype": args.dtype}
    rows = Rows(
        args.jsonl,
        args.seconds,
        **sizes,
        framework=f"jax {jax.__version__}",
        device=jax.devices()[0].device_kind,
    )
    for name in args.models.split(","):
        net = Net(name, **sizes)
        for variant in ORDER:
            measure = partial(net.measure, variant, args.at_least)
            rows.add(measure, net=name, variant=variant)
        for variant, file in TRACES.items() if args.trace else ():
            path = args.trace / f"{name}_{file}.trace.json.gz"
            rows.add(partial(net.trace, variant, path), net=name, variant=variant)


if __name__ == "__main__":
    main()
