import pickle

import numpy as np
import pytest

from cmwjax.core.labels import UNLABELLED
from cmwjax.data import datasets, label_sets

RNG = np.random.default_rng(0)
TRUE = RNG.integers(4, size=400).astype(np.int32)
NOISY = np.where(RNG.random(400) < 0.6, RNG.integers(4, size=400), TRUE)  # 45 % wrong
TFDS = RNG.permutation(400).astype(np.uint16)


@pytest.fixture
def file(tmp_path):
    """Writes arrays under names, and returns the path as text."""

    def write(**arrays):
        path = tmp_path / "labels.npz"
        np.savez(path, **arrays)
        return str(path)

    return write


def read(labels, archive=None, true_labels=TRUE):
    return label_sets.read(
        labels, archive=archive, true_labels=true_labels, num_classes=4
    )


def test_sets_of_the_archive_come_back_by_name(file, tmp_path):
    file(x_train=np.zeros(3), y_train=TRUE, y_train_human_worse=NOISY.astype(np.uint8))
    got = read("human_worse", archive=tmp_path / "labels.npz")
    np.testing.assert_array_equal(got, NOISY)
    assert got.dtype == np.int32


def test_sets_of_other_files(file, tmp_path):
    path = file(worse_label=NOISY, clean_label=TRUE, tfds_to_canonical=TFDS)
    np.testing.assert_array_equal(read(f"{path}:worse_label"), NOISY)
    np.save(tmp_path / "pmd.npy", NOISY)
    np.testing.assert_array_equal(read(str(tmp_path / "pmd.npy")), NOISY)


def test_published_files_are_pickles_of_named_sets(tmp_path):
    sets = {"clean_label": TRUE, "worse_label": NOISY}
    np.save(tmp_path / "c10n.npy", sets)
    (tmp_path / "human.pt").write_bytes(pickle.dumps(sets))
    for name in ("c10n.npy", "human.pt"):
        np.testing.assert_array_equal(read(f"{tmp_path / name}:worse_label"), NOISY)
        message = rf"{name} has no '': choose one of .*as '{name}:worse_label'"
        with pytest.raises(ValueError, match=message):
            read(str(tmp_path / name))
        with pytest.raises(ValueError, match="clean labels that differ"):
            read(f"{tmp_path / name}:worse_label", true_labels=np.roll(TRUE, 1))
    np.save(tmp_path / "plain.npy", NOISY)
    with pytest.raises(ValueError, match="one array and no 'x': leave out ':x'"):
        read(f"{tmp_path / 'plain.npy'}:x")


def test_pickles_are_not_executed(tmp_path):
    (tmp_path / "human.pt").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    message = "asks for os.system, no array.*numpy.savez"
    with pytest.raises(ValueError, match=message):
        read(str(tmp_path / "human.pt:worse_label"))


def test_the_home_folder(file, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    file(worse=NOISY)
    np.testing.assert_array_equal(read("~/labels.npz:worse"), NOISY)
    np.save(tmp_path / "plain.npy", NOISY)
    np.testing.assert_array_equal(read("~/plain.npy"), NOISY)


def test_images_in_the_order_of_tfds_get_their_own_labels(file):
    path = file(noisy_label=NOISY, clean_label=TRUE, tfds_to_canonical=TFDS)
    got = read(f"{path}:noisy_label", true_labels=TRUE[TFDS])
    assert got.tolist() == [NOISY[canonical] for canonical in TFDS]


def test_superclass_labels_are_compared_with_superclasses(file):
    path = file(
        noisy_coarse_label=NOISY,
        clean_coarse_label=TRUE,
        clean_label=(TRUE + 1) % 4,
    )
    np.testing.assert_array_equal(read(f"{path}:noisy_coarse_label"), NOISY)


def test_pmd_labels_the_first_of_cifar(file):
    true_labels = np.resize(TRUE, 50_000)
    path = file(type1_035=true_labels[:45_000])
    got = read(f"{path}:type1_035", true_labels=true_labels)
    np.testing.assert_array_equal(got[:45_000], true_labels[:45_000])
    assert (got[45_000:] == UNLABELLED).all() and len(got) == 50_000


SWAPPED = np.roll(TRUE, 1)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"worse": NOISY[:-1]}, "are 399, but there are 400 training images"),
        ({"worse": np.r_[NOISY, 0]}, "are 401, but there are 400"),
        ({"worse": NOISY[:360]}, "are 360, but there are 400"),
        (
            {"worse": np.r_[NOISY[:-1], 4]},
            r"in \[0, 4\), got 4 .* give labels",
        ),
        ({"worse": NOISY.astype(float)}, "must be integers .* got float64"),
        ({"better": NOISY}, r"has no 'worse'; choose one of \['better'\]"),
        (
            {"worse": NOISY, "clean_label": SWAPPED},
            r"clean labels that differ from the data set's at \d+ of 400 images",
        ),
        ({"worse": NOISY, "clean_label": TRUE[:9]}, "differ from the data set's: they"),
        (
            {"worse": NOISY, "clean_label": SWAPPED, "tfds_to_canonical": TFDS},
            "clean labels that differ",
        ),
        ({"worse": np.roll(NOISY, 1)}, r"right on 2\d\.\d% .* in a random order"),
        ({"worse": np.zeros(400, int)}, "in a random order: they belong to another"),
    ],
)
def test_labels_of_other_images_are_refused(file, arrays, message):
    with pytest.raises(ValueError, match=message):
        read(f"{file(**arrays)}:worse")


