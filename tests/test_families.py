"""Families of targets; those of classes are tested with the weighting net."""

import warnings

import numpy as np
import pytest

from cmwjax.core.families import group_targets

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("targets", [RNG.normal(size=31), RNG.integers(9, size=200)])
@pytest.mark.parametrize("num_families", [1, 2, 3, 5])
def test_families_are_those_of_a_loop_over_samples(targets, num_families):
    with warnings.catch_warnings(action="ignore"):
        family, centres = group_targets(targets, num_families)
    expected = []
    for target in targets:
        below = sum(other < target for other in targets)
        equal = sum(other == target for other in targets)
        share = (below + equal / 2) / len(targets)  # of the middle one of its equals
        expected.append(
            max(k for k in range(num_families) if k / num_families <= share + 1e-12)
        )
    names = sorted(set(expected))
    assert [names[k] for k in family] == expected
    assert family.dtype == np.int32 and centres.dtype == np.float64
    for k, centre in enumerate(centres):
        assert centre == pytest.approx(np.mean([*targets[family == k]]))
    assert np.all(np.diff(centres) > 0)


def test_distinct_targets_make_families_of_one_size():
    family, centres = group_targets(RNG.permutation(30.0 * np.arange(12)), 3)
    assert np.bincount(family).tolist() == [4, 4, 4]
    assert centres.tolist() == [45, 165, 285]


@pytest.mark.parametrize(
    ("targets", "expected"),
    [([2, 2, 2], [0, 0, 0]), ([0, 5], [0, 1]), ([0] * 8 + [1, 2], [0] * 8 + [1, 1])],
)
def test_ties_leave_fewer_families_and_a_warning(targets, expected):
    with pytest.warns(UserWarning, match=f"ties leave {max(expected) + 1} of 3"):
        family, centres = group_targets(np.array(targets), 3)
    assert family.tolist() == expected and len(centres) == max(expected) + 1


@pytest.mark.parametrize(
    ("targets", "num_families", "message"),
    [
        ([[1.0]], 1, "targets=.* must be a vector of finite numbers"),
        ([], 1, "targets="),
        ([1.0, np.nan], 1, "targets="),
        ([np.inf], 1, "targets="),
        ([1.0], 0, "num_families=0 must be at least 1"),
    ],
)
def test_bad_input_is_named(targets, num_families, message):
    with pytest.raises(ValueError, match=message):
        group_targets(np.array(targets), num_families)
