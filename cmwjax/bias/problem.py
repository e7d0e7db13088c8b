"""What a run learns from: data, the bias put into it, the meta set, the families.

Three biases compose, in this order, each optional: a long tail (which images there
are), a label set that people or a network gave (which labels they carry), and noise on
top of these labels.
"""

from typing import NamedTuple

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from cmwjax.bias import (
    candidates,
    long_tail,
    meta_set,
    noise,
    targets,
    trusted,
    unlabelled,
)
from cmwjax.core.families import ALIKE, Families, group_classes
from cmwjax.core.labels import UNKNOWN, UNLABELLED, check_spread, class_counts
from cmwjax.data import datasets, embedding
from cmwjax.data.dataset import Dataset, select
from cmwjax.randomness import Purpose, generator
from cmwjax.tasks.catalogue import TASKS


class Problem(NamedTuple):
    """Arrays over the whole training set, `[N]`, and who plays which part in it."""

    dataset: Dataset
    # [N], classes int32 or targets float64, as observed; those of the data where held
    # out.
    labels: np.ndarray
    train_index: np.ndarray  # int32, positions that training visits
    meta_index: np.ndarray | None  # int32, the held-out meta set, if there is one
    validation_index: np.ndarray  # int32, to select models with; may be empty
    families: Families  # of the observed class sizes in train_index
    # float64 [G - 1], targets at which one group of samples ends and the next begins;
    # None: the groups are the classes.
    borders: np.ndarray | None = None
    # bool [N, C], candidates for the label; `labels` are then one of each set, drawn at
    # random, but for samples that are trusted. None: every sample has one label.
    candidates: np.ndarray | None = None
    # int32, positions that repeat a trusted sample, and hence play no part.
    repeats: np.ndarray = np.zeros(0, np.int32)

    @property
    def true_labels(self) -> np.ndarray:
        """[N], those of the data; if nobody knows them `UNKNOWN`, for targets NaN."""
        if self.dataset.knows_true_labels:
            return self.dataset.train_labels
        unknown = UNKNOWN if self.dataset.num_classes else np.nan
        return np.full_like(self.dataset.train_labels, unknown)

    @property
    def labelled_index(self) -> np.ndarray:
        """int32, the positions that training visits and that have one label."""
        if self.candidates is None:
            return self.train_index
        return unlabelled.labelled(self.candidates, self.train_index)

    @property
    def is_wrong(self) -> np.ndarray:
        """bool [N], where the observed label is known not to be the true one.

        Of a set, where the true label is not in it.
        """
        true, is_wrong = self.true_labels, self.labels != self.true_labels
        if self.candidates is not None:
            is_wrong = ~np.take_along_axis(
                self.candidates, np.maximum(true, 0)[:, None], axis=1
            )[:, 0]
        return self.dataset.knows_true_labels & is_wrong

    @property
    def num_groups(self) -> int:
        """G, groups of samples that families are made of: classes, or target ranges."""
        return len(self.families.family)

    def group_of(self, labels: np.ndarray) -> np.ndarray:
        """The group of each label, int32 `[N]`: the class itself, or the range."""
        return group_of(labels, self.borders)

    @property
    def groups(self) -> np.ndarray:
        """int32 `[N]`, the group of each observed label."""
        return self.group_of(self.labels)

    @property
    def group_counts(self) -> np.ndarray:
        """`[G]`, observed samples of each group that training visits.

        Whole numbers, but for sets: there a sample counts for each candidate by its
        share of the set.
        """
        if self.candidates is not None:
            return candidates.class_sizes(self.candidates[self.train_index])
        return class_counts(self.groups[self.train_index], self.num_groups)


def group_of(labels: np.ndarray, borders: np.ndarray | None) -> np.ndarray:
    """Groups of labels; see `Problem.group_of`."""
    if borders is None:
        return labels
    return np.searchsorted(borders, labels, side="right").astype(np.int32)


