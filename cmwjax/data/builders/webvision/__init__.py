"""WebVision 1.0: 1000 classes of web images with noisy labels, and its mini version.

from cmwjax.data.builders import webvision

builder = webvision.prepare("mini", folder="FOLDER")
source = builder.as_data_source(
    "train", decoders={"image": tfds.decode.SkipDecoding()}
)
source[0]  # {'image': b'...', 'label': 0, 'file_name': b'google/...', 'source': 0}
webvision.labels(builder, "train")  # int32 [N], without reading any image
"""

import contextlib
import fcntl
import io
import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import logging
from numpy.typing import NDArray

from cmwjax.data.builders.webvision import ilsvrc2012, layout, lists

# A thousand images, with every kind of harm that the real ones come to.
EXAMPLE = dict(
    classes=50, train_per_class=(10, 40), validation_per_class=4, broken=8, size=76
)

if TYPE_CHECKING:
    from cmwjax.data.builders.webvision.webvision_dataset_builder import Builder


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
    if config == "example":
        folder, config = _example(folder), "mini"
    if config not in layout.VARIANTS:
        raise ValueError(
            f"data: WebVision has no configuration {config!r}: choose "
            f"{' or '.join(map(repr, layout.VARIANTS))}."
        )
    folder = _folder(folder)
    data_dir = Path(data_dir).expanduser() if data_dir else folder / "prepared"
    builder = _builder(config, data_dir)
    if not builder.data_path.exists():
        _write(builder, layout.read(folder, config), folder=folder, data_dir=data_dir)
        builder = _builder(config, data_dir)
    _check_prepared(builder, folder)
    return builder


def labels(builder: "Builder", split: str) -> NDArray[np.int32]:
    """All labels of a prepared split, int32 `[N]`, without reading its images.

    Args:
      builder: what `prepare` returned.
      split: 'train', 'validation' or 'ilsvrc2012'.
    """
    from cmwjax.data.builders.webvision.webvision_dataset_builder import labels_file

    return np.load(builder.data_path / labels_file(split))


def _example(folder: str | os.PathLike[str] | None) -> Path:
    """Writes the example, if it is not there; returns where."""
    from cmwjax.data.builders.webvision.example import Example, write_example  # Pillow

    parent = os.environ.get("CMWJAX_DATA_DIR", "runs")
    folder = Path(folder or Path(parent, "webvision_example"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_example(folder, Example(**EXAMPLE))
    return folder


def _folder(folder: str | os.PathLike[str] | None) -> Path:
    if folder is None:
        parent = os.environ.get("CMWJAX_DATA_DIR")
        if not parent:
            raise ValueError(
                "data: WebVision is read from the folder webvision in CMWJAX_DATA_DIR, "
                "which is not set: export CMWJAX_DATA_DIR=FOLDER, or give the folder "
                f"itself.\n\n{layout.INSTRUCTIONS}"
            )
        folder = Path(parent, "webvision")
    return Path(folder).expanduser()


def _builder(config: str, data_dir: Path) -> "Builder":
    # Here, because it imports TFDS.
    from cmwjax.data.builders.webvision.webvision_dataset_builder import Builder

    return Builder(config=config, data_dir=data_dir)


def _write(
    builder: "Builder", contents: layout.Contents, *, folder: Path, data_dir: Path
) -> None:
    import tensorflow_datasets as tfds

    with _alone(data_dir), tempfile.TemporaryDirectory() as downloads:
        version = builder.data_path
        for unfinished in version.parent.glob(f"incomplete.*_{version.name}"):
            logging.info("Removing %s, which was not finished.", unfinished)
            shutil.rmtree(unfinished)
        logging.info("Preparing %s in %s.", builder.info.full_name, version)
        builder.contents = contents
        # TFDS prints that it downloads.
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(
                download_dir=downloads,
                download_config=tfds.download.DownloadConfig(
                    manual_dir=folder, try_download_gcs=False
                ),
                file_format=tfds.core.FileFormat.ARRAY_RECORD,
            )


@contextlib.contextmanager
def _alone(data_dir: Path) -> Generator[None, None, None]:
    """Waits until no other process prepares data there, also on other hosts."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "webvision.lock").open("w")
    except OSError as error:
        raise ValueError(
            f"data: nothing can be written to {data_dir} ({error.strerror}): choose "
            "another data_dir for the prepared data."
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given back however the process ends
        yield


def _check_prepared(builder: "Builder", folder: Path) -> None:
    """Refuses prepared data that is damaged, or made from other lists."""
    path = builder.data_path
    remedy = f"delete {path} and run the same command again"
    files = [file for info in builder.info.splits.values() for file in info.filepaths]
    absent = [file.name for file in files if not file.exists()]
    if absent or not files:
        raise ValueError(
            f"data: {path} is damaged, without {absent[0] if absent else 'any data'}: "
            f"{remedy}."
        )
    for name, expected in builder.info.metadata.get("checksums", {}).items():
        text = lists.read_text(folder, name)
        if text is not None and layout.checksum(text) != expected:
            raise ValueError(
                f"data: {folder / lists.FOLDER / name} is not the list that {path} was "
                f"prepared from: restore it, or {remedy}."
            )
    if layout.ILSVRC2012 not in builder.info.splits:
        place = ilsvrc2012.find(folder)
        if place is not None:
            logging.warning(
                "%s was prepared without %s: to evaluate on it, %s.",
                path,
                place,
                remedy,
            )
