"""Batch norm against PyTorch's formulas in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmwjax.models.batch_norm import BatchNorm

KEY = jax.random.key(0)


@pytest.mark.parametrize("axis_name", [None, "data"])
def test_running_statistics_are_those_of_pytorch(axis_name):
    rng = np.random.default_rng(0)
    batches = rng.normal(3.0, 2.0, size=(3, 8, 2, 1, 5)).astype("f4")
    norm = BatchNorm(use_running_average=False, axis_name=axis_name)
    state = norm.init(KEY, batches[0])

    def update(variables, x):
        return norm.apply(variables, x, mutable=["batch_stats"])

    mean, var = np.zeros(5), np.ones(5)
    for x in batches:
        if axis_name is None:
            y, new = update(state, x)
        else:
            four = jax.vmap(
                update, axis_name=axis_name, in_axes=(None, 0), out_axes=(0, None)
            )
            y, new = four(state, x.reshape(4, 2, 2, 1, 5))
            y = y.reshape(x.shape)
        state |= new
        values = x.reshape(16, 5).astype("f8")
        mean = 0.9 * mean + 0.1 * values.mean(0)
        var = 0.9 * var + 0.1 * values.var(0, ddof=1)
        normal = (values - values.mean(0)) / np.sqrt(values.var(0) + 1e-5)
        np.testing.assert_allclose(y.reshape(16, 5), normal, atol=1e-5)
    np.testing.assert_allclose(state["batch_stats"]["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(state["batch_stats"]["var"], var, rtol=1e-5)

    y = BatchNorm(use_running_average=True).apply(state, batches[0])
    expected = (batches[0] - mean) / np.sqrt(var + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_one_value_has_no_variance():
    norm = BatchNorm(use_running_average=False)
    state = norm.init(KEY, jnp.ones((1, 1, 1, 5)))
    with pytest.raises(ValueError, match=r"\(1, 1, 1, 5\) has one value per channel"):
        norm.apply(state, jnp.ones((1, 1, 1, 5)), mutable=["batch_stats"])
