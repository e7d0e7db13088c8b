import numpy as np
import pytest

from cmwjax.bias import meta_set

# Sizes 40, 7, 19, 4, in mixed order.
LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [40, 7, 19, 4]))


def test_held_out_takes_per_class_and_leaves_the_rest():
    meta, train = meta_set.held_out(LABELS, per_class=3, num_classes=4, seed=0)
    assert np.bincount(LABELS[meta]).tolist() == [3, 3, 3, 3]
    assert sorted([*meta, *train]) == list(range(70))
    assert meta.dtype == train.dtype == np.int32
    assert list(meta) == sorted(meta) and list(train) == sorted(train)


def test_held_out_draws_by_seed_and_uniformly():
    def draw(seed):
        return meta_set.held_out(LABELS, per_class=3, num_classes=4, seed=seed)[0]

    np.testing.assert_array_equal(draw(1), draw(1))
    assert not np.array_equal(draw(1), draw(2))
    hits = np.bincount(np.concatenate([draw(s) for s in range(400)]), minlength=70)
    want = 400 * 3 / np.array([40, 7, 19, 4])[LABELS]
    np.testing.assert_allclose(hits, want, atol=4.5 * np.sqrt(want).max())
    assert hits.min() > 0


def test_balanced_cuts_every_class_to_the_rarest_of_the_index():
    index = np.setdiff1d(np.arange(70), np.flatnonzero(LABELS == 1)[:5])  # two left
    meta = meta_set.balanced(LABELS, index, num_classes=4, seed=0, epoch=1)
    assert np.bincount(LABELS[meta]).tolist() == [2, 2, 2, 2]
    assert set(meta) <= set(index) and len(set(meta)) == 8
    assert list(meta) == sorted(meta) and meta.dtype == np.int32


def test_balanced_is_redrawn_per_epoch():
    def draw(seed, epoch):
        index = np.arange(70)
        drawn = meta_set.balanced(LABELS, index, num_classes=4, seed=seed, epoch=epoch)
        return drawn.tolist()

    assert draw(0, 1) == draw(0, 1)
    assert draw(0, 1) != draw(0, 2)
    assert draw(0, 1) != draw(1, 1)
    assert draw(0, 1) != draw(1, 0)


def test_lowest_loss_is_what_a_loop_over_classes_finds():
    rng = np.random.default_rng(1)
    losses, index = rng.exponential(size=70), rng.permutation(70)[:60]
    losses[np.setdiff1d(np.arange(70), index)] = -1  # the lowest, but not to choose
    meta = meta_set.lowest_loss(losses, LABELS, index, per_class=3, num_classes=4)
    want = []
    for label in range(4):
        members = [i for i in index if LABELS[i] == label]
        want += sorted(members, key=lambda i: losses[i])[:3]
    assert meta.tolist() == sorted(want) and meta.dtype == np.int32


def test_lowest_loss_breaks_ties_by_order_and_reads_the_index_alone():
    losses = np.round(np.random.default_rng(0).random(200), 1)  # many are equal
    losses[100:] = np.nan
    labels, index = np.zeros(200, int), np.random.default_rng(1).permutation(100)
    got = meta_set.lowest_loss(losses, labels, index, per_class=40, num_classes=1)
    assert got.tolist() == sorted(sorted(index, key=lambda i: losses[i])[:40])


def test_purity_is_the_share_of_right_labels():
    observed, true = [0, 1, 1, 2], [0, 1, 2, 0]
    assert meta_set.purity([0, 1, 2], observed, true) == pytest.approx(2 / 3)
    assert meta_set.purity([3], observed, true) == 0.0
    assert isinstance(meta_set.purity([0], observed, true), float)


def policies(labels, index, per_class=2):
    """Calls of the three policies on the same samples, by name."""
    labels = np.asarray(labels)
    chosen = labels[np.asarray(index, int)] if len(index) else labels[:0]
    some = {"per_class": per_class, "num_classes": 3}
    losses = np.zeros(len(labels))
    return {
        "held_out": lambda: meta_set.held_out(chosen, **some, seed=0),
        "balanced": lambda: meta_set.balanced(
            labels, index, num_classes=3, seed=0, epoch=0
        ),
        "lowest_loss": lambda: meta_set.lowest_loss(losses, labels, index, **some),
    }


@pytest.mark.parametrize("name", ["held_out", "balanced", "lowest_loss"])
def test_samples_that_cannot_make_a_meta_set_are_named(name):
    labels = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    policies(labels, range(9))[name]()
    with pytest.raises(ValueError, match="no sample of class 2"):
        policies(labels, range(6))[name]()
    with pytest.raises(ValueError, match="is empty"):
        policies(labels, [])[name]()
    with pytest.raises(ValueError, match=r"got 7 at position 8"):
        policies([*labels[:-1], 7], range(9))[name]()
    if name != "balanced":
        remedy = {"held_out": "policy='balanced'", "lowest_loss": "lower .*per_class"}
        with pytest.raises(ValueError, match=f"range 2 has 1 .* 2.*{remedy[name]}"):
            policies(labels, range(7))[name]()
        with pytest.raises(ValueError, match="per_class=0 leaves the meta set empty"):
            policies(labels, range(9), per_class=0)[name]()


def test_held_out_leaves_something_to_train_on():
    with pytest.raises(ValueError, match="range 0 has 2 .* 2 and 1 to train on: lower"):
        meta_set.held_out([0, 0], per_class=2, num_classes=1, seed=0)
    # No number is low enough for a class of one sample.
    with pytest.raises(ValueError, match="cat has 1 sample, .* add samples, leave the"):
        meta_set.held_out(
            [0, 1, 1], per_class=1, num_classes=2, seed=0, names=("cat", "dog")
        )


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([0, 70], r"index must lie in \[0, 70\), got 0 to 70"),
        ([-1, 3], r"index must lie in \[0, 70\), got -1 to 3"),
        (LABELS == 0, "index is bool: pass positions"),
    ],
)
def test_bad_index_is_named(index, message):
    with pytest.raises(ValueError, match=message):
        meta_set.balanced(LABELS, index, num_classes=4, seed=0, epoch=0)


def test_bad_losses_are_named():
    losses = np.zeros(70)
    losses[np.flatnonzero(LABELS == 2)[3]] = np.nan
    arguments = {"per_class": 2, "num_classes": 4}
    with pytest.raises(ValueError, match="losses of class 2 contain NaN"):
        meta_set.lowest_loss(losses, LABELS, np.arange(70), **arguments)
    with pytest.raises(ValueError, match=r"losses must have the shape \[70\]"):
        meta_set.lowest_loss(losses[:5], LABELS, np.arange(5), **arguments)


def test_empty_meta_set_has_no_purity():
    with pytest.raises(ValueError, match="meta_index is empty"):
        meta_set.purity([], [0], [0])


@pytest.mark.parametrize(
    ("trusted", "is_told"),
    [([20, 20], True), ([1, 49], False), ([2, 38], False), ([9, 31], True)],
)
def test_trusted_samples_of_other_proportions_are_told(caplog, trusted, is_told):
    """A fiftieth of class 0 is too few for more than a fifth of the trusted."""
    counts = np.array([200, 9800])
    meta_set.warn_of_other_shares(np.array(trusted), counts, ["rare", "usual"])
    assert ("of the trusted samples are of class rare" in caplog.text) == is_told
    if is_told:
        share = 100 * trusted[0] / sum(trusted)
        assert f"{share:.0f} % of the trusted" in caplog.text
        assert "rare, and 2 % of those" in caplog.text
