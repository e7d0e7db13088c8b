import numpy as np
import pytest

from cmwjax.bias import noise

CLASSES = 10
LABELS = np.repeat(np.arange(CLASSES), 5000)  # CIFAR-10 has 5000 of each


@pytest.mark.parametrize(
    ("rate", "shrunk", "grown", "wrong_in_grown"),
    [
        (0.2, 4000, 6000, 0.17),
        (0.4, 3000, 7000, 0.29),
        (0.6, 2000, 8000, 0.38),
        (0.8, 1000, 9000, 0.44),
    ],
)
def test_asymmetric_gives_the_published_class_sizes_and_rates(
    rate, shrunk, grown, wrong_in_grown
):
    noisy, changed = noise.asymmetric(
        LABELS, rate=rate, num_classes=CLASSES, class_map=noise.CIFAR10_MAP, seed=1
    )
    sizes = np.bincount(noisy, minlength=CLASSES)
    wrong = np.array([np.mean(LABELS[noisy == c] != c) for c in range(CLASSES)])
    np.testing.assert_allclose(sizes[[2, 3, 4, 9]], shrunk, atol=150)
    np.testing.assert_allclose(sizes[[0, 1, 5, 7]], grown, atol=150)
    assert list(sizes[[6, 8]]) == [5000, 5000]
    np.testing.assert_allclose(wrong[[0, 1, 5, 7]], wrong_in_grown, atol=0.015)
    assert not wrong[[2, 3, 4, 6, 8, 9]].any()
    assert changed.mean() == pytest.approx(0.4 * rate, abs=0.01)
    np.testing.assert_array_equal(changed, noisy != LABELS)
    assert (noisy[LABELS == 5] == 5).all()  # dog stays dog


def test_asymmetric_maps_the_true_class_once():
    noisy = noise.asymmetric(
        [0, 1, 2, 0], rate=1, num_classes=3, class_map=[(0, 1), (1, 2)], seed=0
    )
    assert noisy.labels.tolist() == [1, 2, 2, 1]
    assert noisy.changed.tolist() == [True, True, False, True]


@pytest.mark.parametrize("rate", [0.2, 0.4, 0.6, 0.8])
def test_symmetric_redraws_over_all_classes_including_the_true_one(rate):
    noisy, changed = noise.symmetric(LABELS, rate=rate, num_classes=CLASSES, seed=2)
    assert changed.mean() == pytest.approx(rate * 0.9, abs=0.008)
    np.testing.assert_array_equal(changed, noisy != LABELS)
    transition = np.zeros((CLASSES, CLASSES))
    np.add.at(transition, (LABELS, noisy), 1 / 5000)
    want = rate / CLASSES + (1 - rate) * np.eye(CLASSES)
    np.testing.assert_allclose(transition, want, atol=0.03)


def test_pair_flip_moves_to_the_next_class_and_wraps():
    noisy, changed = noise.pair_flip(LABELS, rate=0.45, num_classes=CLASSES, seed=3)
    assert changed.sum() == 22500
    np.testing.assert_array_equal(noisy[changed], (LABELS[changed] + 1) % CLASSES)
    np.testing.assert_array_equal(noisy[~changed], LABELS[~changed])


@pytest.mark.parametrize("rate", [0.3, 1.0])
def test_symmetric_other_leaves_for_every_other_class_alike(rate):
    noisy, changed = noise.symmetric_other(
        LABELS, rate=rate, num_classes=CLASSES, seed=4
    )
    assert changed.sum() == int(50_000 * rate)  # nobody is drawn and stays
    np.testing.assert_array_equal(changed, noisy != LABELS)
    transition = np.zeros((CLASSES, CLASSES))
    np.add.at(transition, (LABELS, noisy), 1 / 5000)
    want = np.full((CLASSES, CLASSES), rate / 9)
    np.fill_diagonal(want, 1 - rate)
    np.testing.assert_allclose(transition, want, atol=0.02)


