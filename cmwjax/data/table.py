"""A data set as arrays on the device, and the batches gathered from it there."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp


class Table(NamedTuple):
    """Everything a batch is made of; replicated on all devices."""

    inputs: Any  # a tree, leaves [N, ...], see `view`; None if they come with the rows
    labels: Any  # [N], as observed
    family: Any  # int32 [N], family of the sample's class
    statistics: Any  # what inputs are standardised by, see `view`
    features: Mapping[str, Any] = {}  # more of the sample's class, [N, ...]
    # How much of what is learned is of each class, or group of targets, [G]
    frequencies: Any = ()


def make_batch(
    table: Table,
    rows: Mapping[str, jax.Array],
    prepare: Callable[[Any, Any, jax.Array | None], Any],
    keys: jax.Array | None = None,
) -> dict[str, Any]:
    """The samples that the host named, as the dict that steps take.

    Args:
      table: where they are.
      rows: which ones, `index` int32 [B]; where the table has no inputs also their
        `input`, augmented; and `mask` bool [B], if some have none.
      prepare: prepares inputs; see `view.View`.
      keys: one per sample, [B], if inputs of the table are to be augmented.

    Returns:
      `input` as the model sees it, zero where there is none; `label` [B] and `family`
      int32 [B]; the features, [B, ...] each; and `index` and `mask` as they came.

    Raises:
      AssertionError: if arrays of the table, or index and mask, differ in length.
    """
    index = rows["index"]
    chex.assert_rank(index, 1)
    samples = table._replace(statistics=(), frequencies=())
    # JAX would read beyond the end of a shorter one without a word.
    chex.assert_equal_shape_prefix(jax.tree.leaves(samples), 1)
    if table.inputs is None:
        inputs = prepare(rows["input"], table.statistics, None)
    else:
        raw = jax.tree.map(lambda x: x[index], table.inputs)
        inputs = prepare(raw, table.statistics, keys)
    if "mask" in rows:
        mask = rows["mask"]
        chex.assert_equal_shape([mask, index])
        inputs = jax.tree.map(
            lambda x: jnp.where(
                mask.reshape(-1, *(1,) * (x.ndim - 1)), x, jnp.zeros((), x.dtype)
            ),
            inputs,
        )
    return {
        **rows,
        "input": inputs,
        "label": table.labels[index],
        "family": table.family[index],
        **{name: values[index] for name, values in table.features.items()},
    }
