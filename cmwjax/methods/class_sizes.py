"""What class sizes alone say about weights and margins."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
