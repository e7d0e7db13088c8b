"""What a run is set to where nobody chose, by the kind and the size of its data.

The scikit-learn front and `configs/own_data.py` ask here, so that both train alike.
"""

import math
from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np

from cmwjax.data.dataset import Dataset

SMALLEST_CONV = 12  # pixels per side from which on convolutions have something to see
LARGEST_IMAGE = 64  # pixels per side that images on disk come down to, for CPUs
LOOKED_AT = 100  # images on disk whose sizes count for all
STEPS = 1500  # that a run should have, if its epochs are neither too few nor too many
EPOCHS = (15, 60)
# Words of their own soon tell every text apart, whatever its label.
EPOCHS_OF_TEXTS = 10
BATCH = (8, 128)  # samples in a step, for small and for large sets


class Size(NamedTuple):
    """What defaults depend on.

    Attributes:
      kind: of the inputs, one of `cmwjax.data.view.KINDS`.
      shape: of one input.
      counts: samples to train on of each given class, C.
      trusted: how many samples are trusted; None: nobody is.
    """

    kind: str
    shape: Sequence[int]
    counts: Sequence[int]
    trusted: int | None = None


def size_of(dataset: Dataset, validation: float = 0.0) -> Size:
    """The size of a data set, less what is trusted or validates.

    Args:
      dataset: of classes.
      validation: a share of what is left to validate with.
    """
    learned = np.ones(len(dataset.train_labels), bool)
    for index in (dataset.trusted_index, dataset.validation_index):
        if index is not None:
            learned[index] = False
    labels = dataset.train_labels
    if dataset.observed_labels is not None:
        labels = dataset.observed_labels
    labels = labels[learned & (labels >= 0)]
    sizes = np.bincount(labels, minlength=dataset.num_classes)
    # One of each class is never set aside.
    counts = np.maximum(np.floor(sizes * (1 - validation)), np.minimum(sizes, 1))
    shape = dataset.train_inputs.shape[1:]
    if dataset.files is not None:
        shape = (side_of(dataset),) * 2 + (3,)
    trusted = dataset.trusted_index
    return Size(
        kind=dataset.kind,
        shape=shape,
        counts=counts.astype(int).tolist(),
        trusted=None if trusted is None else len(trusted),
    )


def side_of(dataset: Dataset) -> int:
    """Pixels per side of a crop for images on disk: the median shorter side.

    It is at most `LARGEST_IMAGE`. Images that cannot be read do not count.
    """
    from PIL import Image

    files, sides = dataset.files, []
    if files is None:
        return min(dataset.train_inputs.shape[1:3])
    count = len(dataset.train_labels)
    for position in np.linspace(0, count - 1, min(count, LOOKED_AT)).astype(int):
        try:
            with Image.open(BytesIO(files.train.read(int(position)))) as image:
                sides.append(min(image.size))
        except Exception:  # the run will list them
            continue
    return min(LARGEST_IMAGE, int(np.median(sides or [LARGEST_IMAGE])))


def fit_to(config: Any, size: Size) -> None:
    """Sets network, batches, epochs, learning rates and meta set of a configuration.

    Without trusted samples the meta set is what the classifier finds easiest, after it
    has been trained for a while: what an untrained one does means nothing.

    Args:
      config: changes.
      size: of the data.
    """
    samples = int(np.sum(size.counts))
    batch = _batch_size(samples)
    steps = max(1, samples // batch)
    config.epochs = int(np.clip(math.ceil(STEPS / steps), *EPOCHS))
    if size.kind == "tokens":
        config.epochs = EPOCHS_OF_TEXTS
    config.data.batch_size = batch
    config.data.labels = "given"
    _meta_set(config, size, batch)
    _network(config, size)
    config.optim.schedule.name = "cosine"
    config.weighting.num_families = min(3, len(set(size.counts)))
    config.mixup.alpha, config.mixup.meta_alpha = 0.2, 1.0
    config.ema.decay = float(np.clip(1 - 1 / steps, 0.9, 0.997))  # about an epoch


def of_methods(epochs: int) -> dict[str, dict[str, Any]]:
    """What some methods need whatever the data: method -> fields that differ.

    Args:
      epochs: of a run.
    """
    learned_before = {"warmup_epochs": max(1, epochs // 10)}
    return {
        "plc": learned_before,  # what an untrained classifier says means nothing
        "rrm": learned_before,
        "ldam_drw": {
            "model": {"options": {"head": "cosine"}},
            # Its deferred weights, from epoch 160 of 200 in its paper.
            "warmup_epochs": epochs * 4 // 5,
        },
        "l2rw": {"meta_every": 1},  # their weights are good for one step
        "mcw": {"meta_every": 1},
    }


def _batch_size(samples: int) -> int:
    """A multiple of 4, or less for a handful of samples."""
    wanted = int(np.clip(samples // 32, *BATCH))
    batch = min(wanted, samples)
    return batch // 4 * 4 or batch


def _meta_set(config: Any, size: Size, batch: int) -> None:
    meta, rarest = config.meta_set, min(size.counts)
    if size.trusted is None:
        meta.policy = "lowest_loss"
        meta.per_class = int(np.clip(rarest // 4, 1, 10))
        meta_size = meta.per_class * len(size.counts)
        config.warmup_epochs = max(1, config.epochs // 10)
    else:
        meta.policy, meta_size = "external", size.trusted
        config.warmup_epochs = 1  # methods that correct labels rely on it
    meta.batch_size = batch
    if min(meta_size, batch) < 4 or batch % 4:
        config.data.shards = 1


def _network(config: Any, size: Size) -> None:
    model, optim = config.model, config.optim
    if size.kind == "tokens":
        model.name, model.options = "text", {"embedding": 64, "hidden": ()}
        optim.name = "adam"  # the mean over a text leaves small gradients
        optim.learning_rate, optim.weight_decay = 3e-3, 0.0
    elif size.kind == "images" and min(size.shape[:2]) >= SMALLEST_CONV:
        model.name, model.options = "small_conv", {}
        optim.learning_rate = 0.05
    else:
        length = math.prod(size.shape)
        wide = length >= 256
        model.name = "mlp"
        model.options = {"hidden": (256,) if wide else (128, 64)}
        # A step moves outputs by the squared length of an input, which grows with it;
        # the mean over a larger batch allows for a longer one.
        of_batch = 6e-3 * config.data.batch_size / BATCH[1]
        of_wide = max(2e-3, min(of_batch, 2.5 / length))
        optim.learning_rate = of_wide if wide else 0.03
