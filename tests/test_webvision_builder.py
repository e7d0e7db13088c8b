"""The WebVision builder, on folders laid out as the data set's documentation says."""

import contextlib
import io
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from absl import logging
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from builder_folders import edited, examples, jpeg, removed, snapshot, write
from cmwjax.data.builders import preparation, webvision
from cmwjax.data.builders.webvision import example, ilsvrc2012, lists

ROOT = Path(__file__).parent.parent

# As in info.tar: a path below the folder, a space and the class. Query numbers are not
# classes, and the classes beyond the first 50 are in the same lists.
GOOGLE = """\
google/q0001/PSzR2XTXq6Fz2M.jpg 0
google/q0001/a-_9.jpg 0
google/q0002/a-_9.jpg 0
google/q0003/ygwQ1.jpg 1
google/q0101/empty.jpg 49
google/q0102/cut.jpg 49
google/q0103/cmyk.jpg 49
google/q0103/pixel.jpg 49
google/q0104/beyond.jpg 50
google/q1631/last.jpg 999
"""
FLICKR = """\
flickr/q0001/277044371.jpg 0
flickr/q1629/2991283746.jpg 999
"""
VALIDATION = """\
val000001.jpg 49
val000002.jpg 573
val000003.jpg 0
"""
MINI_TRAIN = [line.split()[0] for line in GOOGLE.splitlines()[:8]]


def contents():
    """Every image of the lists by path, some of them as bad as on the web."""
    files = {}
    for seed, line in enumerate((GOOGLE + FLICKR).splitlines()):
        files[line.split()[0]] = jpeg(seed)
    for seed, line in enumerate(VALIDATION.splitlines(), start=100):
        files[f"val_images_256/{line.split()[0]}"] = jpeg(seed)
    files["google/q0101/empty.jpg"] = b""
    files["google/q0102/cut.jpg"] = jpeg(200)[:300]
    files["google/q0103/cmyk.jpg"] = jpeg(201, mode="CMYK")
    files["google/q0103/pixel.jpg"] = jpeg(202, size=(1, 1))
    return files


FILES = contents()


def shipped_synsets():
    """The synsets of ILSVRC-2012 in order, from the files of TFDS."""
    import tensorflow_datasets as tfds

    path = Path(tfds.__file__).parent / "datasets/imagenet2012/labels.txt"
    return path.read_text().split()


@pytest.fixture
def folder(tmp_path):
    """A folder into which all archives of the resized images were unpacked."""
    root = tmp_path / "webvision"
    words = {0: "tench, Tinca tinca", 1: "goldfish, Carassius auratus"}
    synsets = [f"{s} {words.get(i, 'x')}" for i, s in enumerate(shipped_synsets())]
    texts = {
        "synsets.txt": "".join(f"{line}\n" for line in synsets),
        "train_filelist_google.txt": GOOGLE,
        "train_filelist_flickr.txt": FLICKR,
        "train_filelist_all.txt": GOOGLE + FLICKR,
        "val_filelist.txt": VALIDATION,
        "test_filelist.txt": "test000001.jpg\n",
        "queries_synsets_map.txt": "1 1\n2 1\n3 2\n",
    }
    for name, text in texts.items():
        write(root / "info" / name, text.encode())
    for name, content in FILES.items():
        write(root / name, content)
    return root


def pack(root, name, *members):
    """Puts folders into an archive beside them, and removes them."""
    with tarfile.open(root / name, "w", format=tarfile.GNU_FORMAT) as archive:
        for member in members:
            archive.add(root / member, arcname=member)
            shutil.rmtree(root / member)


