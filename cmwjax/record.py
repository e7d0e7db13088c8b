"""The files of a run: its folder, configuration, and one line of metrics per epoch."""

import json
import math
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cmwjax.audit import replacing


def claim_folder(workdir: str | os.PathLike, config: ConfigDict) -> Path:
    """Makes `workdir` the folder of this configuration, or sees that it already is.

    Writes `config.json` where there is none. Touches nothing else.

    Raises:
      ValueError: if the folder belongs to another configuration, whose differences
        are named, or holds files that no run put there.
    """
    workdir = Path(workdir)
    path = workdir / "config.json"
    wanted = json.loads(json.dumps(config.to_dict()))
    if path.exists():
        try:
            found = json.loads(path.read_text())
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ValueError(f"{path} is damaged; use another workdir.")
        differences = _differences(found, wanted)
        if differences:
            raise ValueError(
                f"workdir {workdir} belongs to another configuration: "
                f"{'; '.join(differences)}. Use another workdir, or that configuration."
            )
        return workdir
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise ValueError(
            f"workdir {workdir} exists and is not the folder of a run (it has no "
            "config.json); use a new or empty folder."
        )
    workdir.mkdir(parents=True, exist_ok=True)
    if jax.process_index() == 0:
        write_json(path, wanted)
    return workdir


def write_json(path: Path, content: Any) -> None:
    """Writes readable JSON, in one piece or not at all."""
    with replacing(path) as partial:
        Path(partial).write_text(json.dumps(content, indent=2) + "\n")


def append_metrics(workdir: Path, metrics: dict[str, Any]) -> None:
    """Adds one line to `metrics.jsonl`; what is not finite becomes null."""
    if jax.process_index() == 0:
        with open(workdir / "metrics.jsonl", "a") as file:
            file.write(json.dumps(_plain(metrics), allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | jax.Array | np.generic):
        value = np.asarray(value).tolist()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _differences(found: dict, wanted: dict, prefix: str = "") -> list[str]:
    differences = []
    for name in sorted(found.keys() | wanted.keys()):
        old, new = found.get(name), wanted.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            differences += _differences(old, new, f"{prefix}{name}.")
        elif old != new:
            differences.append(f"{prefix}{name} is {old!r} there and {new!r} here")
    return differences
