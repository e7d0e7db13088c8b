"""How the samples that a step works on get from the host to the devices.

The host names them in `rows`, a dict of arrays `[B, ...]` cut over the devices: `index`
int32, and where the inputs do not lie on the devices already, `input` and `mask`
bool; see `table.make_batch`. A source makes rows. They are a pure function of the step,
so a run goes on at any step without having seen those before.
"""

from collections.abc import Generator
from typing import Any, NamedTuple, Protocol

import numpy as np

from cmwjax.core.parallel import Layout
from cmwjax.data.order import Order
from cmwjax.data.table import Table

Rows = dict[str, Any]
RowStream = Generator[Rows, None, None]


class Source(Protocol):
    """Makes the rows of one set of samples; closed iterators let go of what they hold.

    `training(order, steps)` gives the rows of these steps, as a mapped step takes them;
    with `meta`, images look as the meta set's are to.
    `evaluation(index, batch_size)` covers the positions `index [N]` in batches of one
    size, as global arrays; the last one is filled up by repetition.
    """

    def training(
        self, order: Order, steps: range, *, meta: bool = False
    ) -> RowStream: ...

    def evaluation(self, index: np.ndarray, batch_size: int) -> RowStream: ...


class Samples(NamedTuple):
    """One set of samples: what is on the devices, and what brings the rest."""

    table: Table
    source: Source


class InMemory:
    """The source of a set whose images lie on the devices.

    Args:
      layout: how rows are cut.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def training(self, order: Order, steps: range, *, meta: bool = False) -> RowStream:
        """Rows of positions alone."""
        del meta  # images change on the device
        for step in steps:
            yield self._layout.split({"index": order(step)})

    def evaluation(self, index: np.ndarray, batch_size: int) -> RowStream:
        """Rows of positions alone."""
        for part in in_parts(index, batch_size):
            yield self._layout.spread({"index": part})


def in_parts(index: np.ndarray, batch_size: int) -> np.ndarray:
    """`[N]` in rows of `batch_size`, the last one filled up from the beginning."""
    size = -(-len(index) // batch_size) * batch_size
    return np.resize(index, size).reshape(-1, batch_size)
