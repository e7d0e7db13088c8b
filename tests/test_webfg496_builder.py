"""The WebFG-496 builder, on folders of its three parts with the clean images beside."""

import re
import shutil

import numpy as np
import pytest
from scipy.io import savemat

from builder_folders import edited, examples, jpeg, removed, snapshot, write
from cmwjax.data.builders import webfg496
from cmwjax.data.builders.webfg496 import layout
from cmwjax.data.builders.webfg496.example import Example, write_example

CLASSES = {  # folders; and the same classes as the clean images' makers write them
    "bird": (
        ["001.Black_footed_Albatross", "002.Laysan_Albatross"],
        ["001.Black_footed_Albatross", "002.Laysan_Albatross"],
    ),
    "aircraft": (["707-320", "F_A-18"], ["707-320", "F/A-18"]),
    "car": (
        ["AM General Hummer SUV 2000", "Ram C-V Cargo Van Minivan 2012"],
        ["AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012"],
    ),
}
TRAIN = [(0, "a.jpg"), (0, "b.JPG"), (1, "a.jpg")]
TEST = [(0, "x.jpg"), (1, "y.jpg"), (1, "z.png")]
LABELS = [1, 0, *[0] * 11, 1]  # of the clean images, in the order of their list


@pytest.fixture(autouse=True)
def two_classes(monkeypatch):
    few = {name: web._replace(num_classes=2) for name, web in layout.WEBS.items()}
    monkeypatch.setattr(layout, "WEBS", few)


def make(root, config):
    """A part with its clean images; returns the paths of these."""
    folders, classes = CLASSES[config]
    for split, images in (("train", TRAIN), ("val", TEST)):
        for label, name in images:
            write(root / f"web-{config}" / split / folders[label] / name, jpeg(label))
    write(root / f"web-{config}/train" / folders[0] / "b.JPG", b"")  # as on the web
    write(root / f"web-{config}/train" / folders[0] / ".DS_Store", b"x")
    if config == "bird":
        where, names = (
            "CUB_200_2011/images",
            [f"{classes[label]}/{i}.jpg" for i, label in enumerate(LABELS)],
        )
        tests = [f"{classes[0]}/tested.jpg"]
        lines = [f"{i} {name}" for i, name in enumerate([*tests, *names])]
        write_text(root / "CUB_200_2011/images.txt", lines)
        lines = [f"{i} {int(i > 0)}" for i in range(len(names) + 1)]
        write_text(root / "CUB_200_2011/train_test_split.txt", lines)
    elif config == "aircraft":
        where = "fgvc-aircraft-2013b/data/images"
        names = [f"{i:07d}.jpg" for i in range(len(LABELS))]
        lines = [f"{i:07d} {classes[label]}" for i, label in enumerate(LABELS)]
        file = root / "fgvc-aircraft-2013b/data/images_variant_train.txt"
        write_text(file, lines)
    else:
        where, names = "cars_train", [f"{i:05d}.jpg" for i in range(len(LABELS))]
        of_each = np.zeros(len(LABELS), [("class", object), ("fname", object)])
        of_each["class"] = [float(label + 1) for label in LABELS]
        of_each["fname"] = names
        (root / "devkit").mkdir()
        savemat(root / "devkit/cars_train_annos.mat", {"annotations": of_each})
        class_names = np.array(classes, object)
        savemat(root / "devkit/cars_meta.mat", {"class_names": class_names})
    for i, name in enumerate(names):
        write(root / where / name, jpeg(1000 + i))
    return names


def write_text(path, lines):
    write(path, "".join(f"{line}\n" for line in lines).encode())


@pytest.fixture(params=CLASSES)
def part(request, tmp_path):
    make(tmp_path / "webfg496", request.param)
    return tmp_path / "webfg496", request.param


@pytest.fixture
def folder(tmp_path):
    make(tmp_path / "webfg496", "aircraft")
    return tmp_path / "webfg496"


def test_every_part_has_clean_images_of_its_classes(part):
    folder, config = part
    before = snapshot(folder)
    builder = webfg496.prepare(config, folder=folder)
    assert builder.info.full_name == f"webfg496/{config}/1.0.0"
    folders, _ = CLASSES[config]
    assert builder.info.metadata["class_names"] == folders
    for split, place, wanted in (("train", "train", TRAIN), ("test", "val", TEST)):
        found = examples(builder, split)
        names = [f"{place}/{folders[label]}/{name}" for label, name in wanted]
        assert [e["file_name"].decode() for e in found] == names
        root = folder / f"web-{config}"
        assert [e["image"] for e in found] == [(root / n).read_bytes() for n in names]
        labels = webfg496.labels(builder, split)
        assert labels.tolist() == [e["label"] for e in found] == [c for c, _ in wanted]
    found = examples(builder, "meta")  # ten of a class at most, the first ones
    kept = [i for i in range(len(LABELS)) if i not in (11, 12)]
    assert [e["image"] for e in found] == [jpeg(1000 + i) for i in kept]
    assert [e["label"] for e in found] == [LABELS[i] for i in kept]
    assert snapshot(folder) == before


