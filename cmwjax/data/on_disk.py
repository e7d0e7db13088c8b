"""Image sets that stay on disk, by their names.

Two kinds, told apart by the name of the data: `folder:PATH` with files as
`PATH/train/CLASS/NAME.jpg`, in folders below CLASS or not, or without `train` where
there is no test set, or those that a list `PATH.csv` names, from its own folder on; and
`tfds:NAME`, a data set prepared by TensorFlow Datasets in the array_record format
(`NAME` may also be the folder that it was prepared in; see `prepared.find`).
"""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path

from cmwjax.data import csv_files, prepared
from cmwjax.data.encoded import Encoded
from cmwjax.data.folders import from_folder, from_list
from cmwjax.data.records import from_prepared
from cmwjax.files import expanded

# `NAME` or `NAME/CONFIG`: packages in `cmwjax.data.builders`.
OWN_BUILDERS = ("webvision", "animal10n", "clothing1m", "food101n", "webfg496")
SPLIT = "split:"  # of these data, in place of a folder with trusted images


def is_name(name: str | os.PathLike[str]) -> bool:
    """Whether data of this name stay on disk."""
    name = os.fspath(name)
    return name.startswith(("folder:", "tfds:")) or name.split("/")[0] in OWN_BUILDERS


def is_list(name: str | os.PathLike[str]) -> bool:
    """Whether data of this name are a list of files."""
    name = os.fspath(name)
    is_table = Path(name).suffix.lower() in csv_files.READERS
    return name.startswith("folder:") and is_table


def load(
    name: str | os.PathLike[str],
    *,
    tests: Sequence[str],
    text: str = "",
    label: str = "",
) -> Encoded:
    """Opens a data set and reads its labels.

    Those of a TFDS data set are kept beside it as `labels-SPLIT.npy`, for without this
    file all images must be read along with them.

    Args:
      name: see above.
      tests: names of the test sets, folders or splits beside 'train'.
      text: of a list of files, the column that names them.
      label: of a list of files, the column of labels; see `csv_files.read_csv`.

    Raises:
      ValueError: if there is no such data set, one of its sets or features is missing,
        it has another format, or a test set has classes that are not trained.
    """
    name = os.fspath(name)
    if name in ("folder:", "tfds:"):
        raise ValueError(
            f"data {name!r} names nothing: write folder:PATH or tfds:NAME as "
            "config.data.name."
        )
    if is_list(name):
        return from_list(expanded(name.removeprefix("folder:")), tests, text, label)
    if name.startswith("folder:"):
        return from_folder(expanded(name.removeprefix("folder:")), tests)
    return from_prepared(_prepared(name), tests)


def load_trusted(name: str | os.PathLike[str], trusted: str) -> Encoded:
    """Opens the images whose labels are trusted, beside those of a data set.

    Args:
      name: of the data set.
      trusted: a folder that has one of images for each class; or 'split:NAME', a split
        of the data set, if TFDS reads it.

    Returns:
      A training set of these images.

    Raises:
      ValueError: if there is no such folder or split, or it has no images.
    """
    name, field = os.fspath(name), f"config.data.csv.trusted={trusted!r}"
    if trusted.startswith(SPLIT):
        if name.startswith("folder:"):
            raise ValueError(
                f"{field} is a split, and data {name!r} are files without such: give "
                "a folder that has one of images for each class."
            )
        split = trusted.removeprefix(SPLIT)
        return from_prepared(_prepared(name), (), train=split, field=field)
    if not expanded(trusted).is_dir():
        raise ValueError(
            f"{field} is no folder: give one that has a folder of images for each "
            "class, as the data have."
        )
    return load(f"folder:{trusted}", tests=())


def _prepared(name: str) -> prepared.Prepared:
    """The data set 'tfds:NAME', or one of our own, prepared if it is not yet."""
    if name.startswith("tfds:"):
        return prepared.find(name.removeprefix("tfds:"))
    package, _, config = name.partition("/")
    own = importlib.import_module(f"cmwjax.data.builders.{package}")
    return prepared.read(Path(own.prepare(config).data_path))


def splits(name: str) -> tuple[str, ...]:
    """The splits of a data set `tfds:NAME`.

    Raises:
      ValueError: if there is no such data set.
    """
    short = name.removeprefix("tfds:")
    return tuple(prepared.find(short).splits) if short else ()
