"""What a page says of a run, in sentences and numbers; none of it is escaped yet."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cmwjax.core.labels import BETWEEN
from cmwjax.files import PROBLEM, read_json
from cmwjax.report.facts import Facts, step_seconds
from cmwjax.report.families import read_borders
from cmwjax.report.page_parts import count, percent
from cmwjax.report.result import compile_seconds, duration
from cmwjax.report.samples import (
    is_known,
    is_regression,
    is_wrong,
    noun,
    wrong_label_auroc,
)

NO_HISTORY = (
    "The folder has no record of samples over the epochs: config.audit_every was 0, "
    "the run had one epoch, or it was made by an earlier version."
)
OVER_TIME = (
    "Of samples that were drawn at random at the beginning: in magenta the most "
    "suspicious ones, in blue the least suspicious ones, by their quality in the end."
)
METHOD = {  # config.method -> what it does
    "erm": ", for which all samples count alike,",
    "mw_net": ", which weights a sample by its loss,",
    "cmw_net": ", which weights a sample by its loss and the size of its class,",
}
NOISE = {  # config.noise.kind -> what it does
    "symmetric": "labels drawn anew from all classes",
    "symmetric_other": "labels drawn anew from the other classes",
    "asymmetric": "some classes called by the name of another",
    "flip": "some classes called by the name of another",
}


def title(found: Facts) -> str:
    """Method, data and seed."""
    text = f"{found.method} on {found.data}"
    seed = found.config.get("seed")
    return text if seed is None else f"{text}, seed {seed}"


def numbers(found: Facts) -> Iterator[tuple[str, str]]:
    """The numbers that stand out, each with what it is."""
    name, last = found.task.title, found.metrics[-1]
    score = last.get(f"test_{found.task.criterion}")
    selected = found.selected
    if score is not None:
        yield percent(score), f"test {name}, last epoch"
        if selected is not None:
            chosen = selected.get(f"test_{found.task.criterion}")
            epoch = selected["epoch"]
            yield percent(chosen), f"test {name}, selected epoch ({epoch})"
    else:
        for part in ("validation", "meta"):
            value = last.get(f"{part}_{found.task.criterion}")
            if value is not None:
                yield percent(value), f"{part} {name}, last epoch"
    auroc = _auroc(found)
    if np.isfinite(auroc):
        yield f"{auroc:.3f}", f"AUROC of wrong {noun(found.samples)}s"
    if not is_regression(found.samples):
        doubted = found.doubted
        yield count(doubted.sum()), f"labels look wrong ({percent(doubted.mean())})"
    seconds = step_seconds(found.metrics)
    if seconds is not None:
        yield f"{1000 * seconds:.3g} ms", "per training step, all included"


def summary(found: Facts) -> Iterator[str]:
    """Data, bias, method and result in a few sentences."""
    samples, what = found.samples, noun(found.samples)
    size = len(samples["row"])
    classes = f" in {count(len(found.classes))} classes" if found.classes else ""
    epochs = count(found.metrics[-1]["epoch"])
    does = METHOD.get(found.config.get("method", ""), "")
    yield (
        f"{found.method}{does} learned from {count(size)} samples{classes} of "
        f"{found.data} in {epochs} epochs. {bias(found.problem, what)} "
        f"{trusted(found.problem)}"
    )
    known, wrong = is_known(samples["true_label"]), is_wrong(samples)
    if known.all() and wrong.any():
        first = wrong[: min(size, 100)]
        yield (
            f"Of all training {what}s, {percent(wrong.mean())} are known to be wrong. "
            f"Ranked by quality, a wrong one comes before a right one in "
            f"{percent(_auroc(found))} of all pairs, and of the first {len(first)}, "
            f"{first.sum()} are wrong."
        )
    elif known.all():
        yield f"All training {what}s are right, as far as the data know."
    elif not known.any():
        yield f"Nobody knows which training {what}s are right."
    else:
        yield (
            f"Of {count(known.sum())} training {what}s it is known whether they are "
            f"right: {percent(wrong.sum() / known.sum())} are wrong."
        )
    if not is_regression(samples):
        doubted = found.doubted
        which = f"{count(doubted.sum())} labels ({percent(doubted.mean())})"
        if found.has_margin:
            yield (
                f"{which} have a quality below 0.5: in the mean over the epochs, "
                "another class suited them better. They rank first."
            )
        else:
            yield f"For {which} another one is suggested."


def candidates(found: Facts) -> str:
    """Sets of candidates, and what is suggested of them."""
    samples = found.samples
    sets = [given.split(BETWEEN) for given in samples["given_label"]]
    size = np.mean([len(names) for names in sets])
    pairs = zip(samples["suggested_label"], sets, strict=True)
    outside = sum(name not in names for name, names in pairs)
    text = (
        f"A training sample has {size:.2f} candidates of {count(len(found.classes))} "
        "classes in the mean. The suggested label is its likeliest candidate; where "
        "all of them together are less likely than the other classes, it is the "
        f"likeliest class of all, as for {count(outside)} samples. The quality is the "
        "probability that the right label is among the candidates."
    )
    known = is_known(samples["true_label"])
    if known.any():
        right = samples["suggested_label"] == samples["true_label"]
        text += f" {percent(np.mean(right[known]))} of the suggested labels are right."
    return text


def pseudo_labels(found: Facts) -> str:
    """Who has a label where most have none, and what is suggested of the others."""
    samples = found.samples
    has_none = ~is_known(samples["given_label"])
    text = (
        f"{count((~has_none).sum())} of {count(len(has_none))} training samples have a "
        "label. The suggested label of the others is their likeliest class."
    )
    known = has_none & is_known(samples["true_label"])
    if known.any():
        right = samples["suggested_label"] == samples["true_label"]
        text += f" {percent(np.mean(right[known]))} of these are right."
    return text


def problem(run_dir: Path) -> str:
    """What the runs of a comparison learn from, by the files of one of them."""
    found = read_json(run_dir / PROBLEM)
    what = "label" if read_borders(run_dir) is None else "target"
    sizes, wrong = found.get("samples", {}), found.get("wrong_share")
    parts = []
    if "train" in sizes:
        classes = len(found.get("classes", ()))
        of = f" of {count(classes)} classes" if classes else ""
        parts.append(f"Each run learned from {count(sizes['train'])} samples{of}.")
    if wrong is not None:
        parts.append(f"{percent(wrong)} of the {what}s are known to be wrong.")
    return " ".join([*parts, bias(found, what), trusted(found)]).strip()


def bias(found: dict[str, Any], what: str) -> str:
    """What was done to the data on purpose."""
    biases = found.get("biases", {})
    parts = []
    factor = biases.get("imbalance_factor") or 1
    if factor != 1:
        parts.append(
            f"the largest class was made {factor:g} times as large as the smallest"
        )
    labels = biases.get("labels", "true")
    if labels not in ("true", "given"):
        parts.append(f"labels are the set {labels!r}")
    kind = biases.get("noise", "none")
    if kind != "none":
        does = f", {NOISE[kind]}" if kind in NOISE and what == "label" else ""
        parts.append(
            f"{kind.replace('_', ' ')} noise of rate {biases.get('rate', 0):g} was put "
            f"on the {what}s{does}"
        )
    if not parts:
        given = "as they were given" if labels == "given" else "those of the data"
        return f"The {what}s are {given}."
    text = "; ".join(parts)
    return f"On purpose, {text}."


def trusted(found: dict[str, Any]) -> str:
    """Who is trusted, and what the model is tested with."""
    sizes = found.get("samples")
    if sizes is None:
        return ""
    policy = {
        "held_out": "trusted samples",
        "external": "trusted samples",
        "labelled": "samples, those that have a label",
        "balanced": "samples, drawn anew from all classes alike",
        "lowest_loss": "samples, those that the classifier finds easiest",
    }.get(found.get("meta_policy", ""), "samples")
    text = ""
    if sizes["meta"]:
        text = f"The meta set has {count(sizes['meta'])} {policy}. "
    others = [
        f"{count(sizes[name])} samples {verb}"
        for name, verb in (
            ("validation", "select an epoch"),
            ("test", "test the classifier"),
        )
        if sizes.get(name)
    ]
    return f"{text}Another {' and '.join(others)}." if others else text


def suspects(found: Facts, size: int) -> str:
    """What the list of suspects shows."""
    samples = {name: values[:size] for name, values in found.samples.items()}
    what = noun(samples)
    text = (
        f"The {size} {what}s of the lowest quality, the lowest first: row or file, "
        "given → suggested, and the quality."
    )
    agree = (samples["given_label"] == samples["suggested_label"]).sum()
    if agree:
        text += (
            f" For {agree} of them the model by now suggests the given {what}, too, "
            "which it doubted before."
        )
    if is_known(samples["true_label"]).all():
        text += f" {is_wrong(samples).sum()} are indeed wrong."
    return text


def quality(found: Facts) -> str:
    """What quality means."""
    if not found.has_margin:
        return (
            f"Quality, from 0 to 1, is how well the given {noun(found.samples)} suits "
            "its sample: the likelihood exp(-loss), in the mean over the epochs."
        )
    return (
        "Quality, from 0 to 1, is how well the given label suits its sample, in the "
        "mean over the epochs: what the classifier thinks of it against the likeliest "
        "other class, half of the classes’ sizes taken back. Below 0.5, another class "
        "suits it better."
    )


def classes(found: Facts) -> str:
    """What the columns of the table of classes are."""
    doubted = "for which another one is suggested"
    if found.has_margin:
        doubted = "with a quality below 0.5"
    text = (
        "Samples, weights and noise are by the given label. Estimated noise: the share "
        f"of labels {doubted}."
    )
    if is_known(found.samples["true_label"]).any():
        text += " Wrong labels: the share that is known to be wrong."
    if "test_class_accuracy" in found.metrics[-1]:
        text += (
            " Test accuracy: of the test samples of the class, after the last epoch."
        )
    return text


def weights(found: Facts) -> str:
    """What the weights of the run tell."""
    samples = found.samples
    if np.ptp(samples["weight"]) == 0:
        return (
            f"All samples have the weight {samples['weight'][0]:.4g}: {found.method} "
            "tells none apart by it."
        )
    text = "How much a sample counts in training, by its loss."
    known, wrong = is_known(samples["true_label"]), is_wrong(samples)
    auroc = wrong_label_auroc(samples["weight"][known], wrong[known])
    if np.isfinite(auroc):
        text += (
            f" A wrong {noun(samples)} has a smaller weight than a right one in "
            f"{percent(auroc)} of all pairs."
        )
    return text


def details(found: Facts) -> Iterator[tuple[str, str]]:
    """How the run was made."""
    config, problem = found.config, found.problem
    yield "method", found.method
    yield "data", found.data
    if "model" in config:
        options = config["model"].get("options") or {}
        text = ", ".join(f"{k} {v}" for k, v in options.items())
        yield "model", f"{config['model']['name']}{f' ({text})' if text else ''}"
    if "optim" in config:
        optim = config["optim"]
        schedule = optim.get("schedule", {}).get("name", "constant")
        yield (
            "optimizer",
            f"{optim['name']}, learning rate {optim['learning_rate']:g}, {schedule}",
        )
    if "data" in config and "batch_size" in config["data"]:
        yield "batch size", count(config["data"]["batch_size"])
    last = found.metrics[-1]
    yield "epochs", f"{count(last['epoch'])} ({count(last['step'])} steps)"
    spent = sum(row.get("seconds") or 0 for row in found.metrics)
    yield "time", f"{duration(spent, compile_seconds(found.metrics))} in all"
    seconds = step_seconds(found.metrics)
    if seconds is not None:
        yield (
            "cost per step",
            f"{1000 * seconds:.3g} ms, the median over epochs, with their evaluation",
        )
    if last.get("skipped"):
        yield "skipped updates", count(last["skipped"])
    if "seeds" in problem:
        seeds = (f"{name} {seed}" for name, seed in problem["seeds"].items())
        yield "seeds", ", ".join(seeds)


def _auroc(found: Facts) -> float:
    samples = found.samples
    known = is_known(samples["true_label"])
    return wrong_label_auroc(samples["quality"][known], is_wrong(samples)[known])