def check_mini(builder):
    """Compares all that is prepared with the lists above, line by line."""
    train, validation = examples(builder, "train"), examples(builder, "validation")
    assert [e["file_name"].decode() for e in train] == MINI_TRAIN
    assert [e["image"] for e in train] == [FILES[name] for name in MINI_TRAIN]
    assert [e["label"] for e in train] == [0, 0, 0, 1, 49, 49, 49, 49]
    assert {e["source"] for e in train} == {0}
    assert [(e["file_name"], e["label"]) for e in validation] == [
        (b"val000001.jpg", 49),
        (b"val000003.jpg", 0),
    ]
    images = [FILES[f"val_images_256/{e['file_name'].decode()}"] for e in validation]
    assert [e["image"] for e in validation] == images
    for split, expected in [("train", train), ("validation", validation)]:
        labels = webvision.labels(builder, split)
        assert labels.dtype == np.int32
        assert labels.tolist() == [e["label"] for e in expected]


### Layouts


def unpacked(root):
    pass


def packed(root):
    pack(root, "info.tar", "info")
    pack(root, "google_resized_256.tar", "google")
    pack(root, "val_images_256.tar", "val_images_256")


def originals(root):
    (root / "val_images_256").rename(root / "val_images")


def packed_originals_in_parts(root):
    (root / "val_images_256").rename(root / "val_images")
    pack(root, "val_images.tar", "val_images")
    pack(root, "google_1.tar", "google/q0001", "google/q0101")
    pack(root, "google_2.tar", "google")


def archives_made_with_a_leading_dot(root):
    with tarfile.open(root / "google.tar", "w") as archive:
        archive.add(root / "google", arcname="./google")
    shutil.rmtree(root / "google")


def training_images_in_a_folder(root):
    (root / "train_images_256").mkdir()
    (root / "google").rename(root / "train_images_256" / "google")


def windows_line_ends(root):
    for name in ("train_filelist_google.txt", "val_filelist.txt", "synsets.txt"):
        path = root / "info" / name
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def nothing_but_mini_needs(root):
    shutil.rmtree(root / "flickr")
    for name in ("flickr", "all"):
        (root / f"info/train_filelist_{name}.txt").unlink()


@pytest.mark.parametrize(
    "arrange",
    [
        unpacked,
        packed,
        originals,
        packed_originals_in_parts,
        archives_made_with_a_leading_dot,
        training_images_in_a_folder,
        windows_line_ends,
        nothing_but_mini_needs,
    ],
)
def test_mini_loads_from_every_documented_layout(folder, arrange):
    arrange(folder)
    before = snapshot(folder)
    check_mini(webvision.prepare("mini", folder=folder))
    assert snapshot(folder) == before


@pytest.mark.parametrize("packed", [False, True])
def test_full_has_google_before_flickr_and_all_classes(folder, packed):
    if packed:
        pack(folder, "flickr_resized_256.tar", "flickr")
    builder = webvision.prepare("full", folder=folder)
    train = examples(builder, "train")
    listed = [line.split() for line in (GOOGLE + FLICKR).splitlines()]
    assert [e["file_name"].decode() for e in train] == [name for name, _ in listed]
    assert [e["label"] for e in train] == [int(label) for _, label in listed]
    assert [e["image"] for e in train] == [FILES[name] for name, _ in listed]
    assert [e["source"] for e in train] == [0] * 10 + [1] * 2
    assert [e["label"] for e in examples(builder, "validation")] == [49, 573, 0]
    features, names = builder.info.features, builder.info.metadata["class_names"]
    assert features["label"].names == shipped_synsets()
    assert features["source"].names[:2] == ["google", "flickr"]
    assert len(names) == 1000 and names[0] == "tench, Tinca tinca"
    assert "ilsvrc2012" not in builder.info.splits


def test_both_variants_are_prepared_side_by_side(folder):
    webvision.prepare("full", folder=folder)
    mini = webvision.prepare("mini", folder=folder)
    check_mini(mini)
    assert mini.info.features["label"].num_classes == 50
    assert len(mini.info.metadata["class_names"]) == 50


