"""The files of a run: its folder, configuration, and one line of metrics per epoch."""

import json
import os
from pathlib import Path

import jax
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from cmwjax.config_check import renamed_fields
from cmwjax.files import CONFIG, SAMPLES, is_leftover, write_json
from cmwjax.randomness import DRAWS

# Fields that another machine may want to differ, when it goes on with a run.
WITHOUT_INFLUENCE = ("data.stream.workers", "data.stream.prefetch")


def claim_folder(workdir: str | os.PathLike, config: ConfigDict) -> Path:
    """Makes `workdir` the folder of this configuration, or checks that it already is.

    Writes `config.json` where there is none, and removes what a killed process left
    half-written. Touches nothing else.

    Raises:
      ValueError: as `check_folder`.
    """
    workdir = Path(workdir)
    if jax.process_index() == 0:
        check_folder(workdir, config)
        workdir.mkdir(parents=True, exist_ok=True)
        for leftover in filter(is_leftover, workdir.iterdir()):
            leftover.unlink()
        if not (workdir / CONFIG).exists():
            write_json(workdir / CONFIG, {"draws": DRAWS, **config.to_dict()})
    wait_for_first_process()
    return workdir


def check_folder(workdir: str | os.PathLike, config: ConfigDict) -> None:
    """Refuses a folder that this configuration must not use; writes nothing.

    Raises:
      ValueError: if the folder belongs to another configuration, whose differences
        are named, or holds files that no run put there.
    """
    workdir = Path(workdir)
    path = workdir / CONFIG
    if path.exists():
        try:
            found = json.loads(path.read_text())
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ValueError(f"{path} is damaged; use another workdir.")
        draws = found.pop("draws", 1)
        changes = differences(found, json.loads(json.dumps(config.to_dict())))
        earlier = renamed_fields(found)
        if draws != DRAWS:
            earlier.append("its seed draws other random numbers now")
        if earlier:
            raise ValueError(
                f"workdir {workdir} belongs to another version of cmwjax: "
                f"{'; '.join(earlier)}. Use another workdir, or continue with the "
                "version that began it."
            )
        if changes:
            raise ValueError(
                f"workdir {workdir} belongs to another configuration: "
                f"{'; '.join(changes)}. Use another workdir, or that configuration."
            )
    elif workdir.exists() and not (
        workdir.is_dir() and all(map(is_leftover, workdir.iterdir()))
    ):
        raise ValueError(
            f"workdir {workdir} exists and is not the folder of a run (it has no "
            "config.json); use a new or empty folder."
        )


def wait_for_first_process() -> None:
    """Waits until process 0 has written its files."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("files are written")


def is_finished(workdir: Path) -> bool:
    """Whether the run in this folder wrote its last file."""
    return (workdir / SAMPLES).exists()


def differences(found: dict, wanted: dict, prefix: str = "") -> list[str]:
    """One phrase for each field in which two configurations differ that matters."""
    phrases = []
    for name in sorted(found.keys() | wanted.keys()):
        old, new = found.get(name), wanted.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            phrases += differences(old, new, f"{prefix}{name}.")
        elif old != new and prefix + name not in WITHOUT_INFLUENCE:
            phrases.append(f"{prefix}{name} is {old!r} there and {new!r} here")
    return phrases
