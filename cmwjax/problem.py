"""What a run learns from: data, the noise put into it, the meta set, the families."""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from cmwjax import data, meta_set, noise
from cmwjax.weighting import Families, group_classes

# Streams of randomness under the one seed of a run.
NOISE, META_SET = 1, 2


class Problem(NamedTuple):
    """Arrays over the whole training set, `[N]`, and who plays which part in it."""

    dataset: data.Dataset
    labels: np.ndarray  # int32 [N], as observed; trusted where held out
    train_index: np.ndarray  # int32, positions that training visits
    meta_index: np.ndarray | None  # int32, the held-out meta set, if there is one
    families: Families  # of the observed class sizes in train_index

    @property
    def true_labels(self) -> np.ndarray:
        """int32 [N], as the data set has them."""
        return self.dataset.train_labels

    @property
    def is_wrong(self) -> np.ndarray:
        """bool [N], where noise changed the label."""
        return self.labels != self.true_labels


def prepare(config: ConfigDict) -> Problem:
    """Loads the data, sets the meta set aside, corrupts labels, groups classes.

    Raises:
      ValueError: if the data are unfit, see `data.load`, or the corrupted labels
        leave a class without samples.
    """
    dataset = data.load(config.data.name, train_size=config.data.train_size or None)
    num_classes = dataset.num_classes
    if config.meta_set.policy == "held_out":
        meta_index, train_index = meta_set.held_out(
            dataset.train_labels,
            per_class=config.meta_set.per_class,
            num_classes=num_classes,
            seed=[config.seed, META_SET],
        )
    else:
        meta_index = None
        train_index = np.arange(len(dataset.train_labels), dtype=np.int32)
    labels = dataset.train_labels.copy()
    labels[train_index] = noise.corrupt(
        labels[train_index],
        kind=config.noise.kind,
        rate=config.noise.rate,
        num_classes=num_classes,
        seed=[config.seed, NOISE],
        class_map=config.noise.class_map,
    ).labels
    counts = data.class_counts(labels[train_index], num_classes)
    if not counts.all():
        raise ValueError(
            f"noise.rate={config.noise.rate} leaves class(es) "
            f"{np.flatnonzero(counts == 0).tolist()} without samples; lower it."
        )
    families = group_classes(counts, config.weighting.num_families)
    return Problem(dataset, labels, train_index, meta_index, families)
