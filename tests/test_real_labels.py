"""Sizes, families and noise of the published biases, on the published label files."""

import os
from pathlib import Path

import numpy as np
import pytest

from cmwjax.bias import long_tail, meta_set, noise, pmd, problem
from cmwjax.config import base_config
from cmwjax.core.families import group_classes
from cmwjax.core.labels import UNLABELLED
from cmwjax.data import label_sets
from cmwjax.report.problem import summarise_problem

FILES = Path(__file__).parents[2] / "shared" / "data"
CIFAR10N = FILES / "cifar10" / "cifar10n.npz"
PMD10 = FILES / "cifar10" / "pmd_cifar10.npz"
CIFAR100N = FILES / "cifar100" / "cifar100n.npz"
PMD100 = FILES / "cifar100" / "pmd_cifar100.npz"

files = pytest.mark.skipif(not CIFAR10N.is_file(), reason="needs the label files")
archives = pytest.mark.skipif(
    not os.environ.get("CMWJAX_DATA_DIR"), reason="needs the archives (CMWJAX_DATA_DIR)"
)


def clean(path, key="clean_label"):
    with np.load(path) as arrays:
        return arrays[key].astype(np.int32)


def observed(path, key, true_labels, num_classes):
    """The labels of a file, through the checks of the product."""
    return label_sets.read(
        f"{path}:{key}", archive=None, true_labels=true_labels, num_classes=num_classes
    )


def wrong_by_class(given, true_labels):
    """Sizes of the observed classes, and the share of wrong labels in each."""
    sizes = np.bincount(given)
    return sizes, np.bincount(given, weights=given != true_labels) / sizes


def pmd_labels(classes, name):
    """Observed and true labels of the 45,000 images that PMD labels."""
    true_labels = clean(CIFAR10N if classes == 10 else CIFAR100N)
    given = observed(PMD10 if classes == 10 else PMD100, name, true_labels, classes)
    assert (given[45_000:] == UNLABELLED).all()
    assert (given[:45_000] >= 0).all()
    return given[:45_000], true_labels[:45_000]


@files
@pytest.mark.parametrize(
    ("key", "rate"),
    [
        ("aggre_label", 0.0901),
        ("random_label1", 0.1723),
        ("random_label2", 0.1812),
        ("random_label3", 0.1764),
        ("worse_label", 0.4021),
    ],
)
def test_cifar10n_rates(key, rate):
    true_labels = clean(CIFAR10N)
    given = observed(CIFAR10N, key, true_labels, 10)
    assert np.mean(given != true_labels) == pytest.approx(rate, abs=5e-5)


@files
def test_cifar100n_rates_and_superclasses():
    fine, coarse = clean(CIFAR100N), clean(CIFAR100N, "clean_coarse_label")
    np.testing.assert_array_equal(np.array(noise.CIFAR100_SUPERCLASS)[fine], coarse)
    given = observed(CIFAR100N, "noisy_label", fine, 100)
    assert np.mean(given != fine) == pytest.approx(0.4020, abs=5e-5)
    given = observed(CIFAR100N, "noisy_coarse_label", coarse, 20)
    assert np.mean(given != coarse) == pytest.approx(0.2640, abs=5e-5)


@files
def test_labels_follow_images_in_the_order_of_tfds():
    order = clean(CIFAR100N, "tfds_to_canonical")
    given = observed(CIFAR100N, "noisy_label", clean(CIFAR100N)[order], 100)
    np.testing.assert_array_equal(given, clean(CIFAR100N, "noisy_label")[order])


@files
def test_shifted_files_are_refused():
    true_labels = np.roll(clean(CIFAR10N), 1)
    with pytest.raises(ValueError, match="clean labels that differ .* of 50000 images"):
        observed(CIFAR10N, "worse_label", true_labels, 10)
    with pytest.raises(ValueError, match=r"right on \d+\.\d% .* 10\.\d% in a random"):
        observed(PMD10, "type2_070", true_labels, 10)
    with pytest.raises(ValueError, match="are 45000, but there are 49999"):
        observed(PMD10, "type2_070", true_labels[1:], 10)


