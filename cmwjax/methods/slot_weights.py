"""L2RW and MCW: no weighting net, one free number per slot of the batch.

The numbers are the `meta_params` of a step, `eps [B]`. They are zero before each step,
where their meta-gradient is taken, and one update by a stateless optimizer makes the
coefficients of the real step out of it.
"""

import jax
import jax.numpy as jnp
import optax

from cmwjax.methods.class_sizes import with_class_weights
from cmwjax.methods.method import Context, Method, check_range


def l2rw(context: Context) -> Method:
    """Learning to reweight: one number per slot, whatever the sample."""
    return context.base._replace(
        weight_fn=slot_weights, meta_tx=rectified_and_normalised()
    )


def mcw(context: Context, *, step: float = 0.01, beta: float = 0.9999) -> Method:
    """Meta class weights: one number per slot, on top of class-balanced weights.

    Args:
      step: learning rate of the numbers.
      beta: of the class-balanced weights, in [0, 1].
    """
    check_range("step", step, 0)
    return with_class_weights(context.base, beta=beta)._replace(
        weight_fn=balanced_slot_weights, meta_tx=gradient_step(step)
    )


def slot_weights(eps, losses, batch):
    """The `weight_fn` of L2RW: `eps` at the sample's position in the global batch."""
    del losses
    return eps[batch["slot"]]


def balanced_slot_weights(eps, losses, batch):
    """The `weight_fn` of MCW: the weight of the class, and `eps` on top."""
    del losses
    return batch["class_weight"] + eps[batch["slot"]]


def rectified_and_normalised() -> optax.GradientTransformation:
    """Turns the meta-gradient at eps = 0 into the weights of L2RW.

    `u = max(-gradient, 0)`, divided by its mean: the mean over the batch of weighted
    losses is then `sum(u * losses) / sum(u)`. Zero where no u is positive.

    References:
      Ren et al., `L2RW <https://arxiv.org/abs/1803.09050>`_, 2018.
    """

    def update(updates, state, params=None):
        del params  # zero
        u = jnp.maximum(-updates, 0)
        mean = jnp.mean(u)
        return u / jnp.where(mean > 0, mean, 1), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def gradient_step(step: float) -> optax.GradientTransformation:
    """`eps = -step * gradient`, the rule of MCW.

    Its authors add up the losses of the virtual step, of which a meta step here takes
    the mean: the gradient counts times the size of the batch.

    References:
      Jamal et al., `Rethinking class-balanced methods
      <https://arxiv.org/abs/2003.10780>`_, 2020.
    """

    def update(updates, state, params=None):
        del params  # zero
        return -step * len(updates) * updates, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def slots(size: int, axis_name: str | None) -> jax.Array:
    """Positions of a device's samples in the global batch, `[size]`."""
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * size
    return first + jnp.arange(size)
