"""Label noise that looks at labels alone: symmetric, asymmetric, by superclass.

Noise comes from a seed, one whole number from 0 or several, and has nothing in common
with what else is drawn from that seed. Under one seed a lower rate touches a subset of
the samples that a higher rate touches, so runs that differ in rate alone are
comparable. Labels that are noisy already may be given again: noises add up.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cmwjax.core.labels import check_labels
from cmwjax.randomness import Purpose, Seed, generator

ClassMap = Mapping[int, int] | Iterable[tuple[int, int]]

# truck -> automobile, bird -> airplane, deer -> horse, cat -> dog; dog stays dog.
CIFAR10_MAP = {9: 1, 2: 0, 4: 7, 3: 5}
# Both are for ten classes; in the second, dog -> cat as well.
CLASS_MAPS = {"cifar10": CIFAR10_MAP, "cifar10_two_way": CIFAR10_MAP | {5: 3}}

# fmt: off
# The superclass of each of the 100 classes of CIFAR-100, in alphabetical order of both.
CIFAR100_SUPERCLASS = (
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11,
    6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5,
    5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17,
    10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13,
    16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13,
)
# fmt: on


class NoisyLabels(NamedTuple):
    """Labels after corruption, and where they differ from what they were."""

    labels: NDArray[np.int32]  # [N]
    changed: NDArray[np.bool_]  # [N]


def symmetric(
    labels: ArrayLike, *, rate: float, num_classes: int, seed: Seed
) -> NoisyLabels:
    """Redraws the labels of a random part of the samples over all classes.

    The draw includes the true class, so the share of wrong labels is
    `rate * (num_classes - 1) / num_classes` (paper 5.2).

    Args:
      labels: true classes in [0, C), integers `[N]`.
      rate: share of samples to redraw, in [0, 1]; exactly `floor(rate * N)` are.
      num_classes: number of classes C.
      seed: seed of the draw.

    Returns:
      The labels, and True where they changed.

    Raises:
      ValueError: for a label outside [0, C) or a rate outside [0, 1].
    """
    labels = check_labels(labels, num_classes)
    chosen, rng = draw(len(labels), rate, seed)
    noisy = labels.copy()
    noisy[chosen] = rng.integers(num_classes, size=len(chosen))
    return NoisyLabels(noisy, noisy != labels)


def symmetric_other(
    labels: ArrayLike, *, rate: float, num_classes: int, seed: Seed
) -> NoisyLabels:
    """Moves a random part of the samples to another class, each as likely.

    The symmetric part of the hybrid noise (paper 5.3).

    Args:
      labels: classes in [0, C), integers `[N]`.
      rate: share of samples to move, in [0, 1]; exactly `floor(rate * N)` are.
      num_classes: number of classes C, at least 2.
      seed: seed of the draw.

    Returns:
      The labels, and True where they changed.

    Raises:
      ValueError: for a label outside [0, C), a rate outside [0, 1], or a single class.
    """
    labels = check_labels(labels, num_classes)
    if num_classes < 2:
        raise ValueError(
            f"num_classes is {num_classes}, so there is no other class to move to: "
            "choose noise kind 'none'."
        )
    chosen, rng = draw(len(labels), rate, seed)
    noisy = labels.copy()
    noisy[chosen] += rng.integers(1, num_classes, size=len(chosen), dtype=np.int32)
    noisy %= num_classes
    return NoisyLabels(noisy, noisy != labels)


def asymmetric(
    labels: ArrayLike,
    *,
    rate: float,
    num_classes: int,
    class_map: ClassMap,
    seed: Seed,
) -> NoisyLabels:
    """Sends a random part of the samples through a map of classes.

    Classes that the map does not name keep their labels, whoever is drawn: with
    `CIFAR10_MAP` and equal classes, `0.4 * rate` of all labels become wrong, four
    classes shrink, and the four that grow hold `rate / (1 + rate)` wrong labels
    (paper 5.2).

    Args:
      labels: true classes in [0, C), integers `[N]`.
      rate: share of samples to map, in [0, 1]; exactly `floor(rate * N)`, drawn
        from all samples rather than class by class.
      num_classes: number of classes C.
      class_map: true class to wrong class, as a dict or as pairs.
      seed: seed of the draw.

    Returns:
      The labels, and True where they changed.

    Raises:
      ValueError: for a label or a mapped class outside [0, C), or a rate outside
        [0, 1].
    """
    labels = check_labels(labels, num_classes)
    target = np.arange(num_classes, dtype=np.int32)
    try:
        pairs = dict(class_map)
    except (TypeError, ValueError):
        raise ValueError(
            f"class_map is {class_map!r}: give pairs of (true class, wrong class)."
        ) from None
    for source, wrong in pairs.items():
        for label in (source, wrong):
            if not isinstance(label, int | np.integer) or not 0 <= label < num_classes:
                raise ValueError(
                    f"class_map sends {source!r} to {wrong!r}, but classes are the "
                    f"integers in [0, {num_classes}): correct the map or num_classes."
                )
        target[source] = wrong
    chosen, _ = draw(len(labels), rate, seed)
    noisy = labels.copy()
    noisy[chosen] = target[labels[chosen]]
    return NoisyLabels(noisy, noisy != labels)


def pair_flip(
    labels: ArrayLike, *, rate: float, num_classes: int, seed: Seed
) -> NoisyLabels:
    """Moves a random part of the samples to the next class, the last to the first.

    Args:
      labels: true classes in [0, C), integers `[N]`.
      rate: share of samples to move, in [0, 1]; exactly `floor(rate * N)` are.
      num_classes: number of classes C.
      seed: seed of the draw.

    Returns:
      The labels, and True where they changed.

    Raises:
      ValueError: for a label outside [0, C) or a rate outside [0, 1].
    """
    following = {label: (label + 1) % num_classes for label in range(num_classes)}
    return asymmetric(
        labels, rate=rate, num_classes=num_classes, class_map=following, seed=seed
    )


def superclass(
    labels: ArrayLike,
    *,
    rate: float,
    num_classes: int,
    seed: Seed,
    superclasses: ArrayLike = CIFAR100_SUPERCLASS,
) -> NoisyLabels:
    """Moves a random part of the samples to another class of their superclass.

    Each of the siblings is as likely as any other: the asymmetric noise of CIFAR-100
    (paper 5.2).

    Args:
      labels: true classes in [0, C), integers `[N]`.
      rate: share of samples to move, in [0, 1]; exactly `floor(rate * N)` are.
      num_classes: number of classes C.
      seed: seed of the draw.
      superclasses: the superclass of each class, integers `[C]`; an only child stays.

    Returns:
      The labels, and True where they changed.

    Raises:
      ValueError: for a label outside [0, C), a rate outside [0, 1], or superclasses
        that are not one for each class.
    """
    labels, superclasses = check_labels(labels, num_classes), np.asarray(superclasses)
    if superclasses.shape != (num_classes,):
        raise ValueError(
            f"superclasses are given for {superclasses.size} classes, but there are "
            f"{num_classes}: noise kind 'superclass' is for CIFAR-100 (100 classes)."
        )
    chosen, rng = draw(len(labels), rate, seed)
    pick = rng.random(len(chosen))
    noisy = labels.copy()
    for label in range(num_classes):
        siblings = np.flatnonzero(superclasses == superclasses[label])
        siblings = siblings[siblings != label]
        here = labels[chosen] == label
        if siblings.size:
            noisy[chosen[here]] = siblings[(pick[here] * siblings.size).astype(int)]
    return NoisyLabels(noisy, noisy != labels)


def blocks(
    labels: ArrayLike, *, rate: float, num_classes: int, seed: Seed
) -> NoisyLabels:
    """Moves a random part of the samples to the next class in their block of five.

    Blocks are classes 0-4, 5-9 and so on, and the last of a block goes to its first.
    For CIFAR-100 these are not the superclasses: other papers' asymmetric noise, and
    the asymmetric part of the hybrid noise (paper 5.2, 5.3).

    Args:
      labels: classes in [0, C), integers `[N]`.
      rate: share of samples to move, in [0, 1]; exactly `floor(rate * N)` are.
      num_classes: number of classes C, a multiple of five.
      seed: seed of the draw.

    Returns:
      The labels, and True where they changed.

    Raises:
      ValueError: for a label outside [0, C), a rate outside [0, 1], or a number of
        classes that is not a multiple of five.
    """
    if num_classes % 5:
        raise ValueError(
            f"num_classes is {num_classes}, not a multiple of five, which noise kind "
            "'blocks' needs: choose 'asymmetric' with a class_map, or 'pair_flip'."
        )
    following = {c: c // 5 * 5 + (c + 1) % 5 for c in range(num_classes)}
    return asymmetric(
        labels, rate=rate, num_classes=num_classes, class_map=following, seed=seed
    )


def none(
    labels: ArrayLike, *, rate: float, num_classes: int, seed: Seed
) -> NoisyLabels:
    """Leaves the labels as they are, whatever the rate."""
    del rate, seed
    clean = check_labels(labels, num_classes)
    return NoisyLabels(clean, np.zeros(len(clean), bool))


# The kinds of noise by name: the one list of them.
KINDS: dict[str, Callable[..., NoisyLabels]] = {
    "none": none,
    "symmetric": symmetric,
    "symmetric_other": symmetric_other,
    "asymmetric": asymmetric,
    "superclass": superclass,
    "blocks": blocks,
    "pair_flip": pair_flip,
}


def corrupt(
    labels: ArrayLike,
    *,
    kind: str,
    rate: float,
    num_classes: int,
    seed: Seed,
    class_map: ClassMap | str | tuple[str] | None = None,
) -> NoisyLabels:
    """Corrupts labels by the name of the noise, as a config gives it.

    Args:
      labels: classes in [0, C), integers `[N]`, clean or noisy already.
      kind: one of `KINDS`.
      rate: share of samples drawn, in [0, 1]; unused by 'none'.
      num_classes: number of classes C.
      seed: seed of the draw.
      class_map: one class to another, or the name of one of `CLASS_MAPS`, alone or as
        the only entry of a tuple; needed by 'asymmetric' and read by it alone.

    Returns:
      The labels, and True where they changed.

    Raises:
      ValueError: for an unknown kind, a missing or unknown `class_map`, a label or
        mapped class outside [0, C), a rate outside [0, 1], or a number of classes that
        the kind is not for.
    """
    if kind not in KINDS:
        raise ValueError(f"noise kind is {kind!r}; choose one of {tuple(KINDS)}.")
    options = {}
    if kind == "asymmetric":
        options["class_map"] = _find_map(class_map, num_classes)
    return KINDS[kind](labels, rate=rate, num_classes=num_classes, seed=seed, **options)


def _find_map(class_map: Any, num_classes: int) -> ClassMap:
    """The map itself, for a map or a name."""
    alone = isinstance(class_map, tuple | list) and len(class_map) == 1
    name = class_map[0] if alone else class_map
    if isinstance(name, str) and name in CLASS_MAPS and num_classes == 10:
        return CLASS_MAPS[name]
    if not name or isinstance(name, str):
        raise ValueError(
            f"noise kind 'asymmetric' needs class_map for the {num_classes} classes, "
            f"got {name!r}: give pairs of (true class, wrong class), or for ten "
            f"classes a name of {list(CLASS_MAPS)}, or choose a kind that fits any "
            "classes, as 'symmetric' (after the colon of --config: noise=sym)."
        )
    return class_map


def draw(
    size: int, rate: float, seed: Seed
) -> tuple[NDArray[np.int64], np.random.Generator]:
    """Draws `floor(rate * size)` of `size` positions, and returns the generator."""
    if not 0 <= rate <= 1:
        raise ValueError(f"noise rate must lie in [0, 1], got {rate!r}: correct it.")
    rng = generator(seed, Purpose.NOISE)
    # The tolerance is for rates such as 0.29, whose product with 100 is 28.999...
    return rng.permutation(size)[: int(rate * size + 1e-9)], rng
