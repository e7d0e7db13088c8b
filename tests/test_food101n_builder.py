"""The Food-101N builder, on a folder with its lists, and Food-101's beside it."""

import shutil

import numpy as np
import pytest
from absl import logging

from builder_folders import edited, examples, jpeg, removed, snapshot, write
from cmwjax.data.builders import food101n
from cmwjax.data.builders.food101n.example import Example, write_example

CLASSES = ["apple_pie", "baby_back_ribs", *(f"dish_{i}" for i in range(99))]
TRAIN = [
    "baby_back_ribs/ff00.jpg",
    "apple_pie/a1.jpg",
    "apple_pie/b2.jpg",
    "dish_98/c3.jpg",
    "dish_98/d4.jpg",
    "apple_pie/e5.jpg",
]
LISTS = {
    "meta/classes.txt": "\n".join(["class_name", *CLASSES]),
    "meta/imagelist.tsv": "\n".join(["class_name/key", *TRAIN]),
    "meta/verified_train.tsv": """\
class_name/key\tverification_label
dish_98/c3.jpg\t1
apple_pie/b2.jpg\t0
dish_0/stranger.jpg\t1
apple_pie/a1.jpg\t1
""",
    "meta/verified_val.tsv": """\
class_name/key\tverification_label
dish_98/d4.jpg\t1
""",
    "food-101/meta/test.txt": "baby_back_ribs/1005293\ndish_98/7\n",
}
IMAGES = {f"images/{name}": jpeg(i) for i, name in enumerate(TRAIN)}
IMAGES["images/dish_98/c3.jpg"] = b""  # as bad as on the web
TESTS = ["baby_back_ribs/1005293.jpg", "dish_98/7.jpg"]
IMAGES |= {f"food-101/images/{name}": jpeg(50 + i) for i, name in enumerate(TESTS)}
WANTED = {  # file name, label, verification
    "train": [
        ("baby_back_ribs/ff00.jpg", 1, -1),
        ("apple_pie/a1.jpg", 0, 1),
        ("apple_pie/b2.jpg", 0, 0),
        ("dish_98/c3.jpg", 100, 1),
        ("dish_98/d4.jpg", 100, 1),
        ("apple_pie/e5.jpg", 0, -1),
    ],
    "verified": [("dish_98/c3.jpg", 100, 1), ("apple_pie/a1.jpg", 0, 1)],
    "validation": [("dish_98/d4.jpg", 100, 1)],
    "test": [("baby_back_ribs/1005293.jpg", 1, -1), ("dish_98/7.jpg", 100, -1)],
}


@pytest.fixture
def folder(tmp_path):
    """Everything unpacked into one folder."""
    for name, content in IMAGES.items():
        write(tmp_path / "food101n" / name, content)
    for name, text in LISTS.items():
        write(tmp_path / "food101n" / name, text.encode())
    return tmp_path / "food101n"


def check(builder, split, wanted):
    found = examples(builder, split)
    assert [
        (e["file_name"].decode(), e["label"], e["verification"]) for e in found
    ] == wanted
    place = "food-101/images/" if split == "test" else "images/"
    assert [e["image"] for e in found] == [IMAGES[place + name] for name, *_ in wanted]
    labels = food101n.labels(builder, split)
    assert labels.dtype == np.int32
    assert labels.tolist() == [label for _, label, _ in wanted]


def in_one_folder(root):
    pass


def in_the_folder_of_the_archive(root):
    for name in ("images", "meta"):
        shutil.copytree(root / name, root / "Food-101N_release" / name)
        shutil.rmtree(root / name)


def windows_line_ends(root):
    for name, text in LISTS.items():
        (root / name).write_bytes(text.replace("\n", "\r\n").encode())


@pytest.mark.parametrize(
    "arrange", [in_one_folder, in_the_folder_of_the_archive, windows_line_ends]
)
def test_every_layout_is_prepared_by_the_lists(folder, arrange):
    arrange(folder)
    before = snapshot(folder)
    builder = food101n.prepare(folder=folder)
    assert builder.info.full_name == "food101n/full/1.0.0"
    assert builder.info.splits.keys() == WANTED.keys()
    for split, wanted in WANTED.items():
        check(builder, split, wanted)
    assert snapshot(folder) == before
    assert builder.info.metadata["class_names"] == CLASSES
    assert "310,009 images" in builder.info.description


def test_without_the_verified_images(folder):
    builder = food101n.prepare("unverified", folder=folder)
    unverified = [wanted for wanted in WANTED["train"] if wanted[2] < 0]
    for split, wanted in (WANTED | {"train": unverified}).items():
        check(builder, split, wanted)


@pytest.fixture
def warnings(monkeypatch):
    lines = []
    monkeypatch.setattr(logging, "warning", lambda text, *v: lines.append(text % v))
    return lines


