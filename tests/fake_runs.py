"""Run folders as a training would leave them, made up in a moment.

The story is the quickstart's: labels of four digits were moved onto four others, so
that small classes are clean, large ones are not, and the family curves separate.
"""

import csv
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from cmwjax.report.samples import write_samples

CLASS_MAP = {9: 1, 2: 0, 4: 7, 3: 5}
FAMILY = np.array([2, 2, 0, 0, 0, 2, 1, 2, 1, 0])  # small 2 3 4 9, large 0 1 5 7
CENTRES = [48.0, 140.5, 231.75]
DIGITS = [str(digit) for digit in range(10)]


def curves(losses, progress, num_families):
    """Weights [K, G]: flat at first, then falling with the loss in large classes."""
    slopes = {1: [0.5], 2: [-0.6, 2.4], 3: [-0.5, 0.35, 2.6]}[num_families]
    offsets = {1: [0.2], 2: [1.2, 2.4], 3: [1.2, 1.0, 2.6]}[num_families]
    logits = np.array(offsets)[:, None] - np.array(slopes)[:, None] * losses
    return 1 / (1 + np.exp(-progress * logits))


def write_run(
    folder,
    *,
    num_families=3,
    epochs=60,
    seed=0,
    truth=True,
    size=1400,
    final=0.97,
    names=DIGITS,
):
    """Writes a run folder; `num_families=0` stands for ordinary training."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    grid = np.linspace(0, 6, 61)
    with (folder / "metrics.jsonl").open("w") as file:
        for epoch in range(1, epochs + 1):
            row = _metrics(epoch, epochs, num_families, final, rng)
            if num_families:
                row["curve_loss"] = grid.tolist()
                progress = epoch / epochs
                row["curve"] = curves(grid, progress, num_families).tolist()
            file.write(json.dumps(row) + "\n")
    (folder / "config.json").write_text(json.dumps({"seed": seed}))
    if num_families == 3:
        metadata = {"kind": "cmw_net", "centres": json.dumps(CENTRES)}
        tensors = {"heads.bias": np.zeros(3, np.float32)}
        save_file(tensors, folder / "weighting.safetensors", metadata)
    (folder / "problem.json").write_text(json.dumps({"classes": names}))
    names = np.array(names, object)
    _write_samples(folder / "samples.csv", num_families, truth, size, rng, names)
    return folder


def write_comparison(folder, *, seeds=3, epochs=60):
    """Writes METHOD/seed_K folders for ERM, MW-Net and CMW-Net."""
    for method, num_families, final in (
        ("erm", 0, 0.72),
        ("mw_net", 1, 0.73),
        ("cmw_net", 3, 0.97),
    ):
        for seed in range(seeds):
            run = Path(folder) / method / f"seed_{seed}"
            write_run(
                run, num_families=num_families, epochs=epochs, seed=seed, final=final
            )
    return Path(folder)


def rows(folder):
    """The samples as lists of text, read by another reader than the package's."""
    with (folder / "samples.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def epochs_of(folder):
    """The lines of the metrics."""
    return [json.loads(s) for s in (folder / "metrics.jsonl").read_text().splitlines()]


def _metrics(epoch, epochs, num_families, final, rng):
    peak = 0.93 if final < 0.9 else final
    rise = 0.15 + (peak - 0.15) * (1 - np.exp(-0.22 * epoch))
    accuracy = rise - (peak - final) * (epoch / epochs) ** 1.2
    accuracy += 0.02 * rng.standard_normal()
    row = {
        "epoch": epoch,
        "step": 11 * epoch,
        "seconds": 0.3,
        "learning_rate": 0.1,
        "loss": float(2.3 * np.exp(-0.05 * epoch)),
        "test_accuracy": float(np.clip(accuracy, 0, 1)),
        "meta_accuracy": 0.9,
    }
    if num_families:
        row |= {"meta_loss": 0.4, "meta_grad_norm": 0.1, "skipped": 0}
    return row


def _write_samples(path, num_families, truth, size, rng, names):
    true_label = np.arange(size) % 10
    given = true_label.copy()
    moved = np.isin(true_label, list(CLASS_MAP)) & (rng.random(size) < 0.6)
    given[moved] = [CLASS_MAP[label] for label in true_label[moved]]
    losses = rng.exponential(0.25, size)
    small = np.isin(given, list(CLASS_MAP))
    losses[small] += rng.exponential(0.8, small.sum())
    losses[moved] = np.abs(rng.normal(2.4, 1.2, moved.sum()))
    correct = rng.random(size) < 0.95
    suggested = np.where(correct, true_label, given).astype(int)
    family = np.minimum(FAMILY[given], max(num_families - 1, 0))
    weights = np.ones(size, np.float32)
    if num_families:
        every = curves(losses, 1.0, num_families)
        weights = every[family, np.arange(size)].astype(np.float32)
    write_samples(
        path,
        row=rng.permutation(size),
        given_label=names[given],
        suggested_label=names[suggested],
        true_label=names[true_label] if truth else None,
        family=family if num_families else None,
        quality=np.exp(-losses),
        weights=weights,
        losses=losses.astype(np.float32),
    )