def test_order_holds_across_files_and_processes(folder, monkeypatch):
    from cmwjax.data.builders import record_builder

    monkeypatch.setattr(record_builder, "SHARD_SIZE", 3)
    builder = webvision.prepare("full", folder=folder)
    assert builder.info.splits["train"].shard_lengths == [3, 3, 3, 1, 2]
    source = pickle.loads(pickle.dumps(builder.as_data_source("train[9:]")))
    assert [e["file_name"].split(b"/")[1] for e in source] == [
        *(b"q1631", b"q0001", b"q1629")
    ]
    pixels = np.asarray(Image.open(io.BytesIO(FILES["google/q1631/last.jpg"])))
    np.testing.assert_array_equal(source[0]["image"], pixels)


def prepare_without_lock(folder, data_dir):
    """Prepares mini with TFDS alone, as for any of its data sets."""
    import tensorflow_datasets as tfds

    from cmwjax.data.builders.webvision.webvision_dataset_builder import Builder

    builder = Builder(config="mini", data_dir=data_dir)
    manual = tfds.download.DownloadConfig(manual_dir=folder)
    builder.download_and_prepare(download_config=manual, file_format="array_record")
    return builder


def test_tfds_alone_prepares_the_same(folder, tmp_path):
    builder = prepare_without_lock(folder, tmp_path / "tfds")
    assert builder.info.full_name == "webvision/mini/1.0.0"
    assert "2.4 million images" in builder.info.description
    assert "1708.02862" in builder.info.citation
    check_mini(builder)


### ILSVRC-2012

# Published: these three are the first tenches, and the very first is a sea snake.
TENCHES = (293, 2138, 3014)
SEA_SNAKE, SEA_SNAKE_CLASS = 1, 65


def name_of(number):
    return f"ILSVRC2012_val_{number:08d}.JPEG"


def add_validation(root, numbers, arrange):
    """Images of ILSVRC-2012, and a list of them; returns their contents by name."""
    files = {name_of(number): jpeg(number) for number in numbers}
    lines = "".join(f"{name_of(n)} {numbers[n]}\n" for n in numbers)
    write(root / "imagenet/meta/val.txt", lines.encode())
    for name, content in files.items():
        write(root / arrange(name), content)
    return files


@pytest.mark.parametrize(
    "place",
    [
        "imagenet/val/{synset}/{name}",
        "imagenet/val/0/{name}",
        "imagenet/val/{name}",
        "ILSVRC2012_img_val/{name}",
        "ILSVRC2012_img_val.tar",
    ],
)
def test_ilsvrc2012_is_labelled_by_the_files_numbers(folder, place):
    files = add_validation(
        folder,
        {SEA_SNAKE: SEA_SNAKE_CLASS} | dict.fromkeys(reversed(TENCHES), 0),
        lambda name: (
            f"unpacked/{name}"
            if place.endswith("tar")
            else place.format(name=name, synset="n01440764")
        ),
    )
    if place.endswith("tar"):
        with tarfile.open(folder / place, "w") as archive:
            for name in files:
                archive.add(folder / "unpacked" / name, arcname=name)
    mini = examples(webvision.prepare("mini", folder=folder), "ilsvrc2012")
    assert [(e["file_name"].decode(), e["label"]) for e in mini] == [
        (name_of(number), 0) for number in TENCHES
    ]
    assert [e["image"] for e in mini] == [files[name_of(n)] for n in TENCHES]
    full = webvision.prepare("full", folder=folder)
    assert webvision.labels(full, "ilsvrc2012").tolist() == [SEA_SNAKE_CLASS, 0, 0, 0]