def prepare(config: ConfigDict, arrays: Dataset | None = None) -> Problem:
    """Loads the data, sets samples aside, puts the bias in, groups the classes.

    Samples that the data set sets aside to validate with do that, with observed labels.
    Samples without an observed label (PMD leaves 5,000 of CIFAR, with their true
    labels) validate, and give the held-out meta set. Where there are none, the meta set
    comes out of the training set with true labels, and `config.data.validation`
    samples with observed ones.

    Args:
      config: a checked configuration.
      arrays: the data set, in place of the one that `config.data.name` names.

    Raises:
      ValueError: if the data or label set are unfit, see `datasets.load`, or the bias,
        or samples that are trusted, leave a class without samples, or with too few for
        the meta set.
    """
    dataset, repeated_rows = _dataset(config, arrays)
    is_semi = TASKS[config.task].semi
    num_classes, true_labels = dataset.num_classes, dataset.train_labels
    data_seed, noise_seed = seeds(config)
    labels, train_index, clean_index = _observe(dataset)
    chosen = dataset.validation_index
    if chosen is not None:
        _check_only_chosen(chosen, clean_index, config)
        train_index = np.setdiff1d(train_index, chosen).astype(np.int32)
    borders, num_groups = None, num_classes
    if not num_classes:  # noise will draw from the same targets
        borders = targets.borders(labels, config.weighting.num_families)
        num_groups = len(borders) + 1
    names = group_names(dataset, num_groups)
    meta_index, repeats = trusted.external(dataset, config), np.zeros(0, np.int32)
    if meta_index is not None:
        is_repeat = np.isin(dataset.row_numbers, repeated_rows)
        repeats = np.intersect1d(train_index, np.flatnonzero(is_repeat))
        train_index = trusted.without(
            train_index, meta_index, repeats, group_of(labels, borders), names
        )
    if config.meta_set.policy == "held_out":
        source = clean_index if clean_index.size else train_index
        meta_index, rest = trusted.hold_out(
            group_of(true_labels, borders),
            source,
            config,
            names=names,
            seed=data_seed,
        )
        labels[meta_index] = true_labels[meta_index]
        if clean_index.size:
            clean_index = rest
        else:
            train_index = rest
    if config.data.imbalance_factor != 1:
        train_index = long_tail.select(
            true_labels,
            train_index,
            num_classes=num_classes,
            imbalance_factor=config.data.imbalance_factor,
            seed=data_seed,
        )
    labels[train_index] = _corrupt(
        labels[train_index], num_classes, config, seed=noise_seed
    )
    sets = candidates.of(dataset, labels, config, seed=noise_seed)
    if sets is not None:
        if meta_index is not None:  # of which the labels are known
            sets[meta_index] = candidates.one_hot(labels[meta_index], num_classes)
        labels = candidates.stand_ins(sets, seed=noise_seed)
    validation_index = clean_index if chosen is None else np.sort(chosen)
    if config.data.validation:
        _check_no_clean(clean_index, config)
        amount, pool = config.data.validation, train_index
        if is_semi:
            pool = unlabelled.with_label(dataset, train_index)
        classes = group_of(labels, borders)
        _, validation_index = _split(pool, amount, classes, seed=data_seed)
        train_index = np.setdiff1d(train_index, validation_index).astype(np.int32)
    if is_semi:
        sets = unlabelled.of(dataset, labels, train_index, config, seed=data_seed)
        labels = candidates.stand_ins(sets, seed=noise_seed)
    groups = group_of(labels[train_index], borders)
    counts: np.ndarray = class_counts(groups, num_groups)
    if sets is not None:
        counts = candidates.class_sizes(sets[train_index])
    _check_counts(counts, config, names)
    if meta_index is not None:
        sizes = class_counts(group_of(labels[meta_index], borders), num_groups)
        meta_set.warn_of_other_shares(sizes, counts, names)
    if borders is None:
        sizes = unlabelled.told_apart(counts) if is_semi else counts
        families = _families(sizes, config)
    else:  # the ranges of targets are families already, in ascending order
        _check_measured(labels, "meta_set", meta_index)
        _check_measured(labels, "data.validation", validation_index)
        means = np.bincount(groups, weights=labels[train_index]) / counts
        families = Families(np.arange(len(counts), dtype=np.int32), means)
    return Problem(
        dataset,
        labels,
        train_index,
        meta_index,
        validation_index,
        families,
        borders,
        sets,
        repeats,
    )


