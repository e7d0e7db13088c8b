"""ANIMAL-10N: ten animals in pairs that are easily confused, labelled by people.

from cmwjax.data.builders import animal10n

builder = animal10n.prepare(folder="FOLDER")
source = builder.as_data_source(
    "train", decoders={"image": tfds.decode.SkipDecoding()}
)
source[0]  # {'image': b'...', 'label': 0, 'file_name': b'training/0_1.jpg'}
animal10n.labels(builder, "train")  # int32 [N], without reading any image
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cmwjax.data.builders import preparation
from cmwjax.data.builders.animal10n import layout
from cmwjax.data.builders.preparation import labels

if TYPE_CHECKING:
    from cmwjax.data.builders.animal10n.animal10n_dataset_builder import Builder

__all__ = ["ORIGIN", "labels", "prepare"]


def _write_example(folder: Path) -> None:
    from cmwjax.data.builders.animal10n.example import Example, write_example  # Pillow

    write_example(folder, Example())


ORIGIN = preparation.Origin(
    name="animal10n",
    title="ANIMAL-10N",
    instructions=layout.INSTRUCTIONS,
    read=layout.read,
    read_text=layout.read_text,
    write_example=_write_example,
    place=layout.place,
)


def prepare(
    config: str = "",
    *,
    folder: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> "Builder":
    """Prepares ANIMAL-10N where this has not been done yet, and opens it.

    Args:
      config: '', or 'example', a made-up data set in the same form, which is written
        first.
      folder: where the data set was downloaded to; see `preparation.prepare`.
      data_dir: where the prepared data goes; by default `prepared` in `folder`.

    Returns:
      A TFDS builder, ready for `as_data_source` of 'train' and 'test'.

    Raises:
      ValueError: as `preparation.prepare`.
    """
    return preparation.prepare(ORIGIN, config, folder=folder, data_dir=data_dir)
