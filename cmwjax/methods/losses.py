"""Ordinary training (ERM) with one loss or another, which weighting methods weight."""

from functools import partial

from cmwjax.core import losses
from cmwjax.methods.method import Context, Method, check_range


def erm(context: Context) -> Method:
    """Empirical risk minimisation: every sample counts one."""
    return context.base


def trusted_only(context: Context) -> Method:
    """ERM on the trusted samples alone: what these are worth without all others.

    Model, optimizer, schedule, steps and the size of a batch are those of ERM. Of the
    training set nothing is learned but its size, which gives the number of steps; a
    loss that knows the sizes of classes (LDAM) has those of the training set.
    """
    return context.base._replace(trusted_only=True)


def cross_entropy() -> Method:
    """ERM with the cross entropy."""
    return Method()


def label_smoothing(*, smoothing: float = 0.1) -> Method:
    """ERM against labels that give a share to every class; see `core.losses`.

    Args:
      smoothing: share of a label that all classes divide among them, in [0, 1].
    """
    check_range("smoothing", smoothing, 0, 1)
    return _of_labels(partial(losses.label_smoothing, smoothing=smoothing))


def focal(*, gamma: float = 1.0) -> Method:
    """ERM with the focal loss; see `core.losses`.

    Args:
      gamma: power of `1 - p_y`; 0 is the cross entropy.
    """
    check_range("gamma", gamma, 0)
    return _of_labels(partial(losses.focal, gamma=gamma))


def gce(*, q: float = 0.7) -> Method:
    """ERM with the generalised cross entropy; see `core.losses`.

    Args:
      q: in (0, 1]; near 0 the cross entropy, 1 the mean absolute error.
    """
    check_range("q", q, 1e-6, 1)
    return _of_labels(partial(losses.generalized_cross_entropy, q=q))


def squared_error() -> Method:
    """Regression by the squared error; see `core.losses`."""
    return _of_labels(losses.squared_error)


def huber(*, delta: float = 1.0) -> Method:
    """Regression by Huber's loss; `delta` in standard deviations of the targets.

    Args:
      delta: error from which the loss is linear, in standard deviations of targets.
    """
    check_range("delta", delta, 1e-6)
    return _of_labels(partial(losses.huber, delta=delta))


def _of_labels(loss) -> Method:
    return Method(lambda logits, batch: loss(logits, batch["label"]))
