"""Checkpoints: written behind the run's back, verified, and only then relied upon.

A checkpoint is a folder by Orbax, named by its step, and in it a manifest with the
SHA-256 of every file, which is written last. What lacks its manifest, or differs from
it, is damaged, and the one before is used.
"""

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import shutil
import threading
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from cmwjax import __version__
from cmwjax.files import replacing
from cmwjax.training.workdir import differences

MANIFEST = "manifest.json"
_OURS = re.compile(r"(\d+)(\.orbax-checkpoint-tmp.*)?")
Tree = TypeVar("Tree")


class Damaged(ValueError):
    """A checkpoint is not what was once written."""


class Checkpoints:
    """The checkpoints in a folder; at most `keep` of them, and one being written.

    Arrays are equal on all processes: the first one writes, and every one reads, so the
    folder must be shared between them.

    Attributes:
      failures: how many could not be written.
    """

    def __init__(self, folder: Path, *, keep: int, config: dict[str, Any]):
        self.failures = 0
        self._folder, self._keep = folder, keep
        self._config = json.loads(json.dumps(config))
        self._good: list[int] = []
        self._writing: threading.Thread | None = None

    @property
    def last(self) -> int | None:
        """Step of the newest one that is whole, when everything is written."""
        self.wait()
        return self._good[-1] if self._good else None

    def restore(self, like: Tree) -> Tree | None:
        """The newest tree that is whole, as host arrays; None where there is none.

        Args:
          like: a tree of the same structure. Its values are not used.

        Raises:
          ValueError: if the checkpoint is of another configuration, or its arrays are
            not those of `like`.
        """
        step = self._newest() if jax.process_index() == 0 else None
        if jax.process_count() > 1:
            step = int(
                multihost_utils.broadcast_one_to_all(
                    np.int32(-1 if step is None else step)
                )
            )
            step = None if step < 0 else step
        if step is None:
            return None
        path = self._folder / str(step)
        self._good = [s for s in self._steps() if s <= step]
        arrays, names = read(path), list(_named(like))
        if set(names) != set(arrays):
            raise ValueError(
                f"{path} is missing {sorted(set(names) - set(arrays))} and has "
                f"unexpected {sorted(set(arrays) - set(names))}: continue with the "
                "version of cmwjax that wrote it, or use another workdir."
            )
        return jax.tree.unflatten(jax.tree.structure(like), [arrays[n] for n in names])

    def save(self, step: int, tree: Any) -> None:
        """Writes a tree of host arrays, which must not change any more, as `step`.

        Returns when the one before is written. A failure is logged and counted; the
        checkpoints that there are stay.
        """
        if step == self.last:
            return
        if jax.process_index() == 0:
            self._writing = threading.Thread(target=self._write, args=(step, tree))
            self._writing.start()
        else:
            self._good.append(step)

    def wait(self) -> None:
        """Returns when everything is written."""
        if self._writing is not None:
            self._writing.join()
            self._writing = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self.wait()

    def _write(self, step, tree):
        path, arrays = self._folder / str(step), _named(tree)
        try:
            self._check_space(arrays)
            _write_arrays(path, arrays)
            found = read(path)
            for name, array in arrays.items():
                if not _identical(array, found[name]):
                    raise OSError(f"{name} does not read back as it was written")
            write_manifest(path, config=self._config)
        # What a full disk is called depends on who meets it.
        except Exception as error:
            self.failures += 1
            self._remove(path)
            last = self._good[-1] if self._good else None
            logging.warning(
                "Checkpoint %s could not be written; the last good one is %s. Training "
                "goes on; is the disk full? %s: %s",
                path,
                last,
                type(error).__name__,
                error,
            )
            return
        self._good = [*self._good, step][-self._keep :]
        kept = set(map(str, self._good))
        for other in self._folder.iterdir():
            if _OURS.fullmatch(other.name) and other.name not in kept:
                self._remove(other)

    def _check_space(self, arrays):
        self._folder.mkdir(parents=True, exist_ok=True)
        needed = sum(array.nbytes for array in arrays.values())
        free = shutil.disk_usage(self._folder).free
        if free < needed:  # else Orbax would say so in a thousand lines
            raise OSError(errno.ENOSPC, f"{needed} bytes are needed and {free} free")

    def _remove(self, path):
        with contextlib.suppress(OSError):
            # First: what is removed by halves must not look whole.
            (path / MANIFEST).unlink()
        shutil.rmtree(path, ignore_errors=True)
        for unfinished in self._folder.glob(f"{path.name}.*"):
            if _OURS.fullmatch(unfinished.name):
                shutil.rmtree(unfinished, ignore_errors=True)

    def _newest(self):
        """Step of the newest one that is whole."""
        steps = self._steps()
        for step in reversed(steps):
            path = self._folder / str(step)
            try:
                manifest = verify(path)
            except Damaged as error:
                logging.warning("Checkpoint %s is damaged: %s.", path, error)
                continue
            changes = differences(manifest["config"], self._config)
            if changes:
                raise ValueError(
                    f"{path} is of another configuration: {'; '.join(changes)}. Use "
                    "another workdir, or that configuration."
                )
            if manifest["versions"] != _versions():
                logging.warning(
                    "Checkpoint %s was written by %s, this is %s: numbers may differ in"
                    " their last digits.",
                    path,
                    manifest["versions"],
                    _versions(),
                )
            return step
        if steps:
            logging.warning(
                "No checkpoint in %s is whole: starting over.", self._folder
            )
        return None

    def _steps(self):
        """Steps of all that may be whole."""
        if not self._folder.is_dir():
            return []
        names = (path.name for path in self._folder.iterdir())
        return sorted(int(name) for name in names if name.isdecimal())