@files
@pytest.mark.parametrize(
    ("classes", "factor", "total", "rarest", "members"),
    [
        (10, 200, 11_203, 25, [7, 2, 1]),
        (10, 100, 12_406, 50, [7, 2, 1]),
        (10, 50, 13_996, 100, [7, 2, 1]),
        (10, 20, 17_023, 250, [6, 2, 2]),
        (10, 10, 20_431, 500, [5, 3, 2]),
        (100, 200, 9_502, 2, [70, 19, 11]),
        (100, 100, 10_847, 5, [66, 21, 13]),
        (100, 50, 12_608, 10, [63, 23, 14]),
        (100, 20, 15_907, 25, [57, 26, 17]),
        (100, 10, 19_573, 50, [52, 28, 20]),
    ],
)
def test_long_tails_and_their_balanced_meta_sets(
    classes, factor, total, rarest, members
):
    labels = clean(CIFAR10N if classes == 10 else CIFAR100N)
    chosen = long_tail.select(
        labels,
        np.arange(50_000),
        num_classes=classes,
        imbalance_factor=factor,
        seed=42,
    )
    sizes = np.bincount(labels[chosen])
    assert len(chosen) == len(set(chosen)) == total
    assert sizes[0] == 50_000 / classes and sizes[-1] == rarest
    assert sizes.tolist() == sorted(sizes, reverse=True)
    assert np.bincount(group_classes(sizes).family).tolist() == members
    meta = meta_set.balanced(labels, chosen, num_classes=classes, seed=0, epoch=160)
    assert np.bincount(labels[meta]).tolist() == [rarest] * classes
    assert set(meta) <= set(chosen)


@files
@pytest.mark.parametrize(
    ("rate", "shrunk", "grown", "wrong_in_grown"),
    [
        (0.2, 4000, 6000, 0.17),
        (0.4, 3000, 7000, 0.29),
        (0.6, 2000, 8000, 0.38),
        (0.8, 1000, 9000, 0.44),
    ],
)
def test_asymmetric_noise_of_cifar10_sorts_its_classes(
    rate, shrunk, grown, wrong_in_grown
):
    true_labels = clean(CIFAR10N)
    given = noise.corrupt(
        true_labels,
        kind="asymmetric",
        rate=rate,
        num_classes=10,
        seed=0,
        class_map="cifar10",
    ).labels
    assert np.mean(given != true_labels) == pytest.approx(0.4 * rate, abs=0.003)
    sizes, wrong = wrong_by_class(given, true_labels)
    assert group_classes(sizes).family.tolist() == [2, 2, 0, 0, 0, 2, 1, 2, 1, 0]
    for classes, size, share in [
        ([2, 3, 4, 9], shrunk, 0),
        ([6, 8], 5000, 0),
        ([0, 1, 5, 7], grown, wrong_in_grown),
    ]:
        np.testing.assert_allclose(sizes[classes], size, atol=120)
        np.testing.assert_allclose(wrong[classes], share, atol=0.01)


@files
@pytest.mark.parametrize("rate", [0.2, 0.4, 0.6, 0.8])
def test_other_independent_noise_leaves_class_sizes_alone(rate):
    """Symmetric noise, and CIFAR-100's asymmetric noise within superclasses."""
    for classes, path, kind, share in [
        (10, CIFAR10N, "symmetric", 0.9 * rate),
        (100, CIFAR100N, "symmetric", 0.99 * rate),
        (100, CIFAR100N, "superclass", rate),
    ]:
        true_labels = clean(path)
        draw = {"rate": rate, "num_classes": classes, "seed": 0}
        given = noise.corrupt(true_labels, kind=kind, **draw).labels
        sizes, _ = wrong_by_class(given, true_labels)
        np.testing.assert_allclose(sizes, 50_000 / classes, rtol=0.2)
        assert np.mean(given != true_labels) == pytest.approx(share, abs=0.004)
        if kind == "superclass":
            coarse = clean(CIFAR100N, "clean_coarse_label")
            np.testing.assert_array_equal(
                np.array(noise.CIFAR100_SUPERCLASS)[given], coarse
            )


