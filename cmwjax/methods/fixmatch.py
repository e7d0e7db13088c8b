"""FixMatch: what is predicted for one view of a sample is the label of another one.

`batch['candidates']`, bool `[B, C]`, are all classes where a sample has no label, and
this alone where it has one. A step learns the given labels of ordinary views, and of
the other samples the strong view against the likeliest class of the ordinary one, its
pseudo-label.

How much of the other samples is learned, a weight in [0, 1] says: FixMatch's own is
one where the pseudo-label is sure enough, else zero. CMW-Net has, in place of this
threshold, a function of the loss and of the size of the pseudo-class. The paper
announces that for semi-supervised learning and says no more; all of it is our choice:

* The loss is that of the weak view, the logarithm by which the pseudo-label falls short
  of certainty, as the threshold sees it. That of the strong view is an option; it gives
  the weight to what is known already.
* The meta set are the samples with a label, see `meta_set.LABELLED`, in strong views:
  training knows the plain ones by heart, and a lookahead has nothing to improve there.
* The size of a class is the sum of what was predicted for all samples at their last
  visits. Families are made of these sizes before every epoch, and a sample belongs to
  that of its pseudo-class.
"""

from functools import partial

import jax
import jax.numpy as jnp

from cmwjax.core.losses import cross_entropy
from cmwjax.methods.memory import Memory, write
from cmwjax.methods.method import (
    META_VIEWS,
    Batch,
    Method,
    Shares,
    check_choice,
    check_range,
)
from cmwjax.methods.partial import renewed, running_confidences

VIEWS = ("weak", "strong")
TINY = 1e-6  # share of a batch; where there is none of a kind, nothing is divided


def fixmatch(
    *,
    threshold: float = 0.95,
    factor: float = 1.0,
    seen: str = "weak",
    meta_view: str = "strong",
) -> Method:
    """FixMatch; weights of other methods take the place of the threshold.

    With n samples with a label and m without one in a batch, the loss is `sum(CE) / n +
    factor * sum(weight * CE) / m`, if `config.weighting.normalisation` is 'mean'.

    Args:
      threshold: the least probability of a pseudo-label that is learned, in [0, 1]; 0:
        every one is, with weight one.
      factor: of the loss of samples without a label; 0: they are not learned at all.
      seen: 'weak' or 'strong', view of whose loss the weight is a function.
      meta_view: 'strong' or 'plain', view of the meta set that a lookahead is judged
        by; of one that is learned as well, plain views have no loss to tell anything.

    References:
      Sohn et al., `FixMatch <https://arxiv.org/abs/2001.07685>`_, 2020.
    """
    check_range("threshold", threshold, 0, 1)
    check_range("factor", factor, 0)
    check_choice("seen", seen, VIEWS)
    check_choice("meta_view", meta_view, META_VIEWS)
    return Method(
        pseudo_label_loss,
        weight_fn=sure_enough(threshold),
        memory=pseudo_labels(),
        averages=True,
        two_views=True,
        meta_view=meta_view,
        shares=partial(shares, factor=factor, seen=seen),
    )


def pseudo_label_loss(logits: jax.Array, batch: Batch) -> jax.Array:
    """Cross entropy against the label or the pseudo-label, `[B, C]` -> `[B]`.

    Of samples that training does not visit, the pseudo-label is the class that the
    logits themselves have.
    """
    target = batch.get("target")
    if target is None:
        inside = jnp.where(batch["candidates"], logits, -jnp.inf)
        target = jnp.argmax(inside, axis=-1)
    return cross_entropy(logits, target)


def sure_enough(threshold: float):
    """FixMatch's mask as `weight_fn`: 1 where a pseudo-label is sure enough, else 0."""

    def weight_fn(meta_params, losses, batch):
        del meta_params
        # Of samples that are not visited, the loss is that of the likeliest class.
        weak_loss = batch.get("weak_loss", losses)
        return (jnp.exp(-weak_loss) >= threshold).astype(losses.dtype)

    return weight_fn


def has_label(batch: Batch) -> jax.Array:
    """Whether samples have a label, bool `[B]`: a single candidate."""
    return jnp.sum(batch["candidates"], axis=-1) == 1


def shares(
    losses: jax.Array, batch: Batch, *, factor: float, seen: str = "weak"
) -> Shares:
    """Coefficients `[B]` of the given labels, and factors of weights of all others.

    The mean over the batch is then the mean over samples with a label, and `factor`
    times that over those without one. Every device has the same shares of both, for
    each virtual shard has.
    """
    if seen == "weak":
        losses = batch.get("weak_loss", losses)
    labelled = has_label(batch)
    given, others = (x.astype(jnp.float32) for x in (labelled, ~labelled))
    return Shares(
        given / jnp.maximum(jnp.mean(given), TINY),
        factor * others / jnp.maximum(jnp.mean(others), TINY),
        losses,
    )


def pseudo_labels() -> Memory:
    """Predictions for all samples as they were visited last, and families by them.

    At first every sample without a label counts for all classes alike, and families are
    those of the problem.
    """
    confidences = running_confidences()

    def before(memory, batch, probabilities, axis_name):
        index, store = batch["index"], memory["confidences"]
        new = renewed(probabilities, store[index], batch["candidates"])
        target = jnp.argmax(new, axis=-1)
        memory = {**memory, "confidences": write(store, index, new, axis_name)}
        batch = {**batch}
        strong = batch.pop("strong")
        return memory, {
            **batch,
            "input": where(has_label(batch), batch["input"], strong),
            "target": target,
            "weak_loss": -jnp.log(jnp.maximum(jnp.max(new, axis=-1), TINY)),
            "family": memory["family"][target],
        }

    return confidences._replace(before=before, in_warmup=False)


def where(chosen: jax.Array, first, second):
    """Samples of the first tree where they are chosen, else of the second; `[B]`."""

    def of_leaves(x, y):
        return jnp.where(chosen.reshape(-1, *(1,) * (x.ndim - 1)), x, y)

    return jax.tree.map(of_leaves, first, second)