def to_host(tree: Tree) -> Tree:
    """Copies of device arrays, which outlive the donation of their originals.

    With several processes, the arrays must be replicated.
    """
    return jax.tree.map(np.array, jax.device_get(tree))


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint by name, as `'run/learner/params/Dense_0/kernel'`."""
    return _orbax().restore(path.absolute())


def write_manifest(path: Path, *, config: dict[str, Any]) -> None:
    """Declares a checkpoint complete."""
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.name != MANIFEST)
    content = {
        "versions": _versions(),
        "config": config,
        "sha256": {str(p.relative_to(path)): _digest(p) for p in files},
    }
    body = json.dumps(content, indent=2).encode()
    with replacing(path / MANIFEST) as temporary, open(temporary, "wb") as file:
        file.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        file.flush()
        os.fsync(file.fileno())


def verify(path: Path) -> dict[str, Any]:
    """Checks that every file of a checkpoint is as it was written.

    Args:
      path: folder of the checkpoint.

    Returns:
      Its manifest, which has the SHA-256 digests of the files.

    Raises:
      Damaged: if the manifest or a file is missing or not as it was written.
    """
    try:
        checksum, _, body = (path / MANIFEST).read_bytes().partition(b"\n")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise Damaged(f"{MANIFEST} is missing, its writing was cut short") from None
    if hashlib.sha256(body).hexdigest().encode() != checksum:
        raise Damaged(f"{MANIFEST} is not as it was written")
    manifest = json.loads(body)
    for name, digest in manifest["sha256"].items():
        if not (path / name).is_file():
            raise Damaged(f"{name} is missing")
        if _digest(path / name) != digest:
            raise Damaged(f"{name} is not as it was written")
    return manifest


def _write_arrays(path, arrays):
    from orbax.checkpoint.args import PyTreeSave

    _orbax().save(path.absolute(), PyTreeSave(arrays), force=True)


def _named(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _identical(x, y):
    same_kind = (x.dtype, x.shape) == (y.dtype, y.shape)
    return same_kind and np.array_equal(*(a.ravel().view(np.uint8) for a in (x, y)))


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _versions():
    return {"cmwjax": __version__, "jax": jax.__version__, "numpy": np.__version__}


@functools.cache
def _orbax():
    """An Orbax checkpointer that works alone, in whatever process it is."""
    import orbax.checkpoint as ocp  # takes half a second, which finished runs save

    own = jax.process_index()
    return ocp.Checkpointer(
        ocp.PyTreeCheckpointHandler(),
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            primary_host=own, active_processes={own}, barrier_sync_key_prefix=str(own)
        ),
    )
