"""PLC: between epochs, labels give way to what the classifier is surer of."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmwjax.methods.memory import Memory
from cmwjax.methods.method import Context, Method, check_range

WINDOW = 5  # epochs over which predictions are averaged
RAISE, HIGHEST = 0.1, 0.9  # of the threshold, when labels hardly change any more
FEW = 0.001  # share of labels that counts as hardly


def plc(context: Context, *, threshold: float = 0.3) -> Method:
    """Progressive label correction; `threshold` is the first one.

    Args:
      threshold: the first one, of the likelihood ratio test, in [0, 1].
    """
    del context
    check_range("threshold", threshold, 0, 1)
    return Method(memory=refurbished_labels(threshold))


def correct(
    labels: ArrayLike, probabilities: ArrayLike, *, threshold: float
) -> NDArray[np.int32]:
    """The likelihood ratio test: new labels where `p_y / max p < threshold`.

    Args:
      labels: integers `[N]`.
      probabilities: `[N, C]`.
      threshold: in [0, 1].

    Returns:
      Labels `[N]`, replaced by the likeliest class where they fail.

    References:
      Zheng et al., `LRT <https://arxiv.org/abs/2011.10077>`_, 2020.
    """
    labels, probabilities = np.asarray(labels, np.int32), np.asarray(probabilities)
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    fails = own < threshold * np.max(probabilities, axis=1)
    return np.where(fails, np.argmax(probabilities, axis=1), labels).astype(np.int32)


def refurbished_labels(threshold: float) -> Memory:
    """Labels that are corrected before every epoch after the warm-up.

    By predictions averaged over the epochs before, at most five. Where fewer than one
    in a thousand labels change, the threshold grows by 0.1 up to 0.9.

    Args:
      threshold: the first one.

    References:
      Zhang et al., `PLC <https://arxiv.org/abs/2103.07756>`_, 2021.
    """

    def init(problem):
        shape = (WINDOW, len(problem.train_index), problem.dataset.num_classes)
        return {
            "labels": problem.labels.astype(np.int32),
            "predictions": np.zeros(shape, np.float32),  # the latest first
            "threshold": np.float32(threshold),
        }

    def before(memory, batch, probabilities, axis_name):
        del probabilities, axis_name
        return memory, {**batch, "label": memory["labels"][batch["index"]]}

    def refresh(memory, problem, epoch, predict):
        predictions = np.roll(memory["predictions"], 1, axis=0)
        predictions[0] = predict()
        memory = {**memory, "predictions": predictions}
        if epoch < 0:
            return memory
        index, old, threshold = (
            problem.train_index,
            memory["labels"],
            memory["threshold"],
        )
        labels = old.copy()
        # Those of epochs that have not been are zero: a sum is as good as a mean.
        labels[index] = correct(
            old[index], predictions.sum(axis=0), threshold=threshold
        )
        if np.mean(labels[index] != old[index]) < FEW:
            threshold = np.float32(min(threshold + RAISE, HIGHEST))
        return {**memory, "labels": labels, "threshold": threshold}

    return Memory(init, before, refresh=refresh, needs_warmup=True)
