"""The weighting net V(loss, class family), and the families it tells apart."""

import warnings
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

STARTS = ("torch", "flat")
MOMENTS = ("family_share", "weight", "weight_squared", "weight_low", "weight_high")


class CMWNet(nn.Module):
    """Weight in (0, 1) of a sample, from its loss and the family of its class.

    A hidden layer shared by all families, one sigmoid head each, and a gate that
    selects the head of the sample's family. With one family this is MW-Net.

    Attributes:
      num_families: K; heads are ordered by class size, 0 the smallest classes.
      hidden: width of the shared layer.
      start: `'torch'`, uniform in +-1/sqrt(fan_in) as the authors' nets start, which
        is far from flat at large losses; or `'flat'`, exactly 0.5 everywhere.

    References:
      CMW-Net (https://arxiv.org/abs/2202.05613), the architecture figure;
      MW-Net (https://arxiv.org/abs/1902.07379) for one family.
    """

    num_families: int = 3
    hidden: int = 100
    start: str = "torch"

    @nn.compact
    def __call__(self, losses: jax.Array, family: jax.Array) -> jax.Array:
        """Losses `[B]`, families int `[B]` in [0, K) -> weights `[B]`."""
        if self.start not in STARTS:
            raise ValueError(
                f"start={self.start!r} is unknown; choose one of {STARTS}."
            )
        flat = self.start == "flat"
        shared = nn.Dense(
            self.hidden,
            kernel_init=_torch_uniform(1),
            bias_init=_torch_uniform(1),
            name="shared",
        )
        heads = nn.Dense(
            self.num_families,
            kernel_init=nn.initializers.zeros if flat else _torch_uniform(self.hidden),
            bias_init=nn.initializers.zeros if flat else _torch_uniform(self.hidden),
            name="heads",
        )
        every_weight = nn.sigmoid(heads(nn.relu(shared(losses[:, None]))))  # [B, K]
        return jnp.take_along_axis(every_weight, family[:, None], axis=1)[:, 0]

    def curves(self, meta_params: Any, losses: jax.Array) -> jax.Array:
        """Weights `[K, G]` of every family on a grid of losses `[G]`."""

        def of_family(k):
            return self.apply(meta_params, losses, jnp.full(losses.shape, k))

        return jax.vmap(of_family)(jnp.arange(self.num_families))


class PerClassNet(CMWNet):
    """A net of one head, with its own hidden layer, for every class: an ablation.

    `num_families` is the number of classes, `family` the class of a sample.
    """

    @nn.compact
    def __call__(self, losses: jax.Array, family: jax.Array) -> jax.Array:
        """Losses `[B]`, classes int `[B]` -> weights `[B]`."""
        one_each = nn.vmap(
            CMWNet,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            out_axes=1,
            axis_size=self.num_families,
        )
        own = one_each(1, self.hidden, self.start, name="classes")
        every_weight = own(losses, jnp.zeros_like(family))  # [B, C]
        return jnp.take_along_axis(every_weight, family[:, None], axis=1)[:, 0]


def _torch_uniform(fan_in: int):
    """PyTorch's default for weights and biases of a linear layer."""
    bound = fan_in**-0.5

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Families(NamedTuple):
    """Classes grouped by size."""

    family: np.ndarray  # int32 [C], family of each class
    centres: np.ndarray  # float64 [K], mean class size of each family, ascending


