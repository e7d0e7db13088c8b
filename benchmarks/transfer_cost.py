"""What a step costs that applies a weighting function as it is, as a multiple of ERM's.

    python benchmarks/transfer_cost.py --models=small_conv,resnet32 --json=cost.json

Times the trainer's own compiled steps, with all that they do around `cmwjax.core.meta`:
the teacher's forward and its average, soft labels and their memory, MixUp, sums of
metrics. Images are noise and lie on the device. As in benchmarks/meta_step.py, every
round runs every step, and ratios are taken within a round.
"""

import argparse
import json
import pathlib
import tempfile
import time
from typing import Any

import jax
import numpy as np

from benchmarks.meta_step import IMAGES, NUM_CLASSES, environment
from cmwjax.config import base_config
from cmwjax.core.weighting import CMWNet
from cmwjax.core.weighting_file import WeightingFunction, save_weighting
from cmwjax.training.run import Progress, assemble

FROZEN = "weighting.load"  # given the file of a function
# What is timed -> fields of its configuration.
STEPS = {
    "ERM": {"method": "erm"},
    "ERM + MixUp + EMA": {"method": "erm_mixup_ema"},
    "CMW-Net, frozen": {"method": "cmw_net", FROZEN: True},
    "CMW-Net-SL, frozen, no MixUp": {
        **{"method": "cmw_net_sl", "mixup.alpha": 0.0, FROZEN: True}
    },
    "CMW-Net-SL, frozen": {"method": "cmw_net_sl", FROZEN: True},
    "CMW-Net, meta step": {"method": "cmw_net"},
    "CMW-Net-SL, meta step": {"method": "cmw_net_sl"},
}
ROUND_SECONDS = 0.5  # short steps are repeated until ordinary training takes that long


class Stepper:
    """One kind of step with what it works on; keeps the state, which is donated."""

    def __init__(self, fields, *, folder, model, batch_size, dtype):
        config = base_config()
        config.model.options = {} if dtype is None else {"dtype": dtype}
        fields = dict(fields)
        is_frozen = fields.pop(FROZEN, False)
        has_meta_step = fields["method"].startswith("cmw_net") and not is_frozen
        config.update_from_flattened_dict(
            {
                "data.name": str(folder / "noise.npz"),
                "data.batch_size": batch_size,
                "data.imbalance_factor": 3.0,  # for three families
                "meta_set.policy": "balanced" if has_meta_step else "none",
                "meta_set.batch_size": batch_size,
                "model.name": model,
                "optim.weight_decay": 5e-4,
                FROZEN: str(folder / "function.safetensors") if is_frozen else "",
                **fields,
            }
        )
        run = assemble(config, folder / "run", devices=tuple(jax.devices()[:1]))
        program, index = run.program, run.problem.train_index
        rows = program.layout.split({"index": index[:batch_size]})
        meta_rows = program.layout.split({"index": index[batch_size : 2 * batch_size]})
        table = run.sets.train.table
        self.inputs = (table, rows, *((meta_rows,) if has_meta_step else ()))
        step: Any = program.step.meta if has_meta_step else program.step.weighted
        self.state = Progress.of(run, run.start).state
        self.flops = step.lower(self.state, *self.inputs).cost_analysis()["flops"]
        self.step = step

    def seconds(self, repeats):
        """Mean seconds of one step over `repeats` of them."""
        start = time.perf_counter()
        for _ in range(repeats):
            self.state = self.step(self.state, *self.inputs)
        jax.block_until_ready(self.state)
        return (time.perf_counter() - start) / repeats


def write_inputs(folder, *, model, batch_size):
    """An archive of noise with a long tail to come, and a weighting function."""
    rng = np.random.default_rng(0)
    shape, size = IMAGES.get(model, (32, 32, 3)), 6 * batch_size
    arrays: dict[str, Any] = {}
    for name, count in (("train", size), ("test", 10)):
        arrays[f"x_{name}"] = rng.integers(256, size=(count, *shape), dtype=np.uint8)
        arrays[f"y_{name}"] = np.arange(count) % NUM_CLASSES
    np.savez(folder / "noise.npz", **arrays)
    loss = np.zeros(1, np.float32)
    params = CMWNet(3).init(jax.random.key(0), loss, loss.astype(int))["params"]
    function = WeightingFunction(params, np.array([1.0, 2.0, 3.0]))
    save_weighting(folder / "function.safetensors", function)


def measure(model, *, batch_size, dtype, rounds):
    """Times every step of a model in turn; one row each."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_inputs(folder, model=model, batch_size=batch_size)
        steppers = {
            name: Stepper(
                fields, folder=folder, model=model, batch_size=batch_size, dtype=dtype
            )
            for name, fields in STEPS.items()
        }
    for stepper in steppers.values():
        stepper.seconds(1)  # compiles
    repeats = max(1, round(ROUND_SECONDS / steppers["ERM"].seconds(2)))
    times = np.array(
        [[s.seconds(repeats) for s in steppers.values()] for _ in range(rounds)]
    )
    ratios = np.quantile(times / times[:, :1], [0.25, 0.5, 0.75], axis=0)
    return [
        {
            "step": name,
            "flops_ratio": stepper.flops / steppers["ERM"].flops,
            "seconds": float(np.median(times[:, i])),
            "images_per_second": batch_size / float(np.median(times[:, i])),
            "time_ratio": float(ratios[1, i]),
            "time_ratio_quartiles": ratios[[0, 2], i].tolist(),
        }
        for i, (name, stepper) in enumerate(steppers.items())
    ]


def main():
    """Parses the command line, measures model after model, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="small_conv,resnet32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch_size", type=int, default=100)
    parser.add_argument("--dtype", help="of the model, e.g. bfloat16")
    parser.add_argument("--json", type=pathlib.Path, help="file to write")
    args = parser.parse_args()
    report = environment() | {
        "batch_size": args.batch_size,
        "dtype": args.dtype or "float32",
        "rounds": args.rounds,
        "models": {},
    }
    for model in args.models.split(","):
        rows = measure(
            model,
            batch_size=args.batch_size,
            dtype=args.dtype,
            rounds=args.rounds,
        )
        report["models"][model] = rows
        print(f"\n{model:<30} {'FLOPs':>6} {'time ratio':>11} {'':>7} {'images/s':>9}")
        for row in rows:
            low, high = row["time_ratio_quartiles"]
            print(
                f"{row['step']:<30} {row['flops_ratio']:>6.2f} "
                f"{row['time_ratio']:>5.2f} [{low:.2f}, {high:.2f}] "
                f"{row['images_per_second']:>9.0f}"
            )
        if args.json:
            args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
