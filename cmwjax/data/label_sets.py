"""Label sets that people or networks gave to the training images of a data set.

An archive carries its own as `y_train_NAME`, for example CIFAR-10N as 'human_worse' and
the feature-dependent PMD labels as 'pmd_type1_035' (paper 5.3). Others are read from
files. Every set is checked to be in the order of the images.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmwjax import pickled
from cmwjax.core.labels import UNLABELLED, check_labels
from cmwjax.data.archive import read_arrays
from cmwjax.files import expanded

PREFIX = "y_train_"
BLOCK = 2500  # images whose order is checked together
# PMD labels the first 45,000 images of CIFAR and leaves the rest for validation.
CIFAR_SIZE, PMD_SIZE = 50_000, 45_000


def read(
    labels: str,
    *,
    archive: Path | None,
    true_labels: NDArray[np.int32],
    num_classes: int,
) -> NDArray[Any]:
    """Reads a label set and checks that it belongs to the images.

    A file that carries clean labels as well (`clean_label`, as CIFAR-10N and 100N do)
    is compared with `true_labels`. If it is in the order of the data set's files, but
    the images are in that of TensorFlow Datasets, its `tfds_to_canonical` reorders it.
    Any set must agree with `true_labels` on more images than a shuffled one would, in
    every part of it.

    Args:
      labels: a name, for `y_train_NAME` of the archive; or 'FILE.npz:KEY'; or
        'FILE.npy'; or 'FILE:KEY' of a file of `torch.save` or a pickled dict, as those
        that CIFAR-10N and 100N are published in. Of such files nothing is executed.
      archive: the file of the data set, if it has one.
      true_labels: true classes of its training images, int32 `[N]`.
      num_classes: number of classes C.

    Returns:
      One label per image, int32 `[N]`; UNLABELLED at the end if the set has 45,000
      labels for 50,000 images. Or, of an array of truth values, the candidate labels of
      each image, bool `[N, C]`, whose order nobody can check.

    Raises:
      ValueError: if there is no such set, its length is not N, a label lies outside
        [0, C), or it is in another order than the images.
    """
    file, colon, key = labels.rpartition(":")
    order = None
    if Path(labels).suffix in pickled.SUFFIXES:
        given, clean = _read_pickled(expanded(labels), "")
    elif Path(file).suffix in pickled.SUFFIXES:
        given, clean = _read_pickled(expanded(file), key)
    elif colon:
        given, clean, order = _read_npz(expanded(file), key)
    else:
        given, clean = _read_own(archive, labels), None
    name = f"labels {labels!r}"
    remedy = f"the images have {num_classes} classes; give labels of these"
    size = len(true_labels)
    if given.ndim == 2:
        given = check_candidates(given, num_classes, name=name)
        check_length(given, size, name=name)
        return given
    given = check_labels(given, num_classes, name=name, remedy=remedy)
    if len(given) != size and (len(given), size) != (PMD_SIZE, CIFAR_SIZE):
        raise ValueError(
            f"{name} are {len(given)}, but there are {size} training images: give one "
            "label per image, in the order of the images."
        )
    if clean is not None:
        given = _in_order(given, clean, order, true_labels, name=name)
    true_labels = true_labels[: len(given)]
    _check_agreement(given, true_labels, num_classes=num_classes, name=name)
    observed = np.full(size, UNLABELLED, np.int32)
    observed[: len(given)] = given
    return observed


def check_candidates(
    candidates: Any, num_classes: int | None = None, *, name: str
) -> NDArray[np.bool_]:
    """Candidate sets as bool `[N, C]`, or says what is wrong with them.

    Args:
      candidates: truth values, or zeros and ones, `[N, C]`.
      num_classes: C; None: any.
      name: what the error calls them.

    Raises:
      ValueError: for another shape or type, or a sample without a candidate.
    """
    sets = np.asarray(candidates)
    classes = "C" if num_classes is None else num_classes
    fits = sets.ndim == 2 and num_classes in (None, sets.shape[1])
    if not fits or sets.dtype.kind not in "biu" or not np.isin(sets, (0, 1)).all():
        raise ValueError(
            f"{name} are {sets.dtype} of shape {list(sets.shape)}, but candidates are "
            f"truth values [N, {classes}], a column for each class: convert them."
        )
    sets = sets.astype(bool)
    none = np.flatnonzero(~sets.any(axis=1))
    if none.size:
        raise ValueError(
            f"{name} have no candidate at position {none[0]}: give every sample one "
            "or more."
        )
    return sets


def check_length(sets: NDArray[np.bool_], size: int, *, name: str) -> None:
    """Raises `ValueError` unless there is a set for each of `size` samples."""
    if len(sets) != size:
        raise ValueError(
            f"{name}: {len(sets)} sets of candidates for {size} training samples: give "
            "one for each."
        )


def _read_own(archive: Path | None, name: str) -> np.ndarray:
    if archive is None:
        raise ValueError(
            f"labels {name!r} are unknown: this data set has no other labels than "
            "'true'; choose those, or give 'FILE.npz:KEY', 'FILE.pt:KEY' or 'FILE.npy'."
        )
    arrays, names = read_arrays(archive, [PREFIX + name])
    if not arrays:
        own = [n.removeprefix(PREFIX) for n in names if n.startswith(PREFIX)]
        raise ValueError(
            f"labels {name!r} are unknown: {archive} has no {PREFIX}{name}; choose "
            f"one of {['true', *own]}, or give 'FILE.npz:KEY', 'FILE.pt:KEY' or "
            "'FILE.npy'."
        )
    return arrays[PREFIX + name]


def _read_pickled(path: Path, key: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The labels, and if the file has them the clean labels."""
    if not path.is_file():
        raise ValueError(
            f"labels: there is no file {path}: correct the path in config.data.labels."
        )
    try:
        content = pickled.read(path)
    except ValueError as error:
        raise ValueError(f"labels: {error}") from error
    if not isinstance(content, dict):
        if key:
            raise ValueError(
                f"labels: {path} holds one array and no {key!r}: leave out ':{key}'."
            )
        return np.asarray(content), None
    if key not in content:
        raise ValueError(
            f"labels: {path} has no {key!r}: choose one of {sorted(content)}, as "
            f"'{path.name}:{sorted(content)[-1]}'."
        )
    clean = content.get(_clean_key(key))
    return np.asarray(content[key]), None if clean is None else np.asarray(clean)


