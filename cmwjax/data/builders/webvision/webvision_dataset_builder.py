"""TFDS builder of WebVision 1.0."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from cmwjax.data.builders.webvision import ilsvrc2012, layout

# Images in one file of the prepared data. TFDS holds them in memory while it writes
# one: about 80 MB. The full set has 600 files, fewer than a process may open.
SHARD_SIZE = 4096
SOURCES = ("google", "flickr", "validation", layout.ILSVRC2012)


# Not a GeneratorBasedBuilder: that needs TensorFlow to sort more than 1 GB. This one
# keeps the order of the lists, so the position of an image is its line.
class Builder(tfds.core.ShardBasedBuilder):
    """WebVision 1.0, in its official layout; see the README beside this file."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Initial release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = layout.INSTRUCTIONS
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(
            name="full", description="All 1000 classes, from Google and Flickr."
        ),
        tfds.core.BuilderConfig(
            name="mini", description="The first 50 classes, from Google alone."
        ),
    ]
    # TFDS looks it up with importlib_resources, which it does not require.
    code_path = tfds.core.Path(__file__)

    # What `prepare` has checked already; without it, the manual folder is read.
    contents: layout.Contents | None = None

    def _info(self) -> tfds.core.DatasetInfo:
        num_classes = layout.VARIANTS[self.builder_config.name].num_classes
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(
                        names=ilsvrc2012.synsets()[:num_classes]
                    ),
                    "file_name": tfds.features.Text(),
                    "source": tfds.features.ClassLabel(names=SOURCES),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://data.vision.ee.ethz.ch/cvl/webvision/dataset2017.html",
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> Mapping[str, Sequence[partial[Iterator[tuple[int, dict[str, Any]]]]]]:
        contents = self.contents
        if contents is None:
            folder = Path(dl_manager.manual_dir)
            contents = layout.read(folder, self.builder_config.name)
        self.info.metadata["class_names"] = contents.class_names
        self.info.metadata["checksums"] = contents.checksums
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
    part: layout.Part, start: int, *, name: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The examples of one file, with images as they are in the source."""
    source = SOURCES.index(part.source)
    positions = range(start, min(start + SHARD_SIZE, len(part.names)))
    name = f"{name}, {part.source} {start} to {positions.stop} of {len(part.names)}"
    for position in tqdm(positions, desc=name, unit=" images", leave=False):
        yield (
            position,
            {
                "image": part.read(position),
                "label": int(part.labels[position]),
                "file_name": part.names[position].encode(),
                "source": source,
            },
        )
