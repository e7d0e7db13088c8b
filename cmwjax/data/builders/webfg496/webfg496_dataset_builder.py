"""TFDS builder of WebFG-496."""

from collections.abc import Sequence

import tensorflow_datasets as tfds

from cmwjax.data.builders import webfg496
from cmwjax.data.builders.record_builder import RecordBuilder
from cmwjax.data.builders.webfg496 import layout


class Builder(RecordBuilder):
    """WebFG-496, a part at a time; see the README beside this file."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = layout.INSTRUCTIONS
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(
            name=name, description=f"Web-{name}, of {web.num_classes} classes."
        )
        for name, web in layout.WEBS.items()
    ]
    # TFDS looks it up with importlib_resources, which it does not require.
    code_path = tfds.core.Path(__file__)

    origin = webfg496.ORIGIN
    homepage = "https://github.com/NUST-Machine-Intelligence-Laboratory/weblyFG-dataset"

    def classes(self) -> Sequence[str]:
        """Numbers; the names are those of the data's folders."""
        web = layout.WEBS[self.builder_config.name]
        return list(map(str, range(web.num_classes)))
