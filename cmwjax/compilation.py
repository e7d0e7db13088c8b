"""What JAX compiles: kept from one run to the next, and how long it takes."""

import contextlib
import glob
import logging
import os
import re
import threading
from pathlib import Path

import jax
from absl import logging as absl_logging

from cmwjax.files import cache_folder

FOLDER = "compiled"  # in that of all that is kept
MAX_BYTES = 2**30  # of all programs together, when a run begins
# JAX's own threshold, a second, would leave out most programs of a small net.
MIN_SECONDS = 0.1
_MIN_SECONDS = "jax_persistent_cache_min_compile_time_secs"
_DAMAGED = re.compile(r"Error reading persistent compilation cache entry for '(.+?)'")
# Tracing, lowering and compiling, or reading what was compiled before.
_SPANS = "/jax/core/compile/"


def keep_programs() -> None:
    """Has JAX keep what it compiles on disk, for all that this process runs.

    Does nothing where JAX has a folder already or is not to keep anything
    (`JAX_COMPILATION_CACHE_DIR`, `JAX_ENABLE_COMPILATION_CACHE=false`), or where the
    folder cannot be written, which is logged. A program is found again by its code, the
    versions of JAX and XLA, the flags and the kind of device, with the instructions
    that a CPU has: machines of several kinds may share a folder. Who can write there
    can run code as whoever reads it.

    This is for programs such as `run.py`, for it changes settings of JAX.
    """
    if jax.config.jax_compilation_cache_dir or not (
        jax.config.jax_enable_compilation_cache
    ):
        return
    folder = cache_folder() / FOLDER
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError("it cannot be written")
        forget_oldest(folder, MAX_BYTES)
    except OSError as error:
        absl_logging.info("compiled programs are not kept in %s: %s", folder, error)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if _MIN_SECONDS.upper() not in os.environ:
        jax.config.update(_MIN_SECONDS, MIN_SECONDS)
    logging.getLogger("py.warnings").addHandler(_Renewal(folder))


def forget_oldest(folder: Path, max_bytes: int) -> None:
    """Removes the files of a folder not used for longest, until the rest is that small.

    JAX has a bound of its own, which needs another package and locks the folder for
    every read.
    """
    files = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # another process forgets, too
            status = path.stat()
            if path.is_file():
                used = max(status.st_atime, status.st_mtime)
                files.append((used, status.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= max_bytes:
            break
        path.unlink(missing_ok=True)
        total -= size


class _Renewal(logging.Handler):
    """Removes programs that cannot be read, which JAX warns of but does not replace.

    They are what a full disk or a killed process leaves behind.
    """

    def __init__(self, folder: Path):
        super().__init__()
        self._folder = folder

    def emit(self, record: logging.LogRecord) -> None:
        found = _DAMAGED.search(record.getMessage())
        if found:
            with contextlib.suppress(OSError):
                for path in self._folder.glob(f"{glob.escape(found[1])}-*"):
                    path.unlink(missing_ok=True)


class Clock:
    """Counts the seconds in which this thread compiles, while it is entered.

    Attributes:
      seconds: counted so far, or what else was put there.
    """

    def __init__(self, seconds: float = 0.0):
        self.seconds = seconds
        self._thread, self._last = threading.get_ident(), []

    def __enter__(self) -> "Clock":
        jax.monitoring.register_event_time_span_listener(self._count)
        return self

    def __exit__(self, *_) -> None:
        jax.monitoring.unregister_event_time_span_listener(self._count)

    def _count(self, event: str, start_time: float, end_time: float, **_) -> None:
        if not event.startswith(_SPANS) or threading.get_ident() != self._thread:
            return
        # A function that is traced within another one has been counted before it.
        while self._last and self._last[-1][0] >= start_time:
            inner, until = self._last.pop()
            self.seconds -= until - inner
        self._last.append((start_time, end_time))
        self.seconds += end_time - start_time
