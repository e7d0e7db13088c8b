"""What class sizes alone say: class-balanced weights, and LDAM's margins."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmwjax.core import losses
from cmwjax.methods.method import Context, Method, check_range


def class_balanced(context: Context, *, beta: float = 0.9999) -> Method:
    """The loss of the run, weighted by `balanced_weights`.

    Args:
      beta: of the weights, in [0, 1]; 0: all alike, 1: by the inverse class size.
    """
    return with_class_weights(context.base, beta=beta)


def ldam(*, margin: float = 0.5, scale: float = 30.0) -> Method:
    """ERM with LDAM, see `core.losses`; `margin` is that of the smallest class.

    Args:
      margin: margin of the smallest class.
      scale: factor of the logits.
    """
    check_range("margin", margin, 0)
    check_range("scale", scale, 0)

    def terms(logits, batch):
        return losses.ldam(logits, batch["label"], batch["margin"], scale=scale)

    def class_features(counts):
        return {"margin": ldam_margins(counts, largest=margin)}

    return Method(terms, class_features=class_features, head="cosine")


def ldam_drw(context: Context, *, beta: float = 0.9999) -> Method:
    """LDAM whose weights are deferred (DRW): they come after the warm-up.

    Args:
      beta: of the weights, in [0, 1]; 1 weighs by the inverse of the class size.
    """
    return with_class_weights(context.loss("ldam"), beta=beta)


def with_class_weights(method: Method, *, beta: float) -> Method:
    """Adds the weights of the classes to a method's features, and weights by them."""
    check_range("beta", beta, 0, 1)

    def class_features(counts):
        weights = balanced_weights(counts, beta=beta)
        return {**method.class_features(counts), "class_weight": weights}

    return method._replace(weight_fn=class_weight, class_features=class_features)


def class_weight(meta_params, losses, batch):
    """The weight that the size of the sample's class gives it."""
    del meta_params, losses
    return batch["class_weight"]


def balanced_weights(counts: ArrayLike, *, beta: float) -> NDArray[np.float32]:
    """Weights of classes by their effective number of samples, with mean one.

    Args:
      counts: samples per class, `[C]`, at least 1.
      beta: in [0, 1]; 0 weighs all alike, 1 by the inverse of the class size.

    Returns:
      `(1 - beta) / (1 - beta^n)`, divided by the mean over classes, `[C]`.

    References:
      Cui et al., `Class-balanced loss <https://arxiv.org/abs/1901.05555>`_, 2019.
    """
    counts = np.asarray(counts, np.float64)
    # 1 - beta^n without cancellation; its limit for beta -> 1 is proportional to n.
    number = counts if beta == 1 else -np.expm1(counts * np.log(max(beta, 1e-300)))
    weights = 1 / number
    return (weights / weights.mean()).astype(np.float32)


def ldam_margins(counts: ArrayLike, *, largest: float = 0.5) -> NDArray[np.float32]:
    """Margins of classes, `largest * (n_min / n)^(1/4)`: `[C]` -> `[C]`.

    References:
      Cao et al., `LDAM-DRW <https://arxiv.org/abs/1906.07413>`_, 2019.
    """
    counts = np.asarray(counts, np.float64)
    return (largest * (counts.min() / counts) ** 0.25).astype(np.float32)
