"""WebFG-496: birds, aircraft and cars that web search took for one another.

from cmwjax.data.builders import webfg496

builder = webfg496.prepare("bird", folder="FOLDER")
source = builder.as_data_source(
    "train", decoders={"image": tfds.decode.SkipDecoding()}
)
source[0]  # {'image': b'...', 'label': 0, 'file_name': b'train/...'}
webfg496.labels(builder, "train")  # int32 [N], without reading any image
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cmwjax.data.builders import preparation
from cmwjax.data.builders.preparation import labels
from cmwjax.data.builders.webfg496 import layout

if TYPE_CHECKING:
    from cmwjax.data.builders.webfg496.webfg496_dataset_builder import Builder

__all__ = ["ORIGIN", "labels", "prepare"]


def _write_example(folder: Path) -> None:
    from cmwjax.data.builders.webfg496.example import Example, write_example  # Pillow

    write_example(folder, Example())


ORIGIN = preparation.Origin(
    name="webfg496",
    title="WebFG-496",
    instructions=layout.INSTRUCTIONS,
    read=layout.read,
    read_text=layout.read_text,
    write_example=_write_example,
    configs=tuple(layout.WEBS),
    example="aircraft",
    optional=layout.optional,
)


def prepare(
    config: str = "bird",
    *,
    folder: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> "Builder":
    """Prepares a part of WebFG-496 where this has not been done yet, and opens it.

    Args:
      config: 'bird', 'aircraft' or 'car'; or 'example', made-up aircraft in the same
        form, which are written first.
      folder: where the data set was downloaded to; see `preparation.prepare`.
      data_dir: where the prepared data goes; by default `prepared` in `folder`.

    Returns:
      A TFDS builder, ready for `as_data_source` of 'train', 'test' and, if clean images
      were there, 'meta'.

    Raises:
      ValueError: as `preparation.prepare`.
    """
    return preparation.prepare(ORIGIN, config, folder=folder, data_dir=data_dir)
