"""A weighting function as a picture, without the run that learned it."""

import os
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from cmwjax.core.families import family_names, with_sizes
from cmwjax.core.weighting_file import WeightingFunction
from cmwjax.core.weighting_words import REACH
from cmwjax.report.plot_style import (
    FAINT,
    family_colours,
    new_figure,
    save,
    styled,
    weight_limit,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 400


@styled()
def plot_weighting(
    function: WeightingFunction,
    where: Union["Axes", str, os.PathLike, None] = None,
    *,
    reach: float | None = None,
) -> "Figure":
    """Draws the weight of a sample by its loss, a curve for each family.

    Args:
      function: the function.
      where: axes to draw into; a path, to which a new figure is written as PNG; or
        None: a new figure.
      reach: up to which loss; None: a tenth beyond the largest that it has seen, or 8.

    Returns:
      The figure.

    Raises:
      ValueError: if `reach` is not a positive number.
    """
    if reach is None:
        reach = 1.1 * function.seen[1] if function.seen else REACH
    if not 0 < reach < np.inf:
        raise ValueError(f"reach={reach!r} must be a loss above 0: correct it.")
    axes: Any = where
    if where is None or isinstance(where, str | os.PathLike):
        axes = new_figure(6.4, 3.8).subplots()
    losses: Any = np.linspace(0, reach, POINTS, dtype=np.float32)
    curves = np.asarray(function.net.curves({"params": function.params}, losses))
    count = function.num_families
    names = with_sizes(family_names(count), function.centres)
    for name, colour, weights in zip(names, family_colours(count), curves, strict=True):
        axes.plot(losses, weights, color=colour, label=name)
    if function.seen and function.seen[1] < reach:
        axes.axvspan(function.seen[1], reach, color=FAINT, label="no such loss seen")
    axes.set(xlim=(0, reach), ylim=(0, 1.04 * weight_limit(curves)))
    axes.set(xlabel=f"loss ({function.loss})", ylabel="weight")
    axes.set_title("Weight of a training sample by its loss")
    axes.legend(loc="best")
    if isinstance(where, str | os.PathLike):
        save(axes.figure, where)
    return axes.figure