PMD_RATES = {  # classes -> type -> share of wrong labels at 35 % and at 70 %
    10: {
        "type1": (0.3503, 0.7046),
        "type2": (0.3537, 0.7003),
        "type3": (0.3511, 0.7027),
    },
    100: {
        "type1": (0.3526, 0.6987),
        "type2": (0.3468, 0.7004),
        "type3": (0.3546, 0.7007),
    },
}


@files
@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("kind", pmd.KINDS)
@pytest.mark.parametrize("level", [35, 70])
def test_pmd_rates_and_their_growth_with_observed_size(classes, kind, level):
    given, true_labels = pmd_labels(classes, f"{kind}_0{level}")
    rate = PMD_RATES[classes][kind][level == 70]
    assert np.mean(given != true_labels) == pytest.approx(rate, abs=5e-5)
    sizes, _ = wrong_by_class(given, true_labels)
    family = group_classes(sizes).family[given]
    wrong = [np.mean((given != true_labels)[family == k]) for k in range(3)]
    if classes == 100:
        bounds = {
            35: [(0.26, 0.29), (0.34, 0.40), (0.45, 0.50)],
            70: [(0.56, 0.61), (0.69, 0.73), (0.75, 0.80)],
        }[level]
        assert all(a < w < b for w, (a, b) in zip(wrong, bounds, strict=True))
    assert wrong == sorted(wrong)


@files
@pytest.mark.parametrize("kind", pmd.KINDS)
def test_pmd_of_cifar10_swells_birds_cats_and_dogs(kind):
    sizes, wrong = wrong_by_class(*pmd_labels(10, f"{kind}_035"))
    swollen, others = [2, 3, 5], [0, 1, 4, 6, 7, 8, 9]
    assert np.flatnonzero(group_classes(sizes).family == 2).tolist() == swollen
    assert 4700 < sizes[swollen].min() <= sizes[swollen].max() < 5250
    assert 4000 < sizes[others].min() <= sizes[others].max() < 4650
    assert 0.42 < wrong[swollen].min() <= wrong[swollen].max() < 0.63
    assert 0.19 < wrong[others].min() <= wrong[others].max() < 0.38
    sizes, wrong = wrong_by_class(*pmd_labels(10, f"{kind}_070"))
    assert 2700 < sizes.min() <= sizes.max() < 6900
    assert 0.53 < wrong.min() <= wrong.max() < 0.82
    assert np.corrcoef(sizes, wrong)[0, 1] > 0.9


@files
@pytest.mark.parametrize("pmd_kind", pmd.KINDS)
@pytest.mark.parametrize(
    ("classes", "kind", "rate"),
    [
        (10, "symmetric_other", 0.53),
        (10, "asymmetric", 0.41),
        (100, "symmetric_other", 0.54),
        (100, "blocks", 0.54),
    ],
)
def test_hybrid_rates(classes, pmd_kind, kind, rate):
    given, true_labels = pmd_labels(classes, f"{pmd_kind}_035")
    both = noise.corrupt(
        given,
        kind=kind,
        rate=0.3,
        num_classes=classes,
        seed=1,
        class_map="cifar10_two_way",
    ).labels
    assert np.mean(both != true_labels) == pytest.approx(rate, abs=0.01)


@files
def test_hybrid_families_are_those_of_the_transferred_weighting():
    given, true_labels = pmd_labels(10, "type1_035")
    draw = {"rate": 0.3, "num_classes": 10}
    two_way = noise.CLASS_MAPS["cifar10_two_way"]
    published = [2, 2, 0, 2, 0, 2, 1, 2, 1, 0]
    hits = 0
    for seed in range(10):
        both = noise.asymmetric(given, class_map=two_way, seed=seed, **draw).labels
        sizes, wrong = wrong_by_class(both, true_labels)
        hits += group_classes(sizes).family.tolist() == published
        for classes, smallest, largest, least, most in [
            ([2, 4, 9], 2950, 3450, 0.29, 0.44),
            ([6, 8], 4000, 4200, 0.21, 0.25),
            ([0, 1, 3, 5, 7], 4850, 6100, 0.37, 0.64),
        ]:
            assert smallest < sizes[classes].min() <= sizes[classes].max() < largest
            assert least < wrong[classes].min() <= wrong[classes].max() < most
    assert hits >= 9  # now and then the dogs fall to the moderate family