def group_classes(counts: np.ndarray, num_families: int = 3) -> Families:
    """Groups classes by their number of samples: exact one-dimensional k-means.

    Families are intervals of the sorted counts, so dynamic programming over their
    borders finds the optimum that random restarts only look for.

    Args:
      counts: samples per class under the observed labels, `[C]`, not negative.
      num_families: K at most; with fewer distinct counts there are fewer families,
        and a warning.

    Returns:
      Families sorted by size, 0 the smallest.

    Raises:
      ValueError: if counts are not a vector of finite non-negative numbers, or
        num_families < 1.

    References:
      CMW-Net, the task feature; Wang and Song, Ckmeans.1d.dp, R Journal 3/2, 2011.
    """
    counts = np.asarray(counts, np.float64)
    if counts.ndim != 1 or not counts.size or not np.all(counts >= 0):
        raise ValueError(f"counts={counts} must be a vector of class sizes >= 0.")
    if not np.all(np.isfinite(counts)):
        raise ValueError(f"counts={counts} must be finite.")
    if num_families < 1:
        raise ValueError(f"num_families={num_families} must be at least 1.")
    sizes, which, multiplicity = np.unique(
        counts, return_inverse=True, return_counts=True
    )
    if len(sizes) < num_families:
        warnings.warn(
            f"only {len(sizes)} distinct class sizes for {num_families} families: "
            f"using {len(sizes)}.",
            stacklevel=2,
        )
        num_families = len(sizes)
    borders = _optimal_borders(sizes, multiplicity, num_families)
    family_of_size = np.searchsorted(borders, np.arange(len(sizes)), side="right")
    family = family_of_size[which].astype(np.int32)
    centres = np.bincount(family, weights=counts) / np.bincount(family)
    return Families(family, centres)


def _optimal_borders(sizes, multiplicity, k):
    """First position of families 1..k-1 in the sorted distinct sizes."""
    n = len(sizes)
    centred = sizes - np.average(sizes, weights=multiplicity)  # against cancellation
    mass = np.concatenate([[0.0], np.cumsum(multiplicity)])
    first = np.concatenate([[0.0], np.cumsum(multiplicity * centred)])
    second = np.concatenate([[0.0], np.cumsum(multiplicity * centred**2)])

    def within(starts, end):  # squared deviations of sizes[start:end], every start
        m, s, q = (a[end] - a[starts] for a in (mass, first, second))
        return q - s * s / m

    cost = np.array([0.0] + [within(np.array([0]), e)[0] for e in range(1, n + 1)])
    choices = []
    for j in range(1, k):
        new_cost, choice = np.full(n + 1, np.inf), np.zeros(n + 1, int)
        for end in range(j + 1, n + 1):
            starts = np.arange(j, end)
            total = cost[starts] + within(starts, end)
            best = np.argmin(total)
            new_cost[end], choice[end] = total[best], starts[best]
        cost = new_cost
        choices.append(choice)
    borders, end = [], n
    for choice in reversed(choices):
        end = choice[end]
        borders.append(end)
    return np.array(borders[::-1], int)


def weight_fn(net: CMWNet):
    """The net as `weight_fn` of a step with one loss term; reads batch['family']."""

    def weights(meta_params, losses, batch):
        return net.apply(meta_params, losses, batch["family"])

    return weights


def metrics_fn(net: CMWNet):
    """Moments of the weights per family, as the `metrics_fn` of a step.

    They are means over the batch, so they average over devices and steps alike;
    `summarise_weights` turns the averages into means per family.
    """

    def moments(meta_params, losses, batch):
        losses = losses if losses.ndim == 1 else losses[:, 0]
        weights = net.apply(meta_params, losses, batch["family"])
        member = jax.nn.one_hot(batch["family"], net.num_families)  # [B, K]
        values = {
            "family_share": jnp.ones_like(weights),
            "weight": weights,
            "weight_squared": weights**2,
            "weight_low": weights < 0.05,
            "weight_high": weights > 0.95,
        }
        return {k: jnp.mean(member * v[:, None], axis=0) for k, v in values.items()}

    return moments


def summarise_weights(moments: dict[str, Any]) -> dict[str, np.ndarray]:
    """Moments -> mean, std, share under 0.05 and over 0.95 per family, each `[K]`."""
    moments = {k: np.asarray(v, np.float64) for k, v in moments.items()}
    share = moments["family_share"]
    inside = {k: v / np.where(share > 0, share, np.nan) for k, v in moments.items()}
    variance = inside["weight_squared"] - inside["weight"] ** 2
    return {
        "family_share": share,
        "weight_mean": inside["weight"],
        "weight_std": np.sqrt(np.maximum(variance, 0)),
        "weight_low": inside["weight_low"],
        "weight_high": inside["weight_high"],
    }