def test_superclass_moves_to_each_sibling_alike():
    labels = np.repeat(np.arange(100), 500)
    noisy, changed = noise.superclass(labels, rate=0.6, num_classes=100, seed=5)
    assert changed.sum() == 30_000
    group = np.array(noise.CIFAR100_SUPERCLASS)
    np.testing.assert_array_equal(group[noisy], group[labels])
    transition = np.zeros((100, 100))
    np.add.at(transition, (labels, noisy), 1 / 500)
    siblings = (group[:, None] == group) & ~np.eye(100, dtype=bool)
    np.testing.assert_allclose(transition[siblings], 0.15, atol=0.08)  # 5 sigma
    assert transition[siblings].mean() == pytest.approx(0.15)
    assert np.bincount(group).tolist() == [5] * 20


def test_superclass_of_one_class_stays():
    noisy = noise.superclass(
        [0, 1, 2, 1], rate=1, num_classes=3, seed=0, superclasses=[7, 4, 7]
    )
    assert noisy.labels.tolist() == [2, 1, 0, 1]


def test_blocks_of_five_wrap_within_the_block():
    labels = np.arange(15)
    moved = noise.blocks(labels, rate=1, num_classes=15, seed=0).labels
    assert moved.tolist() == [
        *(1, 2, 3, 4, 0),
        *(6, 7, 8, 9, 5),
        *(11, 12, 13, 14, 10),
    ]


@pytest.mark.parametrize("form", [lambda name: name, lambda name: (name,)])
def test_class_maps_have_names(form):
    draw = {"rate": 1, "num_classes": CLASSES, "seed": 0}
    moved = [
        noise.corrupt(range(10), kind="asymmetric", class_map=form(name), **draw)
        for name in ("cifar10", "cifar10_two_way")
    ]
    assert moved[0].labels.tolist() == [0, 1, 0, 5, 7, 5, 6, 7, 8, 1]
    assert moved[1].labels.tolist() == [0, 1, 0, 5, 7, 3, 6, 7, 8, 1]


def test_noises_add_up():
    draw = {"num_classes": CLASSES, "seed": 8}
    first = noise.pair_flip(LABELS, rate=0.35, **draw).labels
    both = noise.symmetric_other(first, rate=0.3, num_classes=CLASSES, seed=9).labels
    wrong = 0.35 * (1 - 0.3 / 9) + 0.65 * 0.3  # the second may undo the first
    assert np.mean(both != LABELS) == pytest.approx(wrong, abs=0.008)


@pytest.mark.parametrize(
    ("size", "rate", "drawn"),
    [(100, 0.29, 29), (7, 0.5, 3), (1437, 0.6, 862), (5, 0, 0), (5, 1, 5), (0, 0.5, 0)],
)
def test_exactly_floor_of_rate_times_size_are_drawn(size, rate, drawn):
    labels = np.zeros(size, int)
    flipped = noise.pair_flip(labels, rate=rate, num_classes=2, seed=0)
    assert flipped.changed.sum() == drawn
    # Among a million classes a redraw practically never gives the true one again.
    redrawn = noise.symmetric(labels, rate=rate, num_classes=10**6, seed=0)
    assert redrawn.changed.sum() == drawn
    left = noise.symmetric_other(labels, rate=rate, num_classes=2, seed=0)
    assert left.changed.sum() == drawn


def test_samples_are_drawn_over_all_classes_together():
    counts = [
        np.bincount(LABELS[noise.pair_flip(LABELS, rate=0.5, **draw).changed])
        for draw in ({"num_classes": CLASSES, "seed": seed} for seed in range(3))
    ]
    assert all(count.sum() == 25000 for count in counts)
    assert all(count.std() > 5 for count in counts)  # per class it would be 2500 each