def group_names(dataset: Dataset, num_groups: int) -> tuple[str, ...]:
    """What errors call each group of samples: classes by their names."""
    if not dataset.num_classes:
        return tuple(f"target range {group}" for group in range(num_groups))
    return tuple(
        f"class {name if name.isdecimal() else repr(name)}"
        for name in dataset.class_names
    )


def _dataset(config: ConfigDict, arrays: Dataset | None) -> tuple[Dataset, np.ndarray]:
    """The inputs and labels that the configuration wants, checked.

    Returns:
      The data set, and the rows of its samples that repeat a trusted one.
    """
    task = TASKS[config.task]
    wanted = dict(
        name=config.data.name,
        train_size=config.data.train_size or None,
        labels=config.data.labels.replace("{seed}", str(config.seed)),
    )
    if arrays is not None:
        dataset = select(arrays, **wanted)
    else:
        dataset = datasets.load(
            **wanted,
            tests=config.data.stream.tests,
            image_size=config.data.stream.image_size,
            label_kind=task.label_kind,
            csv=config.data.csv,
            has_sets=task.has_sets and not config.semi.labels,
        )
        _check_scored(dataset, config)
    repeated = dataset.row_numbers[trusted.repeats(dataset)]  # before a net sees them
    if config.data.embed:
        dataset = embedding.embed(dataset, config.data.embed, config.data.embed_size)
    if dataset.label_kind != task.label_kind:
        fit = [n for n, t in TASKS.items() if t.label_kind == dataset.label_kind]
        raise ValueError(
            f"config.task={config.task!r} is for {task.label_kind}, but the labels of "
            f"{config.data.name!r} are {dataset.label_kind}: set it to one of {fit}."
        )
    candidates.check_data(dataset, config)
    if task.semi:
        unlabelled.check_data(dataset, config)
    return dataset, repeated


def _check_scored(dataset: Dataset, config: ConfigDict) -> None:
    """Refuses data that leave nothing to tell how good a classifier is."""
    if not dataset.has_test and not config.data.validation:
        raise ValueError(
            f"data {config.data.name!r} have no samples to test with, and "
            "config.data.validation=0: set that to a share to validate with, such as "
            "0.1, or add a test set (x_test and y_test in an archive, a folder or "
            "split named in config.data.stream.tests, config.data.csv.test)."
        )


def seeds(config: ConfigDict) -> tuple[int, int]:
    """The seeds of the data and of the noise, which may follow that of the run."""
    own = (config.data.seed, config.noise.seed)
    data_seed, noise_seed = (config.seed if seed == -1 else seed for seed in own)
    return data_seed, noise_seed