def test_ilsvrc2012_without_a_list_is_all_of_it(folder):
    write(folder / "imagenet/val" / name_of(293), jpeg(293))
    message = r"2499 of 2500 images of ILSVRC-2012 are absent.*unpack"
    with pytest.raises(ValueError, match=message):
        webvision.prepare("mini", folder=folder)
    counts = Counter(ilsvrc2012.validation_labels())
    assert set(counts.values()) == {50} and set(counts) == set(range(1000))
    assert [ilsvrc2012.validation_labels()[n - 1] for n in TENCHES] == [0, 0, 0]
    assert ilsvrc2012.validation_labels()[SEA_SNAKE - 1] == SEA_SNAKE_CLASS


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{name_of(1)} 490", r"line 1, gives .*00000001.JPEG the class 490.*it is 65"),
        (f"{name_of(1)}", r"line 1, is 'ILSVRC2012_val_00000001.JPEG', not a file and"),
        (f"{name_of(50001)} 65", r"line 1, is .*restore or remove the list"),
        (f"{name_of(1)} 65", r"lists no image of the first 50 classes"),
    ],
)
def test_a_wrong_list_of_ilsvrc2012_is_refused(folder, line, message):
    add_validation(folder, {}, Path)
    write(folder / "imagenet/val" / name_of(1), jpeg(1))
    write(folder / "imagenet/meta/val.txt", line.encode())
    with pytest.raises(ValueError, match=message):
        webvision.prepare("mini", folder=folder)


### Bad input


def edit(name, old, new):
    """Replaces something in a file of info/."""
    return edited(f"info/{name}", old, new)


def emptied(name):
    return lambda root: (root / "info" / name).write_text("")


def lines_cut_off(root):
    path = root / "info/synsets.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-3]))


def google_archive_cut_off(at, and_after):
    def change(root):
        pack(root, "google_resized_256.tar", "google")
        path = root / "google_resized_256.tar"
        content = path.read_bytes()
        path.write_bytes(content[: content.index(at) + and_after])

    return change


def not_an_archive(name):
    def change(root):
        shutil.rmtree(root / name)
        (root / f"{name}.tar").write_bytes(b"<html>404 Not Found</html>")

    return change


def info_archive_cut_off(root):
    pack(root, "info.tar", "info")
    path = root / "info.tar"
    path.write_bytes(path.read_bytes()[:3000])


def not_text(root):
    (root / "info/val_filelist.txt").write_bytes(b"\xff\xd8\xff\xe0 0\n")


