"""The source of a set whose images lie on disk: threads decode them as they are needed.

What comes next is a pure function of seed, step and index, down to crop and flip. So a
run goes on at any step by slicing the sequence of batches there, and no state of an
iterator needs to be saved; neither the number of threads, nor that of devices or hosts
changes a bit. Every process decodes only what its own devices work on.

Grain's threads suffice, for Pillow lets go of the interpreter while it decodes and
resizes; and they start at once, however often a set is looked at.
"""

import os
from collections.abc import Callable, Generator
from functools import partial
from operator import getitem
from typing import Any, NamedTuple

import numpy as np

from cmwjax.core.parallel import Layout
from cmwjax.data import decode
from cmwjax.data.decode import View
from cmwjax.data.encoded import Reader
from cmwjax.data.order import Order
from cmwjax.data.sources import Rows, RowStream, in_parts
from cmwjax.data.unreadable import Unreadable
from cmwjax.randomness import Purpose, generator


def in_order(
    make: Callable[[int], Any], count: int, *, workers: int, prefetch: int
) -> Generator[Any, None, None]:
    """What `make` returns for 0, 1, ... below `count`, made ahead by threads.

    Args:
      make: a function of a number; what it raises is raised here.
      count: how often.
      workers: threads; 0: none, everything is made when it is asked for.
      prefetch: how many are made ahead, beside one in the hands of each thread.
    """
    if not workers:
        yield from map(make, range(count))
        return
    import grain  # here, for it takes two seconds

    ahead = grain.ReadOptions(
        num_threads=workers, prefetch_buffer_size=workers + prefetch
    )
    yield from grain.MapDataset.range(count).map(make).to_iter_dataset(ahead)


def threads(wanted: int = -1) -> int:
    """How many threads decode; -1 leaves the others one of the cores there are."""
    if wanted >= 0:
        return wanted
    cores = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    return max(1, len(cores(0)) - 1)


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
      workers: threads that decode, for each iterator; 0: it does so when it is asked.
      prefetch: batches that are decoded ahead, beside one in the hands of each worker.
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
        for host in self._decoded(batches):
            code = host.pop("code")
            self._unreadable.add(self._name, host["index"], code)
            yield place({**host, "mask": code == 0})

    def _decoded(self, batches: "_Batches") -> Generator[Rows, None, None]:
        """All batches in their order."""
        yield from in_order(
            batches.__getitem__,
            len(batches),
            workers=self._workers,
            prefetch=self._prefetch,
        )


class _Batches:
    """What this process works on, step by step; an element is a batch.

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
