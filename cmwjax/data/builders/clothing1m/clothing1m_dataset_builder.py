"""TFDS builder of Clothing1M."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from cmwjax.data.builders import clothing1m
from cmwjax.data.builders.clothing1m import layout
from cmwjax.data.builders.record_builder import RecordBuilder


class Builder(RecordBuilder):
    """Clothing1M, by its own lists; see the README beside this file."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = layout.INSTRUCTIONS
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(
            name="full", description="The million images with noisy labels to train on."
        ),
        tfds.core.BuilderConfig(
            name="pairs", description="Those to train on that have clean labels too."
        ),
    ]
    # TFDS looks it up with importlib_resources, which it does not require.
    code_path = tfds.core.Path(__file__)

    origin = clothing1m.ORIGIN
    homepage = "https://github.com/Cysu/noisy_label"

    def classes(self) -> Sequence[str]:
        """The kinds of clothing."""
        return layout.CLASSES

    def further_features(self) -> Mapping[str, Any]:
        """The noisy label, or -1 where an image has none."""
        return {"noisy_label": tfds.features.Scalar(dtype=np.int64)}
