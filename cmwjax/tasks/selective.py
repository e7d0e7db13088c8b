"""Selective classification: a class for each sample, or none where it is unsure.

There is one output more than there are classes, for abstention. A classifier that never
learns to abstain gives it no probability, and is one of `classification`. Samples are
ranked by how sure the classifier is; at a coverage of c, it answers for the share c of
the samples at the top, and is judged by these.
"""

import math

import jax
import numpy as np
from numpy.typing import NDArray

from cmwjax.core.labels import ABSTENTION
from cmwjax.tasks import classification
from cmwjax.tasks.task import Batch, Scores


def predict(logits: jax.Array) -> jax.Array:
    """The likeliest class, `[B, C + 1]` -> `[B]`; abstention is none."""
    return classification.predict(logits[:, :-1])


def probabilities(logits: jax.Array) -> jax.Array:
    """Probabilities of the classes for one who does not abstain, `[B, C]`."""
    return jax.nn.softmax(logits[:, :-1])


def confidence(logits: jax.Array) -> jax.Array:
    """How sure the classifier is of its class, `[B, C + 1]` -> `[B]`.

    The logarithm of the odds of the likeliest class, against all others and abstention.
    """
    return classification.log_odds(logits, predict(logits))


def scores(logits: jax.Array, batch: Batch) -> Scores:
    """What classification has of the classes, and `'confidence'`."""
    found = classification.scores(logits[:, :-1], batch)
    return found | {"confidence": confidence(logits)}


def quality(logits: jax.Array, batch: Batch, frequencies: jax.Array) -> jax.Array:
    """That of classification, of the classes."""
    return classification.quality(logits[:, :-1], batch, frequencies)


def risks(wrong: NDArray[np.bool_], confidence: NDArray[np.floating]) -> NDArray:
    """Error of the k samples with the highest confidence, float64 `[N]`, k from 1 to N.

    Where confidences are equal, any order of their samples is as likely: the risk is
    what is expected.

    Args:
      wrong: whether the predicted class is not the label, `[N]`.
      confidence: `[N]`; higher is surer.
    """
    _, group = np.unique(-np.asarray(confidence, np.float64), return_inverse=True)
    shares = np.bincount(group, weights=wrong) / np.bincount(group)
    errors = np.cumsum(shares[np.sort(group)])
    return errors / np.arange(1, len(errors) + 1)


def aurc(risks: NDArray[np.floating]) -> float:
    """Area under the risk-coverage curve: the mean over all coverages 1/N ... 1.

    References:
      Geifman, Uziel, El-Yaniv, `Bias-reduced uncertainty estimation for deep neural
      classifiers <https://arxiv.org/abs/1805.08206>`_, 2019.
    """
    return float(np.mean(risks))


def excess_aurc(risks: NDArray[np.floating]) -> float:
    """E-AURC: what `aurc` is above that of a ranking with all errors at its end."""
    size = len(risks)
    right = size - round(risks[-1] * size)
    covered = np.arange(1, size + 1)
    return aurc(risks) - aurc(np.maximum(covered - right, 0) / covered)


def answered(size: int, coverage: float) -> int:
    """Samples of `size` that the share `coverage` in (0, 1] is, rounded up."""
    return math.ceil(round(coverage * size, 6))


def at_coverage(risks: NDArray[np.floating], coverage: float) -> float:
    """Error of the share `coverage` in (0, 1] of the samples."""
    return float(risks[answered(len(risks), coverage) - 1])


def summary(found: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, float]:
    """Selective accuracy, 1 - AURC: the mean accuracy over all coverages; and others.

    Beside it, AURC, E-AURC and the accuracy at full coverage.
    """
    metrics = classification.summary(found, labels)
    if not labels.size:
        return dict.fromkeys(("selective_accuracy", "aurc", "e_aurc"), np.nan) | metrics
    curve = risks(found["prediction"] != labels, found["confidence"])
    area = aurc(curve)
    areas = {"selective_accuracy": 1 - area, "aurc": area, "e_aurc": excess_aurc(curve)}
    return areas | metrics


def at_the_end(
    found: dict[str, np.ndarray], labels: np.ndarray
) -> dict[str, list[float]]:
    """`'risks'`: the error at coverages of 1 %, 2 %, ... 100 %."""
    if not labels.size:
        return {}
    curve = risks(found["prediction"] != labels, found["confidence"])
    return {"risks": [at_coverage(curve, percent / 100) for percent in range(1, 101)]}


SELECTIVE = classification.CLASSIFICATION._replace(
    width=lambda num_classes: num_classes + 1,
    scores=scores,
    summary=summary,
    at_the_end=at_the_end,
    criterion="selective_accuracy",
    title="selective accuracy",
    predict=predict,
    probabilities=probabilities,
    confidence=confidence,
    quality=quality,
    outputs=ABSTENTION,
)
