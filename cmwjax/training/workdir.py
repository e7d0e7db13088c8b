"""The files of a run: its folder, configuration, and one line of metrics per epoch."""

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from cmwjax.config import base_config
from cmwjax.config_check import FREE, renamed_fields
from cmwjax.files import (
    CONFIG,
    LOCK,
    SAMPLES,
    has_content,
    is_leftover,
    write_json,
)
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
        _make_folder(workdir)
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
        are named, or holds files that no run put there; if there can be no such folder.
    """
    workdir = Path(workdir)
    path = workdir / CONFIG
    try:
        os.stat(workdir)
    except FileNotFoundError:
        if os.path.islink(workdir):
            raise _no_folder(workdir, "it is a link to nothing") from None
    except (OSError, ValueError) as error:
        raise _no_folder(workdir, error) from error
    if os.path.exists(path):
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
    elif os.path.exists(workdir) and (
        not os.path.isdir(workdir) or has_content(workdir)
    ):
        raise ValueError(
            f"workdir {workdir} exists and is not the folder of a run (it has no "
            "config.json); use a new or empty folder."
        )


def _make_folder(workdir: Path) -> None:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise _no_folder(workdir, error) from error


def _no_folder(workdir: Path, reason: str | OSError | ValueError) -> ValueError:
    if isinstance(reason, OSError):
        reason = reason.strerror or str(reason)
    return ValueError(
        f"workdir {str(workdir)!r} cannot be a folder to write to: {reason}. Use "
        "another workdir."
    )


@contextmanager
def running_in(workdir: Path) -> Generator[None, None, None]:
    """Makes the folder, and keeps other runs out of it while it is entered.

    The lock is that of an open file: however a process ends, the system releases it. Of
    the processes of one run, the first one takes it.

    Raises:
      ValueError: in all processes of the run, if another one is running there, or the
        folder cannot be written to.
    """
    lock = _lock(workdir, is_new=True)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def check_free(workdir: Path) -> None:
    """Refuses a folder in which another run is running now; writes nothing.

    Raises:
      ValueError: as `running_in`.
    """
    lock = _lock(workdir, is_new=False)
    if lock is not None:
        os.close(lock)


def _lock(workdir: Path, *, is_new: bool) -> int | None:
    """The locked file; None in other processes than the first, or if there is none.

    Args:
      workdir: the folder.
      is_new: whether to make folder and file where they do not exist.
    """
    lock, refusal = None, None
    if jax.process_index() == 0:
        try:
            lock = _lock_file(workdir, is_new=is_new)
        except ValueError as error:
            refusal = error
    refused = refusal is not None
    if jax.process_count() > 1:  # else the others would wait for the first one
        refused = multihost_utils.broadcast_one_to_all(np.array(refused))
    if refused:
        raise refusal or ValueError(f"process 0 cannot run in {workdir}.")
    return lock


def _lock_file(workdir: Path, *, is_new: bool) -> int | None:
    path = workdir / LOCK
    if is_new:
        _make_folder(workdir)
    elif not os.path.exists(path):
        return None
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise _no_folder(workdir, error) from error
    try:
        import fcntl  # not on every system

        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ValueError(
            f"another process is running in {workdir}; wait for it, or use another "
            "workdir."
        ) from None
    except (ImportError, OSError) as error:
        logging.warning(
            "%s cannot be locked (%s): take care that no other process runs there.",
            workdir,
            error,
        )
    return lock


def wait_for_first_process() -> None:
    """Waits until process 0 has written its files."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("files are written")


def is_finished(workdir: Path) -> bool:
    """Whether the run in this folder wrote its last file."""
    return os.path.exists(workdir / SAMPLES)


def differences(
    found: dict, wanted: dict, prefix: str = "", defaults: dict | None = None
) -> list[str]:
    """One phrase for each field in which two configurations differ that matters.

    A field that `found` does not have is newer than it, and has its default there,
    which is what was done before there was the field.
    """
    if defaults is None:
        defaults = json.loads(json.dumps(base_config().to_dict()))
    phrases = []
    for name in sorted(found.keys() | wanted.keys()):
        default = defaults.get(name)
        old, new = found.get(name, default), wanted.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            is_known = isinstance(default, dict) and prefix + name not in FREE
            own = default if is_known else {}
            phrases += differences(old, new, f"{prefix}{name}.", own)
        elif old != new and prefix + name not in WITHOUT_INFLUENCE:
            phrases.append(f"{prefix}{name} is {old!r} there and {new!r} here")
    return phrases
