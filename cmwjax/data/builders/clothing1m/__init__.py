"""Clothing1M: a million photographs of 14 kinds of clothing, labelled by their shops.

from cmwjax.data.builders import clothing1m

builder = clothing1m.prepare("full", folder="FOLDER")
source = builder.as_data_source(
    "train", decoders={"image": tfds.decode.SkipDecoding()}
)
source[0]  # {'image': b'...', 'label': 3, 'noisy_label': 3, 'file_name': b'images/...'}
clothing1m.labels(builder, "train")  # int32 [N], without reading any image
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cmwjax.data.builders import preparation
from cmwjax.data.builders.clothing1m import layout
from cmwjax.data.builders.preparation import labels

if TYPE_CHECKING:
    from cmwjax.data.builders.clothing1m.clothing1m_dataset_builder import Builder

__all__ = ["ORIGIN", "labels", "prepare"]


def _write_example(folder: Path) -> None:
    from cmwjax.data.builders.clothing1m.example import Example, write_example  # Pillow

    write_example(folder, Example())


ORIGIN = preparation.Origin(
    name="clothing1m",
    title="Clothing1M",
    instructions=layout.INSTRUCTIONS,
    read=layout.read,
    read_text=layout.read_text,
    write_example=_write_example,
    configs=layout.CONFIGS,
    example="full",
    place=layout.place,
)


def prepare(
    config: str = "full",
    *,
    folder: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> "Builder":
    """Prepares Clothing1M where this has not been done yet, and opens it.

    Args:
      config: 'full', or '' for it: 'train' has the noisy labels; 'pairs': 'train' are
        the images that have clean labels too; or 'example' and 'example_pairs', made-up
        data in the same form, which are written first.
      folder: where the data set was downloaded to; see `preparation.prepare`.
      data_dir: where the prepared data goes; by default `prepared` in `folder`.

    Returns:
      A TFDS builder, ready for `as_data_source` of 'train', 'validation' and 'test',
      and of 'full' also of 'clean_train'.

    Raises:
      ValueError: as `preparation.prepare`.
    """
    config = config or "full"
    return preparation.prepare(ORIGIN, config, folder=folder, data_dir=data_dir)
