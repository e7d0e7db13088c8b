"""One setting of the weighting net for every bias: a panel of cells to choose it by.

    CMWJAX_DATA_DIR=FOLDER python benchmarks/panel.py --jsonl=results/panel.jsonl \
        --files=embeddings=FILE.npz,human=FILE.npz,yoruba=FOLDER,mammography=FILE.csv
    ... --cells=digits-asym-0.8,mammography --settings=default,paper --seeds=3

Runs every method in every cell with every setting, and adds a line for each run to the
file; those that are there already are not repeated. A line has, in percent, the score
on the test set and `validation`, that on a validation set with true labels, by which a
setting is to be chosen; and under `labels` AUROC and average precision of the wrong
labels by everything that might rank them. Methods without a weighting net run once,
whatever the setting. `panel_tables.py` makes tables of the file.
"""

import csv
import json
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from absl import app, flags, logging
from scipy.special import expit
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    roc_auc_score,
)

from benchmarks.variants import fields_and_variants, variant
from cmwjax import compare, load_classifier, train
from cmwjax.training import measure
from cmwjax.training.run import assemble
from results.biases import read_config

FLAGS = flags.FLAGS
flags.DEFINE_string("jsonl", "results/panel.jsonl", "where to add the lines")
flags.DEFINE_list("files", [], "NAME=PATH of data that some cells need")
flags.DEFINE_list("cells", [], "cells; by default all")
flags.DEFINE_list("settings", ["default"], "see variants.py, or default")
flags.DEFINE_list("methods", ["erm", "mw_net", "cmw_net"], "methods")
flags.DEFINE_integer("seeds", 3, "how many seeds, from 0")

FASHION = "fashion_mnist.py:validation=0.1,fast,"
EMBEDDINGS = "embeddings.py:data={embeddings},validation=0.1,"
YORUBA = (
    "text.py:data={yoruba}/train_clean_noisy_labels.tsv,text=news_title,"
    "truth={yoruba}/train_clean.tsv,test={yoruba}/test.tsv"
)
CELLS = {
    "digits-asym-0.6": "quickstart.py",
    "digits-asym-0.8": "quickstart.py:rate=0.8",
    "fashion-asym-0.4": f"{FASHION}noise=asym,rate=0.4",
    "fashion-asym-0.8": f"{FASHION}noise=asym,rate=0.8",
    "fashion-sym-0.2": f"{FASHION}noise=sym,rate=0.2",
    "fashion-sym-0.4": f"{FASHION}noise=sym,rate=0.4",
    "fashion-sym-0.6": f"{FASHION}noise=sym,rate=0.6",
    "fashion-sym-0.8": f"{FASHION}noise=sym,rate=0.8",
    "fashion-pmd-1-35": f"{FASHION}labels={{pmd}}:type1_035",
    "fashion-lt-100": f"{FASHION}imbalance=100,meta=balanced",
    "fashion-lt-50-sym-0.2": f"{FASHION}imbalance=50,noise=sym,rate=0.2",
    "cifar10-asym-0.8": "cifar.py:noise=asym,rate=0.8,fast",
    "cifar10-human-worse": "cifar.py:labels=human_worse,fast",
    "yoruba-trusted": f"{YORUBA},trusted={{yoruba}}/dev.tsv",
    "yoruba": YORUBA,
    "mammography": "tabular.py:data={mammography},rate=0.2,per_class=20",
    "embeddings-human-worse": f"{EMBEDDINGS}labels={{human}}:worse_label",
    "embeddings-human-aggre": f"{EMBEDDINGS}labels={{human}}:aggre_label",
    "embeddings-asym-0.6": f"{EMBEDDINGS}noise=asym,rate=0.6",
}


VALIDATION = {"digits-asym-0.8": 0.2}  # of cells to choose by that have none


def main(_):
    logging.set_verbosity(logging.ERROR)
    path = Path(FLAGS.jsonl)
    lines = path.read_text().splitlines() if path.exists() else []
    done = {key(json.loads(line)) for line in lines}
    files = dict(text.split("=") for text in FLAGS.files)
    for cell in FLAGS.cells or CELLS:
        base = read_config(CELLS[cell].format(**files))
        for method in FLAGS.methods:
            for name in FLAGS.settings:
                for seed in range(FLAGS.seeds):
                    row = dict(cell=cell, method=method, setting=name, seed=seed)
                    config = compare.one_run(base, method, seed)
                    if not has_net(config):
                        row["setting"] = ""
                    if key(row) in done:
                        continue
                    with config.unlocked():
                        config.data.validation = VALIDATION.get(
                            cell, config.data.validation
                        )
                        fields, others = fields_and_variants(name)
                        config.update_from_flattened_dict(fields)
                    done.add(key(row))
                    with variant(others):
                        row |= measured(config, files)
                    print(row, flush=True)
                    with path.open("a") as file:
                        file.write(json.dumps(row) + "\n")


