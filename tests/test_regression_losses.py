import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmwjax.core.losses import huber, squared_error

OUTPUTS = np.array([0.0, 1.5, -2.0, 3.0, 0.25], np.float32)
TARGETS = np.array([0.0, 1.0, 1.0, -4.0, 0.75], np.float32)


@pytest.mark.parametrize("outputs", [OUTPUTS, OUTPUTS[:, None]], ids=["[B]", "[B, 1]"])
@pytest.mark.parametrize("delta", [0.5, 1.0, 5.0])
def test_losses_are_those_of_a_loop_over_samples(outputs, delta):
    errors = [abs(float(o) - float(t)) for o, t in zip(OUTPUTS, TARGETS, strict=True)]
    expected = [e * e for e in errors]
    np.testing.assert_allclose(squared_error(outputs, TARGETS), expected, rtol=1e-6)
    expected = [
        e * e / 2 if e <= delta else delta * e - delta * delta / 2 for e in errors
    ]
    losses = huber(outputs, TARGETS, delta=delta)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    assert losses.shape == (5,)


def test_gradient_of_huber_is_the_clipped_error():
    def total(outputs):
        return jnp.sum(huber(outputs, TARGETS, delta=1.0))

    gradient = jax.grad(total)(jnp.asarray(OUTPUTS)[:, None])
    errors = (OUTPUTS - TARGETS)[:, None]
    np.testing.assert_allclose(gradient, np.clip(errors, -1, 1), rtol=1e-6)


@pytest.mark.parametrize("loss", [squared_error, lambda o, t: huber(o, t, delta=1.0)])
@pytest.mark.parametrize("shapes", [((5, 2), (5,)), ((5, 1), (5, 1)), ((4,), (5,))])
def test_other_shapes_are_refused(loss, shapes):
    with pytest.raises(ValueError, match=r"outputs are \[.*\] and targets \[5"):
        loss(*(jnp.zeros(shape) for shape in shapes))


@pytest.mark.parametrize("delta", [0.0, -1.0, float("nan")])
def test_delta_is_checked(delta):
    with pytest.raises(ValueError, match=f"delta={delta} must be above 0"):
        huber(OUTPUTS, TARGETS, delta=delta)
