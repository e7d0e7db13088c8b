import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmwjax import train
from cmwjax.config import base_config
from cmwjax.core.labels import class_counts
from cmwjax.data import datasets
from cmwjax.data.dataset import Dataset, select, validate
from cmwjax.data.order import epoch_batches, meta_batches
from cmwjax.data.text import Vocabulary

ARCHIVES = os.environ.get("CMWJAX_DATA_DIR")  # read before any test sets it
real = pytest.mark.skipif(not ARCHIVES, reason="needs the archives (CMWJAX_DATA_DIR)")


def small_arrays(**change):
    """A well-formed archive: 6 training and 3 test images of 3 classes."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 4, 5, 3), dtype=np.uint8)
    arrays = {
        "x_train": pixels[:6],
        "y_train": np.array([0, 1, 2, 0, 1, 2], np.uint8),
        "x_test": pixels[6:],
        "y_test": np.array([0, 1, 2], np.uint8),
    }
    return arrays | change


@pytest.fixture
def archive(tmp_path):
    """Writes an archive and returns its path."""

    def write(**change):
        path = tmp_path / "set.npz"
        arrays = small_arrays(**change)
        np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
        return str(path)

    return write


# ---- load


def test_digits_are_all_of_scikit_learns():
    from sklearn.datasets import load_digits

    digits = datasets.load("digits")
    assert digits.train_inputs.shape == (1437, 8, 8, 1)
    assert digits.test_inputs.shape == (360, 8, 8, 1)
    assert digits.train_inputs.dtype == np.uint8 and digits.train_inputs.max() == 255
    assert digits.train_labels.dtype == digits.test_labels.dtype == np.int32
    assert digits.class_names == tuple("0123456789") and digits.num_classes == 10

    def rows(images, labels):
        pairs = zip(images, labels, strict=True)
        return Counter((int(label), image.tobytes()) for image, label in pairs)

    source = load_digits()
    scaled = [[round(value * 255 / 16) for value in row] for row in source.data]
    want = rows(np.array(scaled, np.uint8), source.target)
    got = rows(digits.train_inputs, digits.train_labels)
    got += rows(digits.test_inputs, digits.test_labels)
    assert got == want

    share = np.bincount(digits.test_labels) / np.bincount(source.target)
    np.testing.assert_allclose(share, 360 / 1797, atol=0.006)  # stratified
    again = datasets.load("digits")
    np.testing.assert_array_equal(again.train_inputs, digits.train_inputs)


def test_archive_comes_back_as_written(archive):
    arrays, loaded = small_arrays(), datasets.load(archive())
    for field, key in [("inputs", "x"), ("labels", "y")]:
        for split in ("train", "test"):
            got = getattr(loaded, f"{split}_{field}")
            np.testing.assert_array_equal(got, arrays[f"{key}_{split}"])
    assert loaded.train_labels.dtype == loaded.test_labels.dtype == np.int32
    assert loaded.num_classes == 3 and loaded.class_names == ("0", "1", "2")


def test_archive_may_be_grey_float_and_have_a_column_of_labels(archive):
    arrays = small_arrays()
    grey = {key: arrays[key][..., 0] for key in ("x_train", "x_test")}
    floats = {key: value.astype(np.float32) / 255 for key, value in grey.items()}
    columns = {key: arrays[key][:, None] for key in ("y_train", "y_test")}
    loaded = datasets.load(archive(**floats, **columns))
    np.testing.assert_array_equal(loaded.train_inputs, grey["x_train"][..., None])
    np.testing.assert_array_equal(loaded.test_inputs, grey["x_test"][..., None])
    np.testing.assert_array_equal(loaded.train_labels, arrays["y_train"])


def test_float_pixels_round_to_the_nearest(archive):
    x_train = np.full((6, 4, 5, 3), 0.999)  # 254.7
    assert (datasets.load(archive(x_train=x_train)).train_inputs == 255).all()


def test_path_objects_and_other_entries_are_welcome(archive, tmp_path):
    archive(y_train_human=np.zeros(6, np.uint8))
    assert datasets.load(tmp_path / "set.npz").num_classes == 3


def test_named_archive_is_read_from_the_data_folder(archive, tmp_path, monkeypatch):
    labels = np.arange(10, dtype=np.uint8)
    pixels = np.zeros((10, 2, 2, 3), np.uint8)
    archive(x_train=pixels, y_train=labels, x_test=pixels[:1], y_test=labels[:1])
    (tmp_path / "set.npz").rename(tmp_path / "cifar10.npz")
    monkeypatch.setenv("CMWJAX_DATA_DIR", str(tmp_path))
    loaded = datasets.load("cifar10")
    assert loaded.num_classes == 10
    assert (loaded.class_names[2], loaded.class_names[9]) == ("bird", "truck")
    with pytest.raises(ValueError, match=r"no file .*fashion_mnist\.npz"):
        datasets.load("fashion_mnist")
    monkeypatch.delenv("CMWJAX_DATA_DIR")
    with pytest.raises(ValueError, match=r"cifar10\.npz .*export CMWJAX_DATA_DIR="):
        datasets.load("cifar10")


def test_train_size_takes_nested_stratified_beginnings():
    every = datasets.load("digits")
    share = np.bincount(every.train_labels) / 1437
    larger = datasets.load("digits", train_size=1000)
    for size in (10, 123, 500):
        smaller = datasets.load("digits", train_size=size)
        np.testing.assert_array_equal(smaller.train_inputs, larger.train_inputs[:size])
        counts = np.bincount(smaller.train_labels, minlength=10)
        assert counts.sum() == size
        np.testing.assert_allclose(counts, size * share, atol=1)
        np.testing.assert_array_equal(smaller.test_inputs, every.test_inputs)
    ones = [split.train_inputs[split.train_labels == 1] for split in (every, larger)]
    assert not np.array_equal(ones[0][:20], ones[1][:20])  # drawn, not in file order
    whole = datasets.load("digits", train_size=1437)
    assert Counter(map(bytes, whole.train_inputs)) == Counter(
        map(bytes, every.train_inputs)
    )


@real
def test_real_fashion_mnist_subset():
    loaded = datasets.load("fashion_mnist", train_size=20_000)
    assert loaded.train_inputs.shape == (20_000, 28, 28, 1)
    assert loaded.test_inputs.shape == (10_000, 28, 28, 1)
    assert np.bincount(loaded.train_labels).tolist() == [2000] * 10
    assert loaded.class_names[7] == "Sneaker"


@real
def test_real_cifar10():
    loaded = datasets.load("cifar10")
    assert loaded.train_inputs.shape == (50_000, 32, 32, 3)
    assert np.bincount(loaded.train_labels).tolist() == [5000] * 10
    names = [loaded.class_names[label] for label in loaded.train_labels[:4]]
    assert names == ["frog", "truck", "truck", "deer"]


def test_importing_the_module_is_light():
    heavy = "{'sklearn', 'matplotlib', 'tensorflow_datasets', 'grain'}"
    code = f"import cmwjax.data.datasets, sys; print({heavy} & sys.modules.keys())"
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert printed.strip() == "set()"


# ---- what load and validate refuse

IMAGES = np.zeros((6, 4, 5, 3), np.uint8)
NAN = np.where(np.arange(6)[:, None, None, None] == 4, np.nan, 0.5 + 0.0 * IMAGES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_train": np.array([0, 1, 2, 0, 1, -1])}, "y_train .* got -1 at position 5"),
        ({"y_test": np.array([0, 3, 2])}, r"y_test .*\[0, 3\), got 3 at position 1"),
        ({"y_train": np.array([0, 1, 3, 0, 1, 3])}, "no training sample of class 2"),
        ({"y_train": np.array([0, 1, 2, 0, 1, 99])}, "y_train .* got 99"),
        ({"y_train": np.eye(6, 3, dtype=int)}, r"y_train must .* \[6, 3\].*one class"),
        ({"y_train": np.zeros(6)}, "y_train must be integers .* got float64"),
        ({"y_train": np.array(list("abcabc"))}, "y_train must be integers"),
        ({"y_train": np.array([0, 1, 2, 0, 1])}, "6 train_inputs, but 5 train_labels"),
        ({"y_test": np.array([0, 1])}, "3 test_inputs, but 2 test_labels"),
        ({"x_train": NAN}, "x_train contain NaN in 1 images, the first at position 4"),
        ({"x_train": IMAGES + 1.5}, r"x_train must be uint8.*float64 from 1\.5"),
        ({"x_train": IMAGES - 0.5}, r"x_train must be uint8.*from -0\.5"),
        ({"x_train": IMAGES.astype(int)}, "x_train must be uint8.* int64 from 0 to 0"),
        ({"x_train": IMAGES.astype(str)}, "x_train must be uint8"),
        (
            {"x_train": IMAGES[0, 0]},
            r"x_train must have shape \[N, H, W, C\].*\[5, 3\]",
        ),
        ({"x_test": IMAGES[:0]}, r"x_test has shape \[0, 4, 5, 3\], .* or add samples"),
        ({"x_test": IMAGES[:3, 1:]}, r"train_inputs are \[4, 5, 3\], but test_inputs"),
        ({"y_test": None}, "has no y_test"),
        ({"y_train": np.array([None] * 6)}, "cannot be read .*allow_pickle"),
    ],
)
def test_bad_archives_are_named(archive, change, message):
    with pytest.raises(ValueError, match=message):
        datasets.load(archive(**change))


def test_class_of_a_named_set_cannot_be_missing(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("CMWJAX_DATA_DIR", str(tmp_path))
    archive()
    (tmp_path / "set.npz").rename(tmp_path / "cifar10.npz")
    with pytest.raises(ValueError, match="cifar10: no training sample of class 3"):
        datasets.load("cifar10")


def test_damaged_files_are_named(archive, tmp_path):
    path = archive()
    good = (tmp_path / "set.npz").read_bytes()
    array = tmp_path / "array.npy"
    np.save(array, np.zeros(3))
    flipped = bytearray(good)
    flipped[good.index(b"x_train.npy") + 400] ^= 0xFF  # inside the pixels: a wrong CRC
    for content in (b"", b"not a zip", good[:300], good[:-40], array.read_bytes()):
        (tmp_path / "set.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"set\.npz cannot be read"):
            datasets.load(path)
    (tmp_path / "set.npz").write_bytes(bytes(flipped))
    with pytest.raises(ValueError, match=r"set\.npz cannot be read .*CRC"):
        datasets.load(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar", "data 'cifar' is unknown: choose one of 'digits', .*'cifar10'"),
        ("nowhere/set.npz", r"no file nowhere/set\.npz.*x_train, y_train"),
        (".npz", r"no file \.npz"),
    ],
)
def test_unknown_names_say_what_there_is(name, message):
    with pytest.raises(ValueError, match=message):
        datasets.load(name)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "config.data.train_size=0, but digits has 1437"),
        (1438, "config.data.train_size=1438"),
        (5, "digits with config.data.train_size=5: no training sample of class"),
    ],
)
def test_bad_train_sizes_are_named(size, message):
    with pytest.raises(ValueError, match=message):
        datasets.load("digits", train_size=size)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_inputs": NAN}, "mine: train_inputs contain NaN"),
        ({"train_inputs": IMAGES / 255}, "mine: train_inputs must be uint8"),
        ({"train_inputs": IMAGES[..., 0]}, r"mine: train_inputs must have shape"),
        (
            {"train_inputs": IMAGES.reshape(6, 1, 5, -1)},
            r"train_inputs have shape \[6, 1, 5, \d+\], .*transpose\(0, 2, 3, 1\)",
        ),
        ({"train_labels": np.full(6, 3)}, r"mine: train_labels .* got 3 at position 0"),
        ({"test_labels": np.zeros(2, int)}, "mine: 3 test_inputs, but 2 test_labels"),
        ({"class_names": ("a", "b")}, "mine: 2 class_names for 3 classes"),
        (
            {"num_classes": 4, "class_names": tuple("abcd")},
            r"mine: no training sample of class 3, 'd' \(of 4\)",
        ),
        ({"num_classes": -1}, "mine: num_classes=-1 must be a whole number"),
        ({"num_classes": 3.0}, "mine: num_classes=3.0 must be a whole number"),
        ({"class_names": None}, "mine: class_names=None must be a tuple of strings"),
        ({"class_names": (0, 1, 2)}, r"mine: class_names=\(0, 1, 2\) must be a tuple"),
        ({"class_names": "abc"}, "mine: class_names='abc' must be a tuple of strings"),
        ({"class_names": ("a", "b", "a")}, "mine: class_names has 'a' more than once"),
        ({"kind": "table"}, r"mine: kind='table' is unknown; choose one of \('images'"),
        ({"shown": ["a", "b"]}, "mine: shown has 2 entries for 6 training samples"),
        ({"trusted_index": np.arange(6) < 2}, "mine: trusted_index is bool of shape"),
        ({"trusted_index": np.arange(2.0)}, "mine: trusted_index is float64 of shape"),
        ({"trusted_index": []}, r"mine: trusted_index is float64 of shape \[0\]"),
        ({"trusted_index": [[1, 2]]}, r"trusted_index is int64 of shape \[1, 2\]"),
        ({"trusted_index": [0, 6]}, r"trusted_index has 6 at position 1.*\[0, 6\)"),
        ({"trusted_index": [-1, 2]}, "mine: trusted_index has -1 at position 0, outs"),
        ({"trusted_index": [1, 4, 1]}, "mine: trusted_index has 1 more than once: g"),
    ],
)
def test_validate_names_what_is_wrong_with_arrays_from_elsewhere(change, message):
    good = Dataset(*small_arrays().values(), 3, ("a", "b", "c"))
    validate(good, name="mine")
    with pytest.raises(ValueError, match=message):
        validate(good._replace(**change), name="mine")


TOKENS = np.ones((6, 4), np.int32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"vocabulary": None},
            "mine: vocabulary=None, but inputs are tokens: give",
        ),
        ({"vocabulary": 100}, "mine: vocabulary=100, but inputs are tokens: give"),
        ({"test_inputs": 3 * TOKENS[:3]}, r"have token 3, but .* tokens in \[0, 3\)"),
    ],
)
def test_tokens_come_with_their_vocabulary(change, message):
    arrays = small_arrays() | {"x_train": TOKENS, "x_test": TOKENS[:3]}
    good = Dataset(*arrays.values(), 3, ("a", "b", "c"), kind="tokens")
    good = good._replace(vocabulary=Vocabulary(("<a>",), (0, 0)))
    validate(good, name="mine")
    with pytest.raises(ValueError, match=message):
        validate(good._replace(**change), name="mine")


@pytest.mark.parametrize("given", [(1, 2), {"x": 1}])
def test_what_is_no_data_set_is_refused_by_its_type(tmp_path, given):
    message = f"the data set is a {type(given).__name__}: pass a cmwjax.data.dataset.D"
    with pytest.raises(ValueError, match=message):
        train.run(base_config(), tmp_path / "run", arrays=given)
    assert not (tmp_path / "run").exists()


def test_lists_are_data_too():
    arrays = {key: array.tolist() for key, array in small_arrays().items()}
    rows = arrays | {"x_train": [[1.0, i] for i in range(6)], "x_test": [[0.0, 1]] * 3}
    given = Dataset(*rows.values(), 3, ["a", "b", "c"], kind="rows")
    given = given._replace(observed_labels=rows["y_train"], trusted_index=[1, 0])
    found = select(given, name="mine", train_size=None)
    assert found.class_names == ("a", "b", "c") and found.spec.shapes == [[2]]
    assert found.trusted_index.tolist() == [1, 0]
    assert found.observed_labels.tolist() == rows["y_train"]


def test_class_counts_counts_absent_classes_too():
    assert class_counts([0, 2, 2], 4).tolist() == [1, 0, 2, 0]
    with pytest.raises(ValueError, match="got 4 at position 1"):
        class_counts([0, 4], 4)


# ---- batches

runs = st.fixed_dictionaries(
    {"seed": st.integers(0, 99), "epoch": st.integers(0, 99)},
)


def check_rows(rows, indices, shards):
    """Every entry stands in the columns of its own shard."""
    assert rows.dtype == np.int32
    columns = rows.reshape(len(rows), shards, rows.shape[1] // shards)
    for shard in range(shards):
        assert set(columns[:, shard].ravel()) <= set(indices[shard::shards])


@settings(deadline=None, max_examples=40)
@given(
    run=runs, shards=st.integers(1, 5), part=st.integers(1, 6), extra=st.integers(0, 60)
)
def test_epoch_visits_positions_once_and_shard_by_shard(run, shards, part, extra):
    size = shards * part + extra
    indices = np.random.default_rng(0).permutation(1000)[:size]
    rows = epoch_batches(indices, batch_size=shards * part, shards=shards, **run)
    assert len(set(rows.ravel())) == rows.size
    assert rows.shape == ((size // shards) // part, shards * part)
    check_rows(rows, indices, shards)


@settings(deadline=None, max_examples=40)
@given(
    run=runs,
    shards=st.integers(1, 4),
    part=st.integers(1, 6),
    size=st.integers(4, 50),
    steps=st.integers(0, 30),
)
def test_meta_batches_cycle_evenly(run, shards, part, size, steps):
    meta_index = np.random.default_rng(1).permutation(1000)[:size]
    arguments = {"batch_size": shards * part, "shards": shards, **run}
    rows = meta_batches(meta_index, steps=steps, **arguments)
    width = min(shards * part, size)
    assert rows.shape == (steps, width - width % shards)
    check_rows(rows, meta_index, shards)
    for shard in range(shards):
        visits = np.count_nonzero(rows[..., None] == meta_index[shard::shards], (0, 1))
        assert visits.max() - visits.min() <= 1
    # A run that stops early has seen the beginning of the same table.
    part_way = meta_batches(meta_index, steps=steps // 2, **arguments)
    np.testing.assert_array_equal(part_way, rows[: steps // 2])


def test_balanced_shards_make_meta_visits_floor_or_ceil():
    rows = meta_batches(
        np.arange(100), batch_size=32, shards=4, seed=0, epoch=3, steps=11
    )
    assert set(np.bincount(rows.ravel(), minlength=100)) == {3, 4}  # 352 / 100


@pytest.mark.parametrize("batches", ["epoch", "meta"])
def test_order_is_a_function_of_seed_and_epoch(batches):
    def rows(seed, epoch):
        arguments = {"batch_size": 20, "shards": 4, "seed": seed, "epoch": epoch}
        if batches == "epoch":
            return epoch_batches(np.arange(200), **arguments).tolist()
        return meta_batches(np.arange(200), steps=10, **arguments).tolist()

    assert rows(0, 1) == rows(0, 1)
    assert rows(0, 1) != rows(0, 2)
    assert rows(0, 1) != rows(1, 1)
    assert rows(0, 1) != rows(1, 0)
    by_shard = np.array(rows(0, 1)).reshape(10, 4, 5) // 4  # rank within the shard
    assert not np.array_equal(by_shard[:, 0], by_shard[:, 1])


def test_training_and_meta_order_differ():
    arguments = {"batch_size": 40, "shards": 4, "seed": 0, "epoch": 0}
    train = epoch_batches(np.arange(200), **arguments)
    meta = meta_batches(np.arange(200), steps=5, **arguments)
    assert (train != meta).mean() > 0.9


def test_virtual_shards_do_not_depend_on_the_row_width():
    wide = epoch_batches(np.arange(64), batch_size=32, shards=4, seed=0, epoch=0)
    slim = epoch_batches(np.arange(64), batch_size=16, shards=4, seed=0, epoch=0)
    # Shard 1: the same order, cut into longer or shorter pieces.
    np.testing.assert_array_equal(wide[:, 8:16].ravel(), slim[:, 4:8].ravel())


@pytest.mark.parametrize(
    ("size", "batch_size", "shards", "message"),
    [
        (
            100,
            30,
            4,
            "batch_size=30 is not a positive multiple of config.data.shards=4",
        ),
        (100, 0, 4, "batch_size=0 is not"),
        (100, 8, 0, "multiple of config.data.shards=0"),
        (
            15,
            16,
            4,
            "size=16 .*, but 15 training samples do .*: lower it to 12 o",
        ),
        (0, 16, 4, "but 0 training samples do not fill one batch: lower both"),
    ],
)
def test_bad_batches_are_named(size, batch_size, shards, message):
    arguments = {"batch_size": batch_size, "shards": shards, "seed": 0, "epoch": 0}
    with pytest.raises(ValueError, match=message):
        epoch_batches(np.arange(size), **arguments)
    if "multiple" in message:
        with pytest.raises(ValueError, match=message):
            meta_batches(np.arange(size), steps=1, **arguments)


@pytest.mark.parametrize("size", [0, 3])
def test_meta_set_smaller_than_the_shards_is_named(size):
    with pytest.raises(ValueError, match=f"meta set has {size} samples, fewer than"):
        meta_batches(np.arange(size), batch_size=8, shards=4, seed=0, epoch=0, steps=2)
