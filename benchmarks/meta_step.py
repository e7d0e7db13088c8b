"""What a meta step costs, as a multiple of an ordinary training step.

    python benchmarks/meta_step.py --models=mlp,small_conv,resnet32 --json=cost.json

Runs on the default device. Every round times every variant once, one after the other,
and ratios are taken within a round: a machine that is slow for a while is slow for all.
Shown is the median over rounds, the first one dropped, with the interquartile range.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import time
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cmwjax.core.losses import cross_entropy
from cmwjax.core.meta import MetaState, meta_step, weighted_step
from cmwjax.core.weighting import CMWNet, weight_fn
from cmwjax.models.catalogue import MODELS, build
from cmwjax.models.heads import last_layer

NUM_CLASSES = 10
NUM_FAMILIES = 3
IMAGES = {
    "mlp": (28, 28, 1),
    "small_conv": (28, 28, 1),
    "resnet50": (224, 224, 3),
    "inception_resnet_v2": (299, 299, 3),
}  # the others take CIFAR's
# Nets that are a model with options: their name here -> the model and these.
NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "wrn16_2": ("wide_resnet", {"depth": 16, "width": 2}),
    "resnet8": ("resnet32", {"depth": 8}),
}
ROUND_SECONDS = 0.2  # short steps are repeated until ordinary training takes that long

# Programs that a variant runs in turn.
VARIANTS = {
    "ERM": ["erm"],
    "weighted_step": ["weighted"],
    "meta_step, equal meta batch": ["meta"],
    "meta_step, quarter meta batch": ["meta_quarter"],
    "meta_step, lean": ["meta_lean"],
    "meta_step, last layer looks ahead": ["meta_last"],
    "meta_step every 10th step": ["meta"] + 9 * ["weighted"],
}


class Program(NamedTuple):
    """One kind of step: `step(state, *inputs) -> (state, metrics)`, jitted."""

    step: Any
    state: Any
    inputs: tuple

    def lower(self):
        """For the device, not compiled."""
        return self.step.lower(self.state, *self.inputs)

    def flops(self) -> float:
        """By XLA's count of the program for a CPU, before anything is optimised.

        Other devices have no count, or one that leaves out the calls of a library.
        """
        shapes = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (self.state, *self.inputs)
        )
        with jax.default_device(jax.devices("cpu")[0]):
            return self.step.lower(*shapes).cost_analysis()["flops"]


def make_programs(
    name: str, *, batch_size: int, dtype: str | None = None
) -> dict[str, Program]:
    """Ordinary training and the steps to compare with it, on random images.

    Args:
      name: of the net, a key of `NETS` or of `cmwjax.models.catalogue.MODELS`.
      batch_size: n; the small meta batch has n // 4 images.
      dtype: of the model's computation; None is that of the images, float32.
    """
    base, options = NETS.get(name, (name, {}))
    model = build(base, num_classes=NUM_CLASSES, dtype=dtype, **options)
    batch, equal, quarter = (
        random_batch(IMAGES.get(name, (32, 32, 3)), size, seed)
        for seed, size in enumerate((batch_size, batch_size, batch_size // 4))
    )
    key = jax.random.key(0)
    # Noise, not initial values: drawing those takes longer to compile than a step.
    rng = np.random.default_rng(0)
    model_state = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(scale=0.05, size=x.shape), x.dtype),
        dict(jax.eval_shape(lambda: model.init(key, batch["image"], False))),
    )
    params = model_state.pop("params")
    tx = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(0.1, momentum=0.9))
    meta_tx = optax.adam(1e-3)
    net = CMWNet(NUM_FAMILIES)

    def loss_fn(params, model_state, batch, key):
        del key  # no dropout
        logits, model_state = forward(model, params, model_state, batch)
        return cross_entropy(logits, batch["label"]), model_state

    ours = {"loss_fn": loss_fn, "weight_fn": weight_fn(net), "tx": tx}
    inner_lr = optax.constant_schedule(0.1)
    erm = jax.jit(partial(erm_step, model=model, tx=tx))
    weighted = jax.jit(partial(weighted_step, **ours))
    whole = partial(meta_step, **ours, meta_tx=meta_tx, inner_lr=inner_lr)
    meta, lean = jax.jit(whole), jax.jit(partial(whole, lean=True))
    last = jax.jit(partial(whole, lookahead_mask=last_layer))
    state = MetaState.create(
        params=params,
        meta_params=net.init(key, jnp.zeros(1), jnp.zeros(1, jnp.int32)),
        tx=tx,
        meta_tx=meta_tx,
        model_state=model_state,
    )
    return {
        "erm": Program(erm, (params, model_state, tx.init(params)), (batch,)),
        "weighted": Program(weighted, state, (batch,)),
        "meta": Program(meta, state, (batch, equal)),
        "meta_quarter": Program(meta, state, (batch, quarter)),
        "meta_lean": Program(lean, state, (batch, equal)),
        "meta_last": Program(last, state, (batch, equal)),
    }


def erm_step(state, batch, *, model, tx):
    """Ordinary training by SGD, with nothing of ours in it."""
    params, model_state, opt_state = state

    def mean_loss(params):
        logits, new_state = forward(model, params, model_state, batch)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return jnp.mean(losses), new_state

    (loss, model_state), gradient = jax.value_and_grad(mean_loss, has_aux=True)(params)
    updates, opt_state = tx.update(gradient, opt_state, params)
    return (optax.apply_updates(params, updates), model_state, opt_state), loss


def forward(model, params, model_state, batch):
    """Logits and the next batch statistics."""
    variables = {"params": params, **model_state}
    return model.apply(variables, batch["image"], True, mutable=["batch_stats"])


def random_batch(shape: tuple[int, ...], size: int, seed: int) -> dict[str, jax.Array]:
    """Noise with random labels and families, on the device."""
    rng = np.random.default_rng(seed)
    return jax.device_put(
        {
            "image": rng.normal(size=(size, *shape)).astype(np.float32),
            "label": rng.integers(NUM_CLASSES, size=size, dtype=np.int32),
            "family": rng.integers(NUM_FAMILIES, size=size, dtype=np.int32),
        }
    )


def measure(
    programs: dict[str, Program], *, batch_size: int, rounds: int
) -> list[dict]:
    """Counts and times every variant; one row each."""
    compiled = {key: program.lower().compile() for key, program in programs.items()}
    flops = {key: program.flops() for key, program in programs.items()}
    temporary = {
        key: value.memory_analysis().temp_size_in_bytes
        for key, value in compiled.items()
    }

    def seconds_per_step(cycle, steps):
        repeats = max(1, round(steps / len(cycle)))
        state = programs[cycle[0]].state
        start = time.perf_counter()
        for key in repeats * cycle:
            state, _ = compiled[key](state, *programs[key].inputs)
        jax.block_until_ready(state)
        return (time.perf_counter() - start) / (repeats * len(cycle))

    once = min(seconds_per_step(["erm"], steps=2) for _ in range(3))
    steps = max(1, round(ROUND_SECONDS / once))
    times = np.array(
        [
            [seconds_per_step(cycle, steps) for cycle in VARIANTS.values()]
            for _ in range(rounds)
        ]
    )[1:]  # the first round warms up
    ratios = np.quantile(times / times[:, :1], [0.25, 0.5, 0.75], axis=0)
    rows = []
    for column, (name, cycle) in enumerate(VARIANTS.items()):
        seconds = float(np.median(times[:, column]))
        mean_flops = float(np.mean([flops[key] for key in cycle]))
        rows.append(
            {
                "variant": name,
                "flops": mean_flops,
                "flops_ratio": mean_flops / flops["erm"],
                "temporary_bytes": max(temporary[key] for key in cycle),
                "seconds": seconds,
                "images_per_second": batch_size / seconds,
                "time_ratio": float(ratios[1, column]),
                "time_ratio_quartiles": ratios[[0, 2], column].tolist(),
            }
        )
    return rows


def environment() -> dict[str, Any]:
    """Where and when the numbers were taken."""
    device = jax.devices()[0]
    return {
        "date": datetime.date.today().isoformat(),
        "platform": device.platform,
        "device_kind": device.device_kind,
        "cpu": cpu_name(),
        "cpu_cores": os.cpu_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def cpu_name() -> str:
    """The processor's name where Linux tells it, else its architecture."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def print_table(rows: list[dict]) -> None:
    """Ratios are to ERM; brackets hold the interquartile range."""
    print(
        f"{'variant':<30} {'GFLOP':>8} {'ratio':>6} {'temp MiB':>9} {'ms':>8} "
        f"{'images/s':>9} {'time ratio':>11}"
    )
    for row in rows:
        low, high = row["time_ratio_quartiles"]
        print(
            f"{row['variant']:<30} {row['flops'] / 1e9:>8.3f} "
            f"{row['flops_ratio']:>6.3f} {row['temporary_bytes'] / 2**20:>9.1f} "
            f"{row['seconds'] * 1e3:>8.2f} {row['images_per_second']:>9.0f} "
            f"{row['time_ratio']:>5.2f} [{low:.2f}, {high:.2f}]"
        )


