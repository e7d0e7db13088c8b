import numpy as np
import pytest

from cmwjax.bias import long_tail
from cmwjax.core.families import group_classes

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 500))

# Imbalance factor, images, images of the rarest class, classes per family.
CIFAR10 = [
    (200, 11203, 25, [7, 2, 1]),
    (100, 12406, 50, [7, 2, 1]),
    (50, 13996, 100, [7, 2, 1]),
    (20, 17023, 250, [6, 2, 2]),
    (10, 20431, 500, [5, 3, 2]),
]
CIFAR100 = [
    (200, 9502, 2, [70, 19, 11]),
    (100, 10847, 5, [66, 21, 13]),  # Lloyd's k-means may stop at 67, 20, 13 ...
    (50, 12608, 10, [63, 23, 14]),
    (20, 15907, 25, [57, 26, 17]),
    (10, 19573, 50, [52, 28, 20]),  # ... and 51, 29, 20, with larger deviations.
]


@pytest.mark.parametrize(
    ("largest", "classes", "row"),
    [(5000, 10, row) for row in CIFAR10] + [(500, 100, row) for row in CIFAR100],
)
def test_published_sizes_and_families(largest, classes, row):
    factor, total, rarest, members = row
    sizes = long_tail.class_sizes(largest, num_classes=classes, imbalance_factor=factor)
    assert (sizes.sum(), sizes[0], sizes[-1]) == (total, largest, rarest)
    assert np.bincount(group_classes(sizes).family).tolist() == members


def test_balanced_sizes_are_equal():
    for classes in (1, 10):
        sizes = long_tail.class_sizes(7, num_classes=classes, imbalance_factor=1)
        assert sizes.tolist() == [7] * classes


def test_selection_has_the_sizes_and_comes_from_the_index():
    index = np.flatnonzero(np.arange(5000) % 5)  # four fifths of every class, about
    smallest = np.bincount(LABELS[index]).min()
    chosen = long_tail.select(
        LABELS, index, num_classes=10, imbalance_factor=20, seed=0
    )
    sizes = [int(smallest * 0.05 ** (c / 9) + 1e-9) for c in range(10)]
    assert np.bincount(LABELS[chosen]).tolist() == sizes
    assert set(chosen) <= set(index) and len(set(chosen)) == len(chosen)
    assert chosen.dtype == np.int32 and list(chosen) == sorted(chosen)


def test_selection_is_seeded_random_and_nested():
    def draw(factor, seed):
        return long_tail.select(
            LABELS, np.arange(5000), num_classes=10, imbalance_factor=factor, seed=seed
        )

    np.testing.assert_array_equal(draw(10, 1), draw(10, 1))
    assert not np.array_equal(draw(10, 1), draw(10, 2))
    assert set(draw(100, 1)) < set(draw(10, 1)) < set(draw(2, 1))
    last = np.flatnonzero(LABELS == 9)
    hits = np.bincount(np.concatenate([draw(10, seed) for seed in range(100)]))[last]
    assert hits.sum() == 100 * 50
    assert hits.min() > 0 and hits.std() == pytest.approx(3, abs=0.5)  # 100 * .1 * .9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"imbalance_factor": 0.1}, "imbalance_factor is 0.1, not a number from 1"),
        ({"imbalance_factor": float("nan")}, "imbalance_factor is nan"),
        ({"imbalance_factor": float("inf")}, "imbalance_factor is inf"),
        ({"imbalance_factor": 501}, "leaves class 9 empty .* 500.*at most 500"),
        ({"num_classes": 11}, "class 10 has no samples"),
        ({"num_classes": 5}, r"labels must lie in \[0, 5\)"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"num_classes": 10, "imbalance_factor": 500, "seed": 0} | change
    with pytest.raises(ValueError, match=message):
        long_tail.select(LABELS, np.arange(5000), **arguments)
