"""Transition matrices: row c, how samples of true class c are labelled."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmwjax.core import losses
from cmwjax.methods.memory import Memory
from cmwjax.methods.method import Context, Method, check_choice

SOURCES = ("known", "estimated")
QUANTILE = 0.97  # of the confidence, as the authors take it for noisy labels


def forward(context: Context, *, transition: str = "known") -> Method:
    """Forward correction; `transition` is the source of its matrix.

    Args:
      transition: source of its matrix, 'known' or 'estimated'.
    """
    del context
    check_choice("transition", transition, SOURCES)

    def terms(logits, batch):
        return losses.forward(logits, batch["column"])

    return Method(terms, memory=transition_memory(transition))


def count_transitions(
    true_labels: ArrayLike, labels: ArrayLike, *, num_classes: int
) -> NDArray[np.float32]:
    """The transition matrix that a training set has, by counting.

    Args:
      true_labels: integers in [0, C), `[N]`.
      labels: those observed, `[N]`.
      num_classes: C.

    Returns:
      Shares `[C, C]`, rows sum to one; a class without samples keeps its label.
    """
    from sklearn.metrics import confusion_matrix  # here, for it takes a second

    classes = np.arange(num_classes)
    counts = confusion_matrix(true_labels, labels, labels=classes).astype(np.float64)
    counts += np.diag(counts.sum(axis=1) == 0)
    return (counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)


def estimate_transitions(
    probabilities: ArrayLike, *, quantile: float = QUANTILE
) -> NDArray[np.float32]:
    """The transition matrix by the predictions of a net trained on noisy labels.

    The sample that the net is surest of belonging to class c is taken to be of class
    c, and what the net predicts for it to be row c. The few samples above the quantile
    are passed over: some of them are outliers.

    Args:
      probabilities: predictions for the training samples, `[N, C]`.
      quantile: rank of the sample taken for class c, by the predicted probability of c,
        in [0, 1]; 1 takes the largest.

    Returns:
      `[C, C]`, rows sum to one.

    References:
      Patrini et al., `Loss correction <https://arxiv.org/abs/1609.03683>`_, 2017.
    """
    probabilities = np.asarray(probabilities, np.float64)
    position = int(quantile * (len(probabilities) - 1))
    chosen = np.argsort(probabilities, axis=0, kind="stable")[position]  # [C]
    rows = probabilities[chosen]
    return (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)


def transition_memory(source: str) -> Memory:
    """The matrix for `losses.forward`; `batch['column']` gets `T[:, y]`, `[B, C]`.

    Args:
      source: one of `SOURCES`: `'known'`, counted with the true labels, or
        `'estimated'`, from the classifier as it is after the warm-up.
    """

    def init(problem):
        num_classes, index = problem.dataset.num_classes, problem.train_index
        if source == "estimated":
            return {"transition": np.eye(num_classes, dtype=np.float32)}
        matrix = count_transitions(
            problem.true_labels[index], problem.labels[index], num_classes=num_classes
        )
        return {"transition": matrix}

    def before(memory, batch, probabilities, axis_name):
        del probabilities, axis_name
        return memory, {**batch, "column": memory["transition"].T[batch["label"]]}

    def refresh(memory, problem, epoch, predict):
        del problem
        if epoch != 0:
            return memory
        return {"transition": estimate_transitions(predict())}

    if source == "known":
        return Memory(init, before, needs_true_labels=True)
    return Memory(init, before, refresh=refresh, needs_warmup=True)
