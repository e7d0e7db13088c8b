"""Images as the records of a data set that TensorFlow Datasets has prepared."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
)
from numpy.typing import NDArray

from cmwjax.core.labels import check_labels
from cmwjax.data.encoded import Encoded, EncodedSet
from cmwjax.data.prepared import Prepared, Shard
from cmwjax.files import replacing

LABEL_SETS = "label_sets.npz"  # other labels of 'train', as an archive has them
CHUNK = 256  # records read at once when only their labels are wanted

# A record is a tf.train.Example, here without its lists of floats:
# https://www.tensorflow.org/tutorials/load_data/tfrecord
EXAMPLE = """
name: "example.proto"  syntax: "proto3"
message_type { name: "Bytes"
  field { name: "value"  number: 1  type: TYPE_BYTES  label: LABEL_REPEATED } }
message_type { name: "Integers"
  field { name: "value"  number: 1  type: TYPE_INT64  label: LABEL_REPEATED } }
message_type { name: "Feature"
  field { name: "bytes"     number: 1  type: TYPE_MESSAGE  type_name: ".Bytes" }
  field { name: "integers"  number: 3  type: TYPE_MESSAGE  type_name: ".Integers" } }
message_type { name: "Entry"
  field { name: "key"    number: 1  type: TYPE_STRING }
  field { name: "value"  number: 2  type: TYPE_MESSAGE  type_name: ".Feature" } }
message_type { name: "Features"
  field { name: "entries"  number: 1  type: TYPE_MESSAGE  type_name: ".Entry"
          label: LABEL_REPEATED } }
message_type { name: "Example"
  field { name: "features"  number: 1  type: TYPE_MESSAGE  type_name: ".Features" } }
"""


class RecordReader(NamedTuple):
    """Reads the images of a split, as they are encoded."""

    files: tuple[str, ...]

    def __call__(self, position: int) -> bytes:
        """The image at a position."""
        return _features(_source(self.files)[position])["image"].bytes.value[0]


@lru_cache
def _source(files: tuple[str, ...]) -> Any:
    """The records of a split, opened once in every process."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    return ArrayRecordDataSource(files)


@lru_cache
def _example() -> Any:
    """The message that a record is."""
    pool = descriptor_pool.DescriptorPool()  # not the one that TFDS has it in, too
    pool.Add(text_format.Parse(EXAMPLE, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Example"))


def _features(record: bytes) -> dict[str, Any]:
    example = _example().FromString(record)
    return {entry.key: entry.value for entry in example.features.entries}


class _Keys(Sequence[str]):
    """What TFDS calls the records of a split: 'FILE__NUMBER', as its `tfds_id`."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._files = [shard.path.name for shard in shards]
        self._ends = np.cumsum([shard.size for shard in shards])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, position: Any) -> Any:
        shard = np.searchsorted(self._ends, position, side="right")
        begin = self._ends[shard - 1] if shard else 0
        return f"{self._files[shard]}__{position - begin}"


def from_prepared(
    data: Prepared,
    tests: Sequence[str],
    train: str = "train",
    field: str = "config.data.stream.tests",
) -> Encoded:
    """The images of a data set that was prepared.

    Args:
      data: the data set.
      tests: splits to test with.
      train: the split that takes the part of the training set.
      field: what an error names, of a split that is missing.

    Raises:
      ValueError: as `on_disk.load`.
    """
    for split in (train, *tests):
        if split not in data.splits:
            raise ValueError(
                f"data: {data.full_name} in {data.folder} has the splits "
                f"{sorted(data.splits)}, but no {split!r}: prepare it, or correct "
                f"{field}."
            )
    if "image" not in data.features or not data.class_names:
        raise ValueError(
            f"data: {data.full_name} has the features {sorted(data.features)}: an "
            "'image' and a 'label' of a class are needed."
        )
    if data.file_format != "array_record":
        raise ValueError(
            f"data: {data.folder} is in the format {data.file_format!r}, which has "
            "no random access: prepare it with file_format='array_record'."
        )
    sets = {}
    for split in (train, *tests):
        shards = data.splits[split]
        absent = [str(shard.path) for shard in shards if not shard.path.is_file()]
        if absent or not shards:
            raise ValueError(
                f"data: {split!r} of {data.full_name} has no records"
                f"{f' in {absent[0]}' if absent else ''}: restore them, or prepare the "
                "data set anew."
            )
        files = tuple(str(shard.path) for shard in shards)
        labels = check_labels(
            _labels(data, split, files),
            len(data.class_names),
            name=f"{data.full_name}: {split}",
        )
        sets[split] = EncodedSet(RecordReader(files), labels, _Keys(shards))
    identity = f"{data.full_name} {[len(part.labels) for part in sets.values()]}"
    archive = data.folder / LABEL_SETS
    return Encoded(
        sets.pop(train),
        sets,
        data.class_names,
        identity,
        archive if train == "train" and archive.is_file() else None,
    )


def _labels(data: Prepared, split: str, files: tuple[str, ...]) -> NDArray[np.int32]:
    path = data.folder / f"labels-{split}.npy"
    size = sum(shard.size for shard in data.splits[split])
    if path.is_file():
        labels = np.load(path)
        if labels.shape == (size,):
            return labels
    logging.info("Reading the labels of %d images of %s, once.", size, data.folder)
    source, labels = _source(files), np.zeros(size, np.int32)
    for start in range(0, size, CHUNK):
        chunk = range(start, min(start + CHUNK, size))
        labels[start : chunk.stop] = [
            _features(record)["label"].integers.value[0]
            for record in source.__getitems__(chunk)
        ]
    try:
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.save(file, labels)
    except OSError as error:
        logging.warning("Labels cannot be kept in %s: %s", path, error)
    return labels
