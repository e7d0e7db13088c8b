"""The files of a run: their names, and how they are written whole or not at all."""

import json
import os
import re
import secrets
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CONFIG = "config.json"
PROBLEM = "problem.json"  # what the run learns from, in numbers
LABELS = "labels.npz"  # the same, sample by sample
METRICS = "metrics.jsonl"  # one line per epoch
CHECKPOINTS = "checkpoints"
UNREADABLE = "unreadable.csv"  # images that could not be read
WEIGHTING = "weighting.safetensors"  # the learned weighting function
SAMPLES = "samples.csv"  # written last: the run is finished
DIVERGED = "diverged.json"  # in the folder of a run that did: what there was to say
SUMMARY = "summary.json"  # of a comparison of runs

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


def is_leftover(path: Path) -> bool:
    """Whether `replacing` left it behind when its process was killed."""
    return bool(_LEFTOVER.fullmatch(path.name))


def write_json(path: Path, content: Any) -> None:
    """Writes readable JSON, in one piece or not at all.

    Raises:
      ValueError: for a number that is not finite, which JSON does not have.
    """
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text)
