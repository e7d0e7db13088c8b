"""The source of a set whose images lie on disk: Grain decodes them in worker processes.

What comes next is a pure function of seed, step and index, down to crop and flip. So a
run goes on at any step by slicing the sequence of batches there, and no state of an
iterator needs to be saved; neither the number of workers, nor that of devices or hosts
changes a bit. Every process decodes only what its own devices work on.
"""

import gc
import os
import shutil
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from multiprocessing import connection, parent_process
from operator import getitem
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from cmwjax.core.parallel import Layout
from cmwjax.data import decode
from cmwjax.data.decode import View
from cmwjax.data.on_disk import Reader
from cmwjax.data.order import Order
from cmwjax.data.sources import Rows, RowStream, in_parts
from cmwjax.data.unreadable import Unreadable
from cmwjax.randomness import Purpose, generator
from cmwjax.stopping import SIGNALS

SHARED_MEMORY = Path("/dev/shm")
# Images that are decoded in about the time that a process takes to start.
WORTH_A_WORKER = 500


class Views(NamedTuple):
    """How images look in training, in the meta set, and in evaluation."""

    train: View
    meta: View
    evaluation: View


class Streamed:
    """Makes rows with images and a mask, false where an image could not be read.

    Args:
      name: name of the set in the list of unreadable images.
      read: reads an image.
      layout: how rows are cut.
      views: how they look.
      seed: seed of the run.
      workers: processes that decode, for each iterator; 0: this one does it.
      prefetch: rows that wait on the devices.
      unreadable: where images are listed that could not be read.
    """

    def __init__(
        self,
        name: str,
        read: Reader,
        layout: Layout,
        *,
        views: Views,
        seed: int,
        workers: int,
        prefetch: int,
        unreadable: Unreadable,
    ) -> None:
        self._name, self._read, self._layout = name, read, layout
        self._views, self._seed, self._unreadable = views, seed, unreadable
        self._workers, self._prefetch = workers, prefetch

    def training(self, order: Order, steps: range, *, meta: bool = False) -> RowStream:
        """Rows of these steps; images look another way in every period of the order."""
        if not steps:
            return
        batches = _Batches(
            self._read,
            self._views.meta if meta else self._views.train,
            order,
            steps,
            columns=self._layout.own(len(order(steps[0]))),
            seed=self._seed,
            purpose=Purpose.META_AUGMENT if meta else Purpose.AUGMENT,
            period=order.period,
        )
        yield from self._rows(batches, self._layout.split_own)

    def evaluation(self, index: np.ndarray, batch_size: int) -> RowStream:
        """Rows that cover these positions; images always look the same."""
        parts = in_parts(index, batch_size)
        batches = _Batches(
            self._read,
            self._views.evaluation,
            partial(getitem, parts),
            range(len(parts)),
            columns=self._layout.own(batch_size),
        )
        yield from self._rows(batches, self._layout.spread_own)

    def _rows(self, batches: "_Batches", place: Callable[[Rows], Rows]) -> RowStream:
        import grain  # here, for it takes two seconds

        if not flags.FLAGS.is_parsed():  # outside of run.py; Grain has flags, too
            flags.FLAGS.mark_as_parsed()

        worth = len(batches) * batches.width // WORTH_A_WORKER
        workers = min(self._workers, len(batches), worth)
        _check_shared_memory(workers, batches.bytes)

        def placed(host):
            # What workers send lies in memory that is shared with them: not for long.
            host = {k: np.array(x, copy=workers > 0) for k, x in host.items()}
            code = host.pop("code")
            return host["index"], code, place({**host, "mask": code == 0})

        dataset = (
            grain.MapDataset.source(batches)
            # No threads: a worker decodes, and this process only waits for workers.
            .to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
            .mp_prefetch(
                grain.MultiprocessingOptions(num_workers=workers), _worker_init
            )
            .map(placed)
        )
        iterator = iter(
            grain.experimental.ThreadPrefetchIterDataset(
                dataset, prefetch_buffer_size=self._prefetch
            )
        )
        with _signals_blocked():
            iterator.start_prefetch()
        try:
            for index, codes, rows in iterator:
                self._unreadable.add(self._name, index, codes)
                yield rows
        finally:
            iterator.close()
            del iterator
            gc.collect()  # Grain's cycles would hold shared memory until then


class _Batches:
    """What this process works on, step by step: the data source that Grain maps.

    An element is a batch, for Grain spends half a millisecond on each.

    Args:
      read: the images.
      view: how they look.
      order: positions `[B]` by step.
      steps: which steps.
      columns: which part of a batch this process works on.
      seed: seed of the run.
      purpose: what crop and flip of an image are drawn for.
      period: number of steps for which crop and flip of an image stay the same.
    """

    def __init__(
        self,
        read: Reader,
        view: View,
        order: Callable[[int], np.ndarray],
        steps: range,
        *,
        columns: slice,
        seed: int = 0,
        purpose: Purpose = Purpose.EVALUATION,
        period: int = 1,
    ) -> None:
        self._read, self._view, self._order, self._steps = read, view, order, steps
        self._columns, self._period = columns, period
        self._stream = partial(generator, seed, purpose)

    @property
    def width(self) -> int:
        """Images in a batch."""
        return self._columns.stop - self._columns.start

    @property
    def bytes(self) -> int:
        """Size of a batch of images."""
        return self.width * 3 * self._view.size**2

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, index: int) -> Any:
        step = self._steps[index]
        positions = np.asarray(self._order(step)[self._columns], np.int32)
        size, moment = self._view.size, step // self._period
        pixels = np.empty((self.width, size, size, 3), np.uint8)
        codes = np.empty(self.width, np.int8)
        for i, position in enumerate(positions.tolist()):
            rng = self._stream(moment=moment, part=position)
            pixels[i], codes[i] = decode.load(self._read, position, self._view, rng)
        return {"index": positions, "input": pixels, "code": codes}


def _check_shared_memory(workers: int, batch: int) -> None:
    """Refuses what would end with a worker that dies without a word (SIGBUS)."""
    needed = (2 * workers + 2) * batch  # one each ready, one in the making, two here
    if workers and SHARED_MEMORY.is_dir():
        free = shutil.disk_usage(SHARED_MEMORY).free
        if needed > free:
            raise ValueError(
                f"config.data.stream.workers={workers} need {needed / 1e6:.0f} MB of "
                f"shared memory for their batches, but {SHARED_MEMORY} has "
                f"{free / 1e6:.0f} MB: lower workers (0 needs none) or the batch size, "
                "or enlarge it (a container's --shm-size)."
            )


@contextmanager
def _signals_blocked() -> Generator[None, None, None]:
    """Blocks signals for threads and processes that are started within.

    These go to all processes of a terminal or a job, but only the first one can save
    the run, and until it has, it needs its workers.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _worker_init(number: int, workers: int) -> None:
    del number, workers
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when its parent was killed and cannot tell it to."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
