"""Against PyTorch's update rules, written out step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmwjax.core import optimizers
from cmwjax.models import heads


def follow(tx, gradients, w):
    state = tx.init(w)
    for g in gradients:
        updates, state = tx.update(g, state, w)
        w = optax.apply_updates(w, updates)
    return w


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    return rng.normal(size=(5, 3)).astype("f"), rng.normal(size=3).astype("f")


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd(problem, momentum, nesterov):
    gradients, start = problem
    tx = optimizers.torch_sgd(
        0.1, momentum=momentum, weight_decay=0.01, nesterov=nesterov
    )
    w, v = start.astype(float), 0.0
    for g in gradients:
        g = g + 0.01 * w
        v = momentum * v + g
        w = w - 0.1 * (g + momentum * v if nesterov else v)
    np.testing.assert_allclose(follow(tx, gradients, start), w, rtol=1e-5)


def test_adam_couples_its_decay(problem):
    gradients, start = problem
    tx = optimizers.torch_adam(0.1, weight_decay=0.01)
    w, m, s = start.astype(float), 0.0, 0.0
    for t, g in enumerate(gradients, 1):
        g = g + 0.01 * w
        m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g**2
        w = w - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(follow(tx, gradients, start), w, rtol=1e-5)


def test_amsgrad_takes_the_largest_second_moment_before_it_corrects():
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(6, 3)).astype("f") * [[9], [1], [0.1], [3], [1], [1]]
    gradients, start = gradients.astype("f"), rng.normal(size=3).astype("f")
    tx = optimizers.torch_adam(0.1, weight_decay=0.01, amsgrad=True)
    w, m, s, largest = start.astype(float), 0.0, 0.0, 0.0
    for t, g in enumerate(gradients, 1):
        g = g + 0.01 * w
        m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g**2
        largest = np.maximum(largest, s)
        w = w - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(largest / (1 - 0.999**t)) + 1e-8)
    got = follow(tx, gradients, start)
    np.testing.assert_allclose(got, w, rtol=1e-5)
    theirs = optax.chain(optax.add_decayed_weights(0.01), optax.amsgrad(0.1))
    assert np.max(np.abs(got - follow(theirs, gradients, start))) > 0.01
    assert (
        np.max(np.abs(got - follow(optimizers.torch_adam(0.1), gradients, start))) > 0
    )


def test_optimizers_by_name(problem):
    gradients, start = problem
    kwargs = {"weight_decay": 0.01, "momentum": 0.9, "nesterov": True}
    sgd = optimizers.torch_sgd(0.1, **kwargs)
    amsgrad = optimizers.torch_adam(0.1, weight_decay=0.01, amsgrad=True)
    for name, wanted in (("sgd", sgd), ("amsgrad", amsgrad)):
        got = follow(optimizers.build(name, 0.1, **kwargs), gradients, start)
        np.testing.assert_array_equal(got, follow(wanted, gradients, start))
    with pytest.raises(ValueError, match="optimizer='lion' is unknown"):
        optimizers.build("lion", 0.1, **kwargs)


def test_steps_and_linear_warm_up_go_by_epochs():
    rate = optimizers.learning_rate(
        0.1,
        name="steps",
        total_steps=200 * 3,
        steps_per_epoch=3,
        boundaries=(160, 180),
        factor=0.01,
        linear_epochs=5,
    )
    for epoch, want in [(0, 0.02), (3, 0.08), (4, 0.1), (159, 0.1), (160, 1e-3)]:
        for step in (3 * epoch, 3 * epoch + 2):
            np.testing.assert_allclose(rate(step), want, rtol=1e-5)
    np.testing.assert_allclose([rate(539), rate(540), rate(599)], [1e-3, 1e-5, 1e-5])


def test_cosine_restarts_after_a_constant_rate():
    """The feature-dependent schedule: 45 epochs, then cosines of 5, 10, 20 and 40."""
    rate = optimizers.learning_rate(
        0.1,
        name="restarts",
        total_steps=120 * 2,
        steps_per_epoch=2,
        constant_epochs=45,
        period=5,
        multiplier=2,
        minimum=1e-4,
    )
    for epoch in range(120):
        want = 0.1
        for first, period in ((45, 5), (50, 10), (60, 20), (80, 40)):
            if epoch >= first:
                angle = np.pi * (epoch - first) / period
                want = 1e-4 + (0.1 - 1e-4) * (1 + np.cos(angle)) / 2
        np.testing.assert_allclose(rate(2 * epoch + 1), want, rtol=1e-5)


def test_learning_rates():
    rate = optimizers.learning_rate(
        1.0, name="steps", total_steps=9, boundaries=(3, 6), factor=0.1
    )
    np.testing.assert_allclose(
        [rate(t) for t in range(9)],
        [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01],
        rtol=1e-6,
    )
    rate = optimizers.learning_rate(2.0, name="cosine", total_steps=10)
    want = [1 + np.cos(np.pi * t / 10) for t in range(11)]
    np.testing.assert_allclose([rate(t) for t in range(11)], want, atol=1e-6)
    with pytest.raises(ValueError, match="'linear' is unknown"):
        optimizers.learning_rate(1.0, name="linear", total_steps=1)


def test_some_parameters_stay_as_they_are():
    params = {"body": jnp.array([1.0, 2.0]), "head": {"kernel": jnp.array([3.0])}}
    options = dict(weight_decay=0.1, momentum=0.9, nesterov=False)
    plain = optimizers.build("adam", 0.1, **options)
    tx = optimizers.of_part(plain, heads.last_layer)
    state, alone = tx.init(params), plain.init(params["head"])
    assert len(jax.tree.leaves(state)) == len(jax.tree.leaves(alone))
    ours, theirs = params, params["head"]
    for step in range(3):
        slopes = jax.tree.map(lambda x, step=step: x + step, ours)
        updates, state = tx.update(slopes, state, ours)
        wanted, alone = plain.update(slopes["head"], alone, theirs)
        ours = optax.apply_updates(ours, updates)
        theirs = optax.apply_updates(theirs, wanted)
    np.testing.assert_array_equal(ours["body"], params["body"])
    np.testing.assert_array_equal(ours["head"]["kernel"], theirs["kernel"])
    assert theirs["kernel"] != params["head"]["kernel"]
