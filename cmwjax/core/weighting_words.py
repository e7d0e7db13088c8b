"""What a weighting function does, in words."""

from typing import Any

import numpy as np

from cmwjax.core.families import family_names, with_sizes

REACH = 8.0  # up to which loss a function is described whose losses nobody noted
SAME = 0.1  # a weight that changes by less than this share of the largest is the same


def describe(function: Any) -> str:
    """A few lines on a `WeightingFunction`: families, losses, origin."""
    count = function.num_families
    kind = {"mw_net": "MW-Net", "cmw_net": "CMW-Net"}[function.kind]
    families = "one family" if count == 1 else f"{count} families"
    lines = [f"{kind} weighting function of {function.loss}, {families}."]
    low, high = function.seen or (0.0, REACH)
    losses = _round(high * np.array([0, 1 / 16, 1 / 8, 1 / 4, 1]))
    curves = np.asarray(
        function.net.curves({"params": function.params}, losses.astype(np.float32))
    )
    names = [name.capitalize() for name in family_names(count)]
    names = with_sizes(names, function.centres)
    for name, weights in zip(names, curves, strict=True):
        pairs = [f"{w:.2f} at {x:g}" for x, w in zip(losses, weights, strict=True)]
        lines.append(f"{name}: {tendency(weights)}; {', '.join(pairs)}.")
    seen = "Which losses it has seen is not known."
    if function.seen is not None:
        seen = f"It has seen losses from {low:.2g} to {high:.3g}."
    lines.append(seen)
    lines.append(f"Learned on: {_origin(function.provenance)}.")
    return "\n".join(lines)


def tendency(weights: np.ndarray) -> str:
    """What becomes of weights `[G]` in (0, 1) as the loss grows, in words."""
    change = SAME * weights.max()
    if np.ptp(weights) <= change:
        return "the same weight at any loss"
    first, last = weights[0], weights[-1]
    if weights.min() < min(first, last) - change:
        return "falls, then rises with the loss: trusts those in between least"
    if weights.max() > max(first, last) + change:
        return "rises, then falls with the loss: trusts those in between most"
    if last > first:
        return "rises with the loss: prefers samples that are not learned yet"
    if last < 0.1 * first:
        return "falls with the loss: leaves out samples of a large one"
    return "falls with the loss: trusts samples of a large one less"


def _round(losses):
    """Losses `[G]` in two digits."""
    return np.array([float(f"{loss:.2g}") for loss in losses])


def _origin(provenance):
    """Where a function comes from: names and values."""
    if not provenance:
        return "nobody noted it"
    return ", ".join(f"{name} {value}" for name, value in _flat(provenance))


def _flat(content, prefix=""):
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