def key(row):
    """What tells runs apart."""
    return tuple(row[name] for name in ("cell", "method", "setting", "seed"))


def has_net(config):
    """Whether there is a weighting net to set up."""
    return config.method in ("mw_net", "cmw_net", "cmw_net_mixup", "cmw_net_sl")


def measured(config, files):
    """What is said of a run; nothing but the seconds if it diverged."""
    looks = []

    def epoch_metrics(run, progress):
        looks.append(look(run, progress.state, looks[-1] if looks else None))
        return measured_by_trainer(run, progress)

    measured_by_trainer = measure.epoch_metrics
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "run"
        with mock.patch.object(measure, "epoch_metrics", epoch_metrics):
            result = compare.run_or_diverge(config, workdir)
        row: dict[str, Any] = {"seconds": round(time.perf_counter() - begin, 1)}
        if result is None:
            return row
        run = assemble(config, workdir)
        problem, index = run.problem, run.problem.validation_index
        if index is not None and len(index):
            state = run.program.evaluated(train.begin(run).state)
            scores = run.score(state, run.sets.train, index, of="validation")
            metrics = run.summary(scores, problem.true_labels[index])
            row["validation"] = 100 * metrics[run.program.task.criterion]
            probabilities = run.program.predict(state, run.sets.train, index)
            found = probabilities.argmax(axis=1)
            balanced = balanced_accuracy_score(problem.true_labels[index], found)
            row["balanced"] = 100 * float(balanced)
        if config.data.name.endswith("train_clean_noisy_labels.tsv"):
            row["validation"] = on_others(workdir, f"{files['yoruba']}/dev.tsv")
    row["test"] = 100 * result.test_score
    if result.average_precision is not None:
        row["average_precision"] = 100 * result.average_precision
    true = problem.true_labels[problem.train_index]
    known = true >= 0
    is_wrong = (true != problem.labels[problem.train_index])[known]
    if is_wrong.any():
        row["labels"] = {
            name: (
                float(roc_auc_score(is_wrong, -score[known])),
                float(average_precision_score(is_wrong, -score[known])),
            )
            for name, score in over_epochs(looks).items()
        }
    return row


def on_others(workdir, path):
    """Accuracy on other texts, in percent."""
    with open(path, newline="") as file:
        lines = list(csv.DictReader(file, delimiter="\t"))
    classifier = load_classifier(workdir, which="last")
    found = classifier.predict([line["news_title"] for line in lines])
    right = [f == line["label"] for f, line in zip(found, lines, strict=True)]
    return 100 * float(np.mean(right))


def look(run, state, last):
    """What one look says of the label of each training sample; low is suspicious.

    `last` is what the look before said, None at the first.
    """
    problem, judged = run.problem, run.program.evaluated(state)
    index, every = problem.train_index, np.arange(len(problem.train_index))
    labels = problem.labels[index]
    scores = run.score_training(judged)
    probabilities = run.program.predict(judged, run.sets.train, index)
    logits = np.log(np.maximum(probabilities, 1e-7))
    sizes = np.bincount(labels, minlength=logits.shape[1]).clip(1) / len(labels)
    weights = scores.weights if last is None else last["weight"]
    weighted = np.bincount(labels, weights, logits.shape[1]).clip(1e-3)
    priors = {
        "sizes": sizes,
        "own": probabilities.mean(axis=0),
        "weighted sizes": weighted / weighted.sum(),
    }
    found = {
        "weight": scores.weights,
        "loss": -scores.losses,
        "probability": probabilities[every, labels],
        "margin": margin(logits, labels),
    }
    for title, prior in priors.items():
        for name, share in {"half of ": 0.5, "": 1}.items():
            adjusted = logits - share * np.log(prior)
            found[f"margin, {name}{title}"] = margin(adjusted, labels)
    return found


def margin(logits, labels):
    """The logit of the label less the highest other one, in [0, 1]."""
    every, others = np.arange(len(labels)), logits.copy()
    others[every, labels] = -np.inf
    return expit(logits[every, labels] - others.max(axis=1))


def over_epochs(looks):
    """Scores of labels by their names: by the last look, and in the mean."""
    half = looks[: max(1, len(looks) // 2)]
    scores = {}
    for name in looks[0]:
        scores[f"{name}, last"] = looks[-1][name]
        scores[f"{name}, mean"] = np.mean([x[name] for x in looks], axis=0)
        scores[f"{name}, first half"] = np.mean([x[name] for x in half], axis=0)
    best = "margin, half of sizes, mean"
    return scores | {f"{best}, times weight": scores[best] * looks[-1]["weight"]}


if __name__ == "__main__":
    app.run(main)
