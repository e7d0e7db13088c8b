"""What writes the records of a data set; its builder adds what is its own."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from cmwjax.data.builders.contents import Contents, Part
from cmwjax.data.builders.preparation import Origin
from cmwjax.data.label_sets import PREFIX
from cmwjax.data.records import LABEL_SETS

# Images in one file of the prepared data. TFDS holds them in memory while it writes
# one: about 80 MB. The full WebVision has 600 files, fewer than a process may open.
SHARD_SIZE = 4096


# Not a GeneratorBasedBuilder: that needs TensorFlow to sort more than 1 GB. This one
# keeps the order of the lists, so the position of an image is its line.
class RecordBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Writes images as their files are, with labels, in the order of the lists.

    Its subclasses are called `Builder`, have an `origin`, a `code_path` and the README,
    CITATIONS and TAGS that TFDS wants beside them, and say what classes there are.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Initial release."}

    origin: Origin
    homepage: str
    encoding: str | None = None  # of images that TFDS would encode, as it is noted
    # What `prepare` has checked already; without it, the manual folder is read.
    contents: Contents | None = None

    def classes(self) -> Sequence[str]:
        """Names of the classes, or their numbers where the data bring the names."""
        raise NotImplementedError

    def further_features(self) -> Mapping[str, Any]:
        """Features beside image, label and file name: the `columns` of parts."""
        return {}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format=self.encoding),
                    "label": tfds.features.ClassLabel(names=self.classes()),
                    "file_name": tfds.features.Text(),
                    **self.further_features(),
                }
            ),
            supervised_keys=("image", "label"),
            homepage=self.homepage,
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> Mapping[str, Sequence[partial[Iterator[tuple[int, dict[str, Any]]]]]]:
        contents = self.contents
        if contents is None:
            folder = Path(dl_manager.manual_dir)
            config = self.builder_config.name if self.builder_config else ""
            contents = self.origin.read(folder, config)
        self.info.metadata["class_names"] = contents.class_names
        self.info.metadata["checksums"] = contents.checksums
        if contents.label_sets:
            sets: dict[str, Any] = {
                PREFIX + name: labels for name, labels in contents.label_sets.items()
            }
            np.savez(self.data_path / LABEL_SETS, **sets)
        shards = {}
        for split, parts in contents.splits.items():
            labels = np.concatenate([part.labels for part in parts])
            np.save(self.data_path / labels_file(split), labels)
            shards[split] = [
                partial(_examples, part, start, name=f"{self.name} {split}")
                for part in parts
                for start in range(0, len(part.names), SHARD_SIZE)
            ]
        return shards


def labels_file(split: str) -> str:
    """Name of the array with all labels of a split, beside its images."""
    return f"labels-{split}.npy"


def _examples(
    part: Part, start: int, *, name: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The examples of one file, with images as they are in the source."""
    positions = range(start, min(start + SHARD_SIZE, len(part.names)))
    name = f"{name}, {part.source} {start} to {positions.stop} of {len(part.names)}"
    for position in tqdm(positions, desc=name, unit=" images", leave=False):
        yield (
            position,
            {
                "image": part.read(position),
                "label": int(part.labels[position]),
                "file_name": part.names[position].encode(),
                **{name: values[position] for name, values in part.columns.items()},
            },
        )