def _observe(
    dataset: Dataset,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels `[N]`, and the positions that have an observed one or have none."""
    observed = dataset.observed_labels
    if observed is None:
        observed = dataset.train_labels
    if not dataset.num_classes:
        every = np.arange(len(dataset.train_labels), dtype=np.int32)
        return observed.copy(), every, every[:0]
    has_label = observed != UNLABELLED
    labels = np.where(has_label, observed, dataset.train_labels)
    with_label, without = np.flatnonzero(has_label), np.flatnonzero(~has_label)
    return labels, with_label.astype(np.int32), without.astype(np.int32)


def _families(counts: np.ndarray, config: ConfigDict) -> Families:
    """As many as are wanted, but no more than there are class sizes.

    Where a function from elsewhere is applied and sizes differ by little, there is one:
    it would trust a class for its rank among sizes that tell nothing.
    """
    wanted, sizes = config.weighting.num_families, len(np.unique(counts))
    if 1 < sizes < wanted:  # one size for all is a balanced set, and no surprise
        logging.warning(
            "classes have %d distinct sizes, so there are no more families than that, "
            "and not config.weighting.num_families=%d.",
            sizes,
            wanted,
        )
    families = group_classes(counts, min(wanted, sizes))
    smallest, largest = families.centres[[0, -1]]
    if config.weighting.load and 1 < largest / smallest < ALIKE:
        logging.warning(
            "weighting.load: the mean class sizes of the families, %s, differ by a "
            "factor of %.2f at most, so that small and large mean little here: all "
            "classes are one family, with the mean weight of the function's families.",
            np.round(families.centres).astype(int).tolist(),
            largest / smallest,
        )
        return group_classes(counts, 1)
    return families


def _corrupt(
    labels: np.ndarray, num_classes: int, config: ConfigDict, *, seed: int
) -> np.ndarray:
    """Labels with the noise of the configuration on top."""
    kind, rate = config.noise.kind, config.noise.rate
    if not num_classes:
        return targets.corrupt(labels, kind=kind, rate=rate, seed=seed)
    return noise.corrupt(
        labels,
        kind=kind,
        rate=rate,
        num_classes=num_classes,
        seed=seed,
        class_map=config.noise.class_map,
    ).labels


def _check_no_clean(clean_index: np.ndarray, config: ConfigDict) -> None:
    if clean_index.size:
        raise ValueError(
            f"config.data.validation={config.data.validation}, but labels "
            f"{config.data.labels!r} leave {clean_index.size} clean samples to "
            "validate with: set it to 0."
        )


def _check_only_chosen(
    chosen: np.ndarray, clean_index: np.ndarray, config: ConfigDict
) -> None:
    """Refuses a second choice of samples to validate with."""
    others = {
        f"config.data.validation={config.data.validation}": config.data.validation,
        f"labels {config.data.labels!r}, which leave {clean_index.size} clean samples "
        "to validate with": clean_index.size,
    }
    for other, is_there in others.items():
        if is_there:
            raise ValueError(
                f"data {config.data.name!r} come with {len(chosen)} samples to "
                f"validate with, and there is {other}: give one of them."
            )


def _split(
    index: np.ndarray, amount: float, groups: np.ndarray, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sets a random part aside: a share of `index` if below 1, else a number.

    One sample of each group `[N]` stays, though, even if that makes the part smaller.
    """
    size = amount if amount >= 1 else np.floor(amount * len(index) + 1e-9)
    if size != int(size) or not 0 < size < len(index):
        raise ValueError(
            f"config.data.validation={amount} must be a share below 1 or a whole "
            f"number of the {len(index)} training samples, and leave some of them: "
            "correct it."
        )
    order = generator(seed, Purpose.VALIDATION).permutation(index)
    part, rest = np.split(order, [int(size)])
    _, first = np.unique(groups[part], return_index=True)
    stays = part[first[~np.isin(groups[part[first]], groups[rest])]]
    part = np.setdiff1d(part, stays)
    if not part.size:
        raise ValueError(
            f"config.data.validation={amount} sets samples aside, but none of "
            f"{len(index)} can be spared: most labels occur once. If they are classes, "
            "name the right column (label=COLUMN) or set validation=0; numbers to "
            "predict are for configs/regression.py."
        )
    return np.sort(np.append(rest, stays)), part


def _check_measured(labels: np.ndarray, field: str, index: np.ndarray | None) -> None:
    """Refuses samples to select an epoch by on which R² is not defined."""
    if index is not None and index.size:
        check_spread(labels[index], name=f"targets of config.{field}")


def _check_counts(
    counts: np.ndarray, config: ConfigDict, names: tuple[str, ...]
) -> None:
    """Refuses observed class sizes that training or the meta set cannot do with."""
    if not counts.all():
        raise ValueError(
            f"{', '.join(names[i] for i in np.flatnonzero(counts == 0))} has no "
            f"observed sample to train on, with config.noise.rate={config.noise.rate}, "
            f"config.data.imbalance_factor={config.data.imbalance_factor} and "
            f"config.data.validation={config.data.validation}: lower one of them."
        )
    per_class = config.meta_set.per_class
    if config.meta_set.policy == "lowest_loss" and counts.min() < per_class:
        raise ValueError(
            f"config.meta_set.per_class={per_class}, but {names[np.argmin(counts)]} "
            f"has only {counts.min()} samples: lower it, or use config.meta_set.policy="
            "'balanced'."
        )