LIST = "train_filelist_google.txt"
BAD = {
    "folder of images absent": (
        removed("google"),
        r"neither google_resized_256.tar nor the folder google/.*17 GB",
    ),
    "folder of validation images absent": (
        removed("val_images_256"),
        r"neither val_images_256.tar nor the folder val_images_256/.*0\.9 GB",
    ),
    "half unpacked": (
        removed("google/q0101", "google/q0002/a-_9.jpg"),
        r"2 of 8 images of info/train_filelist_google.txt are absent from .*webvision, "
        r"the first is google/q0002/a-_9.jpg: unpack the archive again",
    ),
    "a validation image absent": (
        removed("val_images_256/val000003.jpg"),
        r"1 of 2 images of info/val_filelist.txt are absent.*val000003.jpg: unpack",
    ),
    "a list absent": (
        removed("info/val_filelist.txt"),
        r"has no info/val_filelist.txt: unpack info.tar there again",
    ),
    "synsets of another set": (
        edit("synsets.txt", "n01440764", "n02119789"),
        r"synsets.txt, line 1, has the synset 'n02119789', but class 0 is n01440764",
    ),
    "synsets cut off": (lines_cut_off, r"synsets.txt has 997 lines, but.*1000 classes"),
    "synsets empty": (emptied("synsets.txt"), r"synsets.txt has 1 lines, but"),
    "a line without a label": (
        edit(LIST, "ygwQ1.jpg 1", "ygwQ1.jpg"),
        r"google.txt, line 4, is 'google/q0003/ygwQ1.jpg', not a path and a label",
    ),
    "a line with a word for a label": (
        edit(LIST, "ygwQ1.jpg 1", "ygwQ1.jpg goldfish"),
        r"line 4, is 'google/q0003/ygwQ1.jpg goldfish', not a path and a label",
    ),
    "a negative label": (edit(LIST, "jpg 49", "jpg -1"), r"line 5, is .*not a path"),
    "a label beyond 1000, past the first 50 classes": (
        edit(LIST, "last.jpg 999", "last.jpg 1000"),
        r"line 10, has label 1000, outside \[0, 1000\)",
    ),
    "a path out of the folder": (
        edit(LIST, "google/q0003", "../google/q0003"),
        r"line 4, is '../google/q0003/ygwQ1.jpg 1', not a path",
    ),
    "lists mixed up": (
        edit(LIST, "google/q0001", "flickr/q0001"),
        r"line 1, is 'flickr/q0001.*such as 'google/q0001/NAME.jpg 0'",
    ),
    "an empty line": (edit(LIST, "0\n", "0\n\n"), r"line 2, is '', not a path"),
    "an empty list": (emptied(LIST), r"google.txt lists no image of the first 50"),
    "an empty validation list": (
        emptied("val_filelist.txt"),
        r"val_filelist.txt lists no image of the first 50 classes",
    ),
    "an image twice": (
        edit(LIST, "google/q0001/a-_9.jpg 0", "google/q0001/PSzR2XTXq6Fz2M.jpg 0"),
        r"lists google/q0001/PSzR2XTXq6Fz2M.jpg twice \(1 lines",
    ),
    "an image twice with different labels": (
        edit(LIST, "google/q0003/ygwQ1.jpg 1", "google/q0001/a-_9.jpg 1"),
        r"lists google/q0001/a-_9.jpg twice",
    ),
    "no text": (not_text, r"val_filelist.txt is damaged or incomplete.*info.tar again"),
    "info.tar cut off": (info_archive_cut_off, r"info.tar is damaged or incomplete"),
    "archive cut off in an image": (
        google_archive_cut_off(FILES["google/q0003/ygwQ1.jpg"], 20),
        r"google_resized_256.tar is damaged or incomplete at [\d,]+ bytes.*download it",
    ),
    "archive cut off in a header": (
        google_archive_cut_off(b"google/q0003/ygwQ1.jpg", 20),
        r"256.tar (is damaged or incomplete|\([\d,]+ bytes\), the first)",
    ),
    "archive cut off between images": (
        google_archive_cut_off(b"google/q0003/ygwQ1.jpg", 0),
        r"5 of 8 images of info/train_filelist_google.txt are absent from .*256.tar "
        r"\([\d,]+ bytes\), the first is google/q0003/ygwQ1.jpg: the download may",
    ),
    "no archive": (not_an_archive("google"), r"google.tar is damaged or incomplete"),
}


@pytest.mark.parametrize(("corrupt", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_before_anything_is_written(folder, corrupt, message):
    corrupt(folder)
    before = snapshot(folder)
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)) as error:
        webvision.prepare("mini", folder=folder)
    assert str(error.value).startswith("data: ")
    assert snapshot(folder) == before and not (folder / "prepared").exists()


def test_bad_flickr_matters_to_full_alone(folder):
    edit("train_filelist_flickr.txt", " 0", "")(folder)
    with pytest.raises(ValueError, match=r"flickr.txt, line 1, is 'flickr/q0001/27"):
        webvision.prepare("full", folder=folder)
    check_mini(webvision.prepare("mini", folder=folder))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    text=st.lists(
        st.sampled_from(["google/q0001/a.jpg", "google/", "0", "7", " ", "1e3", "\t"])
        | st.text(max_size=3),
        max_size=12,
    ).map(lambda parts: "".join(part + " \n"[len(part) % 2] for part in parts))
)
def test_any_list_is_read_or_refused_with_its_line(text):
    try:
        listing = lists.read_list(
            text, file=Path("a.txt"), num_classes=50, source="google"
        )
    except ValueError as error:
        assert re.match(r"data: a\.txt(, line \d+, (is|has)| lists)", str(error))
        assert re.search(r": restore it from [^:]+\.$", str(error))
    else:
        words = text.split()  # only paths and numbers, in turn
        assert listing.names == words[::2]
        assert listing.labels.tolist() == [int(word) for word in words[1::2]]