def test_clean_images_are_optional(part):
    folder, config = part
    for name in layout.WEBS[config].lists:
        (folder / name).unlink()
    builder = webfg496.prepare(config, folder=folder)
    assert builder.info.splits.keys() == {"train", "test"}


VARIANTS = "fgvc-aircraft-2013b/data/images_variant_train.txt"
BAD = {
    "no test images": (removed("web-aircraft/val"), r"has no folder val/: unpack web-"),
    "a class without images": (
        removed(*(f"web-aircraft/train/707-320/{name}" for name in ("a.jpg", "b.JPG"))),
        r"train/707-320 has no images: unpack web-aircraft\.tar\.gz again",
    ),
    "a class too few": (
        removed("web-aircraft/train/707-320"),
        r"train has 1 folders of classes, but there are 2: unpack",
    ),
    "a class in one alone": (
        lambda root: (root / "web-aircraft/val/F_A-18").rename(
            root / "web-aircraft/val/F-18"
        ),
        r"has '(F-18|F_A-18)' in one of train/ and val/ alone: unpack",
    ),
    "an unknown class": (
        edited(VARIANTS, "F/A-18", "F-117"),
        r"images_variant_train\.txt, class 'F-117' has no folder in train/: unpack",
    ),
    "no image of a class": (
        lambda root: write(root / VARIANTS, b"0000000 707-320\n"),
        r"no image is of the class of the folder 'F_A-18': unpack",
    ),
    "a line without a class": (
        edited(VARIANTS, "0000001 707-320", "0000001"),
        r"train\.txt, line 2, is '0000001', not a number and a variant",
    ),
    "a clean image absent": (
        removed("fgvc-aircraft-2013b/data/images/0000003.jpg"),
        r"1 of 12 images of fgvc.*train\.txt are absent from .*0000003\.jpg: unpack",
    ),
    "an empty list": (
        lambda root: write(root / VARIANTS, b""),
        r"train\.txt lists no image: restore it, or remove",
    ),
}


@pytest.mark.parametrize(("corrupt", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_before_anything_is_written(folder, corrupt, message):
    corrupt(folder)
    before = snapshot(folder)
    with pytest.raises(ValueError, match=f"^data: .*{message}"):
        webfg496.prepare("aircraft", folder=folder)
    assert snapshot(folder) == before and not (folder / "prepared").exists()


def test_damaged_lists_of_cars_are_refused(tmp_path):
    make(tmp_path, "car")
    (tmp_path / "devkit/cars_train_annos.mat").write_bytes(b"<html>404</html>")
    with pytest.raises(
        ValueError, match=r"annos\.mat and cars_meta\.mat cannot be read"
    ):
        webfg496.prepare("car", folder=tmp_path)


def test_missing_data_says_what_to_download(tmp_path, monkeypatch):
    monkeypatch.setenv("CMWJAX_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(ValueError, match="no WebFG-496 in .*/data/webfg496") as error:
        webfg496.prepare("car")
    for part in ("web-bird.tar.gz", "CUB_200_2011/", "cars_train/ and devkit/"):
        assert part in str(error.value)
    with pytest.raises(ValueError, match="choose 'bird' or 'aircraft' or 'car'"):
        webfg496.prepare("dog")


def test_another_image_and_another_list_are_noticed(folder):
    webfg496.prepare("aircraft", folder=folder)
    extra = folder / "web-aircraft/train/707-320/c.jpg"
    write(extra, jpeg(5))
    with pytest.raises(ValueError, match="web-aircraft/train is not the list that"):
        webfg496.prepare("aircraft", folder=folder)
    extra.unlink()
    edited(VARIANTS, "0000001 707-320", "0000001 F/A-18")(folder)
    with pytest.raises(ValueError, match=r"variant_train\.txt is not the list that"):
        webfg496.prepare("aircraft", folder=folder)
    shutil.rmtree(folder / "web-aircraft")
    shutil.rmtree(folder / "fgvc-aircraft-2013b")
    assert len(examples(webfg496.prepare("aircraft", folder=folder), "train")) == 3


def test_the_example_has_clean_images(tmp_path):
    write_example(tmp_path / "a", Example((1, 3), 1, 2, broken=1, size=8))
    builder = webfg496.prepare("aircraft", folder=tmp_path / "a")
    assert np.bincount(webfg496.labels(builder, "test")).tolist() == [1, 1]
    assert np.bincount(webfg496.labels(builder, "meta")).tolist() == [2, 2]
    names = builder.info.metadata["class_names"]
    assert all(re.fullmatch(r"\w+ \w+ on \w+", name) for name in names)
