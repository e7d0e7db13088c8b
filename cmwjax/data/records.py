"""Images as the records of a data set that TensorFlow Datasets has prepared."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from numpy.typing import NDArray

from cmwjax.core.labels import check_labels
from cmwjax.data.encoded import Encoded, EncodedSet
from cmwjax.files import expanded, replacing

LABEL_SETS = "label_sets.npz"  # other labels of 'train', as an archive has them
CHUNK = 256  # records read at once when only their labels are wanted


class RecordReader(NamedTuple):
    """Reads the images of a split, as they are encoded."""

    directory: str
    split: str

    def __call__(self, position: int) -> bytes:
        """The image at a position."""
        return _source(self.directory, self.split)[position]["image"]


@lru_cache
def _source(directory: str, split: str) -> Any:
    """The records of a split, opened once in every process."""
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder_from_directory(directory)
    return builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})


class _Keys(Sequence[str]):
    """What TFDS calls the records of a split: 'FILE__NUMBER', as its `tfds_id`."""

    def __init__(self, shards: Sequence[Any]) -> None:
        self._files = [Path(shard.filename).name for shard in shards]
        self._ends = np.cumsum([shard.examples_in_shard for shard in shards])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, position: Any) -> Any:
        shard = np.searchsorted(self._ends, position, side="right")
        begin = self._ends[shard - 1] if shard else 0
        return f"{self._files[shard]}__{position - begin}"


def builder_of(name: str) -> Any:
    """What TFDS reads a data set by.

    Args:
      name: of the data set, or the folder that it was prepared in.

    Raises:
      ValueError: if there is no such data set.
    """
    import tensorflow_datasets as tfds

    if expanded(name).is_dir():
        return tfds.builder_from_directory(expanded(name))
    try:
        return tfds.builder(name)
    except tfds.core.DatasetNotFoundError:  # which lists all that there are
        raise ValueError(
            f"data: TFDS knows no data set {name!r}: correct config.data.name, or "
            "prepare it first and set TFDS_DATA_DIR."
        ) from None


def from_builder(
    builder: Any,
    tests: Sequence[str],
    train: str = "train",
    field: str = "config.data.stream.tests",
) -> Encoded:
    """The images of a data set that was prepared.

    Args:
      builder: of the data set.
      tests: splits to test with.
      train: the split that takes the part of the training set.
      field: what an error names, of a split that is missing.

    Raises:
      ValueError: as `on_disk.load`.
    """
    info, directory = builder.info, str(builder.data_path)
    for split in (train, *tests):
        if split not in info.splits:
            raise ValueError(
                f"data: {info.full_name} in {directory} has the splits "
                f"{sorted(info.splits)}, but no {split!r}: prepare it, or correct "
                f"{field}."
            )
    missing = {"image", "label"} - set(info.features)
    if missing or not hasattr(info.features["label"], "names"):
        raise ValueError(
            f"data: {info.full_name} has the features {sorted(info.features)}: an "
            "'image' and a 'label' of a class are needed."
        )
    if info.file_format.value != "array_record":
        raise ValueError(
            f"data: {directory} is in the format {info.file_format.value!r}, which has "
            "no random access: prepare it with file_format='array_record'."
        )
    names = (info.metadata or {}).get("class_names") or info.features["label"].names
    sets = {}
    for split in (train, *tests):
        labels = _labels(directory, split, info.splits[split].num_examples)
        labels = check_labels(labels, len(names), name=f"{info.full_name}: {split}")
        keys = _Keys(info.splits[split].file_instructions)
        sets[split] = EncodedSet(RecordReader(directory, split), labels, keys)
    identity = f"{info.full_name} {[len(part.labels) for part in sets.values()]}"
    archive = Path(directory, LABEL_SETS)
    return Encoded(
        sets.pop(train),
        sets,
        tuple(names),
        identity,
        archive if train == "train" and archive.is_file() else None,
    )


def _labels(directory: str, split: str, size: int) -> NDArray[np.int32]:
    path = Path(directory, f"labels-{split}.npy")
    if path.is_file():
        labels = np.load(path)
        if labels.shape == (size,):
            return labels
    logging.info("Reading the labels of %d images of %s, once.", size, directory)
    source, labels = _source(directory, split), np.zeros(size, np.int32)
    for start in range(0, size, CHUNK):
        chunk = list(range(start, min(start + CHUNK, size)))
        labels[chunk] = [record["label"] for record in source.__getitems__(chunk)]
    try:
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.save(file, labels)
    except OSError as error:
        logging.warning("Labels cannot be kept in %s: %s", path, error)
    return labels