def main() -> None:
    """Parses the command line, measures model after model, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--models",
        default="mlp,small_conv,resnet32",
        help=f"comma-separated, of {', '.join([*MODELS, *NETS])}",
    )
    parser.add_argument("--rounds", type=int, default=7, help="at least 2")
    parser.add_argument("--batch_size", type=int, default=100, help="at least 8")
    parser.add_argument("--dtype", help="of the model, e.g. bfloat16")
    parser.add_argument("--json", type=pathlib.Path, help="file to write")
    args = parser.parse_args()
    if args.rounds < 2 or args.batch_size < 8:
        parser.error("needs --rounds of at least 2 and --batch_size of at least 8")
    report = environment() | {
        "batch_size": args.batch_size,
        "quarter_meta_batch_size": args.batch_size // 4,
        "dtype": args.dtype or "float32",
        "rounds": args.rounds,
        "models": {},
    }
    print(", ".join(f"{k} {v}" for k, v in report.items() if k != "models"))
    for name in args.models.split(","):
        programs = make_programs(name, batch_size=args.batch_size, dtype=args.dtype)
        rows = measure(programs, batch_size=args.batch_size, rounds=args.rounds)
        report["models"][name] = rows
        print(f"\n{name}")
        print_table(rows)
        if args.json:
            args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