def test_missing_data_says_what_to_download(tmp_path, monkeypatch):
    monkeypatch.setenv("CMWJAX_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(ValueError, match="no WebVision in .*/data/webvision") as error:
        webvision.prepare("mini")
    for archive, size in [
        ("info.tar", "0.2 GB"),
        ("google_resized_256.tar", "17 GB"),
        ("flickr_resized_256.tar", "30 GB"),
        ("val_images_256.tar", "0.9 GB"),
        ("ILSVRC2012_img_val.tar", "6.7 GB"),
    ]:
        assert re.search(rf"^ +{archive} +.*{size}", str(error.value), re.MULTILINE)
    assert not (tmp_path / "data").exists()
    monkeypatch.delenv("CMWJAX_DATA_DIR")
    with pytest.raises(ValueError, match="CMWJAX_DATA_DIR, which is not set") as error:
        webvision.prepare("mini")
    assert "google_resized_256.tar" in str(error.value)


def test_unknown_configurations_are_refused(folder):
    with pytest.raises(ValueError, match="no configuration 'midi': choose 'full' or"):
        webvision.prepare("midi", folder=folder)


def test_an_unwritable_place_is_named(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ValueError, match="nothing can be written to .*another data_dir"
    ):
        webvision.prepare("mini", folder=folder, data_dir=tmp_path / "file/below")


### Once and again


def test_prepared_data_is_used_again_without_the_images(folder, monkeypatch):
    monkeypatch.setenv("CMWJAX_DATA_DIR", str(folder.parent))
    first = webvision.prepare("mini")
    assert first.data_path == folder / "prepared/webvision/mini/1.0.0"
    prepared = Path(first.data_path)
    files = {path: path.stat().st_mtime_ns for path in prepared.iterdir()}
    removed("google", "flickr", "val_images_256")(folder)
    check_mini(webvision.prepare("mini"))
    removed("info")(folder)
    check_mini(webvision.prepare("mini"))
    assert {path: path.stat().st_mtime_ns for path in prepared.iterdir()} == files


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            edit(LIST, "ygwQ1.jpg 1", "ygwQ1.jpg 2"),
            "train_filelist_google.txt is not the list that .* was prepared from",
        ),
        (
            removed("prepared/webvision/mini/1.0.0/dataset_info.json"),
            "1.0.0 is damaged, without any data",
        ),
        (
            removed(
                "prepared/webvision/mini/1.0.0/"
                "webvision-train.array_record-00000-of-00001"
            ),
            "1.0.0 is damaged, without webvision-train.array_record-00000-of-00001",
        ),
    ],
)
def test_prepared_data_that_does_not_fit_is_refused(folder, change, message):
    webvision.prepare("mini", folder=folder)
    change(folder)
    with pytest.raises(ValueError, match=message) as error:
        webvision.prepare("mini", folder=folder)
    (path,) = re.findall(
        r"delete (\S+) and run the same command again", str(error.value)
    )
    shutil.rmtree(path)
    webvision.prepare("mini", folder=folder)


def test_a_failure_while_writing_leaves_nothing(folder, monkeypatch):
    from cmwjax.data.builders import record_builder

    def fail(*arguments, **kwargs):
        yield 0, {"image": b"", "label": 0, "file_name": b"a", "source": 0}
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(record_builder, "_examples", fail)
        with pytest.raises(OSError, match="No space left"):
            webvision.prepare("mini", folder=folder)
    assert list((folder / "prepared/webvision/mini").iterdir()) == []
    check_mini(webvision.prepare("mini", folder=folder))


KILLED = """
import os, signal, sys
from cmwjax.data.builders import record_builder as module
from cmwjax.data.builders import webvision

def killed(part, start, *, name):
    for number, item in enumerate(examples(part, start, name=name)):
        if number == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        yield item

examples, module._examples = module._examples, killed
webvision.prepare("mini", folder=sys.argv[1])
"""


