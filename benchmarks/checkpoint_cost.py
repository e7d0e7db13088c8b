"""What a checkpoint costs: how long training stands still, how long writing takes.

    python benchmarks/checkpoint_cost.py --json=results/checkpoint_cost.json

Saves the state of an MLP with momentum, on the default device, as a run does. The stall
is what training waits for: a copy to the host, the search for numbers that are not
finite, and the start of the writing thread. The rest happens behind its back: writing,
reading back, comparing, hashing, deleting the oldest. Medians over saves.
"""

import argparse
import datetime
import json
import pathlib
import platform
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

from cmwjax.core.meta import MetaState
from cmwjax.core.optimizers import torch_adam, torch_sgd
from cmwjax.core.weighting import CMWNet
from cmwjax.training.checkpoints import Checkpoints, to_host
from cmwjax.training.health import check_finite

SIZES = {"0.5 M": (784, 420, 420, 10), "25 M": (3072, 3584, 3584, 370)}  # of the layers


def make_state(layers: tuple[int, ...]) -> MetaState:
    """What the trainer carries, at random: what is equal would be compressed."""
    rng, net = np.random.default_rng(0), CMWNet(3)
    params = {
        f"Dense_{i}": {
            "kernel": jnp.asarray(rng.normal(size=shape), jnp.float32),
            "bias": jnp.zeros(shape[1]),
        }
        for i, shape in enumerate(zip(layers, layers[1:], strict=False))
    }
    key = jax.random.PRNGKey(0)
    state = MetaState.create(
        params=params,
        meta_params=net.init(key, jnp.zeros(1), jnp.zeros(1, jnp.int32)),
        tx=torch_sgd(0.1, momentum=0.9, weight_decay=5e-4),
        meta_tx=torch_adam(1e-3, weight_decay=1e-4),
        key=key,
    )
    momentum = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), state.opt_state
    )
    return state._replace(opt_state=momentum)


def measure(layers: tuple[int, ...], saves: int) -> dict[str, float]:
    """Saves to a temporary folder; the first, which loads Orbax, is not counted."""
    state = host = make_state(layers)
    change = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    seconds = {"copy": [], "check": [], "stall": [], "save": [], "restore": []}
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(
            pathlib.Path(folder, "checkpoints"), keep=2, config={}
        )
        for step in range(1, saves + 2):
            state = jax.block_until_ready(change(state))
            times = [time.perf_counter()]
            host = to_host(state)
            times.append(time.perf_counter())
            check_finite(host, lambda: checkpoints.last)
            times.append(time.perf_counter())
            checkpoints.save(step, host)
            times.append(time.perf_counter())
            checkpoints.wait()
            times.append(time.perf_counter())
            checkpoints.restore(like=host)
            times.append(time.perf_counter())
            copy, check, _, _, restore = np.diff(times)
            stall, save = times[3] - times[0], times[4] - times[0]
            values = (copy, check, stall, save, restore)
            for name, value in zip(seconds, values, strict=True):
                seconds[name].append(value)
        size = sum(
            p.stat().st_size
            for p in pathlib.Path(folder, "checkpoints", str(step)).rglob("*")
            if p.is_file()
        )
    if checkpoints.failures:
        raise RuntimeError(f"{checkpoints.failures} checkpoints could not be written")
    return {
        "parameters": sum(x.size for x in jax.tree.leaves(state.params)),
        "state_bytes": sum(x.nbytes for x in jax.tree.leaves(host)),
        "file_bytes": size,
        **{f"{k}_seconds": float(np.median(v[1:])) for k, v in seconds.items()},
    }


def main() -> None:
    """Parses the command line, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--saves", type=int, default=9)
    parser.add_argument("--json", type=pathlib.Path, help="file to write")
    args = parser.parse_args()
    report = {
        "date": datetime.date.today().isoformat(),
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "saves": args.saves,
        "sizes": {},
    }
    print(
        f"{'parameters':>11} {'state MB':>9} {'stall ms':>9} {'of it copy':>10}", end=""
    )
    print(f" {'save s':>7} {'restore s':>9}")
    for name, layers in SIZES.items():
        row = measure(layers, args.saves)
        report["sizes"][name] = row
        print(
            f"{row['parameters']:>11,} {row['state_bytes'] / 1e6:>9.1f} "
            f"{row['stall_seconds'] * 1e3:>9.1f} {row['copy_seconds'] * 1e3:>10.1f} "
            f"{row['save_seconds']:>7.2f} {row['restore_seconds']:>9.2f}"
        )
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
