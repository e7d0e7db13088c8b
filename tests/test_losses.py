"""Losses against the definition, written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmwjax.core.losses import cross_entropy, soft_cross_entropy

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (6, 4)).astype(np.float32)
LABELS = np.array([0, 3, 1, 2, 2, 0])
TARGETS = RNG.dirichlet(np.ones(4), 6).astype(np.float32)


def log_probabilities(logits):
    logits = logits.astype(np.float64)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def test_cross_entropy_is_minus_the_log_probability_of_the_label():
    wanted = [-log_probabilities(LOGITS)[i, label] for i, label in enumerate(LABELS)]
    losses = cross_entropy(LOGITS, LABELS)
    assert losses.shape == (6,) and losses.dtype == jnp.float32
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)


def test_soft_cross_entropy_is_the_expected_cross_entropy():
    wanted = np.zeros(6)
    for c in range(4):
        wanted += TARGETS[:, c] * np.asarray(cross_entropy(LOGITS, np.full(6, c)))
    losses = soft_cross_entropy(LOGITS, TARGETS)
    assert losses.shape == (6,)
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)


def test_hard_targets_are_labels():
    np.testing.assert_allclose(
        soft_cross_entropy(LOGITS, np.eye(4, dtype=np.float32)[LABELS]),
        cross_entropy(LOGITS, LABELS),
        rtol=1e-6,
    )


def test_known_values():
    even = cross_entropy(jnp.zeros((1, 10)), jnp.array([7]))
    np.testing.assert_allclose(even, np.log(10), rtol=1e-6)
    odds = cross_entropy(jnp.log(jnp.array([[3.0, 1.0]])), jnp.array([1]))
    np.testing.assert_allclose(odds, np.log(4), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_labels_of_any_integer_type(dtype):
    np.testing.assert_array_equal(
        cross_entropy(LOGITS, LABELS.astype(dtype)), cross_entropy(LOGITS, LABELS)
    )


def test_large_logits_overflow_nowhere():
    logits = jnp.array([[1e4, 0.0, -1e4]] * 3)
    np.testing.assert_allclose(
        cross_entropy(logits, jnp.arange(3)), [0, 1e4, 2e4], atol=1e-3
    )
    uniform = jnp.full((3, 3), 1 / 3)
    np.testing.assert_allclose(soft_cross_entropy(logits, uniform), 1e4, rtol=1e-6)
    gradient = jax.grad(lambda z: cross_entropy(z, jnp.arange(3)).sum())(logits)
    assert np.isfinite(gradient).all()


def test_gradient_is_probabilities_minus_targets():
    probabilities = np.exp(log_probabilities(LOGITS))
    for targets, loss in (
        (np.eye(4)[LABELS], lambda z: cross_entropy(z, LABELS).sum()),
        (TARGETS, lambda z: soft_cross_entropy(z, TARGETS).sum()),
    ):
        gradient = jax.grad(loss)(jnp.asarray(LOGITS))
        np.testing.assert_allclose(gradient, probabilities - targets, atol=1e-6)