def test_a_killed_preparation_is_cleaned_up_and_begun_again(folder):
    before = snapshot(folder)
    run = subprocess.run([sys.executable, "-c", KILLED, folder], cwd=ROOT)
    assert run.returncode == -signal.SIGKILL
    prepared = folder / "prepared/webvision/mini"
    (unfinished,) = prepared.iterdir()
    assert unfinished.name.startswith("incomplete.") and any(unfinished.iterdir())
    check_mini(webvision.prepare("mini", folder=folder))
    assert [path.name for path in prepared.iterdir()] == ["1.0.0"]
    assert snapshot(folder) == before


def test_a_second_process_waits_and_uses_what_the_first_prepared(folder):
    code = "import sys; from cmwjax.data.builders import webvision\n"
    code += "print(*webvision.labels(webvision.prepare(folder=sys.argv[1]), 'train'))"
    command = [sys.executable, "-W", "error", "-c", code, folder]
    pipe = subprocess.PIPE
    with contextlib.ExitStack() as stack:
        with preparation.alone(folder / "prepared", "webvision"):
            second = stack.enter_context(
                subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)
            )
            for line in second.stderr:
                if "mini validation: 2 images" in line:
                    break  # it has checked the folder, and waits
            first = prepare_without_lock(folder, folder / "prepared")
            times = {path: path.stat().mtime for path in first.data_path.iterdir()}
        output, errors = second.communicate(timeout=60)
    assert second.returncode == 0, errors
    assert output.split() == ["0", "0", "0", "1", "49", "49", "49", "49"]
    assert [path.name for path in first.data_path.parent.iterdir()] == ["1.0.0"]
    assert {path: path.stat().mtime for path in times} == times


@pytest.fixture
def log(monkeypatch):
    lines = []
    for level in ("info", "warning"):
        monkeypatch.setattr(
            logging, level, lambda text, *values: lines.append(text % values)
        )
    return lines


def test_the_log_says_what_is_there(folder, log):
    webvision.prepare("mini", folder=folder)
    assert any(
        re.search(
            r"mini train: 8 images instead of the 65944 published; 47 of 50 classes "
            r"have none, for example class 2 \(x\)",
            line,
        )
        for line in log
    )


def test_ilsvrc2012_that_came_later_is_noticed(folder, log):
    webvision.prepare("mini", folder=folder)
    webvision.prepare("mini", folder=folder)
    assert not any("was prepared without" in line for line in log)
    add_validation(folder, {293: 0}, lambda name: f"imagenet/val/{name}")
    webvision.prepare("mini", folder=folder)
    assert any(
        re.search(r"1.0.0 was prepared without \S+imagenet/val: .*delete", line)
        for line in log
    )


### The example


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("example") / "webvision"
    both = ("google", "flickr")
    settings = example.Example(ilsvrc_per_class=4, broken=4, sources=both)
    example.write_example(folder, settings)
    return folder


def pixels_and_labels(builder, split):
    """Images shrunk to 12 x 12, `[N, 432]`, and labels; without broken ones."""
    pixels, labels = [], []
    for item in examples(builder, split):
        try:
            image = Image.open(io.BytesIO(item["image"])).convert("RGB")
        except OSError:
            continue
        pixels.append(np.asarray(image.resize((12, 12))).ravel() / 255)
        labels.append(item["label"])
    return np.array(pixels), np.array(labels)


