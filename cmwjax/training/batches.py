"""What a step is given: samples, augmented, with what the method adds to them."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from cmwjax.core.meta import MetaState
from cmwjax.data import augment
from cmwjax.data.table import Table, make_batch
from cmwjax.data.view import View
from cmwjax.methods import mixup
from cmwjax.methods.method import Method
from cmwjax.methods.slot_weights import slots
from cmwjax.randomness import Purpose, fold
from cmwjax.training.outputs import training_outputs
from cmwjax.training.state import RunState

Batch = dict[str, jax.Array]

MIXING = Purpose.MIX_SHARE, Purpose.MIX_PARTNERS
META_MIXING = Purpose.MIX_META_SHARE, Purpose.MIX_META_PARTNERS


class Batches:
    """Makes the batches of a run's steps; every method is a pure function.

    Args:
      config: a checked configuration.
      model: the classifier.
      method: what the batches are for.
      view: how inputs are prepared.
      axis_name: mapped axis over which batches are split.
      period: number of steps for which a sample is augmented in one way.
    """

    def __init__(
        self,
        config: Any,
        model: nn.Module,
        method: Method,
        view: View,
        axis_name: str | None,
        period: int,
    ) -> None:
        self._config = config
        self._outputs = training_outputs(model, config.optim.accumulate)
        self._method, self._view = method, view
        self._axis_name, self._period = axis_name, period

    def plain(self, learner: MetaState, table: Table, rows: Batch) -> Batch:
        """Batch for ordinary training."""
        moment, index = learner.step // self._period, rows["index"]
        key = fold(learner.key, Purpose.AUGMENT, moment)
        keys = augment.sample_keys(key, index)
        slot = slots(len(index), self._axis_name)
        if not self._method.two_views:
            batch = make_batch(table, rows, self._view.prepare, keys)
            return {**batch, "slot": slot}
        strong_key = fold(learner.key, Purpose.STRONG_VIEW, learner.step)
        views = self._view.pair(augment.sample_keys(strong_key, slot))
        batch = make_batch(table, rows, views, keys)
        weak, strong = batch["input"]
        return {**batch, "input": weak, "strong": strong, "slot": slot}

    def training(
        self, state: RunState, table: Table, rows: Batch
    ) -> tuple[RunState, Batch]:
        """After the warm-up: the run's state with what was remembered, the batch."""
        batch = self.plain(state.learner, table, rows)
        if self._method.memory is not None:
            state, batch = self._remember(self._method.memory, state, batch)
        if self._method.mixes:
            alpha = self._method.mixup.alpha
            batch = self._mix(state.learner, batch, alpha, MIXING)
        return state, batch

    def warmup(
        self, state: RunState, table: Table, rows: Batch
    ) -> tuple[RunState, Batch]:
        """In the warm-up: the same, without MixUp and most memories."""
        batch = self.plain(state.learner, table, rows)
        memory = self._method.memory
        if memory is not None and memory.in_warmup:
            return self._remember(memory, state, batch)
        return state, batch

    def _remember(self, memory, state, batch):
        probabilities = None
        if memory.predicts:
            state, probabilities = self._predict(state, batch)
        remembered, batch = memory.before(
            state.memory, batch, probabilities, self._axis_name
        )
        return state._replace(memory=remembered), batch

    def meta(
        self, learner: MetaState, table: Table, rows: Batch, remembered: Any = None
    ) -> Batch:
        """Meta batch, given the method's memory; its samples return within an epoch."""
        keys = None
        if self._config.augment.meta:
            key = fold(learner.key, Purpose.META_AUGMENT, learner.step)
            keys = augment.sample_keys(key, rows["index"])
        prepare = self._view.prepare
        if self._method.meta_view == "strong":
            strong_key = fold(learner.key, Purpose.STRONG_META_VIEW, learner.step)
            slot = slots(len(rows["index"]), self._axis_name)
            prepare = self._view.strong_by(augment.sample_keys(strong_key, slot))
        batch = make_batch(table, rows, prepare, keys)
        memory = self._method.memory
        if memory is not None and memory.believed is not None:
            batch = memory.believed(remembered, batch)
        if self._method.mixes_meta:
            alpha = self._method.mixup.meta_alpha
            batch = self._mix(learner, batch, alpha, META_MIXING)
        return batch

    def _mix(self, learner, batch, alpha, purposes):
        # All devices have the same keys.
        share, partners = (fold(learner.key, p, learner.step) for p in purposes)
        here, first = self._config.data.shards, 0  # the virtual shards of this device
        if self._axis_name is not None:
            here //= lax.axis_size(self._axis_name)
            first = lax.axis_index(self._axis_name) * here
        partner = mixup.partners(
            partners,
            shard_size=len(batch["index"]) // here,
            first=first,
            count=here,
        )
        return mixup.mix(batch, mixup.share(share, alpha), partner)

    def _predict(self, state, batch):
        """Probabilities `[B, C]` in training mode, without gradient.

        The teacher's, where there are soft labels; if its batch statistics are not
        averages of the classifier's, they change by this.
        """
        learner = state.learner
        key = fold(learner.key, Purpose.OBSERVE, learner.step, batch["slot"][0])
        net = state.teacher if self._method.soft_labels else learner
        logits, model_state = self._outputs(
            net.params, net.model_state, batch["input"], key
        )
        averaging = self._method.teacher
        own_statistics = averaging is not None and not averaging.batch_stats
        if self._method.soft_labels and own_statistics:
            teacher = state.teacher._replace(model_state=model_state)
            state = state._replace(teacher=teacher)
        probabilities = jax.nn.softmax(logits)
        # What a skipped step predicts must not stay in a memory.
        return state, jnp.where(jnp.isfinite(probabilities), probabilities, 0)
