"""What a step is given: samples, augmented, with what the method adds to them."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmwjax import augment, mixup
from cmwjax.meta import MetaState
from cmwjax.methods import Method
from cmwjax.slot_weights import slots
from cmwjax.table import Table, make_batch

Batch = dict[str, jax.Array]

# Streams of randomness under the key of a run; steps count from 0 and never get there.
AUGMENT, META_AUGMENT, SHARE, PARTNERS, OBSERVE = range(2**31, 2**31 + 5)


class Batches:
    """Makes the batches of a run's steps; every method is a pure function.

    Args:
      config: a checked configuration.
      model: the classifier.
      method: what the batches are for.
      axis_name: mapped axis over which batches are split.
      steps_per_epoch: a sample is augmented in one way for so many steps.
    """

    def __init__(
        self,
        config: Any,
        model: nn.Module,
        method: Method,
        axis_name: str | None,
        steps_per_epoch: int,
    ) -> None:
        self._config, self._model, self._method = config, model, method
        self._axis_name, self._steps_per_epoch = axis_name, steps_per_epoch

    def plain(self, learner: MetaState, table: Table, rows: Batch) -> Batch:
        """Of ordinary training."""
        epoch = learner.step // self._steps_per_epoch
        batch = make_batch(table, rows, self._augmentation(learner, AUGMENT, epoch))
        return {**batch, "slot": slots(len(rows["index"]), self._axis_name)}

    def training(
        self, learner: MetaState, memory: Any, table: Table, rows: Batch
    ) -> tuple[Any, Batch]:
        """After the warm-up: the memory, which may have changed, and the batch."""
        batch = self.plain(learner, table, rows)
        if self._method.memory is not None:
            if self._method.memory.observe is not None:
                probabilities = self._predict(learner, batch)
                memory = self._method.memory.observe(
                    memory, batch, probabilities, self._axis_name
                )
            batch = self._method.memory.read(memory, batch)
        if self._method.mixup:
            batch = self._mix(learner, batch)
        return memory, batch

    def meta(self, learner: MetaState, table: Table, rows: Batch) -> Batch:
        """Of the meta set, whose samples return within an epoch."""
        if not self._config.augment.meta:
            return make_batch(table, rows)
        augmentation = self._augmentation(learner, META_AUGMENT, learner.step)
        return make_batch(table, rows, augmentation)

    def _augmentation(self, learner, stream, moment):
        config = self._config.augment
        if not config.pad and not config.flip:
            return None
        change = partial(
            augment.crop_and_flip, pad=config.pad, mode=config.mode, flip=config.flip
        )
        key = jax.random.fold_in(learner.key, stream)

        def augmentation(images, index):
            return change(images, augment.sample_keys(key, moment, index))

        return augmentation

    def _mix(self, learner, batch):
        def key(stream):  # all devices have the same
            return jax.random.fold_in(
                jax.random.fold_in(learner.key, stream), learner.step
            )

        data = self._config.data
        shard_size = data.batch_size // data.shards
        partner = mixup.partners(
            key(PARTNERS),
            shard_size=shard_size,
            first=batch["slot"][0] // shard_size,
            count=len(batch["slot"]) // shard_size,
        )
        lam = mixup.share(key(SHARE), self._config.mixup.alpha)
        return mixup.mix(batch, lam, partner)

    def _predict(self, learner, batch):
        """Probabilities `[B, C]` in training mode, without gradient or side effect."""
        key = jax.random.fold_in(learner.key, OBSERVE)
        key = jax.random.fold_in(key, learner.step)
        key = jax.random.fold_in(key, batch["slot"][0])
        logits, _ = self._model.apply(
            {"params": learner.params, **learner.model_state},
            batch["image"],
            True,
            mutable=list(learner.model_state),
            rngs={"dropout": key},
        )
        probabilities = jax.nn.softmax(logits)
        # What a skipped step predicts must not stay in a memory.
        return jnp.where(jnp.isfinite(probabilities), probabilities, 0)