def test_the_example_is_a_webvision_of_learnable_classes(small):
    builder = webvision.prepare("mini", folder=small)
    counts = np.bincount(webvision.labels(builder, "train"), minlength=50)
    assert counts[10:].sum() == 0 and counts[:10].min() >= 10
    assert len(set(counts[:10])) > 5 and 380 <= counts.sum() <= 420
    pixels, labels = pixels_and_labels(builder, "train")
    means = np.stack([pixels[labels == label].mean(axis=0) for label in range(10)])

    def nearest(pixels):
        return np.linalg.norm(pixels[:, None] - means, axis=2).argmin(axis=1)

    # About a fifth of the labels contradict what the images show.
    assert 0.15 < np.mean(nearest(pixels) != labels) < 0.3
    for split, size in [("validation", 100), ("ilsvrc2012", 40)]:
        pixels, labels = pixels_and_labels(builder, split)
        assert np.bincount(labels).tolist() == [size // 10] * 10
        assert np.mean(nearest(pixels) == labels) > 0.9
    names = builder.info.metadata["class_names"]
    assert names[0] == "red disc on white" and len(set(names[:10])) == 10


def test_the_example_has_both_sources_and_broken_files(small):
    builder = webvision.prepare("full", folder=small)
    train = examples(builder, "train")
    assert Counter(e["source"] for e in train).keys() == {0, 1}
    opened = [Image.open(io.BytesIO(e["image"])) for e in train if e["image"]]
    assert len(opened) == len(train) - 1
    assert Counter(image.mode for image in opened)["CMYK"] == 1
    sizes = [image.size for image in opened if image.mode == "RGB"]
    assert Counter(map(min, sizes)) == {80: len(sizes) - 1, 1: 1}
    assert max(map(max, sizes)) <= 100
    with pytest.raises(OSError, match="truncated"):
        for image in opened:
            image.load()


def test_the_example_is_written_once_and_over_nothing_else(tmp_path):
    few = example.Example(2, train_per_class=(3, 4), validation_per_class=1, size=16)
    folder = tmp_path / "webvision"
    unfinished = tmp_path / "webvision.unfinished"
    write(unfinished / "google/q0001/old.jpg", b"left by a killed process")
    example.write_example(folder, few)
    assert not unfinished.exists() and not (folder / "google/q0001/old.jpg").exists()
    before = snapshot(folder)
    example.write_example(folder, few)
    assert snapshot(folder) == before
    for other in (few._replace(seed=1), few._replace(size=20)):
        with pytest.raises(ValueError, match="is not empty and not this example"):
            example.write_example(folder, other)
    assert snapshot(folder) == before
    example.write_example(tmp_path / "again", few)
    assert {k: v[0] for k, v in snapshot(tmp_path / "again").items()} == {
        k: v[0] for k, v in before.items()
    }


@pytest.mark.parametrize("wrong", [0.0, 0.5])
def test_the_share_of_wrong_labels_is_what_was_asked_for(tmp_path, monkeypatch, wrong):
    drawn = []  # what each image shows, in the order in which they are made

    def draw(label, size, random):
        drawn.append(label)
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(example, "draw", draw)
    settings = example.Example(4, train_per_class=(10, 10), wrong=wrong)
    example.write_example(tmp_path / "a", settings)
    text = (tmp_path / "a/info/train_filelist_google.txt").read_text()
    listed = [int(line.split()[1]) for line in text.splitlines()]
    different = sum(a != b for a, b in zip(listed, drawn, strict=False))
    assert different == wrong * 40
    assert Counter(drawn[:40]) == dict.fromkeys(range(4), 10)


@pytest.mark.parametrize(
    "setting", [{"classes": 1001}, {"wrong": -0.1}, {"ilsvrc_per_class": 51}]
)
def test_an_impossible_example_is_refused(tmp_path, setting):
    ((name, value),) = setting.items()
    with pytest.raises(ValueError, match=f"example.{name}={value} is out of range"):
        example.write_example(tmp_path / "a", example.Example(**setting))
    assert not (tmp_path / "a").exists()


def test_a_thousand_classes_look_different():
    assert len({example.class_name(label) for label in range(1000)}) == 1000


### Imports


def test_imports_are_light_and_quiet():
    code = """
import sys
import cmwjax.data.builders.webvision
assert not {"tensorflow_datasets", "PIL"} & set(sys.modules)
import cmwjax.data.builders.webvision.webvision_dataset_builder
assert "tensorflow_datasets" in sys.modules and "tensorflow" not in sys.modules
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0 and not run.stderr, run.stderr
