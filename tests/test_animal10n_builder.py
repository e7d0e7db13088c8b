"""The ANIMAL-10N builder, on folders in both of the forms that its owners hand out."""

import io
import re
import struct

import numpy as np
import pytest
from absl import logging
from PIL import Image

from builder_folders import cut_off, examples, jpeg, removed, snapshot, write
from cmwjax.data.builders import animal10n
from cmwjax.data.builders.animal10n.example import Example, write_example

TRAIN = ["0_1.jpg", "0_12345.jpg", "1_7.jpg", "4_2.jpg", "9_10.jpg", "9_9.jpg"]
TEST = ["0_3.jpg", "8_3.jpg"]
FILES = {f"training/{name}": jpeg(i) for i, name in enumerate(TRAIN)}
FILES |= {f"testing/{name}": jpeg(100 + i) for i, name in enumerate(TEST)}
FILES["training/1_7.jpg"] = b""  # as bad as on the web
FILES["training/4_2.jpg"] = jpeg(4)[:300]
SIZE = 8 + 3 * 64 * 64  # bytes of a record


@pytest.fixture
def folder(tmp_path):
    """The unpacked images."""
    for name, content in FILES.items():
        write(tmp_path / "animal10n" / name, content)
    return tmp_path / "animal10n"


def pixels_of(number):
    return np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)


def record(number, label):
    """Number, label, and all red before all green before all blue pixels."""
    channels = (pixels_of(number)[..., c].tobytes() for c in range(3))
    return struct.pack(">II", number, label) + b"".join(channels)


@pytest.fixture
def binaries(tmp_path):
    """The records, some training ones in a second file."""
    root = tmp_path / "binaries"
    write(root / "data_batch_1.bin", record(70_000, 9) + record(3, 0))
    write(root / "data_batch_2.bin", record(5, 2))
    write(root / "test_batch.bin", record(3, 7))
    return root


def as_unpacked(root):
    pass


def in_a_folder(root):
    (root / "raw_image").mkdir()
    for name in ("training", "testing"):
        (root / name).rename(root / "raw_image" / name)


def with_what_lies_about(root):
    for name in (".DS_Store", "Thumbs.db", "._0_1.jpg"):
        write(root / "training" / name, b"x")


def with_binaries_beside(root):
    write(root / "data_batch_1.bin", b"not looked at")


@pytest.mark.parametrize(
    "arrange", [as_unpacked, in_a_folder, with_what_lies_about, with_binaries_beside]
)
def test_images_are_prepared_as_they_are(folder, arrange):
    arrange(folder)
    before = snapshot(folder)
    builder = animal10n.prepare(folder=folder)
    train, test = examples(builder, "train"), examples(builder, "test")
    names = [example["file_name"].decode() for example in (*train, *test)]
    assert names == [*(f"training/{n}" for n in TRAIN), *(f"testing/{n}" for n in TEST)]
    assert [example["image"] for example in (*train, *test)] == [
        FILES[n] for n in names
    ]
    for split, wanted in (("train", [0, 0, 1, 4, 9, 9]), ("test", [0, 8])):
        labels = animal10n.labels(builder, split)
        assert labels.dtype == np.int32 and labels.tolist() == wanted
        assert [example["label"] for example in examples(builder, split)] == wanted
    assert snapshot(folder) == before
    assert builder.info.full_name == "animal10n/1.0.0"
    assert builder.info.metadata["class_names"][8:] == ["hamster", "guinea pig"]
    assert "55,000 images" in builder.info.description


def test_binaries_are_prepared_without_loss(binaries):
    builder = animal10n.prepare(folder=binaries)
    train, test = examples(builder, "train"), examples(builder, "test")
    assert [(e["file_name"], e["label"]) for e in train] == [
        *[(b"data/70000", 9), (b"data/3", 0), (b"data/5", 2)]
    ]
    assert [(e["file_name"], e["label"]) for e in test] == [(b"test/3", 7)]
    for example, number in zip((*train, *test), (70_000, 3, 5, 3), strict=True):
        image = Image.open(io.BytesIO(example["image"]))
        np.testing.assert_array_equal(np.asarray(image), pixels_of(number))


def renamed(old, new):
    return lambda root: (root / old).rename(root / new)


def emptied(root):
    for path in (root / "testing").iterdir():
        path.unlink()


BAD = {
    "a folder absent": (removed("testing"), r"has no folder testing/: unpack"),
    "a folder empty": (emptied, r"testing has no images: unpack those"),
    "a name without a label": (
        renamed("training/1_7.jpg", "training/cat.jpg"),
        r"training/cat\.jpg is not called LABEL_NUMBER\.jpg, .*restore its name",
    ),
    "another kind of file": (
        lambda root: write(root / "training/list.txt", b"0_1.jpg"),
        r"training/list\.txt is not called LABEL_NUMBER",
    ),
    "folders of classes": (
        lambda root: (root / "training/0_cat.jpg").mkdir(),
        r"training/0_cat\.jpg is not called LABEL_NUMBER",
    ),
    "a label too large": (
        renamed("training/9_9.jpg", "training/10_9.jpg"),
        r"10_9\.jpg has label 10 in its name, outside \[0, 10\): restore",
    ),
}


