"""The Clothing1M builder, on a folder with its lists of keys and labels."""

import shutil
import tarfile

import numpy as np
import pytest

from builder_folders import cut_off, edited, examples, jpeg, removed, snapshot, write
from cmwjax.config import base_config
from cmwjax.data import datasets
from cmwjax.data.builders import clothing1m
from cmwjax.data.builders.clothing1m.example import Example, write_example

LISTS = {
    "noisy_train_key_list.txt": """\
images/3/53/1,2.jpg
images/0/00/3,4.jpg
images/0/10/5,6.jpg
""",
    "clean_train_key_list.txt": """\
images/1/11/7,8.jpg
images/2/02/9,9.jpg
images/0/00/10,1.jpg
""",
    "clean_val_key_list.txt": "images/5/05/11,3.jpg\n",
    "clean_test_key_list.txt": "images/9/99/12,4.jpg\nimages/0/00/13,4.jpg\n",
    # In an order of their own, and of images that are in no list, too.
    "noisy_label_kv.txt": """\
images/0/00/10,1.jpg 4
images/0/10/5,6.jpg 2
images/0/00/3,4.jpg 13
images/3/53/1,2.jpg 0
images/4/04/0,0.jpg 1
images/1/11/7,8.jpg 5
images/9/99/12,4.jpg 6
""",
    "clean_label_kv.txt": """\
images/9/99/12,4.jpg 7
images/0/00/13,4.jpg 13
images/2/02/9,9.jpg 0
images/1/11/7,8.jpg 5
images/0/00/10,1.jpg 3
images/5/05/11,3.jpg 8
""",
}
KEYS = {name: text.split() for name, text in LISTS.items() if "key" in name}
IMAGES = {
    key: jpeg(i) for i, key in enumerate(k for keys in KEYS.values() for k in keys)
}
IMAGES["images/0/00/3,4.jpg"] = b""  # as bad as on the web
WANTED = {  # file name, label, noisy label
    "train": [
        ("images/3/53/1,2.jpg", 0, 0),
        ("images/0/00/3,4.jpg", 13, 13),
        ("images/0/10/5,6.jpg", 2, 2),
    ],
    "clean_train": [
        ("images/1/11/7,8.jpg", 5, 5),
        ("images/2/02/9,9.jpg", 0, -1),
        ("images/0/00/10,1.jpg", 3, 4),
    ],
    "validation": [("images/5/05/11,3.jpg", 8, -1)],
    "test": [("images/9/99/12,4.jpg", 7, 6), ("images/0/00/13,4.jpg", 13, -1)],
}


@pytest.fixture
def folder(tmp_path):
    """Lists, and unpacked images."""
    for name, content in IMAGES.items():
        write(tmp_path / "clothing1m" / name, content)
    for name, text in LISTS.items():
        write(tmp_path / "clothing1m" / name, text.encode())
    return tmp_path / "clothing1m"


def check(builder, split, wanted):
    found = examples(builder, split)
    assert [
        (e["file_name"].decode(), e["label"], e["noisy_label"]) for e in found
    ] == wanted
    assert [e["image"] for e in found] == [IMAGES[name] for name, _, _ in wanted]
    labels = clothing1m.labels(builder, split)
    assert labels.dtype == np.int32
    assert labels.tolist() == [label for _, label, _ in wanted]


def unpacked(root):
    pass


def pack(root, name, members, into=""):
    with tarfile.open(root / name, "w") as archive:
        for member in members:
            archive.add(root / "images" / member, arcname=into + member)


def packed(root):
    for top in sorted(path.name for path in (root / "images").iterdir()):
        pack(root, f"{top}.tar", [top])
    shutil.rmtree(root / "images")


def packed_in_images(root):
    tops = sorted(path.name for path in (root / "images").iterdir())
    pack(root, "0.tar", tops, "images/")
    shutil.rmtree(root / "images")
    (root / "images").mkdir()
    (root / "0.tar").rename(root / "images/0.tar")


def unpacked_beside_the_lists(root):
    for path in (root / "images").iterdir():
        path.rename(root / path.name)


