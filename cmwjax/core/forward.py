"""The forward pass at w, shared by the virtual and the real step, and its types."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Params = Any
Batch = Any
LossFn = Callable[[Params, Any, Batch, jax.Array], tuple[jax.Array, Any]]
MetaLossFn = Callable[[Params, Any, Batch, jax.Array], jax.Array]
WeightFn = Callable[[Params, jax.Array, Batch], jax.Array]
MetricsFn = Callable[[Params, jax.Array, Batch], Any]
MemoryFn = Callable[[Any, jax.Array, Batch], Any]
Metrics = dict[str, Any]

NORMALISATIONS = ("mean", "weights")
# Below this mean weight of a batch, normalising it would make infinities of slopes.
SMALLEST_WEIGHT = 1e-6


def all_mean(tree: Any, axis_name: str | None) -> Any:
    """Mean over the mapped axis; the identity when there is none (plain jit).

    Every scalar that is differentiated *and* every gradient passes through here.
    With only one of the two, some of pmap and the modes of shard_map come out
    wrong without an error.
    """
    return tree if axis_name is None else lax.pmean(tree, axis_name)


class Forward(NamedTuple):
    """The forward pass at w, and the pullback that every step here shares."""

    losses: jax.Array
    model_state: Any  # reduced over devices
    loss_and_gradient: Callable[[Params], tuple[jax.Array, Params]]  # of meta_params
    # Of meta_params and other params, with the weights that the losses at w have.
    loss_at: Callable[[Params, Params], jax.Array]
    metrics: Callable[[MetricsFn, Params], Any]
    memory: Callable[[MemoryFn, Any], Any]  # of what was remembered before


def forward_pass(
    params: Params,
    *,
    model_state: Any,
    batch: Batch,
    key: jax.Array,
    loss_fn: LossFn,
    weight_fn: WeightFn,
    normalisation: str,
    axis_name: str | None,
) -> Forward:
    """Runs `loss_fn` at `params`; arguments and errors as in `meta_step`."""
    check_choice("normalisation", normalisation, NORMALISATIONS)
    mean = partial(all_mean, axis_name=axis_name)
    losses, pullback, model_state = jax.vjp(
        lambda params: loss_fn(params, model_state, batch, key), params, has_aux=True
    )
    if losses.ndim not in (1, 2):
        raise ValueError(
            f"loss_fn returned losses of shape {losses.shape}; they must be per "
            "example, [n] or [n, T]: do not reduce them."
        )
    check_losses(losses, "loss_fn", "batch")

    weighed = lax.stop_gradient(losses)

    def training_loss(losses, meta_params):
        coefficients = weight_fn(meta_params, weighed, batch)
        if coefficients.shape != losses.shape:
            raise ValueError(
                f"weight_fn returned shape {coefficients.shape} for losses of shape "
                f"{losses.shape}; return one coefficient per loss term."
            )
        size = losses.shape[0]
        loss = mean(jnp.sum(coefficients * losses) / size)
        if normalisation == "weights":
            # A mean of ratios over devices would weight devices, not examples.
            weight = lax.stop_gradient(mean(jnp.sum(coefficients) / size))
            loss = loss / jnp.where(weight > SMALLEST_WEIGHT, weight, 1)
        return loss

    def loss_and_gradient(meta_params):
        loss, cotangent = jax.value_and_grad(training_loss)(losses, meta_params)
        (gradient,) = pullback(cotangent)
        return loss, mean(gradient)

    def loss_at(meta_params, params):
        # Through the mean of what is equal anyway, so that its gradient is reduced too.
        losses, _ = loss_fn(mean(params), model_state, batch, key)
        return training_loss(losses, meta_params)

    return Forward(
        losses=losses,
        model_state=jax.tree.map(
            lambda x: mean(x) if is_inexact(x) else x, model_state
        ),
        loss_and_gradient=loss_and_gradient,
        loss_at=loss_at,
        metrics=lambda metrics_fn, meta_params: mean(
            metrics_fn(meta_params, losses, batch)
        ),
        memory=lambda memory_fn, memory: memory_fn(memory, losses, batch),
    )


def is_inexact(x: Any) -> bool:
    """Whether x has real or complex numbers, which can be averaged or be NaN."""
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def check_losses(losses: jax.Array, function: str, batch: str) -> None:
    """Raises `ValueError` for losses that nothing can be learned from."""
    if not losses.size:
        raise ValueError(
            f"{function} returned losses of shape {losses.shape}: {batch} is empty; "
            "pass at least one example."
        )
    if not jnp.issubdtype(losses.dtype, jnp.floating):
        raise ValueError(
            f"{function} returned losses of type {losses.dtype} for {batch}, which "
            "have no gradient; return floating-point losses."
        )


def check_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises `ValueError` unless the value of the argument is one of the choices."""
    if value not in choices:
        raise ValueError(f"{field}={value!r} is unknown; choose one of {choices}.")
