"""The list of images that could not be read, over stops and versions."""

import csv

import numpy as np

from cmwjax.data.decode import REASONS
from cmwjax.data.unreadable import Unreadable

SETS = ("train", "test")


def listed(folder):
    """The lines of the file, read by another reader."""
    with (folder / "unreadable.csv").open() as file:
        return [(r["set"], int(r["index"]), r["reason"]) for r in csv.DictReader(file)]


def test_an_image_has_one_line_however_often_it_was_met(tmp_path):
    met = [("train", [4, 9], [1, 0]), ("test", [2], [2]), ("train", [4, 3], [1, 1])]
    want = set()
    for name, index, codes in met:  # in each a new process, which goes on with the file
        unreadable = Unreadable(tmp_path, SETS)
        for _ in range(2):
            unreadable.add(name, np.array(index), np.array(codes))
            unreadable.write()
        pairs = zip(index, codes, strict=True)
        want |= {(name, i, REASONS[code]) for i, code in pairs if code}
        assert listed(tmp_path) == sorted(want)


def test_without_unreadable_images_there_is_no_file(tmp_path):
    unreadable = Unreadable(tmp_path, SETS)
    unreadable.add("train", np.array([1, 2]), np.zeros(2, int))
    unreadable.write()
    assert not list(tmp_path.iterdir())
