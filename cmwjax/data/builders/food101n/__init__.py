"""Food-101N: 101 dishes as the web has them, some of the labels verified by people.

from cmwjax.data.builders import food101n

builder = food101n.prepare("full", folder="FOLDER")
source = builder.as_data_source(
    "train", decoders={"image": tfds.decode.SkipDecoding()}
)
source[0]  # {'image': b'...', 'label': 0, 'verification': -1, 'file_name': b'...'}
food101n.labels(builder, "train")  # int32 [N], without reading any image
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cmwjax.data.builders import preparation
from cmwjax.data.builders.food101n import layout
from cmwjax.data.builders.preparation import labels

if TYPE_CHECKING:
    from cmwjax.data.builders.food101n.food101n_dataset_builder import Builder

__all__ = ["ORIGIN", "labels", "prepare"]


def _write_example(folder: Path) -> None:
    from cmwjax.data.builders.food101n.example import Example, write_example  # Pillow

    write_example(folder, Example())


ORIGIN = preparation.Origin(
    name="food101n",
    title="Food-101N",
    instructions=layout.INSTRUCTIONS,
    read=layout.read,
    read_text=layout.read_text,
    write_example=_write_example,
    configs=layout.CONFIGS,
    example="full",
    place=layout.place,
    optional=layout.optional,
)


def prepare(
    config: str = "full",
    *,
    folder: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> "Builder":
    """Prepares Food-101N where this has not been done yet, and opens it.

    Args:
      config: 'full', or '' for it; 'unverified': 'train' is without the images that
        people verified; or 'example' and 'example_unverified', made-up data in the same
        form, which are written first.
      folder: where the data set was downloaded to; see `preparation.prepare`.
      data_dir: where the prepared data goes; by default `prepared` in `folder`.

    Returns:
      A TFDS builder, ready for `as_data_source` of 'train', 'verified', 'validation'
      and, if Food-101 was there, 'test'.

    Raises:
      ValueError: as `preparation.prepare`.
    """
    config = config or "full"
    return preparation.prepare(ORIGIN, config, folder=folder, data_dir=data_dir)
