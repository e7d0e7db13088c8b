"""The weighting net V(loss, class family)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cmwjax.core.initializers import torch_uniform

STARTS = ("torch", "flat")
ANCHOR = 2.0  # logit of the weight of a loss of zero: 0.88
MOMENTS = ("family_share", "weight", "weight_squared", "weight_low", "weight_high")


class CMWNet(nn.Module):
    """Weight in (0, 1) of a sample, from its loss and the family of its class.

    A hidden layer shared by all families, one sigmoid head each, and a gate that
    selects the head of the sample's family. With one family this is MW-Net.

    Attributes:
      num_families: K; heads are ordered by class size, 0 the smallest classes.
      hidden: width of the shared layer.
      start: `'torch'`, uniform in +-1/sqrt(fan_in) as the authors' nets start, which
        is far from flat at large losses; or `'flat'`, the same weight everywhere.
      anchored: whether a loss of zero has one fixed weight, 0.88, in all families. A
        sample without a loss has no gradient, so nothing is learned of its weight
        itself: it follows what is learned of the losses beside it, and where that
        differs between families, so will all their weights, down to those of samples
        that nobody doubts. Anchored, families differ by how they treat a loss. False
        is the paper's form.

    References:
      CMW-Net (https://arxiv.org/abs/2202.05613), the architecture figure;
      MW-Net (https://arxiv.org/abs/1902.07379) for one family.
    """

    num_families: int = 3
    hidden: int = 100
    start: str = "torch"
    anchored: bool = False

    @nn.compact
    def __call__(self, losses: jax.Array, family: jax.Array) -> jax.Array:
        """Losses `[B]`, families int `[B]` in [0, K) -> weights `[B]`, NaN outside."""
        if self.start not in STARTS:
            raise ValueError(
                f"start={self.start!r} is unknown; choose one of {STARTS}."
            )
        flat = self.start == "flat"
        slopes, offsets = _Lines(self.hidden, name="shared")()
        moved = losses[:, None] * slopes  # [B, H]
        hidden = nn.relu(moved + offsets)
        heads = nn.Dense(
            self.num_families,
            use_bias=not self.anchored,
            kernel_init=nn.initializers.zeros if flat else torch_uniform(self.hidden),
            bias_init=nn.initializers.zeros if flat else torch_uniform(self.hidden),
            name="heads",
        )
        if self.anchored:
            # Less what is hidden at zero. Where a unit is active at both, its offset
            # must not come in: what cancels to rounding errors, Adam takes for slopes.
            both = (hidden > 0) & (offsets > 0)
            hidden = jnp.where(both, moved, hidden - nn.relu(offsets))
        logits = heads(hidden) + ANCHOR * self.anchored  # [B, K]
        return _chosen(nn.sigmoid(logits), family)

    def plain(self, params: Any) -> Any:
        """Parameters with which a net that is not anchored has the same weights.

        Args:
          params: `{'shared': ..., 'heads': ...}`.
        """
        if not self.anchored:
            return params
        shared, kernel = params["shared"], params["heads"]["kernel"]
        bias = ANCHOR - jnp.maximum(shared["bias"], 0) @ kernel
        return {"shared": shared, "heads": {"kernel": kernel, "bias": bias}}

    def curves(self, meta_params: Any, losses: jax.Array) -> jax.Array:
        """Weights `[K, G]` of every family on a grid of losses `[G]`."""

        def of_family(k):
            return self.apply(meta_params, losses, jnp.full(losses.shape, k))

        return jax.vmap(of_family)(jnp.arange(self.num_families))


class _Lines(nn.Module):
    """Slopes and offsets of the hidden units, each `[1, H]`."""

    hidden: int

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        return (
            self.param("kernel", torch_uniform(1), (1, self.hidden)),
            self.param("bias", torch_uniform(1), (self.hidden,))[None],
        )


class PerClassNet(CMWNet):
    """A net of one head, with its own hidden layer, for every class: an ablation.

    `num_families` is the number of classes, `family` the class of a sample.
    """

    @nn.compact
    def __call__(self, losses: jax.Array, family: jax.Array) -> jax.Array:
        """Losses `[B]`, classes int `[B]` in [0, C) -> weights `[B]`, NaN outside."""
        one_each = nn.vmap(
            CMWNet,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            out_axes=1,
            axis_size=self.num_families,
        )
        own = one_each(1, self.hidden, self.start, self.anchored, name="classes")
        every_weight = own(losses, jnp.zeros_like(family))  # [B, C]
        return _chosen(every_weight, family)


class SizeBlind(CMWNet):
    """The mean weight of all families of a net, for classes of much the same size.

    What a net has learned of small and of large classes says nothing where there are
    none: a class is then as likely to be the one as the other. `num_families` is 1;
    parameters are those of a net of any number of families.
    """

    def __call__(self, losses: jax.Array, family: jax.Array) -> jax.Array:
        """Losses `[B]`, families int `[B]`, all 0 -> weights `[B]`, NaN outside."""
        params = self.variables["params"]
        net = CMWNet(params["heads"]["kernel"].shape[1], self.hidden, parent=None)
        mean = jnp.mean(net.curves({"params": params}, losses), axis=0)
        return _chosen(mean[:, None], family)


def _chosen(every_weight, family):
    """Weights `[B, K]` -> `[B]`; NaN for what is no family, so that steps skip it."""
    chosen = jnp.take_along_axis(every_weight, family[:, None], axis=1)[:, 0]
    return jnp.where(family < 0, jnp.nan, chosen)  # those beyond K are NaN by now


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
        # Whose family is none of these, and whose weight is NaN, counts in none.
        member = jax.nn.one_hot(batch["family"], net.num_families, dtype=bool)  # [B, K]
        values = {
            "family_share": jnp.ones_like(weights),
            "weight": weights,
            "weight_squared": weights**2,
            "weight_low": weights < 0.05,
            "weight_high": weights > 0.95,
        }
        return {
            k: jnp.mean(jnp.where(member, v[:, None], 0), axis=0)
            for k, v in values.items()
        }

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
