"""Which score of a label finds wrong ones, of what looks after every epoch might say.

    CMWJAX_DATA_DIR=FOLDER python benchmarks/label_scores.py \
        --cells digits-asym-0.6 mammography --files mammography=FILE.csv

In cells of `wrong_labels.py`, trains with the weighting net, once on all samples and
five times without a fifth of them, and prints a table of the average precision of
wrong labels: by the mean over the epochs of sigmoid(margin / temperature), with a share
of the logarithms of class sizes taken back, as they are weighted. One fit judges, or of
five those that were not trained on a sample, those that were, or all.
"""

import argparse
import collections
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from absl import logging
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import average_precision_score

from benchmarks.panel_tables import markdown
from benchmarks.wrong_labels import CELLS, FOLDS, Given, given_by
from cmwjax import CMWClassifier, find_label_errors
from cmwjax.training import measure

SHARES = (0.0, 0.25, 0.5)
TEMPERATURES = (1, 2, 3, 4, 10)
JUDGES = ("one fit", "without it", "with it", "all five")


class Fit(NamedTuple):
    """What was kept of a training: after each of E epochs, of all N samples.

    Attributes:
      logits: `[E, N, C]`, logarithms of probabilities.
      frequencies: `[E, C]`, see `cmwjax.training.sets.frequencies`.
      held_out: positions of the samples that it was not trained on.
    """

    logits: NDArray[np.floating]
    frequencies: NDArray[np.floating]
    held_out: NDArray[np.integer]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", nargs="*", default=[], help="NAME=PATH of data")
    parser.add_argument("--cells", nargs="*", default=list(CELLS))
    parser.add_argument("--method", default="cmw_net")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    logging.set_verbosity(logging.ERROR)
    files = dict(text.split("=", 1) for text in options.files)
    columns: list[dict[tuple[str, ...], float]] = []
    for cell in options.cells:
        given = given_by(CELLS[cell].format(**files), options.seed)
        columns.append(average_precisions(given, options.method))
    lines = [["judged by", "sizes", "temperature", *options.cells]]
    lines.append(["---"] * len(lines[0]))
    for key in columns[0]:
        lines.append([*key, *(f"{column[key]:.3f}" for column in columns)])
    print(markdown(lines))


def average_precisions(given: Given, method: str) -> dict[tuple[str, ...], float]:
    """Of wrong labels, by who judges, the share of sizes and the temperature."""
    estimator = CMWClassifier(method, **given.settings)
    [one] = kept(lambda: estimator.fit(given.inputs, given.labels))
    several = kept(
        lambda: find_label_errors(
            given.inputs, given.labels, cv=FOLDS, method=method, **given.settings
        )
    )
    known = given.true_labels >= 0
    is_wrong = (given.labels != given.true_labels)[known]
    seen = np.ones((len(several), len(given.labels)), bool)
    for mine, fit in zip(seen, several, strict=True):
        mine[fit.held_out] = False
    found = {}
    for share in SHARES:
        for temperature in TEMPERATURES:
            of_one = quality(one, given.labels, share, temperature)
            each = np.array(
                [quality(fit, given.labels, share, temperature) for fit in several]
            )
            judged = (
                of_one,
                np.average(each, axis=0, weights=~seen + 1e-9),
                np.average(each, axis=0, weights=seen),
                each.mean(axis=0),
            )
            for name, score in zip(JUDGES, judged, strict=True):
                found[name, f"{share}", f"{temperature}"] = float(
                    average_precision_score(is_wrong, -score[known])
                )
    return dict(sorted(found.items(), key=lambda item: JUDGES.index(item[0][0])))


def kept(train: Callable[[], Any]) -> list[Fit]:
    """What the classifiers that `train()` trains say after every epoch."""
    looks = collections.defaultdict(list)
    held_out = {}

    def epoch_metrics(run, progress):
        judged = run.program.evaluated(progress.state)
        every = np.arange(len(run.problem.labels))
        odds = run.program.predict(judged, run.sets.train, every)
        look = np.log(np.maximum(odds, 1e-12)), progress.frequencies
        looks[run.workdir].append(look)
        held_out[run.workdir] = run.problem.validation_index
        return measured_by_trainer(run, progress)

    measured_by_trainer = measure.epoch_metrics
    with mock.patch.object(measure, "epoch_metrics", epoch_metrics):
        train()
    fits = []
    for workdir, of_run in looks.items():
        logits, frequencies = (np.array(x) for x in zip(*of_run, strict=True))
        fits.append(Fit(logits, frequencies, held_out[workdir]))
    return fits


def quality(
    fit: Fit, labels: NDArray[np.integer], share: float, temperature: float
) -> NDArray[np.floating]:
    """How well labels suit their samples, `[N]`, in the mean over the epochs."""
    every, total = np.arange(len(labels)), np.zeros(len(labels))
    for logits, frequencies in zip(fit.logits, fit.frequencies, strict=True):
        others = logits - share * np.log(frequencies)
        given = others[every, labels]
        others[every, labels] = -np.inf
        total += expit((given - others.max(axis=1)) / temperature)
    return total / len(fit.logits)


if __name__ == "__main__":
    main()
