"""How a data set that somebody downloaded by hand is prepared, whichever it is.

Nothing outside of the folder of prepared data is written, and nothing at all before
everything was found. A preparation that was killed leaves a folder of its own, which
the next one removes; several processes wait for each other. Once a set is prepared, its
files may go: the lists alone are compared, if they are still there.
"""

import contextlib
import fcntl
import importlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from numpy.typing import NDArray

from cmwjax.data.builders.contents import Contents, checksum

EXAMPLE = "example"  # the configuration that stands for made-up data


class Origin(NamedTuple):
    """A data set as its makers hand it out."""

    name: str  # of the TFDS data set, and of its folder in CMWJAX_DATA_DIR
    title: str  # what errors call it
    instructions: str  # what to download, from where, to where
    read: Callable[[Path, str], Contents]  # folder, configuration -> what is there
    # Folder, name -> a list whose checksum is in `Contents`; None if it has gone.
    read_text: Callable[[Path, str], str | None]
    write_example: Callable[[Path], None]
    configs: tuple[str, ...] = ()
    example: str = ""  # the configuration that the example is prepared in
    # Folder, name -> where this list is, for errors.
    place: Callable[[Path, str], Path] = lambda folder, name: folder / name
    # Folder, configuration -> splits that a set may do without, and their places.
    optional: Callable[[Path, str], Mapping[str, Path]] = lambda folder, config: {}


def prepare(
    origin: Origin,
    config: str,
    *,
    folder: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> Any:
    """Prepares a data set where this has not been done yet, and opens it.

    Args:
      origin: the data set.
      config: one of its configurations, '' if it has none; or 'example', a made-up
        data set in the same form, which is written first, 'example_CONFIG' in another
        configuration than the usual one.
      folder: where the data set was downloaded to; by default the folder of its name in
        the one that the environment variable `CMWJAX_DATA_DIR` names. Of the example,
        `NAME_example` there, or in `runs` if the variable is not set.
      data_dir: where the prepared data goes; by default `prepared` in `folder`.

    Returns:
      A TFDS builder, ready for `as_data_source`. `info.metadata` has the `class_names`.

    Raises:
      ValueError: if there is no such configuration, the data is absent (with what to
        download), incomplete, damaged or malformed, `data_dir` cannot be written, or
        what is prepared there is damaged or comes from other lists.
    """
    kind, _, rest = config.partition("_")
    if kind == EXAMPLE and EXAMPLE not in origin.configs:
        config = rest or origin.example
    _check_config(origin, config)
    folder = _example(origin, folder) if kind == EXAMPLE else _folder(origin, folder)
    data_dir = Path(data_dir).expanduser() if data_dir else folder / "prepared"
    builder = _builder(origin, config, data_dir)
    if not builder.data_path.exists():
        contents = origin.read(folder, config)
        _write(origin, builder, contents, folder=folder, data_dir=data_dir)
        builder = _builder(origin, config, data_dir)
    _check_prepared(origin, config, builder, folder)
    return builder


def labels(builder: Any, split: str) -> NDArray[np.int32]:
    """All labels of a prepared split, int32 `[N]`, without reading its images.

    Args:
      builder: what `prepare` returned.
      split: one of its splits.
    """
    from cmwjax.data.builders.record_builder import labels_file  # TFDS

    return np.load(builder.data_path / labels_file(split))


def _check_config(origin: Origin, config: str) -> None:
    if config in (origin.configs or ("",)):
        return
    remedy = f"choose {' or '.join(map(repr, origin.configs))}"
    if not origin.configs:
        remedy = f"write {origin.name!r}, or '{origin.name}/{EXAMPLE}' for the example"
    raise ValueError(f"data: {origin.title} has no configuration {config!r}: {remedy}.")


def _example(origin: Origin, folder: str | os.PathLike[str] | None) -> Path:
    """Writes the example, if it is not there; returns where."""
    parent = os.environ.get("CMWJAX_DATA_DIR", "runs")
    folder = Path(folder or Path(parent, f"{origin.name}_{EXAMPLE}"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    origin.write_example(folder)
    return folder


def _folder(origin: Origin, folder: str | os.PathLike[str] | None) -> Path:
    if folder is None:
        parent = os.environ.get("CMWJAX_DATA_DIR")
        if not parent:
            raise ValueError(
                f"data: {origin.title} is read from the folder {origin.name} in "
                "CMWJAX_DATA_DIR, which is not set: export CMWJAX_DATA_DIR=FOLDER, or "
                f"give the folder itself.\n\n{origin.instructions}"
            )
        folder = Path(parent, origin.name)
    return Path(folder).expanduser()


def _builder(origin: Origin, config: str, data_dir: Path) -> Any:
    # Here, because it imports TFDS.
    package = f"cmwjax.data.builders.{origin.name}"
    module = importlib.import_module(f"{package}.{origin.name}_dataset_builder")
    return module.Builder(config=config or None, data_dir=data_dir)


def _write(
    origin: Origin, builder: Any, contents: Contents, *, folder: Path, data_dir: Path
) -> None:
    import tensorflow_datasets as tfds

    with alone(data_dir, origin.name), tempfile.TemporaryDirectory() as downloads:
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
def alone(data_dir: Path, name: str) -> Generator[None, None, None]:
    """Waits until no other process prepares data there, also on other hosts.

    Args:
      data_dir: where the prepared data goes.
      name: of the data set.

    Raises:
      ValueError: if nothing can be written there.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / f"{name}.lock").open("w")
    except OSError as error:
        raise ValueError(
            f"data: nothing can be written to {data_dir} ({error.strerror}): choose "
            "another data_dir for the prepared data."
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given back however the process ends
        yield


def _check_prepared(origin: Origin, config: str, builder: Any, folder: Path) -> None:
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
        text = origin.read_text(folder, name)
        if text is not None and checksum(text) != expected:
            raise ValueError(
                f"data: {origin.place(folder, name)} is not the list that {path} was "
                f"prepared from: restore it, or {remedy}."
            )
    for split, place in origin.optional(folder, config).items():
        if split not in builder.info.splits:
            logging.warning(
                "%s was prepared without %s: to use it, %s.", path, place, remedy
            )
