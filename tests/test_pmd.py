import numpy as np
import pytest

from cmwjax.bias import pmd
from cmwjax.randomness import Purpose, generator

RNG = np.random.default_rng(0)
ETA = RNG.dirichlet(np.full(10, 0.15), size=20_000)


def one_by_one(eta, kind, factor, draws):
    """The published rule, sample by sample, by its flip probability tau."""
    labels = []
    for row, draw in zip(eta, draws, strict=True):
        (s, eta_s), (u, eta_u) = sorted(enumerate(row), key=lambda pair: pair[1])[-2:]
        gap = eta_u - eta_s
        if kind == "type1":
            tau = 0.5 - 0.5 * gap**2
            keep = max(1 - tau, 0.5) / factor
        elif kind == "type2":
            keep = (1 - (1 - gap**3)) / factor
        else:
            keep = (1 - (1 - (gap**3 + gap**2 + gap) / 3)) / factor
        labels.append(u if draw < keep else s)
    return labels


@pytest.mark.parametrize("kind", pmd.KINDS)
@pytest.mark.parametrize("factor", [0.5, 1.43, 3.4])
def test_labels_are_those_of_the_rule_sample_by_sample(kind, factor):
    eta = ETA[:500]
    got = pmd.generate(eta, kind=kind, factor=factor, seed=3)
    draws = generator(3, Purpose.PMD).random(500)
    assert got.tolist() == one_by_one(eta, kind, factor, draws)
    assert got.dtype == np.int32


@pytest.mark.parametrize("kind", pmd.KINDS)
def test_kept_as_often_as_the_rule_says(kind):
    row = [0.1, 0.6, 0.3]
    many = pmd.generate(np.tile(row, (40_000, 1)), kind=kind, factor=1.2, seed=0)
    keep = {"type1": 0.545, "type2": 0.027, "type3": 0.139}[kind] / 1.2  # gap 0.3
    assert np.mean(many == 1) == pytest.approx(keep, abs=0.01)
    assert np.mean(many == 2) == pytest.approx(1 - keep, abs=0.01)


def test_seed_fixes_the_draw_and_a_higher_factor_moves_more():
    def draw(factor, seed):
        return pmd.generate(ETA, kind="type2", factor=factor, seed=seed)

    np.testing.assert_array_equal(draw(1.3, 0), draw(1.3, 0))
    assert (draw(1.3, 0) != draw(1.3, 1)).any()
    first = ETA.argmax(axis=1)
    low, high = draw(1.3, 0) != first, draw(3, 0) != first
    assert not (low & ~high).any() and high.sum() > low.sum()


@pytest.mark.parametrize("kind", pmd.KINDS)
@pytest.mark.parametrize("rate", [0.05, 0.35, 0.7])
def test_calibrated_factor_gives_the_rate(kind, rate):
    true_labels = ETA.argmax(axis=1)
    true_labels[::50] = 0  # the network may err
    factor = pmd.calibrate(ETA, true_labels, kind=kind, rate=rate)
    labels = pmd.generate(ETA, kind=kind, factor=factor, seed=1)
    assert np.mean(labels != true_labels) == pytest.approx(rate, abs=0.012)


def test_calibration_without_clipping_has_a_closed_form():
    eta, true_labels = np.tile([0.1, 0.7, 0.2], (4, 1)), [1, 1, 1, 1]
    # Wrong with probability 1 - .125 / F for type 2, whose gap is .5.
    factor = pmd.calibrate(eta, true_labels, kind="type2", rate=0.95)
    assert factor == pytest.approx(0.125 / 0.05, rel=1e-9)


def test_published_factors_are_complete():
    for kinds in pmd.PUBLISHED_FACTORS.values():
        assert tuple(kinds) == pmd.KINDS
        assert all(1 < factors[35] < factors[70] for factors in kinds.values())


ROWS = [[0.5, 0.5], [0.2, 0.8]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eta": [[1.0], [1.0]]}, r"eta has shape \[2, 1\]"),
        ({"eta": [0.5, 0.5]}, r"eta has shape \[2\]"),
        ({"eta": np.zeros((0, 3))}, r"eta has shape \[0, 3\]"),
        ({"eta": [[0.5, 0.5], [1.2, -0.2]]}, "eta of sample 1 .* no probabilities"),
        ({"eta": [[0.5, 0.6], [0.2, 0.8]]}, "eta of sample 0 .* sum to 1"),
        ({"eta": [[np.nan, 0.5], [0.2, 0.8]]}, "eta of sample 0"),
        ({"kind": "type4"}, "PMD kind is 'type4'; choose one of"),
        ({"factor": 0}, "factor is 0, but must be above 0"),
    ],
)
def test_bad_generation_is_named(change, message):
    arguments = {"eta": ROWS, "kind": "type1", "factor": 1.4, "seed": 0} | change
    with pytest.raises(ValueError, match=message):
        pmd.generate(arguments.pop("eta"), **arguments)


@pytest.mark.parametrize(
    ("true_labels", "rate", "message"),
    [
        ([0, 1], 1.5, r"rate is 1\.5, but .* in \[0\.000, 1\.000\]"),
        ([0, 0], 0.2, r"rate is 0\.2, but .* in \[0\.500, 0\.500\]"),
        ([0, 2], 0.5, r"true_labels must lie in \[0, 2\), got 2 at position 1"),
        ([0], 0.5, "true_labels are 1, but eta has 2 rows"),
    ],
)
def test_bad_calibration_is_named(true_labels, rate, message):
    with pytest.raises(ValueError, match=message):
        pmd.calibrate(ROWS, true_labels, kind="type1", rate=rate)
