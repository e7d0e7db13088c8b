"""The files of a run: their names, and how they are written whole or not at all."""

import csv
import itertools
import json
import os
import re
import secrets
import socket
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

CONFIG = "config.json"
PROBLEM = "problem.json"  # what the run learns from, in numbers
LABELS = "labels.npz"  # the same, sample by sample
METRICS = "metrics.jsonl"  # one line per epoch
EVENTS = "tensorboard"  # the same for TensorBoard, where it was asked for
CHECKPOINTS = "checkpoints"
UNREADABLE = "unreadable.csv"  # images that could not be read
CLASSIFIER = "classifier.safetensors"  # after the last epoch
# After the epoch that the validation set chose, or the meta set that was held out.
CLASSIFIER_SELECTED = "classifier_selected.safetensors"
WEIGHTING = "weighting.safetensors"  # the learned weighting function
RESOLVED = "resolved.npz"  # of sets of candidates, the likeliest one of each
VALIDATION = "validation.csv"  # as the next one, of the samples that validate
SET_ASIDE = "set_aside.csv"  # all other rows that the owner gave, and why
SUSPECTS = "suspects.npz"  # what the most suspicious samples look like
HISTORY = "history.npz"  # loss and weight of a few samples over the epochs
SAMPLES = "samples.csv"  # written last: the run is finished
DIVERGED = "diverged.json"  # in the folder of a run that did: what there was to say
SUMMARY = "summary.json"  # of a comparison of runs
REPORT = "report.html"  # of a run or a comparison, made of the other files
LOCK = ".lock"  # empty; locked by the process that is running in the folder

_ENCODING = {"encoding": "utf-8", "errors": "surrogateescape"}
_LEFTOVER = re.compile(r"\..+\.[\w-]+\.tmp")


@contextmanager
def replacing(path: str | os.PathLike) -> Generator[Path, None, None]:
    """A temporary path beside `path` that takes its place when the block succeeds.

    Readers see the old file or the new one, never a half-written one. Two writers, even
    on two hosts, do not meet: the temporary carries the host, the process and a random
    part.
    """
    path = Path(path)
    host = re.sub(r"\W", "-", socket.gethostname())
    writer = f"{host}-{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f".{path.name}.{writer}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def expanded(path: str | os.PathLike) -> Path:
    """The path with the home folder for `~`, which shells leave as it is after `=`."""
    return Path(os.path.expanduser(path))


def cache_folder() -> Path:
    """Where embeddings and compiled programs are kept from one run to the next."""
    folder = os.environ.get("CMWJAX_CACHE_DIR")
    if folder:
        return expanded(folder)
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "cmwjax"


def is_leftover(path: Path) -> bool:
    """Whether `replacing` left it behind when its process was killed."""
    return bool(_LEFTOVER.fullmatch(path.name))


def has_content(folder: Path) -> bool:
    """Whether a folder holds more than what a process leaves that did nothing."""
    return not all(p.name == LOCK or is_leftover(p) for p in folder.iterdir())


def write_tensors(
    path: str | os.PathLike, tensors: Mapping[str, Any], metadata: dict[str, str]
) -> None:
    """Writes a safetensors file, in one piece or not at all; the same bytes each time.

    Args:
      path: the file.
      tensors: arrays by name.
      metadata: texts by name.
    """
    arrays = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    content = safetensors.numpy.save(arrays, metadata)
    # With a sorted header: safetensors writes metadata in any order.
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.write(memoryview(content)[end:])


def write_arrays(path: str | os.PathLike, **arrays: Any) -> None:
    """Writes an .npz file, in one piece or not at all; the same bytes each time."""
    # As a file: given a name, savez would add .npz to that of the temporary one.
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def write_json(path: Path, content: Any) -> None:
    """Writes readable JSON, in one piece or not at all.

    Raises:
      ValueError: for a number that is not finite, which JSON does not have.
    """
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text)


def read_json(path: Path) -> dict[str, Any]:
    """Content of a file; {} where there is none.

    Raises:
      ValueError: if it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text())
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: make the run again in another folder")
    return content


def write_csv(
    path: str | os.PathLike, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Writes a table in UTF-8, in one piece or not at all.

    Cells are read back by `read_csv` as they are, with commas, quotes and line breaks;
    so are bytes in the name of a file that are no text.
    """
    rows = [columns, *rows]
    # Python < 3.13 leaves a lone carriage return without quotes, where a line ends.
    has_return = any(
        "\r" in cell for row in rows for cell in row if isinstance(cell, str)
    )
    quoting = csv.QUOTE_ALL if has_return else csv.QUOTE_MINIMAL
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", **_ENCODING) as file,
    ):
        csv.writer(file, lineterminator="\n", quoting=quoting).writerows(rows)


def read_csv(path: str | os.PathLike, columns: Sequence[str]) -> list[dict[str, str]]:
    """Reads a table by `write_csv`, row by row; it may have further columns.

    Raises:
      ValueError: if it lacks a column.
    """
    with open(path, newline="", **_ENCODING) as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    _check_columns(path, columns, reader.fieldnames or ())
    return rows


def read_csv_columns(
    path: str | os.PathLike, columns: Sequence[str], *, at_once: int = 50_000
) -> Generator[list[tuple[str, ...]], None, None]:
    """Reads such a table by columns, some rows at a time: a million takes seconds.

    Args:
      path: a table by `write_csv`; it may have further columns.
      columns: those to read.
      at_once: rows.

    Yields:
      For each of `columns` its cells, in one or more parts.

    Raises:
      ValueError: if it lacks a column, or a row is shorter than its header.
    """
    with open(path, newline="", **_ENCODING) as file:
        reader = csv.reader(file)
        header = next(reader, [])
        _check_columns(path, columns, header)
        places = [header.index(name) for name in columns]
        while rows := [row for row in itertools.islice(reader, at_once) if row]:
            if min(map(len, rows)) < len(header):
                raise ValueError(
                    f"{path} has a row of fewer cells than its header: it is damaged; "
                    "run the experiment again in another folder"
                )
            cells = list(zip(*rows, strict=False))
            yield [cells[place] for place in places]


def _check_columns(
    path: str | os.PathLike, columns: Sequence[str], found: Sequence[str]
) -> None:
    missing = [name for name in columns if name not in found]
    if missing:
        raise ValueError(
            f"{path} lacks the columns {missing}: it is damaged or of an earlier "
            "version; run the experiment again in another folder"
        )
