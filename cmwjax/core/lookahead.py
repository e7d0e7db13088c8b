"""How optimizers are called, and which of them can serve as their own lookahead."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend.core import jaxpr_as_fun

from cmwjax.randomness import Purpose, generator

COUNTS = 6  # steps in a row that are tried; RAdam changes its form at the fifth
AFFORDABLE = 1_000_000  # parameters up to which they are tried at their own shapes

# Optax's states by name, for some of the classes are not public.
WAITING = {"MultiStepsState", "ApplyEvery"}  # for several gradients, for one step
CURED_BY_EPS_ROOT = {
    "ScaleByAdamState",
    "ScaleByAmsgradState",
    "ScaleByAdemamixState",
    "ScaleBySimplifiedAdEMAMixState",
}
NOT_CURED = {"GaLoreState", "MuonState"}  # though one of these is within
_MOVES_AT_TIMES = (
    "it moves at some steps only, and at the others the weighting net would get no "
    "signal",
    "accumulate with cmwjax.micro_batches(loss_fn, n) in its place",
)


class UnfitLookahead(ValueError):
    """An optimizer that cannot be its own lookahead.

    Attributes:
      reason: why it cannot.
      cure: what would make it fit, if anything.
    """

    def __init__(
        self,
        reason: str,
        cure: str | None = None,
        instead: str = "use lookahead='sgd' with an inner_lr",
    ):
        what = instead if cure is None else f"{cure}, or {instead}"
        super().__init__(f"tx cannot be its own lookahead: {reason}. To go on, {what}.")
        self.reason = reason
        self.cure = cure


def optimizer_update(
    tx: optax.GradientTransformation,
    gradient: Any,
    opt_state: optax.OptState,
    params: Any,
    **offered: Any,
) -> tuple[Any, optax.OptState]:
    """`tx.update` with those of the offered extra arguments that it takes.

    Raises:
      ValueError: if it asks for one that is not offered.
    """
    if isinstance(tx, optax.MultiSteps):
        tx = tx.gradient_transformation()
    if not isinstance(tx, optax.GradientTransformationExtraArgs):
        return tx.update(gradient, opt_state, params)
    names = ", ".join(offered)
    while True:
        try:
            return tx.update(gradient, opt_state, params, **offered)
        except TypeError as error:
            # They ought to pass over what they do not know; SAM does not.
            unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            if unknown is not None and unknown[1] in offered:
                del offered[unknown[1]]
            elif "required keyword-only argument" in str(error):
                raise ValueError(
                    f"tx asks for something else than {names}: {error}"
                ) from None
            else:
                raise


def of_params(value_fn: Callable[[Any], jax.Array]) -> dict[str, Any]:
    """Makes of a loss the functions that some optimizers of Optax call.

    Line searches call `value_fn`, Sophia `obj_fn` and an opaque SAM `grad_fn`.

    Args:
      value_fn: the loss of a step as a function of the parameters alone.

    Returns:
      Extra arguments of an optimizer's update, by name.
    """

    def loss(params, *, obj_fn=None, grad_fn=None):
        del obj_fn, grad_fn  # line searches hand on what they do not know themselves
        return value_fn(params)

    return {
        "value_fn": loss,
        "obj_fn": loss,
        "grad_fn": lambda params, _: jax.grad(loss)(params),
    }


def check_optimizer_lookahead(
    tx: optax.GradientTransformation, params: Any, opt_state: optax.OptState
) -> None:
    """Refuses optimizers whose step tells the weighting net nothing or the opposite.

    The outer gradient is pulled back through d(update)/d(gradient). For sign-based
    optimizers (Lion, sign-SGD) that is zero everywhere; for Adam-like ones it is NaN
    where gradient and second moment are exactly zero, unless `eps_root` > 0; gradient
    accumulation moves at some steps only, and SAM uphill at some.

    The optimizer is traced at the shapes of the parameters, and its first steps are
    tried: on a stand-in with two elements per axis if it is the same program there,
    otherwise at the shapes themselves if these are small. What cannot be tried passes.

    Args:
      tx: the optimizer.
      params: the parameters; values are not read.
      opt_state: state of tx for them; values are not read.

    Raises:
      UnfitLookahead: if it is one of these.
    """
    if WAITING & set(_state_names(opt_state)):
        raise UnfitLookahead(*_MOVES_AT_TIMES)
    params, opt_state = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)),
        (params, opt_state),
    )
    x64 = jax.config.jax_enable_x64

    def judge():
        with jax.debug_nans(False), jax.debug_infs(False), jax.enable_x64(x64):
            _judge(tx, params, opt_state)

    # A thread of its own is outside of all traces and meshes that surround this call.
    with ThreadPoolExecutor(max_workers=1) as executor:
        executor.submit(judge).result()


def _judge(tx, params, opt_state):
    try:
        traced = _trace(tx, params, opt_state)
    except Exception as error:
        try:
            jax.eval_shape(partial(_real_update, tx), params, opt_state)
        except Exception:
            return  # the real step will say what is wrong with tx
        first_line = str(error).partition("\n")[0].rstrip(".")
        raise UnfitLookahead(
            "it needs more than the gradient and value of the loss, or cannot be "
            f"differentiated ({first_line})"
        ) from None
    if not traced.carries_a_signal:
        raise UnfitLookahead(
            "its update depends only on the sign of the gradient, so that the "
            "weighting net would get no signal"
        )
    trial = _trial(tx, params, traced)
    if trial is None:
        return
    try:
        _judge_values(trial)
    except UnfitLookahead:
        raise
    except Exception:
        return  # it is made of traced values, or of an axis, that are not at hand here


def _real_update(tx, params, opt_state):
    def value_fn(params):
        return optax.tree.norm(params, squared=True)

    value, gradient = jax.value_and_grad(value_fn)(params)
    return optimizer_update(
        tx,
        gradient,
        opt_state,
        params,
        value=value,
        grad=gradient,
        **of_params(value_fn),
    )


class _Traced(NamedTuple):
    """d(update)/d(gradient), transposed, as a program."""

    # (gradient, state, params, cotangent) -> (pulled back, update, next state)
    run: Callable[..., Any]
    primitives: list[str]
    carries_a_signal: bool  # from the cotangent to what is pulled back


def _trace(tx, params, opt_state):
    def pulled_back(gradient, opt_state, params, cotangent):
        def update(gradient):
            value = optax.tree.norm(params, squared=True)
            return optimizer_update(
                tx, gradient, opt_state, params, value=value, grad=gradient
            )

        # Reverse mode, as in the outer gradient: forward mode hides the NaN of a
        # branch that jnp.where does not take.
        updates, pullback, opt_state = jax.vjp(update, gradient, has_aux=True)
        cotangent = jax.tree.map(lambda c, u: c.astype(u.dtype), cotangent, updates)
        (pulled,) = pullback(cotangent)
        return pulled, updates, opt_state

    arguments = params, opt_state, params, params
    closed, shapes = jax.make_jaxpr(pulled_back, return_shape=True)(*arguments)
    program, leaves = jaxpr_as_fun(closed), len(jax.tree.leaves(params))

    def run(*arguments):
        return jax.tree.unflatten(
            jax.tree.structure(shapes), program(*jax.tree.leaves(arguments))
        )

    # vjp of a piecewise constant function leaves constants, not a use of its input.
    reached = set(closed.jaxpr.invars[-leaves:])
    for equation in closed.jaxpr.eqns:
        if any(v in reached for v in equation.invars if not hasattr(v, "val")):
            reached.update(equation.outvars)
    pulled = (v for v in closed.jaxpr.outvars[:leaves] if not hasattr(v, "val"))
    return _Traced(
        run=run,
        primitives=list(_primitives(closed.jaxpr)),
        carries_a_signal=any(v in reached for v in pulled),
    )


def _primitives(jaxpr) -> Iterator[str]:
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in jax.tree.leaves(tuple(equation.params.values())):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _primitives(inner)


class _Trial(NamedTuple):
    """A program and concrete arguments for it."""

    run: Callable[..., Any]
    params: Any
    opt_state: optax.OptState


def _trial(tx, params, traced):
    """The program on small arrays, if it is the same on them; None: not affordable."""
    size = sum(np.prod(x.shape) for x in jax.tree.leaves(params))
    stand_in = jax.tree.map(lambda x: (2,) * len(x.shape), params)
    own = jax.tree.map(lambda x: x.shape, params)
    for shapes in (stand_in, own) if size <= AFFORDABLE else (stand_in,):
        # Halves, not zeros: weight decay and trust ratios need some parameter.
        probe = jax.tree.map(
            lambda x, shape: np.full(shape, 0.5, x.dtype), params, shapes
        )
        try:
            opt_state = tx.init(probe)
            again = _trace(tx, probe, opt_state)
        except Exception:  # something in tx has the shapes of the parameters
            continue
        if again.primitives == traced.primitives:
            return _Trial(again.run, probe, opt_state)
    return None


def _judge_values(trial):
    rng = generator(0, Purpose.LOOKAHEAD)
    gradient, cotangent = (
        jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), trial.params)
        for _ in range(2)
    )

    def steps(gradient, number):
        opt_state = trial.opt_state
        for _ in range(number):
            pulled, update, opt_state = trial.run(
                gradient, opt_state, trial.params, cotangent
            )
            yield _flat(pulled), _flat(update)

    moves = ""
    for count, (pulled, update) in enumerate(steps(gradient, COUNTS)):
        if not np.isfinite(pulled).all():
            raise UnfitLookahead(
                f"the derivative of its update is not finite at step {count}",
                None if count else _eps_root(trial),  # tx may set gradients to zero
            )
        lengths = np.linalg.norm(update) * np.linalg.norm(_flat(gradient))
        if np.vdot(update, _flat(gradient)).real > 0.1 * lengths:
            raise UnfitLookahead(
                f"at step {count} it goes uphill, along the gradient, where the "
                "weighting net would learn the opposite"
            )
        moves += "x" if pulled.any() else "-"
    if re.search("x-+x", moves):
        raise UnfitLookahead(*_MOVES_AT_TIMES)

    # What has no gradient: every other unit, as after a ReLU, beside live ones, so that
    # a norm over all of them (clipping) is not zero; then every other array as well.
    leaves, structure = jax.tree.flatten(gradient)
    units = [np.resize([0, 1], x.shape).astype(x.dtype) * x for x in leaves]
    halves = [
        [x * (i % 2 == half) for i, x in enumerate(units)]
        for half in range(2)
        if len(leaves) > 1
    ]
    for dead in (units, *halves):
        for pulled, _ in steps(structure.unflatten(dead), 2):
            if not np.isfinite(pulled).all():
                raise UnfitLookahead(
                    "the derivative of its update is not finite where a gradient is "
                    "exactly zero (sqrt at 0)",
                    _eps_root(trial),
                )


def _flat(tree):
    """As one vector, in a type that holds all others."""
    leaves = [np.ravel(x).astype(np.complex128) for x in jax.tree.leaves(tree)]
    return np.concatenate(leaves)


def _eps_root(trial):
    """How to cure an optimizer that is NaN at gradients of zero, where one can."""
    names = set(_state_names(trial.opt_state))
    if names & NOT_CURED or not names & CURED_BY_EPS_ROOT:
        return None
    tiny = max(jnp.finfo(x.dtype).tiny for x in jax.tree.leaves(trial.params))
    value = "1e-16" if tiny < 1e-16 else "1e-4"  # half precision rounds it to zero
    return f"give it an eps_root > 0, e.g. optax.adam(1e-3, eps_root={value})"


def _state_names(node) -> Iterator[str]:
    """Names of the classes that a state is made of."""
    yield type(node).__name__
    for child in jax.tree.leaves(node, is_leaf=lambda x: x is not node):
        if child is not node:
            yield from _state_names(child)
