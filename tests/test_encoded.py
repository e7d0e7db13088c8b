"""Image sets on disk: folders, and what TensorFlow Datasets has prepared."""

import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader

from cmwjax.data import datasets, on_disk, records
from image_files import encoded as as_file
from image_files import random_pixels, write_folder

TRAIN, TEST = 300, 20


def examples(number):
    for i in range(number):
        yield i, {"image": as_file(random_pixels(i, 4)), "label": (7 * i) % 3}


class TinyWeb(tfds.core.GeneratorBasedBuilder):
    """Images of three classes, whose order TFDS shuffles."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = None

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=["cat", "dog", "cow"]),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": examples(TRAIN), "val": examples(TEST), "other": examples(9)}

    def _generate_examples(self):
        raise NotImplementedError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Folder of a prepared data set."""
    builder = TinyWeb(data_dir=tmp_path_factory.mktemp("prepared"))
    builder.download_and_prepare(file_format="array_record")
    return builder.data_path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("folder")
    write_folder(path, splits=("test", "other"))
    return path


# ---- folders


def test_folders_are_read_in_the_order_of_their_names(folder):
    arrays = np.load(folder / "set.npz")
    (folder / "train" / "class1" / ".hidden.png").write_bytes(b"x")
    (folder / "train" / "class1" / "notes.txt").write_bytes(b"x")
    found = on_disk.load(f"folder:{folder}", tests=["test", "other"])
    assert found.class_names == ("class0", "class1", "class2")
    assert list(found.tests) == ["test", "other"]
    for part, name in [
        (found.train, "train"),
        (found.tests["test"], "test"),
        (found.tests["other"], "other"),
    ]:
        np.testing.assert_array_equal(part.labels, arrays[f"y_{name}"])
        assert part.labels.dtype == np.int32
        for i in (0, 9, len(part.labels) - 1):
            assert part.read(i) == as_file(arrays[f"x_{name}"][i])


def test_what_is_wrong_with_a_folder_is_said(tmp_path):
    def fails(message, tests=("test",)):
        with pytest.raises(ValueError, match=message):
            on_disk.load(f"folder:{tmp_path}", tests=tests)

    fails(r"no folder .*/train: put images into")
    write_folder(tmp_path)
    fails(r"no folder .*/val:", tests=["val"])
    (tmp_path / "empty" / "class0").mkdir(parents=True)
    fails(r"empty has no images", tests=["empty"])
    (tmp_path / "test" / "class7").mkdir()
    fails(r"test/class7 is a class that .* does not have")
    with pytest.raises(ValueError, match="'folders:x' is unknown"):
        datasets.load("folders:x")


def test_a_set_on_disk_as_a_data_set(folder):
    arrays = np.load(folder / "set.npz")
    name = f"folder:{folder}"
    whole = datasets.load(name, tests=["other", "test"], image_size=8)
    assert whole.train_inputs.shape == (0, 8, 8, 3) and whole.num_classes == 3
    np.testing.assert_array_equal(whole.test_labels, arrays["y_other"])
    assert whole.knows_true_labels
    assert not datasets.load(name, tests=["test"], labels="given").knows_true_labels

    # The same part as of the set in memory.
    part = datasets.load(name, tests=["test"], train_size=20)
    same = datasets.load(folder / "set.npz", train_size=20)
    np.testing.assert_array_equal(part.train_labels, same.train_labels)
    for i in range(20):
        assert part.files.train.read(i) == as_file(same.train_inputs[i])

    (folder / "train" / "class3").mkdir()
    with pytest.raises(ValueError, match="no training sample of class 3"):
        datasets.load(name, tests=["test"])
    (folder / "train" / "class3").rmdir()


# ---- TensorFlow Datasets


def assert_tiny_web(found):
    """Images and labels belong together; the order is that of the records."""
    known = {content["image"]: content["label"] for _, content in examples(TRAIN)}
    assert found.class_names == ("cat", "dog", "cow")
    assert len(found.train.labels) == TRAIN and len(found.tests["val"].labels) == TEST
    images = [found.train.read(i) for i in range(TRAIN)]
    assert len(set(images)) == TRAIN
    np.testing.assert_array_equal([known[x] for x in images], found.train.labels)


