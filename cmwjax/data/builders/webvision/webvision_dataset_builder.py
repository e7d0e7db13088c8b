"""TFDS builder of WebVision 1.0."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds

from cmwjax.data.builders import webvision
from cmwjax.data.builders.record_builder import RecordBuilder
from cmwjax.data.builders.webvision import ilsvrc2012, layout


class Builder(RecordBuilder):
    """WebVision 1.0, in its official layout; see the README beside this file."""

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

    origin = webvision.ORIGIN
    homepage = "https://data.vision.ee.ethz.ch/cvl/webvision/dataset2017.html"
    encoding = "jpeg"

    def classes(self) -> Sequence[str]:
        """The first synsets."""
        num_classes = layout.VARIANTS[self.builder_config.name].num_classes
        return ilsvrc2012.synsets()[:num_classes]

    def further_features(self) -> Mapping[str, Any]:
        """Where an image is from."""
        return {"source": tfds.features.ClassLabel(names=layout.SOURCES)}
