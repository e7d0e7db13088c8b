"""Folders of images as people have them: every file is taken, or its loss is said."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from cmwjax.bias.problem import prepare
from cmwjax.data import datasets, decode, on_disk
from image_files import encoded, random_pixels, write_folder
from runs import run, tiny

PIXELS = random_pixels(0)
SMALL = {
    "data.train_size": 0,
    "data.stream.image_size": 10,
    "data.stream.resize": 0,
    "data.batch_size": 16,
    "meta_set.batch_size": 8,
}


def put(path, content=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(PIXELS) if content is None else content)


@pytest.fixture
def folder(tmp_path):
    """Two classes of two images each, and one of each to test with."""
    for name in ("cat", "dog"):
        for file in ("train/{}/a.png", "train/{}/b.png", "test/{}/a.png"):
            put(tmp_path / file.format(name))
    return tmp_path


def load(folder):
    return on_disk.load(f"folder:{folder}", tests=["test"])


def test_folders_below_a_class_are_of_that_class(folder):
    put(folder / "train/dog/aa/z.png")
    put(folder / "train/dog/aa/deeper/c.PNG", b"here")
    put(folder / "train/cat/x/.hidden.png")
    put(folder / "train/cat/.cache/c.png")
    files = load(folder).train
    assert list(files.names) == [
        "train/cat/a.png",
        "train/cat/b.png",
        "train/dog/a.png",
        "train/dog/aa/deeper/c.PNG",
        "train/dog/aa/z.png",
        "train/dog/b.png",
    ]
    assert files.labels.tolist() == [0, 0, 1, 1, 1, 1]
    assert files.read(3) == b"here"


def test_links_to_folders_are_followed_but_not_in_circles(folder):
    (folder / "elsewhere").mkdir()
    shutil.copytree(folder / "train/cat", folder / "elsewhere/more")
    (folder / "train/cat/link").symlink_to(folder / "elsewhere/more")
    (folder / "train/cat/circle").symlink_to(folder / "train/cat")
    names = [name for name in load(folder).train.names if "/cat/" in name]
    assert [name.removeprefix("train/cat/") for name in names] == [
        "a.png",
        "b.png",
        "link/a.png",
        "link/b.png",
    ]


@pytest.mark.parametrize(
    ("suffix", "form"),
    [
        (".jfif", "JPEG"),
        (".jpe", "JPEG"),
        (".TIF", "TIFF"),
        (".jp2", "JPEG2000"),
        (".tga", "TGA"),
        (".pgm", "PPM"),
        (".ico", "ICO"),
    ],
)
def test_every_suffix_that_pillow_reads(folder, suffix, form, caplog):
    put(folder / f"train/dog/c{suffix}", encoded(Image.new("RGB", (8, 8)), form))
    assert f"train/dog/c{suffix}" in load(folder).train.names
    assert not caplog.records


def test_files_that_are_left_out_are_counted(folder, caplog):
    for name in ("a.xyz", "b.xyz", "more/c.XYZ", "notes", ".DS_Store"):
        put(folder / "train/dog" / name)
    put(folder / "train/loose.png")
    assert load(folder).train.labels.tolist() == [0, 0, 1, 1]
    first, second = [record.getMessage() for record in caplog.records]
    assert "train/dog: left out 4 of its files" in first
    assert "3 of .xyz, 1 of no suffix" in first
    assert "train: left out 1 of its files" in second


def test_what_is_no_file_or_cannot_be_read(folder):
    """A pipe would never end, and a link to itself is listed."""
    os.mkfifo(folder / "train/dog/pipe.png")
    os.symlink("loop.png", folder / "train/dog/loop.png")
    (folder / "train/dog/folder.png").mkdir()
    images = load(folder).train
    view, rng = decode.View(8, 0, "centre", False, True), np.random.default_rng(0)
    reasons = {
        name: decode.REASONS[decode.load(images.read, i, view, rng)[1]]
        for i, name in enumerate(images.names)
    }
    assert reasons.pop("train/dog/loop.png") == "no file"
    assert len(reasons) == 4 and not any(reasons.values())


def test_names_that_are_not_text(tmp_path):
    write_folder(tmp_path)
    folder = os.fsencode(tmp_path / "train/class0")
    os.rename(folder + b"/0000.png", folder + b"/caf\xe9.png")
    for split in ("train", "test"):
        folder = os.fsencode(tmp_path / split)
        os.rename(folder + b"/class1", folder + b"/d\xe9j\xe0")
    config = tiny(
        **{
            "data.name": f"folder:{tmp_path}",
            "data.train_size": 0,
            "data.batch_size": 16,
            "data.stream.image_size": 10,
            "data.stream.resize": 0,
            "meta_set.batch_size": 8,
            "epochs": 1,
            "warmup_epochs": 0,
        }
    )
    run(config, tmp_path / "run")
    rows = (tmp_path / "run/samples.csv").read_bytes()
    assert b"train/class0/caf\xe9.png" in rows and b"train/d\xe9j\xe0/" in rows
    assert (
        "d\ufffdj\ufffd" in datasets.load(config.data.name, tests=["test"]).class_names
    )


def test_a_class_without_images_is_named(folder):
    (folder / "train/mouse").mkdir()
    with pytest.raises(ValueError, match=r"class 2, 'mouse' .*or remove its folder"):
        datasets.load(f"folder:{folder}", tests=["test"])


def test_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    found = on_disk.load(f"folder:~/{folder.name}", tests=["test"])
    assert len(found.train.labels) == 4


def test_a_test_set_that_cannot_be_read_is_an_error(tmp_path):
    write_folder(tmp_path)
    for path in (tmp_path / "test").glob("*/*.png"):
        path.write_bytes(b"<html>")
    fields = {"data.name": f"folder:{tmp_path}", **SMALL}
    with pytest.raises(ValueError, match="none of the 21 images of .*, test, could"):
        run(tiny(**fields), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_meta_set_that_cannot_be_read_is_an_error(tmp_path):
    write_folder(tmp_path)
    fields = {
        "data.name": f"folder:{tmp_path}",
        **SMALL,
        "method": "erm",
        "epochs": 1,
        "warmup_epochs": 0,
    }
    config = tiny(**fields)
    problem = prepare(config)
    for position in problem.meta_index:
        (tmp_path / problem.dataset.file_names[position]).write_bytes(b"")
    with pytest.raises(ValueError, match="none of the 12 images of the meta set"):
        run(config, tmp_path / "run")
    listed = (tmp_path / "run/unreadable.csv").read_text()
    assert listed.count("empty") == 12


def test_identity_follows_the_order_of_names(folder):
    before = load(folder)
    put(folder / "train/dog/aa/z.png")
    after = load(folder)
    assert before.identity != after.identity
    np.testing.assert_array_equal(before.train.labels, [0, 0, 1, 1])