def test_records_of_several_shards_have_the_keys_of_tfds(tmp_path):
    """The file, and the number of the record in it, as in `tfds_id`."""
    builder = TinyWeb(data_dir=tmp_path)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(num_shards=3),
        file_format="array_record",
    )
    found = on_disk.load(f"tfds:{builder.data_path}", tests=["val"]).train
    assert len(found.names) == TRAIN and len(set(found.names)) == TRAIN
    shards = set()
    for position, key in enumerate(found.names):
        shard, number = key.split("__")
        reader = ArrayRecordReader(str(builder.data_path / shard))
        assert found.read(position) in reader.read([int(number)])[0]
        reader.close()
        shards.add(shard)
    assert len(shards) == 3


def test_prepared_data_by_folder_and_by_name(prepared):
    found = on_disk.load(f"tfds:{prepared}", tests=["val", "other"])
    assert_tiny_web(found)
    tfds.core.add_data_dir(prepared.parents[1])
    again = on_disk.load("tfds:tiny_web:1.0.0", tests=["val"])
    assert_tiny_web(again)
    assert found.identity != again.identity  # another list of test sets


def test_labels_are_kept_beside_the_data(prepared, monkeypatch):
    first = on_disk.load(f"tfds:{prepared}", tests=["val"])
    path = prepared / "labels-train.npy"
    np.testing.assert_array_equal(np.load(path), first.train.labels)
    other = (first.train.labels + 1) % 3
    np.save(path, other)
    again = on_disk.load(f"tfds:{prepared}", tests=["val"])
    np.testing.assert_array_equal(again.train.labels, other)
    np.save(path, other[:-1])  # of another version, or half-written
    again = on_disk.load(f"tfds:{prepared}", tests=["val"])
    np.testing.assert_array_equal(again.train.labels, first.train.labels)


def test_readers_travel_to_other_processes(prepared, folder):
    for name, test in [(f"tfds:{prepared}", "val"), (f"folder:{folder}", "test")]:
        read = on_disk.load(name, tests=[test]).subset(np.array([5, 2])).train.read
        content = read(1)
        records._source.cache_clear()
        copy = pickle.loads(pickle.dumps(read))
        assert copy(1) == content == on_disk.load(name, tests=[test]).train.read(2)


def test_what_is_wrong_with_prepared_data_is_said(prepared, monkeypatch):
    def fails(name, message, tests=("val",)):
        with pytest.raises(ValueError, match=message):
            on_disk.load(name, tests=tests)

    fails(f"tfds:{prepared}", r"splits \['other', 'train', 'val'\].* no 'x'", ["x"])
    fails("tfds:no_such_set", "no data set 'no_such_set'")
    info = tfds.builder_from_directory(prepared).info
    fake = SimpleNamespace(info=info, data_path=prepared)
    monkeypatch.setattr(on_disk, "builder_of", lambda name: fake)
    monkeypatch.setattr(type(info), "file_format", SimpleNamespace(value="tfrecord"))
    fails("tfds:x", "format 'tfrecord'.* file_format='array_record'")
    features = {"picture": 0, "label": info.features["label"]}
    monkeypatch.setattr(type(info), "features", features)
    fails("tfds:x", r"features \['label', 'picture'\]: an 'image' and a 'label'")


def test_builders_of_our_own_prepare_what_they_open(prepared, monkeypatch):
    def prepare(config):
        assert config == "mini"
        builder = tfds.builder_from_directory(prepared)
        names = {"class_names": ["a", "b", "c"]}
        monkeypatch.setattr(type(builder.info), "metadata", names)
        return builder

    own = SimpleNamespace(prepare=prepare)
    monkeypatch.setitem(sys.modules, "cmwjax.data.builders.webvision", own)
    found = on_disk.load("webvision/mini", tests=["val"])
    assert found.class_names == ("a", "b", "c")
