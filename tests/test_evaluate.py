import jax
import numpy as np
import optax
import pytest
from flax import linen as nn
from methods import build

from cmwjax.core.meta import MetaState
from cmwjax.core.parallel import layout
from cmwjax.data.sources import InMemory, Samples
from cmwjax.data.table import Table, make_batch, pixel_statistics
from cmwjax.training import evaluate


class Linear(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(3)(x.reshape(len(x), -1))


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (23, 2, 2, 2), np.uint8)
    labels = rng.integers(0, 3, 23).astype(np.int32)
    family = np.array([1, 0, 1], np.int32)
    return Table(images, labels, family, *pixel_statistics(images))


@pytest.mark.parametrize("num_devices", [1, 4])
@pytest.mark.parametrize("mode", ["pmap", "jit"])
def test_scores_equal_a_per_sample_loop(table, num_devices, mode, monkeypatch):
    monkeypatch.setattr(evaluate, "TOP", 2)  # of three classes
    method = build("cmw_net", num_families=2)
    net_params = method.net.init(jax.random.key(1), np.ones(1), np.zeros(1, int))
    params = Linear().init(jax.random.key(0), np.zeros((1, 2, 2, 2)), False)["params"]
    learner = MetaState.create(
        params=params, meta_params=net_params, tx=optax.sgd(0.1), meta_tx=None
    )
    spread = layout(mode, jax.devices()[:num_devices])
    score = evaluate.scorer(Linear(), method, spread, batch_size=7)
    index = np.array([3, 1, 4, 1, 5, 9, 2, 6, 22, 0])
    learner = learner._replace(key=jax.random.key_data(learner.key))
    samples = Samples(spread.replicate(table), InMemory(spread))
    scores = score(spread.replicate(learner), samples, index)

    kernel, bias = (np.asarray(params["Dense_0"][k], float) for k in ("kernel", "bias"))
    pixels = table.images / 255.0
    mean, std = pixels.mean((0, 1, 2)), pixels.std((0, 1, 2))
    for i, loss, weight, prediction, in_top, seen in zip(index, *scores, strict=True):
        logits = ((pixels[i] - mean) / std).ravel() @ kernel + bias
        label = table.labels[i]
        want = np.log(np.exp(logits).sum()) - logits[label]
        np.testing.assert_allclose(loss, want, rtol=1e-4)
        assert prediction == np.argmax(logits)
        assert in_top == (label in np.argsort(logits)[1:]) and seen
        p = net_params["params"]
        hidden = np.maximum(
            want * np.asarray(p["shared"]["kernel"])[0] + p["shared"]["bias"], 0
        )
        k = table.family[label]
        z = hidden @ p["heads"]["kernel"][:, k] + p["heads"]["bias"][k]
        np.testing.assert_allclose(weight, 1 / (1 + np.exp(-z)), rtol=1e-4)
    assert scores.accuracy(scores.predictions) == 1.0
    assert scores.accuracy(scores.predictions + 1) == 0.0
    assert 0 < scores.top == np.mean(scores.in_top) < 1


def test_accuracies_are_of_samples_that_were_seen():
    seen = np.array([True, False, True, True])
    ones = np.ones(4)
    scores = evaluate.Scores(ones, ones, np.array([1, 2, 0, 0]), seen, seen)
    assert scores.accuracy(np.array([1, 2, 0, 5])) == pytest.approx(2 / 3)
    scores = scores._replace(in_top=np.array([True, True, False, False]))
    assert scores.top == pytest.approx(1 / 3)
    assert np.isnan(scores._replace(seen=~ones.astype(bool)).top)


def test_batches_are_standardised_per_channel(table):
    batch = make_batch(table, {"index": np.arange(23)})
    np.testing.assert_allclose(batch["image"].mean((0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(batch["image"].std((0, 1, 2)), 1, rtol=1e-5)
    np.testing.assert_array_equal(batch["family"], table.family[table.labels])


def test_a_constant_channel_does_not_divide_by_zero():
    images = np.full((4, 2, 2, 1), 7, np.uint8)
    mean, std = pixel_statistics(images)
    table = Table(images, np.zeros(4, np.int32), np.zeros(1, np.int32), mean, std)
    assert np.all(np.isfinite(make_batch(table, {"index": np.arange(4)})["image"]))
