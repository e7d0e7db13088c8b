"""How far approximate meta-gradients are from the exact one, while a net is trained.

    CMWJAX_DATA_DIR=FOLDER python benchmarks/modes.py --json=results/modes.json

Trains by the exact meta step; at each of them, the meta-gradient is computed as well
by a lookahead of the last layer, and of the last two, on the same batch. Shown are the
relative error and the cosine of the angle to the exact one, as means over the steps of
an epoch: the first with meta steps, the middle and the last one. What the modes do to
accuracy say runs of `panel.py` with the settings `adamw-0.003--1-anchored-last` and
`-every5`.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import jax.numpy as jnp
import optax
from absl import logging
from flax.traverse_util import path_aware_map

from benchmarks.panel_tables import markdown
from cmwjax import compare, train
from cmwjax.models.heads import last_layer
from cmwjax.training import program, steps
from results.biases import read_config


def last_two(params):
    """The last layer, and the one before it."""
    chosen = list(params)[-2:]
    return path_aware_map(lambda path, _: path[0] in chosen, params)


MASKS = {"last layer": last_layer, "last two layers": last_two}
FASHION = "fashion_mnist.py:validation=0.1,fast,"
CELLS = {  # as in panel.py
    "digits-asym-0.6": "quickstart.py",
    "fashion-asym-0.8": f"{FASHION}noise=asym,rate=0.8",
    "fashion-lt-100": f"{FASHION}imbalance=100,meta=balanced",
    "cifar10-asym-0.8": "cifar.py:noise=asym,rate=0.8,fast",
}
WHAT = ("relative error", "cosine")


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line; trains in every cell, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", nargs="*", default=list(CELLS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args(argv)
    logging.set_verbosity(logging.ERROR)
    rows = []
    for cell in options.cells:
        config = compare.one_run(read_config(CELLS[cell]), "cmw_net", options.seed)
        rows += [{"cell": cell} | row for row in errors(config)]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))


def errors(config) -> list[dict]:
    """A row for each mask and moment, of training by the exact meta step."""
    program.build.cache_clear()  # programs are kept by their configuration
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(steps, "meta_step", compared(steps.meta_step)),
        mock.patch.object(program, "zero_sums", with_errors(steps.zero_sums)),
    ):
        workdir = Path(folder) / "run"
        train.run(config, workdir, report=False)
        text = (workdir / "metrics.jsonl").read_text()
    program.build.cache_clear()
    lines = [json.loads(line) for line in text.splitlines()]
    measured = [line for line in lines if f"{WHAT[0]}, last layer" in line]
    moments = (measured[0], measured[len(measured) // 2], measured[-1])
    return [
        {"mask": mask, "epoch": line["epoch"]}
        | {what: line[f"{what}, {mask}"] for what in WHAT}
        for mask in MASKS
        for line in moments
    ]


def compared(meta_step):
    """`meta_step` whose metrics tell what each mask would have made of it."""

    def zeros(params):
        return optax.tree.zeros_like(params)

    def keep(updates, state, params=None):
        """The gradient as the optimizer's state; the weighting net stays as it is."""
        del state, params
        return optax.tree.zeros_like(updates), updates

    probe = optax.GradientTransformation(zeros, keep)

    def step(state, batch, meta_batch, *, meta_tx, trusted_share, **options):
        def gradient(mask):
            probed = state._replace(meta_opt_state=probe.init(state.meta_params))
            options["lookahead_mask"] = mask
            found, _ = meta_step(probed, batch, meta_batch, meta_tx=probe, **options)
            return found.meta_opt_state

        exact = gradient(None)
        norm = optax.tree.norm(exact)
        errors: dict[str, Any] = {}
        for name, mask in MASKS.items():
            other = gradient(mask)
            difference = optax.tree.norm(optax.tree.sub(other, exact))
            errors[f"{WHAT[0]}, {name}"] = difference / norm
            cosine = optax.tree.vdot(other, exact) / norm / optax.tree.norm(other)
            errors[f"{WHAT[1]}, {name}"] = cosine
        options["lookahead_mask"] = None
        state, metrics = meta_step(
            state,
            batch,
            meta_batch,
            meta_tx=meta_tx,
            trusted_share=trusted_share,
            **options,
        )
        return state, metrics | errors

    return step


def with_errors(zero_sums):
    """`zero_sums` that has room for what `compared` measures."""

    def sums(method):
        names = [f"{what}, {mask}" for what in WHAT for mask in MASKS]
        zeros = {name: (jnp.zeros(()), jnp.zeros(())) for name in names}
        return zero_sums(method) | zeros

    return sums


def table(rows: list[dict]) -> str:
    """A row for each cell and mask: error and cosine at the three moments."""
    cells = {}
    for row in rows:
        text = f"{row[WHAT[0]]:.0%} / {row[WHAT[1]]:.3f}"
        cells.setdefault((row["cell"], row["mask"]), []).append(text)
    headings = ["cell", "what looks ahead", "first epoch", "middle", "last epoch"]
    return markdown(
        [headings, len(headings) * ["---"], *([*key, *c] for key, c in cells.items())]
    )


if __name__ == "__main__":
    main()