@pytest.mark.parametrize("kind", [kind for kind in noise.KINDS if kind != "none"])
def test_seed_fixes_the_draw_and_a_lower_rate_touches_a_subset(kind):
    classes = 100 if kind == "superclass" else CLASSES

    def draw(rate, seed):
        return noise.corrupt(
            LABELS,
            kind=kind,
            rate=rate,
            num_classes=classes,
            seed=seed,
            class_map=noise.CIFAR10_MAP,
        )

    low, again, high, other = draw(0.2, 0), draw(0.2, 0), draw(0.7, 0), draw(0.2, 1)
    np.testing.assert_array_equal(low.labels, again.labels)
    assert (low.labels != other.labels).any()
    if kind != "symmetric":  # where a redraw may hit the true class
        assert not (low.changed & ~high.changed).any()
    assert low.labels.dtype == np.int32 and low.changed.dtype == bool


def test_input_is_left_alone():
    labels = np.zeros(50, np.int32)
    clean = noise.corrupt(labels, kind="none", rate=1, num_classes=2, seed=0)
    clean.labels[:] = 1
    noise.pair_flip(labels, rate=1, num_classes=2, seed=0)
    assert not labels.any() and not clean.changed.any()


def test_corrupt_is_the_function_of_that_name():
    draw = {"rate": 0.4, "num_classes": CLASSES, "seed": 5}
    mapped = {"class_map": noise.CIFAR10_MAP}
    for kind, want in [
        ("symmetric", noise.symmetric(LABELS, **draw)),
        ("asymmetric", noise.asymmetric(LABELS, **draw, **mapped)),
        ("pair_flip", noise.pair_flip(LABELS, **draw)),
        ("symmetric_other", noise.symmetric_other(LABELS, **draw)),
        ("blocks", noise.blocks(LABELS, **draw)),
    ]:
        got = noise.corrupt(LABELS, kind=kind, **draw, **mapped)
        np.testing.assert_array_equal(got.labels, want.labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 1.5}, r"noise rate must lie in \[0, 1\], got 1\.5"),
        ({"rate": -0.1}, r"noise rate .* got -0\.1"),
        ({"rate": float("nan")}, r"noise rate .* got nan"),
        ({"kind": "flip"}, "noise kind is 'flip'; choose one of .'none'"),
        ({"class_map": None}, "needs class_map for the 3 classes, got None"),
        ({"class_map": ()}, r"needs class_map .* got \(\)"),
        ({"class_map": ("cifar10",)}, "for the 3 classes, got 'cifar10'.* ten classes"),
        ({"class_map": "cifar11"}, "got 'cifar11'.*'cifar10_two_way'"),
        ({"class_map": (2, 1)}, r"class_map is \(2, 1\): give pairs"),
        ({"kind": "blocks"}, "num_classes is 3, not a multiple of five"),
        ({"kind": "superclass"}, "given for 100 classes, but there are 3"),
        (
            {"kind": "symmetric_other", "num_classes": 1, "labels": [0]},
            "num_classes is 1, so there is no other",
        ),
        ({"class_map": {0: 3}}, r"class_map sends 0 to 3.*\[0, 3\)"),
        ({"class_map": {-1: 2}}, "class_map sends -1 to 2"),
        ({"class_map": [("0", 1)]}, "class_map sends '0' to 1"),
        ({"labels": [0, 1, 3]}, r"labels must lie in \[0, 3\), got 3 at position 2"),
        ({"labels": [0, -1, 2]}, "labels .* got -1 at position 1"),
        ({"labels": [0.0, 1.0]}, "labels must be integers .* got float64"),
        ({"labels": [[0], [1]]}, r"labels must .* shape \[2, 1\]"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {
        "labels": [0, 1, 2],
        "kind": "asymmetric",
        "rate": 0.5,
        "num_classes": 3,
        "seed": 0,
        "class_map": {0: 1},
    }
    arguments |= change
    with pytest.raises(ValueError, match=message):
        noise.corrupt(arguments.pop("labels"), **arguments)
