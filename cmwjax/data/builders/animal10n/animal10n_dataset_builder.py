"""TFDS builder of ANIMAL-10N."""

from collections.abc import Sequence

import tensorflow_datasets as tfds

from cmwjax.data.builders import animal10n
from cmwjax.data.builders.animal10n import layout
from cmwjax.data.builders.record_builder import RecordBuilder


class Builder(RecordBuilder):
    """ANIMAL-10N, as images or binaries; see the README beside this file."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = layout.INSTRUCTIONS
    # TFDS looks it up with importlib_resources, which it does not require.
    code_path = tfds.core.Path(__file__)

    origin = animal10n.ORIGIN
    homepage = "https://dm.kaist.ac.kr/datasets/animal-10n/"

    def classes(self) -> Sequence[str]:
        """The animals."""
        return layout.CLASSES