@files
@pytest.mark.parametrize("kind", pmd.KINDS)
@pytest.mark.parametrize("level", [35, 70])
def test_generated_pmd_labels_are_like_the_published_ones(kind, level):
    """From the probabilities of another network, on the test images of CIFAR-10."""
    true_labels = clean(FILES / "cifar10" / "cifar10_test_jpeg.npz", "label")
    with np.load(FILES / "cifar10" / "cifar10_test_label_errors.npz") as arrays:
        eta = arrays["pyx"]
    factor = pmd.calibrate(eta, true_labels, kind=kind, rate=level / 100)
    assert factor == pytest.approx(
        pmd.PUBLISHED_FACTORS["cifar10"][kind][level], rel=0.08
    )
    made = pmd.generate(eta, kind=kind, factor=factor, seed=0)
    assert np.mean(made != true_labels) == pytest.approx(level / 100, abs=0.01)
    sizes, wrong = wrong_by_class(made, true_labels)
    published_sizes, published_wrong = wrong_by_class(
        *pmd_labels(10, f"{kind}_0{level}")
    )
    # With the classes shifted against each other, at most 0.45 and 0.3.
    assert np.corrcoef(wrong, published_wrong)[0, 1] > 0.75
    assert np.corrcoef(sizes, published_sizes)[0, 1] > 0.85


# ---- whole problems, on the archives


def summary_of(name, **fields):
    config = base_config()
    config.data.name = name
    config.meta_set.policy = "lowest_loss"
    config.update_from_flattened_dict(fields)
    return summarise_problem(config, problem.prepare(config))


@archives
@pytest.mark.parametrize("name", ["cifar10", "fashion_mnist"])
def test_asymmetric_problem(name):
    summary = summary_of(name, **{"noise.kind": "asymmetric", "noise.rate": 0.8})
    family = np.array(summary["family_of_class"])
    assert family.tolist() == [2, 2, 0, 0, 0, 2, 1, 2, 1, 0]
    assert summary["wrong_share"] == pytest.approx(0.32, abs=0.005)
    assert summary["wrong_share_of_family"][:2] == [0, 0]
    assert summary["wrong_share_of_family"][2] == pytest.approx(0.44, abs=0.01)


@archives
def test_long_tail_of_cifar10_with_noise():
    tail = {"data.imbalance_factor": 100.0, "meta_set.policy": "balanced"}
    clean_tail = summary_of("cifar10", **tail)
    assert clean_tail["samples"]["train"] == 12_406
    assert clean_tail["samples"]["meta"] == 500
    assert np.bincount(clean_tail["family_of_class"]).tolist() == [7, 2, 1]
    noisy = summary_of(
        "cifar10", **tail, **{"noise.kind": "symmetric", "noise.rate": 0.2}
    )
    assert noisy["true_class_counts"] == clean_tail["class_counts"]
    assert noisy["wrong_share"] == pytest.approx(0.18, abs=0.01)
    # The rare classes are full of wrong labels: what they say is not to be trusted.
    assert (
        noisy["wrong_share_of_class"][9] > 0.8 > 0.05 > noisy["wrong_share_of_class"][0]
    )


@archives
def test_pmd_and_human_problems_of_cifar10():
    pmd_problem = summary_of("cifar10", **{"data.labels": "pmd_type1_035"})
    assert pmd_problem["samples"]["train"] == 45_000
    assert pmd_problem["samples"]["validation"] == 5_000
    assert pmd_problem["validation_is_clean"]
    assert pmd_problem["wrong_share"] == pytest.approx(0.3503, abs=5e-5)
    human = summary_of("cifar10", **{"data.labels": "human_worse"})
    assert human["wrong_share"] == pytest.approx(0.4021, abs=5e-5)
    part = summary_of(
        "cifar10", **{"data.labels": "human_worse", "data.train_size": 10_000}
    )
    assert part["wrong_share"] == pytest.approx(0.40, abs=0.02)
    assert part["true_class_counts"] == [1000] * 10
