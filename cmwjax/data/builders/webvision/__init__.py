"""WebVision 1.0: 1000 classes of web images with noisy labels, and its mini version.

from cmwjax.data.builders import webvision

builder = webvision.prepare("mini", folder="FOLDER")
source = builder.as_data_source(
    "train", decoders={"image": tfds.decode.SkipDecoding()}
)
source[0]  # {'image': b'...', 'label': 0, 'file_name': b'google/...', 'source': 0}
webvision.labels(builder, "train")  # int32 [N], without reading any image
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cmwjax.data.builders import preparation
from cmwjax.data.builders.preparation import labels
from cmwjax.data.builders.webvision import layout, lists

if TYPE_CHECKING:
    from cmwjax.data.builders.webvision.webvision_dataset_builder import Builder

__all__ = ["ORIGIN", "labels", "prepare"]

# A thousand images, with every kind of harm that the real ones come to.
EXAMPLE = dict(
    classes=50, train_per_class=(10, 40), validation_per_class=4, broken=8, size=76
)


def _write_example(folder: Path) -> None:
    from cmwjax.data.builders.webvision.example import Example, write_example  # Pillow

    write_example(folder, Example(**EXAMPLE))


ORIGIN = preparation.Origin(
    name="webvision",
    title="WebVision",
    instructions=layout.INSTRUCTIONS,
    read=layout.read,
    read_text=lists.read_text,
    write_example=_write_example,
    configs=tuple(layout.VARIANTS),
    example="mini",
    place=lambda folder, name: folder / lists.FOLDER / name,
    optional=layout.optional,
)


def prepare(
    config: str = "mini",
    *,
    folder: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> "Builder":
    """Prepares WebVision where this has not been done yet, and opens it.

    Nothing outside of `data_dir` is written. A preparation that was killed leaves a
    folder of its own, which the next one removes; several processes wait for each
    other. Once it is prepared, the archives may go: the lists alone are compared, if
    they are still there.

    Args:
      config: 'mini', the first 50 classes from Google, or 'full'; or 'example', a
        made-up data set in the form of 'mini', which is written first.
      folder: where the data set was downloaded to; by default the folder `webvision`
        in the one that the environment variable `CMWJAX_DATA_DIR` names. Of the
        example, `webvision_example` there, or in `runs` if the variable is not set.
      data_dir: where the prepared data goes; by default `prepared` in `folder`.

    Returns:
      A TFDS builder, ready for `as_data_source` of 'train', 'validation' and, if it was
      there, 'ilsvrc2012'. Positions in them follow the lists. `info.metadata` has the
      `class_names`.

    Raises:
      ValueError: if there is no such configuration, the data is absent (with what to
        download), incomplete, damaged or malformed, `data_dir` cannot be written, or
        what is prepared there is damaged or comes from other lists.
    """
    return preparation.prepare(ORIGIN, config, folder=folder, data_dir=data_dir)