def _clean_key(key: str) -> str:
    return "clean_coarse_label" if "coarse" in key else "clean_label"


def _read_npz(
    path: Path, key: str
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """The labels, and if the file has them the clean labels and the order of TFDS."""
    if not path.is_file():
        raise ValueError(
            f"labels: there is no file {path}: correct the path in 'FILE.npz:KEY'."
        )
    clean_key = _clean_key(key)
    arrays, names = read_arrays(path, [key, clean_key, "tfds_to_canonical"])
    if key not in arrays:
        raise ValueError(f"labels: {path} has no {key!r}; choose one of {names}.")
    return arrays[key], arrays.get(clean_key), arrays.get("tfds_to_canonical")


def _in_order(
    given: NDArray[np.int32],
    clean: np.ndarray,
    tfds_to_canonical: np.ndarray | None,
    true_labels: NDArray[np.int32],
    *,
    name: str,
) -> NDArray[np.int32]:
    """Labels in the order of the images, which the clean labels vouch for."""
    if np.array_equal(clean, true_labels):
        return given
    order = tfds_to_canonical
    has_order = order is not None and clean.shape == order.shape == given.shape
    if has_order and np.array_equal(clean[order], true_labels):
        return given[order]
    differ = ""
    if clean.shape == true_labels.shape:
        differ = f" at {np.count_nonzero(clean != true_labels)} of {clean.size} images"
    raise ValueError(
        f"{name} come with clean labels that differ from the data set's{differ}: they "
        "belong to another data set or another order of the images; use its files."
    )


def _check_agreement(
    given: NDArray[np.int32],
    true_labels: NDArray[np.int32],
    *,
    num_classes: int,
    name: str,
) -> None:
    """Refuses labels that somewhere are right no more often than shuffled ones.

    Blocks in which most images are of one class say nothing about the order.
    """
    parts = max(1, len(given) // BLOCK)
    for block in np.array_split(np.arange(len(given)), parts):
        size, agreement = len(block), np.mean(given[block] == true_labels[block])
        given_shares, true_shares = (
            np.bincount(labels[block], minlength=num_classes) / size
            for labels in (given, true_labels)
        )
        if parts > 1 and np.max(true_shares) > 0.5:
            continue
        chance = given_shares @ true_shares
        if agreement < chance + 4 * np.sqrt(chance * (1 - chance) / size):
            raise ValueError(
                f"{name} are right on {agreement:.1%} of images {block[0]} to "
                f"{block[-1]}, and would be on {chance:.1%} in a random order: they "
                "belong to another data set or another order of the images; use its "
                "files."
            )
