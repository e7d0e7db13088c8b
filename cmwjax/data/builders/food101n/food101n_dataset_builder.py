"""TFDS builder of Food-101N."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from cmwjax.data.builders import food101n
from cmwjax.data.builders.food101n import layout
from cmwjax.data.builders.record_builder import RecordBuilder


class Builder(RecordBuilder):
    """Food-101N, tested on Food-101; see the README beside this file."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = layout.INSTRUCTIONS
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="full", description="All images to train on."),
        tfds.core.BuilderConfig(
            name="unverified", description="Those to train on that nobody verified."
        ),
    ]
    # TFDS looks it up with importlib_resources, which it does not require.
    code_path = tfds.core.Path(__file__)

    origin = food101n.ORIGIN
    homepage = "https://kuanghuei.github.io/Food-101N/"

    def classes(self) -> Sequence[str]:
        """Numbers; the names are in the data's own list."""
        return list(map(str, range(layout.NUM_CLASSES)))

    def further_features(self) -> Mapping[str, Any]:
        """Whether a person agreed with the label: 1, 0, or -1 where nobody looked."""
        return {"verification": tfds.features.Scalar(dtype=np.int64)}
