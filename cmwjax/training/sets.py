"""The samples of a run: tables on the devices, and what brings their images there."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray

from cmwjax.bias.problem import Problem
from cmwjax.core.parallel import Layout
from cmwjax.data import decode
from cmwjax.data.dataset import Dataset
from cmwjax.data.encoded import Encoded, EncodedSet, Reader
from cmwjax.data.sources import InMemory, Samples
from cmwjax.data.stream import Streamed, Views, threads
from cmwjax.data.table import Table
from cmwjax.data.unreadable import Listed, Unreadable
from cmwjax.data.view import Statistics, View
from cmwjax.methods.method import Method
from cmwjax.randomness import Purpose, generator

STATISTICS_OF = 1000  # images on disk, drawn at random, give mean and deviation

TINY = 1e-12  # where nothing has a weight, all classes are as frequent


class Sets(NamedTuple):
    """The samples to train on, and those to test with."""

    train: Samples
    # The first one is *the* test set, called 'test'; empty where there is none.
    tests: dict[str, Samples]
    statistics: Statistics  # by which inputs are standardised, on the host


def set_names(problem: Problem) -> tuple[str, ...]:
    """Names of the sets, 'train' first."""
    dataset = problem.dataset
    if not dataset.has_test:
        return ("train",)
    files = dataset.files
    return ("train", "test", *(() if files is None else list(files.tests)[1:]))


def frequencies(
    problem: Problem, weights: NDArray[np.floating] | None = None
) -> NDArray[np.float32]:
    """How much of what is learned is of each class, or group of targets, `[G]`.

    That is the share of the class in the weights of all training samples. A classifier
    takes it for the frequency of the class, and what it says of a given label is to
    be judged by how much it has learned of it, not by how many there are: a class that
    weights bring up is frequent, and one that they leave out is rare.

    Args:
      problem: what the run learns from.
      weights: of its training samples, `[N]`; by default all count alike.
    """
    groups = problem.groups[problem.train_index]
    sums = np.bincount(groups, weights, minlength=problem.num_groups)
    # What is not learned has no logarithm: it counts as one sample of mean weight.
    sums = np.maximum(sums, max(sums.sum() / len(groups), TINY))
    return (sums / sums.sum()).astype(np.float32)


def listed_sets(problem: Problem) -> dict[str, Listed]:
    """What the owner calls the images of each set on disk, in the same order."""
    files = problem.dataset.files
    if files is None:
        return {}
    train = Listed(problem.dataset.row_numbers, files.train.names)
    tests = (Listed(np.arange(len(x.names)), x.names) for x in files.tests.values())
    return dict(zip(set_names(problem), (train, *tests), strict=True))


def build_sets(
    config: ConfigDict,
    problem: Problem,
    *,
    layout: Layout,
    method: Method,
    view: View,
    unreadable: Unreadable,
) -> Sets:
    """Places the tables and opens the images.

    Args:
      config: a checked configuration.
      problem: what the run learns from.
      layout: how tables and rows lie on the devices.
      method: which features of a class its losses read.
      view: what inputs are standardised by.
      unreadable: where images are listed that could not be read.
    """
    dataset, replicate = problem.dataset, layout.replicate
    statistics = _statistics(config, dataset, view)
    family = method.families(problem.families.family)
    features = method.class_features(problem.group_counts)
    sizes = frequencies(problem)

    def table(inputs, labels, candidates=None):
        group = problem.group_of(labels)
        of_samples = {}
        if problem.candidates is not None:
            one = labels[:, None] == np.arange(dataset.num_classes)
            of_samples["candidates"] = one if candidates is None else candidates
        return replicate(
            Table(
                inputs,
                dataset.standardised(labels),
                family[group],
                statistics,
                {name: values[group] for name, values in features.items()} | of_samples,
                sizes,
            )
        )

    if dataset.files is None:
        memory = InMemory(layout)
        parts = {"train": (dataset.train_inputs, problem.labels, problem.candidates)}
        if dataset.has_test:
            parts["test"] = (dataset.test_inputs, dataset.test_labels, None)
        every = {
            name: Samples(table(view.place(inputs, statistics), *of), memory)
            for name, (inputs, *of) in parts.items()
        }
        return Sets(every.pop("train"), every, statistics)

    streamed = partial(
        Streamed,
        layout=layout,
        views=_views(config),
        seed=config.seed,
        workers=threads(config.data.stream.workers),
        prefetch=config.data.stream.prefetch,
        unreadable=unreadable,
    )
    for name, part in dataset.files.tests.items():
        _check_readable(part, _views(config).evaluation, f"{config.data.name}, {name}")
    parts = (
        dataset.files.train._replace(labels=problem.labels),
        *dataset.files.tests.values(),
    )
    sets = {"train": problem.candidates}
    every = {
        name: Samples(
            table(None, part.labels, sets.get(name)), streamed(name, part.read)
        )
        for name, part in zip(set_names(problem), parts, strict=True)
    }
    return Sets(every.pop("train"), every, statistics)


def shown(config: ConfigDict, dataset: Dataset) -> Any:
    """Training samples by position, N images or texts as people see them, or None."""
    if dataset.files is not None:
        return Pictures(config, dataset.files)
    if dataset.shown is not None or dataset.kind != "images":
        return dataset.shown
    return dataset.train_inputs


class Pictures:
    """Training images as evaluation sees them, decoded when asked for."""

    def __init__(self, config: ConfigDict, files: Encoded) -> None:
        self._view, self._set = _views(config).evaluation, files.train

    def __len__(self) -> int:
        return len(self._set.labels)

    def __getitem__(self, position: int) -> NDArray[np.uint8]:
        return _picture(self._set.read, position, self._view)[0]


def _picture(
    read: Reader, position: int, look: decode.View
) -> tuple[NDArray[np.uint8], int]:
    return decode.load(read, position, look, generator(0, Purpose.EVALUATION))


def _check_readable(part: EncodedSet, look: decode.View, name: str) -> None:
    """Refuses a set of which not a single image can be read: it would test nothing."""
    size = len(part.labels)
    for position in generator(0, Purpose.STATISTICS).permutation(size):
        if not _picture(part.read, int(position), look)[1]:
            return
    raise ValueError(
        f"data: none of the {size} images of {name}, could be read: correct the data, "
        "or config.data.stream.tests."
    )


def _statistics(config: ConfigDict, dataset: Dataset, view: View) -> Statistics:
    """What inputs are standardised by; of images on disk, a sample of them tells."""
    if dataset.files is None or config.data.standardise == "imagenet":
        return view.statistics(dataset.train_inputs)
    read, labels, _ = dataset.files.train
    some = generator(0, Purpose.STATISTICS).permutation(len(labels))[:STATISTICS_OF]
    look, loaded = _views(config).evaluation, []
    for position in np.sort(some):
        pixels, code = _picture(read, int(position), look)
        if not code:
            loaded.append(pixels)
    if not loaded:
        raise ValueError(
            f"data: none of {len(some)} images of {config.data.name} could be read: "
            "correct the data."
        )
    return view.statistics(np.stack(loaded))


def _views(config: ConfigDict) -> Views:
    stream = config.data.stream
    centre = decode.View(stream.image_size, stream.resize)
    train = centre._replace(crop=stream.crop, flip=config.augment.flip)
    return Views(train, train if config.augment.meta else centre, centre)