def lists_in_annotations(root):
    (root / "annotations").mkdir()
    for name in LISTS:
        (root / name).rename(root / "annotations" / name)


def windows_line_ends(root):
    for name, text in LISTS.items():
        (root / name).write_bytes(text.replace("\n", "\r\n").encode())


@pytest.mark.parametrize(
    "arrange",
    [
        unpacked,
        packed,
        packed_in_images,
        unpacked_beside_the_lists,
        lists_in_annotations,
        windows_line_ends,
    ],
)
def test_every_layout_is_prepared_by_the_lists(folder, arrange):
    arrange(folder)
    before = snapshot(folder)
    builder = clothing1m.prepare(folder=folder)
    assert builder.info.full_name == "clothing1m/full/1.0.0"
    assert builder.info.splits.keys() == WANTED.keys()
    for split, wanted in WANTED.items():
        check(builder, split, wanted)
    assert snapshot(folder) == before
    assert builder.info.metadata["class_names"][13] == "Underwear"
    assert "37,497" in builder.info.description


def test_pairs_have_labels_of_both_kinds(folder):
    pairs = [w for w in WANTED["clean_train"] if w[2] >= 0]
    builder = clothing1m.prepare("pairs", folder=folder)
    assert builder.info.splits.keys() == {"train", "validation", "test"}
    for split, wanted in (WANTED | {"train": pairs}).items():
        if split != "clean_train":
            check(builder, split, wanted)
    with np.load(builder.data_path / "label_sets.npz") as archive:
        assert archive["y_train_noisy"].tolist() == [5, 4]


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """Where the example is, and the images that it has of each list and class."""
    monkeypatch.setenv("CMWJAX_DATA_DIR", str(tmp_path))
    few = Example((3, 6), clean_per_class=4, broken=2, size=8)
    write_example(tmp_path / "clothing1m_example", few)
    # What is there will do.
    origin = clothing1m.ORIGIN._replace(write_example=lambda folder: None)
    monkeypatch.setattr(clothing1m, "ORIGIN", origin)
    return tmp_path / "clothing1m_example"


def test_pairs_are_a_problem_whose_wrong_labels_are_known(made_up):
    dataset = datasets.load(
        "clothing1m/example_pairs", labels="noisy", tests=("test",), image_size=8
    )
    assert dataset.knows_true_labels and dataset.num_classes == 14
    text = (made_up / "noisy_label_kv.txt").read_text()
    lines = dict(line.split() for line in text.splitlines())
    keys = (made_up / "clean_train_key_list.txt").read_text().split()
    wanted = [int(lines[key]) for key in keys if key in lines]
    assert dataset.observed_labels.tolist() == wanted and len(wanted) == 28
    wrong = np.mean(dataset.observed_labels != dataset.train_labels)
    assert 0.1 < wrong < 0.5
    with pytest.raises(ValueError, match=r"has no y_train_worse; choose .*'noisy'"):
        datasets.load("clothing1m/example_pairs", labels="worse", tests=("test",))


def test_a_split_may_be_trusted(made_up):
    csv = base_config().data.csv.to_dict() | {"trusted": "split:validation"}
    dataset = datasets.load(
        "clothing1m/example", labels="given", tests=("test",), image_size=8, csv=csv
    )
    noisy = len((made_up / "noisy_train_key_list.txt").read_text().split())
    assert dataset.trusted_index.tolist() == list(range(noisy, noisy + 56))
    right = dataset.train_labels[dataset.trusted_index]
    assert np.bincount(right).tolist() == [4] * 14
    first = (made_up / "clean_val_key_list.txt").read_text().split()[0]
    image = (made_up / first).read_bytes()
    assert dataset.files.train.read(noisy) == image
    for trusted, message in (
        ("split:val", r"no 'val': prepare it, or correct config.data.csv.trusted="),
        ("nowhere", "config.data.csv.trusted='nowhere' is no folder: give one"),
    ):
        with pytest.raises(ValueError, match=message):
            datasets.load(
                "clothing1m/example", tests=("test",), csv=csv | {"trusted": trusted}
            )


def emptied(name):
    return lambda root: write(root / name, b"")


