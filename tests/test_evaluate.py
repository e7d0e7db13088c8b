"""Scores of a set, against a loop over its samples."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from cmwjax.config import base_config
from cmwjax.core.meta import MetaState
from cmwjax.core.parallel import layout
from cmwjax.data import view
from cmwjax.data.sources import InMemory, Samples
from cmwjax.data.table import Table, make_batch
from cmwjax.tasks import classification
from cmwjax.tasks.classification import CLASSIFICATION
from cmwjax.training import evaluate
from methods import build

VIEW = view.build("images", base_config())
FREQUENCIES = np.array([0.6, 0.3, 0.1], np.float32)


class Linear(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(3)(x.reshape(len(x), -1))


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (23, 2, 2, 2), np.uint8)
    labels = rng.integers(0, 3, 23).astype(np.int32)
    family = np.array([1, 0, 1], np.int32)[labels]
    return Table(images, labels, family, VIEW.statistics(images), {}, FREQUENCIES)


@pytest.mark.parametrize("num_devices", [1, 4])
@pytest.mark.parametrize("mode", ["pmap", "jit"])
def test_scores_equal_a_per_sample_loop(table, num_devices, mode, monkeypatch):
    monkeypatch.setattr(classification, "TOP", 1)  # of three classes
    method = build("cmw_net", num_families=2)
    net_params = method.net.init(jax.random.key(1), np.ones(1), np.zeros(1, int))
    params = Linear().init(jax.random.key(0), np.zeros((1, 2, 2, 2)), False)["params"]
    learner = MetaState.create(
        params=params, meta_params=net_params, tx=optax.sgd(0.1), meta_tx=None
    )
    spread = layout(mode, jax.devices()[:num_devices])
    score = evaluate.scorer(
        Linear(), method, CLASSIFICATION, VIEW, spread, batch_size=7
    )
    index = np.array([3, 1, 4, 1, 5, 9, 2, 6, 22, 0])
    learner = learner._replace(key=jax.random.key_data(learner.key))
    samples = Samples(spread.replicate(table), InMemory(spread))
    scores = score(spread.replicate(learner), samples, index)

    kernel, bias = (np.asarray(params["Dense_0"][k], float) for k in ("kernel", "bias"))
    pixels = table.inputs / 255.0
    mean, std = pixels.mean((0, 1, 2)), pixels.std((0, 1, 2))
    losses, quality, weights, found, seen = scores
    columns = (losses, quality, weights, found["prediction"], found["in_top"])
    for i, loss, suits, weight, prediction, in_top in zip(index, *columns, strict=True):
        logits = ((pixels[i] - mean) / std).ravel() @ kernel + bias
        label = table.labels[i]
        want = np.log(np.exp(logits).sum()) - logits[label]
        np.testing.assert_allclose(loss, want, rtol=1e-4)
        odds = np.exp(logits) / np.sqrt(FREQUENCIES)
        rival = np.max(np.delete(odds, label))
        np.testing.assert_allclose(suits, odds[label] / (odds[label] + rival), 1e-4)
        assert prediction == np.argmax(logits)
        assert in_top == (label == np.argmax(logits))
        p = method.net.plain(net_params["params"])
        hidden = np.maximum(
            want * np.asarray(p["shared"]["kernel"])[0] + p["shared"]["bias"], 0
        )
        k = table.family[i]
        z = hidden @ p["heads"]["kernel"][:, k] + p["heads"]["bias"][k]
        np.testing.assert_allclose(weight, 1 / (1 + np.exp(-z)), rtol=1e-4)
    assert seen.all() and 0 < np.mean(found["in_top"]) < 1


def test_metrics_are_of_samples_that_were_seen():
    seen, nothing = np.array([True, False, True, True]), np.zeros(4, bool)
    found = {
        "prediction": np.array([1, 2, 0, 0]),
        "in_top": np.array([True, True, False, False]),
    }
    scores = evaluate.Scores(np.ones(4), np.ones(4), np.ones(4), found, seen)
    labels = np.array([1, 2, 0, 5])
    metrics = scores.summary(CLASSIFICATION.summary, labels)
    assert metrics == {"accuracy": pytest.approx(2 / 3), "top5": pytest.approx(1 / 3)}
    metrics = scores._replace(seen=nothing).summary(CLASSIFICATION.summary, labels)
    assert np.isnan([*metrics.values()]).all()


def test_two_classes_have_an_average_precision():
    rng = np.random.default_rng(0)
    labels, odds = rng.integers(2, size=50), rng.normal(size=50)
    logits = np.stack([np.zeros(50), odds], axis=1)
    found = CLASSIFICATION.scores(jnp.asarray(logits), {"label": jnp.asarray(labels)})
    metrics = CLASSIFICATION.summary(jax.tree.map(np.asarray, found), labels)
    # Precision at every hit, by a loop down the ranking.
    ranked = labels[np.argsort(-odds)]
    hits = [ranked[: n + 1].mean() for n in range(50) if ranked[n]]
    assert metrics["average_precision"] == pytest.approx(np.mean(hits))
    assert metrics["accuracy"] == np.mean((odds > 0) == labels)


def test_batches_are_standardised_per_channel(table):
    batch = make_batch(table, {"index": np.arange(23)}, VIEW.prepare)
    np.testing.assert_allclose(batch["input"].mean((0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(batch["input"].std((0, 1, 2)), 1, rtol=1e-5)
    np.testing.assert_array_equal(batch["family"], table.family)


def test_a_constant_channel_does_not_divide_by_zero():
    images, none = np.full((4, 2, 2, 1), 7, np.uint8), np.zeros(4, np.int32)
    table = Table(images, none, none, VIEW.statistics(images))
    batch = make_batch(table, {"index": np.arange(4)}, VIEW.prepare)
    assert np.all(np.isfinite(batch["input"]))
