"""`metrics.jsonl`: one line of numbers for each epoch of a run."""

import json
import math
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cmwjax.files import METRICS, replacing


def append_metrics(workdir: Path, metrics: dict[str, Any]) -> None:
    """Adds one line to `metrics.jsonl`; what is not finite becomes null."""
    if jax.process_index() == 0:
        with open(workdir / METRICS, "a") as file:
            file.write(json.dumps(plain(metrics), allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())  # checkpoints that come later rely on it


def drop_metrics(workdir: Path, *, since: int) -> int:
    """Removes the lines of `metrics.jsonl` from step `since` on, and cut-off ones.

    Returns:
      The number of lines that stay.
    """
    path = workdir / METRICS
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    stay = [line for line in lines if _step(line) < since]
    if len(stay) < len(lines) and jax.process_index() == 0:
        with replacing(path) as temporary:
            temporary.write_bytes(b"".join(stay))
    return len(stay)


def _step(line: bytes) -> float:
    """The step of a line of metrics; infinite if the line is damaged."""
    try:
        row = json.loads(line)
        return row["step"] if line.endswith(b"\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf


def plain(value: Any) -> Any:
    """Arrays as lists, and None for what is not finite, which JSON does not have."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | jax.Array | np.generic):
        value = np.asarray(value).tolist()
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
