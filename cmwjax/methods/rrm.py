"""RRM: between epochs, the highest losses give their weight to the lowest."""

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmwjax.methods.memory import Memory, chain
from cmwjax.methods.method import Context, Method, check_range

TINY = np.finfo(np.float32).tiny  # a probability whose logarithm is finite


def rrm(
    context: Context, *, noise_rate: float = 0.2, every: int = 1, step: float = 1.0
) -> Method:
    """The Rockafellian relaxation method, around the loss of the run.

    Its objective is that of `weighting.normalisation='mean'`. Divided by the sum of its
    weights, a batch with a sample that has gained many would learn from that one alone.

    Args:
      context: its loss is what is weighted and minimised.
      noise_rate: an estimate of the share of wrong labels, in [0, 1): the share of
        samples that lose their weight. The paper has no default for it; 0 is ERM.
      every: epochs from one weighting to the next, at least 1. Each costs a forward
        pass over the training set.
      step: how far weights go to the new ones, in (0, 1]; the paper's mu, which is 1
        where the noise rate is estimated.
    """
    check_range("noise_rate", noise_rate, 0, 0.999)
    check_range("every", every, 1)
    check_range("step", step, 1e-6, 1)
    base = context.base
    weights = relaxed_weights(base, noise_rate=noise_rate, every=every, step=step)
    return base._replace(
        weight_fn=remembered_weight, memory=chain(base.memory, weights)
    )


def remembered_weight(meta_params, losses, batch):
    """The weight that the memory has for the sample; one where nothing was read."""
    del meta_params
    return batch.get("weight", jnp.ones_like(losses))


def relax(losses: ArrayLike, *, noise_rate: float) -> NDArray[np.float32]:
    r"""Weights that minimise the relaxed risk, in closed form.

    Samples may differ in their share of the risk, at a price:

    .. math::
      \min_u \sum_i (\tfrac1N + u_i)\,\ell_i + \tfrac\gamma2 \|u\|_1
      \quad\text{with}\quad \sum_i u_i = 0,\; u_i \ge -\tfrac1N

    Whatever is above the least loss by more than :math:`\gamma` loses its share, and
    the samples of the least loss have it, in equal parts. The noise rate sets
    :math:`\gamma`: the quantile at 1 - `noise_rate` is the highest loss that stays.

    Args:
      losses: one per sample, `[N]`; NaN is above all others.
      noise_rate: in [0, 1).

    Returns:
      Weights :math:`1 + N u_i`, `[N]`, at least 0, with mean one: 0 for at least
      `noise_rate` of the N - 1 highest losses, unless some are equal.

    References:
      Chen, Chern, Eckstrand, Mahapatra, Royset, `RRM
      <https://arxiv.org/abs/2405.20531>`_, 2024; at ICLR 2026 as `Enhancing Learning
      with Noisy Labels via Rockafellian Relaxation
      <https://openreview.net/forum?id=g4EpGiN5X3>`_.
    """
    losses = np.asarray(losses)
    ranked = np.sort(losses)  # NaN is last
    highest = ranked[int((1 - noise_rate) * (len(losses) - 1))]
    loses, gains = ~(losses <= highest), losses == ranked[0]
    weights = np.where(loses, 0, 1).astype(np.float32)
    weights[gains] += loses.sum() / gains.sum()
    return weights


def relaxed_weights(
    method: Method, *, noise_rate: float, every: int, step: float
) -> Memory:
    """The weight of each sample, one until after the warm-up; then see `relax`.

    Args:
      method: gives the losses.
      noise_rate: as for `rrm`.
      every: as for `rrm`.
      step: as for `rrm`.
    """

    def init(problem):
        return {"weights": np.ones(len(problem.labels), np.float32)}

    def before(memory, batch, probabilities, axis_name):
        del probabilities, axis_name
        return memory, {**batch, "weight": memory["weights"][batch["index"]]}

    def refresh(memory, problem, epoch, predict):
        if epoch < 0 or epoch % every:
            return memory
        index = problem.train_index
        labels = problem.labels[index]
        features = method.class_features(problem.group_counts)
        batch = {name: values[labels] for name, values in features.items()}
        if problem.candidates is not None:
            batch["candidates"] = problem.candidates[index]
        # Logits but for a constant of each sample, which no loss notices.
        logits = np.log(np.maximum(predict(), TINY))
        losses = method.losses(jnp.asarray(logits), {**batch, "label": labels})
        weights = memory["weights"].copy()
        new = relax(losses, noise_rate=noise_rate)
        weights[index] += np.float32(step) * (new - weights[index])
        return {"weights": weights}

    def weigh(memory, index):
        return memory["weights"][index]

    return Memory(init, before, refresh=refresh, weigh=weigh, needs_warmup=True)