def archive_cut_off(root):
    packed(root)
    cut_off("9.tar", 700)(root)


TRAIN, NOISY = "noisy_train_key_list.txt", "noisy_label_kv.txt"
BAD = {
    "a list absent": (removed("clean_val_key_list.txt"), r"has no clean_val_key_list"),
    "labels absent": (removed(NOISY), r"has no noisy_label_kv\.txt: put them there"),
    "images absent": (
        removed("images"),
        r"neither the archives 0\.tar to 9\.tar nor the folder images/",
    ),
    "an image absent": (
        removed("images/0/10/5,6.jpg"),
        r"1 of 3 images of noisy_train_key_list\.txt are absent .* 0/10/5,6\.jpg: unp",
    ),
    "a key without a label": (
        edited(NOISY, "images/3/53/1,2.jpg 0\n", ""),
        r"noisy_train_key_list\.txt lists images/3/53/1,2\.jpg, which has no label in "
        r".*noisy_label_kv\.txt: restore",
    ),
    "a line without a label": (
        edited(NOISY, "5,6.jpg 2", "5,6.jpg"),
        r"noisy_label_kv\.txt, line 2, is 'images/0/10/5,6\.jpg', not a key and a",
    ),
    "a label too large": (
        edited(NOISY, "3,4.jpg 13", "3,4.jpg 14"),
        r"noisy_label_kv\.txt, line 3, has label 14, outside \[0, 14\): restore",
    ),
    "two labels": (
        edited(NOISY, "4/04/0,0.jpg 1", "3/53/1,2.jpg 1"),
        r"line 5, gives images/3/53/1,2\.jpg the label 1, and another line 0: restore",
    ),
    "a key twice": (
        edited(TRAIN, "images/0/10/5,6.jpg", "images/3/53/1,2.jpg"),
        r"lists images/3/53/1,2\.jpg twice \(1 lines",
    ),
    "a path out of the folder": (
        edited(TRAIN, "images/0/10", "../images/0/10"),
        r"key_list\.txt, line 3, is '\.\./images/.*not a key such as 'images/0/00/NAME",
    ),
    "an empty list": (emptied(TRAIN), r"key_list\.txt lists no image: restore"),
    "no text": (
        lambda root: write(root / NOISY, b"\xff\xd8\xff 0"),
        r"noisy_label_kv\.txt is not text .*: restore",
    ),
    "an archive cut off": (archive_cut_off, r"9\.tar is damaged or incomplete"),
}


@pytest.mark.parametrize(("corrupt", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_before_anything_is_written(folder, corrupt, message):
    corrupt(folder)
    before = snapshot(folder)
    with pytest.raises(ValueError, match=f"^data: .*{message}"):
        clothing1m.prepare(folder=folder)
    assert snapshot(folder) == before and not (folder / "prepared").exists()


def test_pairs_need_images_with_both_labels(folder):
    edited(NOISY, "images/0/00/10,1.jpg 4\n", "")(folder)
    edited(NOISY, "images/1/11/7,8.jpg 5\n", "")(folder)
    with pytest.raises(
        ValueError, match="no image of .*clean_train_key_list.*no pairs"
    ):
        clothing1m.prepare("pairs", folder=folder)


def test_missing_data_says_what_to_download(tmp_path, monkeypatch):
    monkeypatch.setenv("CMWJAX_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(
        ValueError, match="no Clothing1M in .*/data/clothing1m"
    ) as error:
        clothing1m.prepare()
    for part in ("noisy_label_kv.txt", "1,000,000 keys", "0.tar to 9.tar", "github"):
        assert part in str(error.value)
    assert not (tmp_path / "data").exists()
    with pytest.raises(ValueError, match="choose 'full' or 'pairs'"):
        clothing1m.prepare("half")


def test_another_list_is_noticed(folder):
    clothing1m.prepare(folder=folder)
    edited(NOISY, "5,6.jpg 2", "5,6.jpg 3")(folder)
    with pytest.raises(ValueError, match="noisy_label_kv.txt is not the list that"):
        clothing1m.prepare(folder=folder)