@pytest.mark.parametrize(("corrupt", "message"), BAD.values(), ids=BAD)
def test_bad_images_are_refused_before_anything_is_written(folder, corrupt, message):
    refused(folder, corrupt, message)


def relabelled(root):
    write(root / "data_batch_2.bin", record(5, 2) + record(6, 10))


BAD_BINARIES = {
    "cut off": (
        cut_off("data_batch_1.bin", 2 * SIZE - 1),
        r"data_batch_1\.bin is damaged .* 24,591 bytes are no records of 12,296; down",
    ),
    "empty": (cut_off("test_batch.bin", 0), r"test_batch\.bin is damaged .* 0 bytes"),
    "no test images": (
        removed("test_batch.bin"),
        r"has data_batch_\*\.bin, but no test_batch\.bin: put both there",
    ),
    "no training images": (
        removed("data_batch_1.bin", "data_batch_2.bin"),
        r"has test_batch\.bin, but no data_batch_\*\.bin: put both there",
    ),
    "a label too large": (
        relabelled,
        r"data_batch_2\.bin, record 1, has label 10, outside \[0, 10\): download",
    ),
    "a file twice": (
        lambda root: write(root / "data_batch_3.bin", record(5, 2)),
        r"data_batch_\*\.bin lists data/5 twice \(1 lines are repeated\): download",
    ),
}


@pytest.mark.parametrize(
    ("corrupt", "message"), BAD_BINARIES.values(), ids=BAD_BINARIES
)
def test_bad_binaries_are_refused_before_anything_is_written(
    binaries, corrupt, message
):
    refused(binaries, corrupt, message)


def refused(root, corrupt, message):
    corrupt(root)
    before = snapshot(root)
    with pytest.raises(ValueError, match=f"^data: .*{message}"):
        animal10n.prepare(folder=root)
    assert snapshot(root) == before and not (root / "prepared").exists()


def test_missing_data_says_what_to_download(tmp_path, monkeypatch):
    monkeypatch.setenv("CMWJAX_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(ValueError, match="no ANIMAL-10N in .*/data/animal10n") as error:
        animal10n.prepare()
    for part in ("training/0_123.jpg", "data_batch_1.bin  614,800,000", "kaist"):
        assert part in str(error.value)
    assert not (tmp_path / "data").exists()
    monkeypatch.delenv("CMWJAX_DATA_DIR")
    with pytest.raises(ValueError, match="CMWJAX_DATA_DIR, which is not set"):
        animal10n.prepare()
    with pytest.raises(ValueError, match="no configuration 'x': write 'animal10n', or"):
        animal10n.prepare("x")


@pytest.mark.parametrize("form", ["folder", "binaries"])
def test_prepared_data_outlives_its_source_but_not_a_change_of_it(request, form):
    root = request.getfixturevalue(form)
    first = animal10n.prepare(folder=root)
    if form == "folder":
        write(root / "training/3_3.jpg", jpeg(1))
        name = "training"
    else:
        write(root / "data_batch_1.bin", record(70_000, 8) + record(3, 0))
        name = "data_batch_1.bin"
    with pytest.raises(
        ValueError, match=f"{name} is not the list that .*prepared from"
    ):
        animal10n.prepare(folder=root)
    removed(*(path.name for path in root.iterdir() if path.name != "prepared"))(root)
    again = animal10n.prepare(folder=root)
    assert examples(again, "train") == examples(first, "train")


def test_the_log_says_what_is_there(folder, monkeypatch):
    lines = []
    monkeypatch.setattr(logging, "warning", lambda text, *v: lines.append(text % v))
    animal10n.prepare(folder=folder)
    assert re.search(
        r"animal10n train: 6 images instead of the 50000 published; 6 of 10 classes "
        r"have none, for example class 2 \(wolf\)",
        lines[0],
    )


@pytest.mark.parametrize("binaries", [False, True])
def test_the_example_is_prepared_in_both_forms(tmp_path, binaries):
    settings = Example((4, 8), test_per_class=2, broken=2, binaries=binaries)
    write_example(tmp_path / "a", settings)
    before = snapshot(tmp_path / "a")
    write_example(tmp_path / "a", settings)
    assert snapshot(tmp_path / "a") == before
    builder = animal10n.prepare(folder=tmp_path / "a")
    labels = animal10n.labels(builder, "train")
    assert len(labels) == sum(np.linspace(4, 8, 10).astype(int))
    assert np.bincount(animal10n.labels(builder, "test")).tolist() == [2] * 10
    sizes = {
        Image.open(io.BytesIO(example["image"])).size
        for example in examples(builder, "test")
    }
    assert sizes == {(64, 64)}
    empty = [e["file_name"] for e in examples(builder, "train") if not e["image"]]
    assert len(empty) == (0 if binaries else 1)