def test_what_the_list_lacks_is_left_out_and_said(folder, warnings):
    food101n.prepare(folder=folder)
    assert any(
        line.startswith("meta/imagelist.tsv does not list 1 of the images of ")
        and line.endswith(
            "verified_train.tsv, for example dish_0/stranger.jpg: left out."
        )
        for line in warnings
    )


def test_food_101_may_come_later(folder, warnings):
    kept = folder.with_name("kept")
    (folder / "food-101").rename(kept)
    builder = food101n.prepare(folder=folder)
    assert "test" not in builder.info.splits
    assert not any("was prepared without" in line for line in warnings)
    kept.rename(folder / "food-101")
    food101n.prepare(folder=folder)
    assert any("was prepared without" in line for line in warnings)


IMAGE_LIST, VERIFIED = "meta/imagelist.tsv", "meta/verified_train.tsv"
BAD = {
    "a list absent": (removed(VERIFIED), r"has no meta/verified_train\.tsv: unpack"),
    "images absent": (
        lambda root: (root / "images").rename(root / "pictures"),
        r"has no folder images/ with its images",
    ),
    "an image absent": (
        removed("images/apple_pie/b2.jpg"),
        r"1 of 6 images of meta/imagelist\.tsv are absent .* apple_pie/b2\.jpg: unpack",
    ),
    "a test image absent": (
        removed("food-101/images/dish_98/7.jpg"),
        r"1 of 2 images of food-101/meta/test\.txt are absent .* dish_98/7\.jpg",
    ),
    "no first line": (
        edited(IMAGE_LIST, "class_name/key\n", ""),
        r"imagelist\.tsv, line 1, is 'baby_back_ribs/ff00\.jpg', not 'class_name/key'",
    ),
    "no class": (
        edited(IMAGE_LIST, "apple_pie/b2.jpg", "b2.jpg"),
        r"imagelist\.tsv, line 4, is 'b2\.jpg', not a path such as",
    ),
    "another class": (
        edited(IMAGE_LIST, "apple_pie/e5", "sushi/e5"),
        r"lists sushi/e5\.jpg, whose class is none of meta/classes\.txt: restore",
    ),
    "another word for a verdict": (
        edited(VERIFIED, "b2.jpg\t0", "b2.jpg\twrong"),
        r"verified_train\.tsv, line 3, is 'apple_pie/b2.jpg.twrong', not a path and 0",
    ),
    "two verdicts": (
        edited(VERIFIED, "dish_98/c3.jpg\t1", "apple_pie/b2.jpg\t1"),
        r"verified_train\.tsv lists apple_pie/b2\.jpg twice",
    ),
    "lists of other data": (
        edited(VERIFIED, "apple_pie/a1", "apple_pie/z9"),
        r"lacks 2 of the 4 images of .*verified_train\.tsv, for example dish_0/strang",
    ),
    "a class too few": (
        edited("meta/classes.txt", "dish_50\n", ""),
        r"classes\.txt has 100 classes, but Food-101N has 101: restore",
    ),
    "a class twice": (
        edited("meta/classes.txt", "dish_50", "dish_51"),
        r"classes\.txt lists dish_51 twice",
    ),
    "an empty list": (
        edited(IMAGE_LIST, "\n" + "\n".join(TRAIN), ""),
        r"imagelist\.tsv lists no image: restore",
    ),
    "none that is right": (
        edited("meta/verified_val.tsv", "\t1", "\t0"),
        r"verified_val\.tsv says of no image that it is right: restore",
    ),
}


@pytest.mark.parametrize(("corrupt", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_before_anything_is_written(folder, corrupt, message):
    corrupt(folder)
    before = snapshot(folder)
    with pytest.raises(ValueError, match=f"^data: .*{message}"):
        food101n.prepare(folder=folder)
    assert snapshot(folder) == before and not (folder / "prepared").exists()


def test_missing_data_says_what_to_download(tmp_path, monkeypatch):
    monkeypatch.setenv("CMWJAX_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(ValueError, match="no Food-101N in .*/data/food101n") as error:
        food101n.prepare()
    for part in ("Food-101N_release.zip", "food-101.tar.gz", "310,009 images"):
        assert part in str(error.value)
    assert not (tmp_path / "data").exists()
    with pytest.raises(ValueError, match="choose 'full' or 'unverified'"):
        food101n.prepare("half")


def test_the_example_has_verified_labels(tmp_path):
    settings = Example((2, 3), test_per_class=1, verified=0.4, broken=2, size=8)
    write_example(tmp_path / "a", settings)
    builder = food101n.prepare(folder=tmp_path / "a")
    train = examples(builder, "train")
    verdicts = np.array([example["verification"] for example in train])
    looked_at = verdicts >= 0
    assert abs(np.mean(looked_at) - 0.4) < 0.01
    assert 0.1 < np.mean(verdicts[looked_at] == 0) < 0.3
    right = sum(len(food101n.labels(builder, s)) for s in ("verified", "validation"))
    assert right == np.sum(verdicts == 1)
    assert np.bincount(food101n.labels(builder, "test")).tolist() == [1] * 101
