"""Signs that a run learns nothing any more: updates skipped, weights collapsed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict
from scipy.stats import spearmanr

from cmwjax.core.meta import MetaState
from cmwjax.training.evaluate import Scores

COLLAPSE = 0.999  # share of weights near 0, or near 1, that is called collapsed
# Nats, or squares of standardised targets: a guess among a million classes costs 14.
EXPLODED = 1000.0
FLAT = 0.005  # standard deviation of weights below which they are called flat
INVERTED = 0.1  # rank correlation of losses and weights from which they are called so
LastGood = Callable[[], int | None]  # step of the last good checkpoint, if there is one


class Diverged(RuntimeError):
    """Numbers are not finite, and training on would not change that."""


def check_skips(learner: MetaState, config: ConfigDict, last: LastGood) -> None:
    """Raises `Diverged` if too many updates in a row were skipped."""
    if learner.skipped_in_a_row >= config.max_skips_in_a_row:
        raise Diverged(
            f"the last {learner.skipped_in_a_row} updates before step {learner.step} "
            "were skipped, because loss, gradient or meta-gradient are not finite. "
            f"{_last_good(last)} {_remedy(config)}"
        )


def check_scores(scores: Scores, of: str, config: ConfigDict, last: LastGood) -> None:
    """Raises `Diverged` if scores of samples, on the host, are not finite.

    Parameters may still be finite then: outputs and losses overflow before they do. No
    metric would be worth anything, and some are not even defined.

    Args:
      scores: those of samples without an input do not matter.
      of: which samples they are.
      config: names the learning rates.
      last: step of the last good checkpoint.
    """
    columns = {"loss": scores.losses, "quality": scores.quality}
    columns |= {"weight": scores.weights, **scores.found}
    for name, values in columns.items():
        bad = scores.seen & ~np.isfinite(values)
        if bad.any():
            raise Diverged(
                f"{name} is not finite for {np.sum(bad)} of {np.sum(scores.seen)} "
                f"samples of the {of} set. {_last_good(last)} {_remedy(config)}"
            )


def check_finite(learner: MetaState, last: LastGood) -> None:
    """Raises `Diverged` if the learner, on the host, holds what is not finite."""
    for path, leaf in jax.tree.leaves_with_path(learner):
        if not np.all(np.isfinite(leaf)):
            raise Diverged(
                f"{jax.tree_util.keystr(path)} is not finite after step {learner.step},"
                f" which is not saved. {_last_good(last)} Most often a learning "
                "rate is too high: lower optim.learning_rate."
            )


def _last_good(last: LastGood) -> str:
    step = last()
    if step is None:
        return "There is no good checkpoint."
    return f"The last good checkpoint is that of step {step}."


def _remedy(config: ConfigDict) -> str:
    return (
        "Most often a learning rate is too high: lower "
        f"optim.learning_rate={config.optim.learning_rate} or "
        f"weighting.optimizer.learning_rate={config.weighting.optimizer.learning_rate}."
    )


def warn_if_exploded(metrics: dict[str, Any], config: ConfigDict) -> bool:
    """Warns of losses far beyond those of a guess, which are finite and no error."""
    if not metrics.get("loss", 0) > EXPLODED:  # none where all updates were skipped
        return False
    logging.warning(
        "the mean loss of epoch %d is %.3g, far beyond that of a guess. %s",
        metrics["epoch"],
        metrics["loss"],
        _remedy(config),
    )
    return True


def warn_if_collapsed(metrics: dict[str, Any], workdir: Path) -> bool:
    """Warns once nearly all weights are near 0, or nearly all near 1."""
    if "weight_low" not in metrics:
        return False
    # Families at opposite ends are told apart.
    low, high = (np.nanmin(metrics[f"weight_{end}"]) for end in ("low", "high"))
    collapsed = max(low, high) > COLLAPSE
    if collapsed:
        logging.warning(
            "%s: in epoch %d all weights are near %d (means by family %s): the "
            "weighting net tells no samples apart any more. Lower "
            "weighting.optimizer.learning_rate, or look at the meta set.",
            workdir,
            metrics["epoch"],
            high > low,
            np.round(metrics["weight_mean"], 3),
        )
    return bool(collapsed)


def warn_of_weights(
    losses: np.ndarray, weights: np.ndarray, family: np.ndarray, workdir: Path
) -> bool:
    """Warns of weights that rank no label as suspicious, or the wrong ones.

    That is where all of a family are alike, in every family, or where in every family
    that is not so they grow with the loss.

    Args:
      losses: of the training samples after the last epoch, `[N]`.
      weights: `[N]`.
      family: int `[N]`.
      workdir: named in the warning.
    """
    members = [family == k for k in np.unique(family)]
    varied = [m for m in members if np.std(weights[m]) >= FLAT and np.ptp(losses[m])]
    correlations = [spearmanr(losses[m], weights[m]).statistic for m in varied]
    if not varied:
        found = "all weights of a family are alike"
    elif min(correlations) >= INVERTED:
        found = "the larger a loss, the larger its weight, in every family"
    else:
        return False
    logging.warning(
        "%s: %s: the weights do not tell which labels look wrong, their quality may. "
        "Change weighting.optimizer.learning_rate, or look at the meta set.",
        workdir,
        found,
    )
    return True
