"""The meta step of CMW-Net: virtual step, lookahead, outer gradient, real step.

Everything here is a pure function of arrays. The same function runs under
`jax.jit`, `jax.pmap`, `jax.vmap(axis_name=...)` and `jax.shard_map`.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from cmwjax.core.forward import (
    Batch,
    LossFn,
    MemoryFn,
    MetaLossFn,
    Metrics,
    MetricsFn,
    Params,
    WeightFn,
    all_mean,
    check_choice,
    check_losses,
    forward_pass,
    is_inexact,
)
from cmwjax.core.lookahead import (
    check_optimizer_lookahead,
    of_params,
    optimizer_update,
)
from cmwjax.core.meshes import on_their_mesh
from cmwjax.randomness import Purpose, fold

LOOKAHEADS = ("sgd", "optimizer")


class MetaState(NamedTuple):
    """All that a run carries from step to step: one immutable tree of arrays."""

    step: jax.Array  # int32 []
    key: jax.Array  # PRNG key; never replaced, always folded; see `randomness`
    params: Params
    model_state: Any  # batch statistics and the like
    opt_state: optax.OptState
    meta_params: Params  # the weighting net
    meta_opt_state: optax.OptState
    skipped: jax.Array  # int32 [], updates skipped since the start
    skipped_in_a_row: jax.Array  # int32 [], of which without a good one since
    memory: Any = ()  # what `memory_fn` keeps of the samples

    @classmethod
    def create(
        cls,
        *,
        params: Params,
        meta_params: Params,
        tx: optax.GradientTransformation,
        meta_tx: optax.GradientTransformation | None,
        model_state: Any = None,
        key: jax.Array | None = None,
        memory: Any = (),
    ) -> "MetaState":
        """State at step 0.

        Args:
          params: parameters of the classifier.
          meta_params: parameters of the weighting net.
          tx: optimizer of the classifier.
          meta_tx: optimizer of the weighting net; None when it stays frozen.
          model_state: whatever `loss_fn` hands on beside the parameters.
          key: PRNG key; `jax.random.key(0)` when not given.
          memory: what `memory_fn` begins with.
        """
        # Distinct arrays: a donated tree must not hold one buffer twice.
        zeros = [jnp.zeros((), jnp.int32) for _ in range(3)]
        return cls(
            step=zeros[0],
            key=jax.random.key(0) if key is None else key,
            params=params,
            model_state={} if model_state is None else model_state,
            opt_state=tx.init(params),
            meta_params=meta_params,
            meta_opt_state=() if meta_tx is None else meta_tx.init(meta_params),
            skipped=zeros[1],
            skipped_in_a_row=zeros[2],
            memory=memory,
        )


@on_their_mesh
def meta_step(
    state: MetaState,
    batch: Batch,
    meta_batch: Batch,
    *,
    loss_fn: LossFn,
    weight_fn: WeightFn,
    tx: optax.GradientTransformation,
    meta_tx: optax.GradientTransformation,
    inner_lr: optax.Schedule | None = None,
    meta_loss_fn: MetaLossFn | None = None,
    metrics_fn: MetricsFn | None = None,
    memory_fn: MemoryFn | None = None,
    lookahead: str = "sgd",
    lookahead_mask: Any | Callable[[Params], Any] | None = None,
    normalisation: str = "mean",
    trusted_share: float = 0.0,
    lean: bool = False,
    axis_name: str | None = None,
) -> tuple[MetaState, Metrics]:
    r"""Trains the weighting net by a one-step lookahead, then the classifier by it.

    With classifier :math:`w`, weighting net :math:`\Theta`, losses :math:`\ell_i`
    and coefficients :math:`v_i(\Theta)` on a batch of n:

    .. math::
      \hat w(\Theta) = w - \alpha \nabla_w \tfrac1n \sum_i v_i(\Theta)\,\ell_i(w)

    .. math::
      \Theta' = \Theta - m \bigl(\nabla_\Theta L^{meta}(\hat w(\Theta)) \bigr)

    .. math::
      w' = w - t \bigl(\nabla_w \tfrac1n \sum_i v_i(\Theta')\,\ell_i(w) \bigr)

    where m and t stand for what `meta_tx` and `tx` make of a gradient.

    Virtual and real step share one forward pass and one linear pullback; the outer
    gradient is `jax.grad` through that pullback, which JAX transposes into one
    forward-mode pass. Cost: (7 + 3 m/n)/3 of an ordinary step for a meta batch of m.

    Args:
      state: current state.
      batch: training batch, leaves with leading dimension n.
      meta_batch: trusted batch, leaves with leading dimension m.
      loss_fn: `(params, model_state, batch, key) -> (losses, model_state)`, losses
        [n] or [n, T], unreduced. Its key differs between steps and, under a mapped
        axis, between devices. Virtual and real step see the same one.
      weight_fn: `(meta_params, losses, batch) -> coefficients`, shaped like losses,
        which arrive with gradients stopped.
      tx: optimizer of the classifier. It is handed the extra arguments it asks for of
        `value` (the weighted loss), `grad`, `value_fn`, `obj_fn` and `grad_fn`
        (functions of the parameters, weights held; not in the virtual step).
      meta_tx: optimizer of the weighting net; the same with the meta loss.
      inner_lr: schedule of the virtual step's learning rate, called with
        `state.step`; needed for `lookahead='sgd'`.
      meta_loss_fn: `(params, model_state, meta_batch, key) -> [m]`. By default the
        losses of `loss_fn`; required when those have several terms, [n, T].
      metrics_fn: `(meta_params, losses, batch) -> tree of means over the batch`;
        returned, averaged over devices, as `metrics['weighting']`.
      memory_fn: `(memory, losses, batch) -> memory`, what is to be remembered of the
        samples as `state.memory`, the same on all devices; losses are those of
        `loss_fn` at the current parameters.
      lookahead: `'sgd'`, a plain SGD step of size `inner_lr` (the authors' choice),
        or `'optimizer'`, the step `tx` would take now, uncommitted. Optimizers
        whose update has no derivative that tells the weighting net anything are
        refused; docs/optimizers.md lists them.
      lookahead_mask: which parameters the virtual step moves, a tree of truth values
        like `params` or a function that makes it of them, as for `optax.masked`; None
        for all. An approximation: with the last layer alone, under `jit`, a step costs
        (3 + m/n)/3 of an ordinary one, for neither it nor the meta batch is followed
        any deeper (which a trusted share asks for: (3 + 3 m/n)/3).
      normalisation: `'mean'` divides by n, `'weights'` by the sum of coefficients
        with its gradient stopped.
      trusted_share: share s, in [0, 1), of the meta batch in what the classifier
        learns: the real step goes along (1 - s) times the weighted gradient plus s
        times the gradient of the meta loss at the virtual step, which is known by
        then and costs nothing. For meta samples whose labels are trusted; 0 is the
        paper's form, in which they only teach the weighting net.
      lean: forgets the pullback after the virtual step and builds it anew, once,
        for the outer gradient and the real step: the same numbers for one more
        forward pass, (8 + 3 m/n)/3 of an ordinary step, in about its memory.
      axis_name: mapped axis over which batches are split.

    Returns:
      The next state and `loss` (weighted), `grad_norm`, `meta_loss` (after the
      virtual step), `meta_grad_norm`, `skipped` (0 or 1) and `weighting`. When any
      loss or gradient is not finite, or what was finite in parameters, model_state,
      optimizer states or weighting net would be so no longer, all of these stay as
      they were, `step` advances and the skip counters grow.

    Raises:
      ValueError: on an unknown mode, a share outside [0, 1), a missing `inner_lr` or
        `meta_loss_fn`, losses or coefficients of the wrong shape, an empty batch, an
        optimizer unfit for the lookahead.

    Examples:
      >>> import jax, jax.numpy as jnp, optax
      >>> from functools import partial
      >>> def loss_fn(params, model_state, batch, key):
      ...     return (batch['x'] @ params - batch['y']) ** 2, model_state
      >>> def weight_fn(meta_params, losses, batch):
      ...     return jax.nn.sigmoid(meta_params[0] - meta_params[1] * losses)
      >>> tx, meta_tx = optax.sgd(0.1), optax.adam(1e-3)
      >>> state = MetaState.create(params=jnp.zeros(3), meta_params=jnp.zeros(2),
      ...                          tx=tx, meta_tx=meta_tx)
      >>> step = partial(meta_step, loss_fn=loss_fn, weight_fn=weight_fn, tx=tx,
      ...                meta_tx=meta_tx, inner_lr=optax.constant_schedule(0.1))
      >>> batch = {'x': jnp.ones((8, 3)), 'y': jnp.arange(8.)}
      >>> trusted = {'x': jnp.ones((4, 3)), 'y': jnp.ones(4)}
      >>> alone, metrics = jax.jit(step)(state, batch, trusted)

      Over n devices, the step names the axis; `pmap` wants a batch cut.

      >>> n, named = jax.device_count(), partial(step, axis_name='data')
      >>> cut = partial(jax.tree.map, lambda x: x.reshape(n, -1, *x.shape[1:]))
      >>> mapped = jax.pmap(named, 'data', in_axes=(None, 0, 0), out_axes=None)
      >>> on_pmap, _ = mapped(state, cut(batch), cut(trusted))
      >>> P, Auto = jax.sharding.PartitionSpec, jax.sharding.AxisType.Auto
      >>> sharded = jax.jit(jax.shard_map(
      ...     named, mesh=jax.make_mesh((n,), ('data',), axis_types=(Auto,)),
      ...     in_specs=(P(), P('data'), P('data')), out_specs=P()))
      >>> on_mesh, _ = sharded(state, batch, trusted)
      >>> [bool(jnp.allclose(alone.params, s.params)) for s in (on_pmap, on_mesh)]
      [True, True]

      On an explicit mesh nothing is mapped: place the batches on it. Where JAX has no
      rule for an operation's sharding, as for the gradient of a convolution, set the
      mesh by `jax.set_mesh` and pass the step, as its `loss_fn`,
      `jax.sharding.auto_axes(loss_fn, out_sharding=(P('data'), P()))`.

    References:
      Shu, Yuan, Meng, Xu, `CMW-Net <https://arxiv.org/abs/2202.05613>`_, 2023,
      the bilevel objective and its one-step approximation.

      Taraday, Baskin, `Enhanced Meta Label Correction for Coping with Label Corruption
      <https://arxiv.org/abs/2305.12961>`_ (EMLC), ICCV 2023, the exact one-step
      meta-gradient by one forward-mode product, for a teacher that corrects labels.
      Here the optimizer is any that can look ahead, batch normalisation and several
      loss terms are in it, virtual and real step share one pullback, and batches may be
      split over devices.
    """
    check_choice("lookahead", lookahead, LOOKAHEADS)
    if not 0 <= trusted_share < 1:
        raise ValueError(
            f"trusted_share={trusted_share} must be at least 0 and below 1; at 1 the "
            "classifier would learn from the meta batch alone."
        )
    mean = partial(all_mean, axis_name=axis_name)
    key, meta_key = _step_keys(state, axis_name)
    forward_at = partial(
        forward_pass,
        model_state=state.model_state,
        batch=batch,
        key=key,
        loss_fn=loss_fn,
        weight_fn=weight_fn,
        normalisation=normalisation,
        axis_name=axis_name,
    )
    forward = forward_at(state.params)
    meta_loss_name = "meta_loss_fn"
    if meta_loss_fn is None:
        meta_loss_fn = _losses_alone(loss_fn, forward.losses)
        meta_loss_name = "loss_fn"

    virtual_tx, virtual_state = _virtual_optimizer(state, tx, lookahead, inner_lr)
    moves = _masked(lookahead_mask, state.params)

    # What the meta batch says of the classifier is the slope in a zero that is added.
    zero = optax.tree.zeros_like(state.params)

    def loss_ahead(loss, gradient, zero):
        updates, _ = optimizer_update(
            virtual_tx, gradient, virtual_state, state.params, value=loss, grad=gradient
        )
        ahead = moves(optax.apply_updates(state.params, updates), state.params)
        ahead = optax.tree.add(ahead, zero)
        losses = meta_loss_fn(ahead, state.model_state, meta_batch, meta_key)
        check_losses(losses, meta_loss_name, "meta_batch")
        return mean(jnp.mean(losses))

    def lookahead_loss(meta_params, zero):
        return loss_ahead(*forward.loss_and_gradient(meta_params), zero)

    if lean:
        # The chain rule by hand, so that the pullback is not needed on both sides of
        # the meta batch's passes: first the slopes of the meta loss in the virtual
        # step's loss and gradient, ...
        virtual = forward.loss_and_gradient(state.meta_params)
        meta_loss, slopes = jax.value_and_grad(loss_ahead, (0, 1, 2))(*virtual, zero)
        *slopes, trusted_gradient = mean(slopes)
        forward = forward_at(_after(slopes, state.params))

        # ... then the derivative of these two along them.
        def lookahead_loss_along(meta_params):
            virtual = forward.loss_and_gradient(meta_params)
            return mean(optax.tree.vdot(virtual, tuple(slopes)))

        meta_gradient = jax.grad(lookahead_loss_along)(state.meta_params)
    else:
        meta_loss, (meta_gradient, trusted_gradient) = jax.value_and_grad(
            lookahead_loss, (0, 1)
        )(state.meta_params, zero)
        trusted_gradient = mean(trusted_gradient)
    meta_gradient = mean(meta_gradient)
    meta_updates, meta_opt_state = optimizer_update(
        meta_tx,
        meta_gradient,
        state.meta_opt_state,
        state.meta_params,
        value=meta_loss,
        grad=meta_gradient,
        **of_params(lambda meta_params: lookahead_loss(mean(meta_params), zero)),
    )
    meta_params = optax.apply_updates(state.meta_params, meta_updates)

    proposed = state._replace(meta_params=meta_params, meta_opt_state=meta_opt_state)
    state, metrics = _real_step(
        state,
        proposed,
        forward,
        tx,
        metrics_fn,
        memory_fn,
        (meta_loss, meta_gradient),
        axis_name,
        (trusted_share, trusted_gradient),
    )
    metrics["meta_loss"] = meta_loss
    metrics["meta_grad_norm"] = optax.tree.norm(meta_gradient)
    return state, metrics


@on_their_mesh
def weighted_step(
    state: MetaState,
    batch: Batch,
    *,
    loss_fn: LossFn,
    weight_fn: WeightFn,
    tx: optax.GradientTransformation,
    metrics_fn: MetricsFn | None = None,
    memory_fn: MemoryFn | None = None,
    normalisation: str = "mean",
    axis_name: str | None = None,
) -> tuple[MetaState, Metrics]:
    """The real step of `meta_step` with the weighting net left as it is.

    For the steps between meta steps, for transfer of a learned weighting function
    and, with `weight_fn` constant one, for ordinary training. Arguments, results,
    errors and skipped updates as in `meta_step`.
    """
    key, _ = _step_keys(state, axis_name)
    forward = forward_pass(
        state.params,
        model_state=state.model_state,
        batch=batch,
        key=key,
        loss_fn=loss_fn,
        weight_fn=weight_fn,
        normalisation=normalisation,
        axis_name=axis_name,
    )
    return _real_step(state, state, forward, tx, metrics_fn, memory_fn, (), axis_name)


def _real_step(
    state,
    proposed,
    forward,
    tx,
    metrics_fn,
    memory_fn,
    must_be_finite,
    axis_name,
    trusted=(0.0, None),
):
    """Completes `proposed` by the step on w; keeps `state` if not all is finite."""
    loss, gradient = forward.loss_and_gradient(proposed.meta_params)
    share, other = trusted
    if share:
        gradient = jax.tree.map(
            lambda g, other: (1 - share) * g + share * other, gradient, other
        )
    updates, opt_state = optimizer_update(
        tx,
        gradient,
        state.opt_state,
        state.params,
        value=loss,
        grad=gradient,
        **of_params(partial(forward.loss_at, proposed.meta_params)),
    )
    proposed = proposed._replace(
        params=optax.apply_updates(state.params, updates),
        model_state=forward.model_state,
        opt_state=opt_state,
    )
    old, new = (_learned(s) for s in (state, proposed))
    good = _all_finite((loss, gradient, must_be_finite), old, new)
    # Whatever an optimizer proposes on which device, all decide alike.
    good = all_mean(good.astype(jnp.float32), axis_name) == 1
    bad = 1 - good.astype(jnp.int32)
    if memory_fn is not None:
        old["memory"] = state.memory
        new["memory"] = forward.memory(memory_fn, state.memory)
    state = state._replace(
        **jax.tree.map(partial(jnp.where, good), new, old),
        step=state.step + 1,
        skipped=state.skipped + bad,
        skipped_in_a_row=(state.skipped_in_a_row + 1) * bad,
    )
    metrics = {"loss": loss, "grad_norm": optax.tree.norm(gradient), "skipped": bad}
    if metrics_fn is not None:
        metrics["weighting"] = forward.metrics(metrics_fn, proposed.meta_params)
    return state, metrics


def _learned(state):
    names = ("params", "model_state", "opt_state", "meta_params", "meta_opt_state")
    return {name: getattr(state, name) for name in names}


def _after(done, params):
    """`params`, to the bit, but not to be had before `done`, a tree of arrays.

    Without it the compiler finds that both forward passes are one and keeps its
    activations. XLA drops optimization barriers on CPUs before it looks for that; it
    cannot know that this factor is 1. If it is not, the step is skipped anyway.
    """
    one = _all_finite(done, (), ())
    return jax.tree.map(lambda x: x * one.astype(x.dtype), params)


def _virtual_optimizer(state, tx, lookahead, inner_lr):
    """The optimizer that looks ahead, and its state."""
    if lookahead == "optimizer":
        check_optimizer_lookahead(tx, state.params, state.opt_state)
        return tx, state.opt_state
    if not callable(inner_lr):
        raise ValueError(
            f"inner_lr={inner_lr!r} is not a schedule, which lookahead='sgd' needs; "
            "pass e.g. optax.constant_schedule(0.1)."
        )
    # Plain SGD, without momentum or decay: the authors' has neither.
    plain = optax.sgd(inner_lr(state.step))
    return plain, plain.init(state.params)


def _masked(mask, params):
    """A function that takes of two trees the first where the mask is true."""
    if mask is None:
        return lambda chosen, others: chosen
    mask = mask(params) if callable(mask) else mask
    if jax.tree.structure(mask) != jax.tree.structure(params):
        raise ValueError(
            "lookahead_mask is no tree like params, whose parts are "
            f"{jax.tree.structure(params)}, but {jax.tree.structure(mask)}; give each "
            "parameter a truth value."
        )
    if not any(jax.tree.leaves(mask)):
        raise ValueError(
            "lookahead_mask has no parameter: nothing looks ahead, and the weighting "
            "net would learn nothing; choose the last layer at least."
        )
    return partial(jax.tree.map, lambda m, x, other: x if m else other, mask)


def _step_keys(state, axis_name):
    key = fold(state.key, Purpose.STEP, state.step)
    if axis_name is not None:
        key = jax.random.fold_in(key, lax.axis_index(axis_name))
    return jax.random.split(key)


def _losses_alone(loss_fn, losses):
    """The default `meta_loss_fn`; `losses` are those of the training batch."""
    if losses.ndim > 1:
        raise ValueError(
            f"loss_fn returns {losses.shape[1]} loss terms per example, so "
            "meta_loss_fn must say what the meta batch's loss is; pass one that "
            "returns shape [m]."
        )
    return lambda *arguments: loss_fn(*arguments)[0]


def _all_finite(tree, old, new):
    """Whether `tree` is finite, and `new` wherever `old` is.

    Some optimizers keep infinities, as the best value so far of no value yet.
    """
    finite = [jnp.isfinite(x) for x in jax.tree.leaves(tree) if is_inexact(x)]
    finite += [
        jnp.isfinite(after) | ~jnp.isfinite(before)
        for before, after in zip(*map(jax.tree.leaves, (old, new)), strict=True)
        if is_inexact(before)
    ]
    # What has one shape is put together first: XLA then reads all of it in one pass.
    together = {}
    for x in finite:
        kind = jax.typeof(x)
        together[kind] = together[kind] & x if kind in together else x
    return reduce(jnp.logical_and, map(jnp.all, together.values()))
