"""Batch normalisation with PyTorch's running statistics."""

import jax
from flax import linen as nn
from jax import lax


class BatchNorm(nn.BatchNorm):
    """`flax.linen.BatchNorm` that stores the running variance unbiased.

    Both frameworks normalise a training batch by its biased variance. PyTorch then
    stores `n / (n - 1)` times it, Flax the biased one; `n` counts the values of one
    channel in the global batch, over the devices of `axis_name` too. The defaults are
    PyTorch's, whose momentum 0.1 is 0.9 here.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    def __call__(
        self, x: jax.Array, use_running_average: bool | None = None
    ) -> jax.Array:
        """Normalises `x`, shape `[..., features]`, over all axes but the last.

        Raises:
          ValueError: a training batch with one value per channel has no variance.
        """
        frozen = nn.merge_param(
            "use_running_average", self.use_running_average, use_running_average
        )
        if frozen or self.is_initializing():
            return super().__call__(x, use_running_average)
        n = x.size // x.shape[-1]
        n *= lax.axis_size(self.axis_name) if self.axis_name else 1
        if n == 1:
            raise ValueError(
                f"batch norm: a training batch of shape {x.shape} has one value per "
                "channel and so no variance; use a larger batch or larger images"
            )
        old = self.get_variable("batch_stats", "var")
        y = super().__call__(x, use_running_average)
        new = self.get_variable("batch_stats", "var")
        # new - momentum * old is the new batch's part: only that grows.
        unbiased = new + (new - self.momentum * old) / (n - 1)
        self.put_variable("batch_stats", "var", unbiased)
        return y
