"""What a run learned from, told in the log and left in its folder, and compared."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from cmwjax.bias.candidates import class_sizes
from cmwjax.bias.meta_set import LABELLED
from cmwjax.bias.problem import Problem, seeds
from cmwjax.core.families import family_names
from cmwjax.core.labels import class_counts
from cmwjax.data.dataset import Dataset
from cmwjax.files import LABELS, PROBLEM, write_arrays, write_json
from cmwjax.tasks.catalogue import TASKS


def write_problem(workdir: Path, config: ConfigDict, problem: Problem) -> None:
    """Writes `problem.json` and `labels.npz`.

    `problem.json` is what `summarise_problem` returns. `labels.npz` holds, over the
    whole training set, `row` int64 `[N]` (see `Dataset.rows`), `observed` `[N]`
    (classes int32, or targets float64) and `changed` bool `[N]`; and positions in these
    arrays: `train_index`, `meta_index` (empty unless held out), `validation_index`.
    Where labels are sets, `candidates` bool `[N, C]` are these, and `observed` one of
    each, drawn at random.
    """
    if jax.process_index() != 0:
        return
    summary = summarise_problem(config, problem)
    write_json(workdir / PROBLEM, summary)
    held_out, sets = problem.meta_index, problem.candidates
    write_arrays(
        workdir / LABELS,
        row=problem.dataset.row_numbers,
        observed=problem.labels,
        changed=problem.labels != problem.dataset.train_labels,
        train_index=problem.train_index,
        meta_index=np.zeros(0, np.int32) if held_out is None else held_out,
        validation_index=problem.validation_index,
        **({} if sets is None else {"candidates": sets}),
    )


def log_header(
    what: str,
    config: ConfigDict,
    problem: Problem,
    devices: tuple[jax.Device, ...] | None = None,
) -> None:
    """Says in the log, in a few lines, what begins.

    Args:
      what: is run.
      config: configuration of the run, or of one of several.
      problem: what it learns from.
      devices: what it runs on; None: everything there is.
    """
    if jax.process_index() != 0:
        return
    devices = devices or tuple(jax.devices())
    logging.info(
        "%s: %d epochs on %s, by %d x %s",
        what,
        config.epochs,
        config.data.name,
        len(devices),
        devices[0].device_kind,
    )
    for line in describe_problem(summarise_problem(config, problem)):
        logging.info("%s", line)


def data_digest(dataset: Dataset) -> bytes:
    """SHA-256 of all that a run makes of a data set: inputs, labels, names, trust.

    What configuration and seeds make of it follows from that. Images on disk are too
    many to read: their names must do.
    """
    digest = hashlib.sha256()
    for name in ("train_inputs", "train_labels", "test_inputs", "test_labels"):
        digest.update(np.ascontiguousarray(getattr(dataset, name)))
    for optional in (
        dataset.observed_labels,
        dataset.trusted_index,
        dataset.candidates,
    ):
        if optional is not None:
            digest.update(np.ascontiguousarray(optional))
    # Files of a run name classes and columns.
    columns = getattr(dataset.shown, "names", ())
    digest.update(
        "\n".join([*dataset.class_names, "", *columns]).encode(errors="replace")
    )
    if dataset.validation_index is not None:
        digest.update(b"validation")  # else it might be that these are trusted
        digest.update(np.ascontiguousarray(dataset.validation_index))
    if dataset.files is not None:
        digest.update(os.fsencode(dataset.files.identity))
    return digest.digest()


def check_data(workdir: Path, digest: bytes) -> None:
    """Refuses a folder whose run learned from other data; writes nothing.

    Args:
      workdir: the folder; one without a run is fine.
      digest: `data_digest` of what would be learned from now.

    Raises:
      ValueError: if they differ.
    """
    path = workdir / PROBLEM
    if not path.is_file():
        return
    try:
        recorded = json.loads(path.read_text())["data_sha256"]
    except (ValueError, KeyError, TypeError):
        logging.warning(
            "%s does not say which data it is about: whether they have changed since, "
            "nobody knows.",
            path,
        )
        return
    if recorded != digest.hex():
        raise ValueError(
            f"data are not what the run in {workdir} began with: the data set has "
            "changed; bring it back, or use another workdir."
        )


def summarise_problem(config: ConfigDict, problem: Problem) -> dict[str, Any]:
    """Sizes, realised noise, families and seeds of a problem, as plain values.

    Counts and shares are those of the samples that training visits. A share of wrong
    labels is that of the samples *observed* in a class or family. What it takes true
    labels to tell is None where nobody knows them. `classes` are their names in the
    order in which they are numbered. In a regression, which has none, ranges of targets
    take the place of classes; `borders` are where they meet, `family_centres` the means
    of their targets. Where labels are sets, a set is wrong without the true label, a
    sample counts for each candidate by its share, and `candidates` tells how large sets
    are; `labelled`, of samples that have a label where others have none, how many there
    are of each class. `data_sha256` is the `data_digest`.
    """
    data_seed, noise_seed = seeds(config)
    index, family = problem.train_index, problem.families.family
    wrong = problem.is_wrong[index]
    known = problem.dataset.knows_true_labels
    observed_counts = problem.group_counts
    wrong_counts = _wrong_counts(problem)
    found = {
        "data_sha256": data_digest(problem.dataset).hex(),
        "biases": {
            "imbalance_factor": config.data.imbalance_factor,
            "labels": config.data.labels,
            "noise": config.noise.kind,
            "rate": config.noise.rate,
        },
        "seeds": {"run": config.seed, "data": data_seed, "noise": noise_seed},
        "samples": {
            "train": len(index),
            "meta": _meta_size(config, problem, observed_counts),
            "validation": len(problem.validation_index),
            "test": len(problem.dataset.test_labels),
        },
        "meta_policy": config.meta_set.policy,
        "validation_is_clean": (
            not problem.is_wrong[problem.validation_index].any() if known else None
        ),
        "true_class_counts": (
            class_counts(
                problem.group_of(problem.true_labels[index]), problem.num_groups
            ).tolist()
            if known
            else None
        ),
        "classes": list(problem.dataset.class_names),
        "class_counts": observed_counts.tolist(),
        "wrong_share": float(wrong.mean()) if known else None,
        "wrong_share_of_class": (
            (wrong_counts / observed_counts).tolist() if known else None
        ),
        "family_of_class": family.tolist(),
        "family_centres": problem.families.centres.tolist(),
        "borders": None if problem.borders is None else problem.borders.tolist(),
        "wrong_share_of_family": (
            _by_family(wrong_counts, observed_counts, family) if known else None
        ),
    }
    if TASKS[config.task].semi:
        labelled = problem.labels[problem.labelled_index]
        found["labelled"] = class_counts(labelled, problem.num_groups).tolist()
    elif problem.candidates is not None:
        sizes = problem.candidates[index].sum(axis=1)
        found["candidates"] = {
            "kind": config.candidates.kind,
            "rate": config.candidates.rate,
            "mean": float(sizes.mean()),
            "alone": float(np.mean(sizes == 1)),
        }
    return found


def describe_problem(summary: dict[str, Any]) -> list[str]:
    """Lines for the log, from what `summarise_problem` returns."""
    samples, biases = summary["samples"], summary["biases"]
    wrong, shares = summary["wrong_share"], summary["wrong_share_of_family"]
    lines = [
        f"samples: {samples['train']} to train on, {samples['meta']} in the meta set "
        f"({summary['meta_policy']}), {samples['validation']} to validate with, "
        f"{samples['test']} to test with",
        f"biases: long tail {biases['imbalance_factor']:g}, labels {biases['labels']}, "
        f"noise {biases['noise']} {biases['rate']:g}; seeds: "
        + ", ".join(f"{name} {seed}" for name, seed in summary["seeds"].items()),
        "wrong labels: " + (f"{wrong:.1%}" if wrong is not None else "unknown"),
    ]
    sets = summary.get("candidates")
    if sets:
        lines.append(
            f"candidates: {sets['mean']:.2f} of {len(summary['classes'])} classes in a "
            f"set in the mean, {sets['alone']:.1%} of the sets are a single class"
        )
    if "labelled" in summary:
        each = summary["labelled"]
        lines.append(
            f"labels: {sum(each)} samples have one, {min(each)} to {max(each)} of a "
            "class; the others count for all classes alike until they are visited"
        )
    families = np.array(summary["family_of_class"])
    counts = np.array(summary["class_counts"])
    centres, borders = summary["family_centres"], summary["borders"]
    names = family_names(len(centres), borders)
    for family, (name, centre) in enumerate(zip(names, centres, strict=True)):
        sizes = counts[families == family]
        smallest, largest = sizes.min(), sizes.max()
        if borders is None:
            content = (
                f"{len(sizes)} classes of {smallest:.0f} to {largest:.0f} observed "
                f"samples (centre {centre:.1f})"
            )
        else:
            content = f"{name}, {sizes.sum()} observed samples (mean {centre:.6g})"
        wrong = f", {shares[family]:.1%} of them wrong" if shares else ""
        lines.append(f"family {family}: {content}{wrong}")
    return lines


def _meta_size(config: ConfigDict, problem: Problem, counts: np.ndarray) -> int:
    """Samples in the meta set, whether chosen already or anew in every epoch."""
    if problem.meta_index is not None:
        return len(problem.meta_index)
    per_class = {"none": 0, "balanced": counts.min()}
    policy = config.meta_set.policy
    if policy == LABELLED:
        return len(problem.labelled_index)
    return len(counts) * int(per_class.get(policy, config.meta_set.per_class))


def _wrong_counts(problem: Problem) -> np.ndarray:
    """Wrong labels of each group, `[G]`, by the shares that `group_counts` adds up."""
    index, wrong = problem.train_index, problem.is_wrong[problem.train_index]
    if problem.candidates is not None:
        return class_sizes(problem.candidates[index[wrong]])
    groups = problem.groups[index]
    return np.bincount(groups, weights=wrong, minlength=problem.num_groups)


def _by_family(
    wrong: np.ndarray, counts: np.ndarray, family: np.ndarray
) -> list[float]:
    """Share of wrong labels in each family; none is empty."""
    sums = (np.bincount(family, weights=numbers) for numbers in (wrong, counts))
    return np.divide(*sums).tolist()