def test_labels_that_are_shifted_from_some_image_on_are_refused(file):
    """As where a file lost a line, and another one was appended."""
    true_labels = np.resize(TRUE, 10_000)
    noisy = np.resize(NOISY, 10_000)
    shifted = np.r_[noisy[:7000], np.roll(noisy[7000:], -1)]
    assert read(f"{file(worse=noisy)}:worse", true_labels=true_labels) is not None
    with pytest.raises(ValueError, match=r"of images 7500 to 9999, .* random order"):
        read(f"{file(worse=shifted)}:worse", true_labels=true_labels)


def test_images_sorted_by_class_may_have_a_class_that_is_mostly_wrong(file):
    true_labels = np.repeat(np.arange(4, dtype=np.int32), 2500)
    mostly = RNG.random(10_000) < 0.9
    noisy = np.where((true_labels == 3) & mostly, 0, true_labels)
    path = file(worse=noisy)
    np.testing.assert_array_equal(read(f"{path}:worse", true_labels=true_labels), noisy)


def test_very_noisy_labels_are_still_accepted(file):
    noisy = np.where(np.arange(4000) % 10 < 9, RNG.integers(4, size=4000), 1)
    true_labels = np.resize(TRUE, 4000)
    noisy = np.where(np.arange(4000) % 10 < 9, noisy, true_labels)  # 67 % wrong
    path = file(worse=noisy)
    np.testing.assert_array_equal(read(f"{path}:worse", true_labels=true_labels), noisy)


def test_files_that_are_not_there_or_damaged_are_named(file, tmp_path):
    with pytest.raises(ValueError, match=r"no file .*nowhere\.npz: correct the path"):
        read(str(tmp_path / "nowhere.npz:worse"))
    for name in ("nowhere.npy", "nowhere.pt:worse"):
        with pytest.raises(ValueError, match=r"no file .*nowhere\..*correct the path"):
            read(str(tmp_path / name))
    for name in ("labels.npz", "labels.npy"):
        (tmp_path / name).write_bytes(b"damaged")
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            read(str(tmp_path / name) + ":worse" * name.endswith("z"))


def test_unknown_names_say_what_there_is(file, tmp_path):
    file(y_train=TRUE, y_train_human_worse=NOISY)
    with pytest.raises(ValueError, match=r"'worse' are unknown.*'true', 'human_worse'"):
        read("worse", archive=tmp_path / "labels.npz")
    with pytest.raises(ValueError, match="no other labels than 'true'"):
        datasets.load("digits", labels="human_worse")


def test_loading_a_part_takes_its_observed_labels(file):
    images = np.arange(400, dtype=np.uint16).view(np.uint8).reshape(400, 1, 2, 1)
    path = file(
        x_train=images, y_train=TRUE, x_test=images, y_test=TRUE, y_train_human=NOISY
    )
    part = datasets.load(path, train_size=50, labels="human")
    source = part.train_inputs.reshape(50, 2).copy().view(np.uint16)[:, 0]
    np.testing.assert_array_equal(part.observed_labels, NOISY[source])
    np.testing.assert_array_equal(part.train_labels, TRUE[source])
    assert datasets.load(path).observed_labels is None
