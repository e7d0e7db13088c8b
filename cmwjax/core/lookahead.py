"""Which optimizers can serve as their own lookahead."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax


def check_optimizer_lookahead(tx: optax.GradientTransformation, params: Any) -> None:
    """Refuses optimizers whose step tells the weighting net nothing.

    The outer gradient is pulled back through d(update)/d(gradient). For sign-based
    optimizers (Lion, sign-SGD) that is zero everywhere; for Adam-like ones it is
    NaN where gradient and second moment are exactly zero, unless `eps_root` > 0.
    Both are found on a stand-in for `params` with two elements per axis.

    Args:
      tx: the optimizer.
      params: tree with the structure of the parameters; values are not read.

    Raises:
      ValueError: if the derivative is identically zero, or not finite at zero.
    """
    with jax.ensure_compile_time_eval():
        # Halves, not zeros: weight decay and trust ratios need some parameter.
        probe = jax.tree.map(
            lambda x: np.full((2,) * jnp.ndim(x), 0.5, x.dtype), params
        )
        ones = jax.tree.map(np.ones_like, probe)
        # One unit without gradient beside a live one, as after a ReLU: a norm over
        # all of them (clipping) is not zero then.
        dead = jax.tree.map(lambda x: np.resize([0, 1], x.shape).astype(x.dtype), probe)

        def pullback(gradient, cotangent):
            # Reverse mode, as in the outer gradient: forward mode hides the NaN of a
            # branch that jnp.where does not take.
            def update(g):
                return tx.update(g, tx.init(probe), probe)[0]

            return jax.vjp(update, gradient)[1](cotangent)

        at_zero = jax.tree.leaves(pullback(dead, ones))
        traced = jax.make_jaxpr(lambda cotangent: pullback(ones, cotangent))(ones)
    if not _depends_on_input(traced.jaxpr):
        raise ValueError(
            "lookahead='optimizer' cannot use a tx whose update depends only on the "
            "sign of the gradient: the weighting net would get no signal. Use "
            "lookahead='sgd' with an inner_lr."
        )
    if not all(np.all(np.isfinite(x)) for x in at_zero):
        raise ValueError(
            "lookahead='optimizer' cannot differentiate tx where a gradient is exactly "
            "zero (sqrt at 0). Give the optimizer an eps_root > 0, e.g. "
            "optax.adam(1e-3, eps_root=1e-16), or use lookahead='sgd'."
        )


def _depends_on_input(jaxpr) -> bool:
    # vjp of a piecewise constant function leaves constants, not a use of its input.
    reached = set(jaxpr.invars)
    for equation in jaxpr.eqns:
        if any(v in reached for v in equation.invars if not hasattr(v, "val")):
            reached.update(equation.outvars)
    return any(v in reached for v in jaxpr.outvars if not hasattr(v, "val"))
