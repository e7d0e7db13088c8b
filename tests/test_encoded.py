"""Image sets on disk: folders, and what TensorFlow Datasets has prepared."""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader

from cmwjax.data import datasets, on_disk, records
from cmwjax.data.prepared import find
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


def test_records_are_read_as_tfds_reads_them_but_without_it(prepared):
    source = tfds.builder_from_directory(prepared).as_data_source(
        "train", decoders={"image": tfds.decode.SkipDecoding()}
    )
    theirs = hashlib.sha256()
    for record in source:
        theirs.update(record["image"] + bytes([record["label"]]))
    ours = subprocess.run(
        [sys.executable, "-c", WITHOUT_TFDS, f"tfds:{prepared}"],
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ours.stdout.split() == [theirs.hexdigest(), str(TRAIN)]


WITHOUT_TFDS = """
import hashlib, sys
sys.modules |= dict.fromkeys(["tensorflow_datasets", "tensorflow"])  # as if not there
from cmwjax.data import on_disk
train, digest = on_disk.load(sys.argv[1], tests=["val"]).train, hashlib.sha256()
for position, label in enumerate(train.labels):
    digest.update(train.read(position) + bytes([label]))
print(digest.hexdigest(), len(train.labels))
"""


def test_prepared_data_by_folder_and_by_name(prepared, monkeypatch):
    found = on_disk.load(f"tfds:{prepared}", tests=["val", "other"])
    assert_tiny_web(found)
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared.parents[1]))
    for name in ("tiny_web:1.0.0", "tiny_web", prepared.parent):
        again = on_disk.load(f"tfds:{name}", tests=["val"])
        assert_tiny_web(again)
    assert found.identity != again.identity  # another list of test sets
    assert on_disk.splits("tfds:tiny_web") == ("train", "val", "other")


def test_versions_and_configurations_are_chosen_as_documented(prepared, tmp_path):
    def put(place, **info):
        shutil.copytree(prepared, tmp_path / place)
        path = tmp_path / place / "dataset_info.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | info))

    def found(name):
        return find(str(tmp_path / "web") + name).full_name

    put("web/1.9.0", version="1.9.0")
    put("web/1.10.0", version="1.10.0")
    assert found("") == "tiny_web/1.10.0"
    assert found("/1.9.0") == "tiny_web/1.9.0"
    put("many/a/1.0.0", configName="a")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(tmp_path))
        assert find("web:1.9.0").full_name == "tiny_web/1.9.0"
        with pytest.raises(ValueError, match="no data set 'web:1.8.0' in"):
            find("web:1.8.0")
        assert find("many").full_name == "tiny_web/a/1.0.0"
        put("many/b/2.0.0", configName="b", version="2.0.0")
        with pytest.raises(ValueError, match="configurations a, b: name one, as"):
            find("many")
        assert find("many/b").full_name == "tiny_web/b/2.0.0"
        (tmp_path / "many" / ".config").mkdir()
        kept = tmp_path / "many" / ".config" / "metadata.json"
        kept.write_text('{"default_config_name": "b"}')
        assert find("many").full_name == "tiny_web/b/2.0.0"


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


def test_what_is_wrong_with_prepared_data_is_said(prepared, tmp_path):
    def fails(name, message, tests=("val",)):
        with pytest.raises(ValueError, match=message):
            on_disk.load(name, tests=tests)

    fails(f"tfds:{prepared}", r"splits \['other', 'train', 'val'\].* no 'x'", ["x"])
    fails("tfds:no_such_set", "no data set 'no_such_set'")
    (tmp_path / "empty").mkdir()
    fails(f"tfds:{tmp_path}/empty", "there is no .*/dataset_info.json")

    copy = tmp_path / "copy"
    shutil.copytree(prepared, copy)
    info, features = copy / "dataset_info.json", copy / "features.json"

    def changed(path, old, new, message):
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        fails(f"tfds:{copy}", message)
        path.write_text(text)

    changed(info, '"array_record"', '"tfrecord"', "'tfrecord'.* file_format='array_re")
    changed(info, '"splits"', '"parts"', r"dataset_info.json .* damaged \(KeyError")
    changed(info, "{\n", "\n", "dataset_info.json cannot be read")
    changed(info, info.read_text(), "[]", "holds no JSON object")
    missing = r"\['label', 'picture'\]: an 'image'"
    changed(features, '"image": {\n', '"picture": {\n', missing)
    changed(features, '"classLabel"', '"tensor"', "'label' of a class are needed")
    shard = next(copy.glob("*-val.*"))
    shard.unlink()
    fails(f"tfds:{copy}", f"'val' of tiny_web/1.0.0 has no records in .*{shard.name}")


def test_builders_of_our_own_prepare_what_they_open(prepared, tmp_path, monkeypatch):
    shutil.copytree(prepared, tmp_path / "copy")
    names = tmp_path / "copy" / "metadata.json"
    names.write_text('{"class_names": ["a", "b", "c"]}')

    def prepare(config):
        assert config == "mini"
        return SimpleNamespace(data_path=tmp_path / "copy")

    own = SimpleNamespace(prepare=prepare)
    monkeypatch.setitem(sys.modules, "cmwjax.data.builders.webvision", own)
    found = on_disk.load("webvision/mini", tests=["val"])
    assert found.class_names == ("a", "b", "c")
