"""Symmetric cross entropy: cross entropy, and the same with its arguments swapped."""

import jax.numpy as jnp

from cmwjax.core.losses import cross_entropy
from cmwjax.methods.method import Method, check_range

LOG_OF_ZERO = -4.0  # what its authors take for the logarithm of a class without a label


def symmetric(*, alpha: float = 0.1, beta: float = 1.0) -> Method:
    """ERM with `alpha * CE(p, y) + beta * CE(y, p)`.

    The second, reversed term is `-LOG_OF_ZERO * (1 - p_y)`: it grows with the doubt in
    the label, and no further than that.

    Args:
      alpha: factor of the cross entropy, at least 0.
      beta: factor of the reversed one, at least 0.

    References:
      Wang et al., `Symmetric cross entropy <https://arxiv.org/abs/1908.06112>`_, 2019;
      defaults as there for CIFAR-10.
    """
    check_range("alpha", alpha, 0)
    check_range("beta", beta, 0)

    def losses(logits, batch):
        forward = cross_entropy(logits, batch["label"])
        doubt = 1 - jnp.exp(-forward)
        return alpha * forward - beta * LOG_OF_ZERO * doubt

    return Method(losses)
