"""The list of images that could not be read, over stops and versions."""

import csv
import json

import numpy as np
import pytest

from cmwjax.config import base_config
from cmwjax.data.decode import REASONS
from cmwjax.data.unreadable import Unreadable
from cmwjax.training.workdir import check_folder

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


def test_the_file_of_an_earlier_version_goes_on_once_it_is_renamed(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(base_config().to_dict()))
    old = tmp_path / "skipped_images.csv"
    old.write_text(f"set,index,reason\ntest,7,{REASONS[1]}\n")
    message = "skipped_images.csv is called unreadable.csv now: rename the file"
    with pytest.raises(ValueError, match=message):
        check_folder(tmp_path, base_config())
    old.rename(tmp_path / "unreadable.csv")
    check_folder(tmp_path, base_config())
    unreadable = Unreadable(tmp_path, SETS)
    unreadable.add("train", np.array([1]), np.array([1]))
    unreadable.write()
    assert listed(tmp_path) == [("test", 7, REASONS[1]), ("train", 1, REASONS[1])]
