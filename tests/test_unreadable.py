"""The list of images that could not be read, over stops and versions."""

import csv
import io

import numpy as np
import pytest

from cmwjax.data.decode import REASONS
from cmwjax.data.unreadable import Listed, Unreadable

SETS = {
    "train": Listed(np.arange(20)[::-1], [f"a,{i}\n.png" for i in range(20)]),
    "test": Listed(np.arange(5), [f"\udc80{i}" for i in range(5)]),
}


def listed(folder):
    """The lines of the file, read by another reader."""
    content = (folder / "unreadable.csv").read_bytes()
    lines = csv.reader(io.StringIO(content.decode("utf-8", "surrogateescape"), ""))
    assert next(lines) == ["set", "row", "file", "reason"]
    return [(name, int(row), file, reason) for name, row, file, reason in lines]


def test_an_image_has_one_line_however_often_it_was_met(tmp_path):
    met = [("train", [4, 9], [1, 0]), ("test", [2], [2]), ("train", [4, 3], [1, 1])]
    want = set()
    for name, index, codes in met:  # in each a new process, which goes on with the file
        unreadable = Unreadable(tmp_path, SETS)
        for _ in range(2):
            unreadable.add(name, np.array(index), np.array(codes))
            unreadable.write()
        pairs = zip(index, codes, strict=True)
        for i, code in pairs:
            row, file = (
                (19 - i, f"a,{i}\n.png") if name == "train" else (i, f"\udc80{i}")
            )
            want |= {(name, row, file, REASONS[code])} if code else set()
        assert listed(tmp_path) == sorted(want)


def test_without_unreadable_images_there_is_no_file(tmp_path):
    unreadable = Unreadable(tmp_path, SETS)
    unreadable.add("train", np.array([1, 2]), np.zeros(2, int))
    unreadable.write()
    assert not list(tmp_path.iterdir())


def test_a_list_of_an_earlier_version_is_refused(tmp_path):
    (tmp_path / "unreadable.csv").write_text("set,index,reason\ntrain,4,empty\n")
    message = r"unreadable.csv lacks the columns \['row', 'file'\].*another folder"
    with pytest.raises(ValueError, match=message):
        Unreadable(tmp_path, SETS)
