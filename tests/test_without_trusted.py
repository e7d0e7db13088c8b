"""`reweight` for those who have noisy labels only, and what it tells of each sample."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmwjax.core import lowest_loss
from cmwjax.core.losses import cross_entropy
from cmwjax.core.reweighting import reweight
from cmwjax.core.weighting_file import load_weighting

CLASSES, SAMPLES = 4, 400


@cache
def blobs():
    """Samples, true and observed labels; two of five of the rare classes are wrong."""
    rng = np.random.default_rng(0)
    true = np.repeat(np.arange(CLASSES), (160, 120, 80, 40))
    centres = rng.normal(0, 2, (CLASSES, 8))
    x = (centres[true] + rng.normal(size=(SAMPLES, 8))).astype(np.float32)
    return x, true, np.where((rng.random(SAMPLES) < 0.4) & (true > 0), 0, true)


def loss_fn(params, model_state, batch, key):
    return cross_entropy(batch["x"] @ params, batch["label"]), model_state


def batch_of(index):
    x, _, observed = blobs()
    return {"x": x[index], "label": observed[index], "index": index}


@cache
def trained(steps=400, **options):
    rw = reweight(
        loss_fn,
        optax.sgd(0.1, 0.9),
        labels=blobs()[2],
        inner_lr=0.1,
        meta_tx=optax.adamw(1e-2, weight_decay=1e-2),
        meta="lowest_loss",
        **options,
    )
    state = rw.init(jnp.zeros((8, CLASSES)), batch=batch_of(np.arange(40)))
    step, rng = jax.jit(rw.step), np.random.default_rng(1)
    for _ in range(steps):
        state, metrics = step(state, batch_of(rng.integers(0, SAMPLES, 40)))
        assert metrics["skipped"] == 0
    return rw, state


def test_wrong_labels_weigh_less():
    _, true, observed = blobs()
    rw, state = trained()
    losses, _ = loss_fn(state.params, {}, batch_of(np.arange(SAMPLES)), None)
    weights = np.asarray(rw.weights(state, losses, observed))
    wrong = true != observed
    assert weights[wrong].mean() < 0.5 * weights[~wrong].mean()


def test_the_memory_is_of_the_classes_as_observed_and_their_easiest_samples():
    _, true, observed = blobs()
    _, state = trained()
    index = np.asarray(state.memory.index)
    assert index.shape == (CLASSES, 10)
    np.testing.assert_array_equal(
        observed[index], np.arange(CLASSES)[:, None] + 0 * index
    )
    # Two of five labels of class 0 are wrong, few of these are remembered.
    assert (true[index] == observed[index]).mean() > 0.95
    for row in index:
        assert len(set(row.tolist())) == 10


@pytest.mark.slow
def test_a_step_looks_at_what_was_remembered_before_it():
    """The first meta batch is empty and says nothing; the second is the first batch."""
    rw = reweight(
        loss_fn,
        optax.sgd(0.1),
        labels=blobs()[2],
        inner_lr=0.1,
        meta_tx=optax.sgd(1.0),
        meta="lowest_loss",
        per_class=2,
    )
    batch = batch_of(np.arange(0, SAMPLES, 10))
    first = rw.init(jnp.zeros((8, CLASSES)), batch=batch)
    second, metrics = jax.jit(rw.step)(first, batch)
    assert metrics["meta_loss"] == 0 and metrics["meta_grad_norm"] == 0
    losses, _ = loss_fn(first.params, {}, batch, None)
    want = lowest_loss.remember(first.memory, losses, batch)
    jax.tree.map(np.testing.assert_array_equal, second.memory, want)
    trusted = reweight(
        loss_fn,
        optax.sgd(0.1),
        labels=blobs()[2],
        inner_lr=0.1,
        meta_tx=optax.sgd(1.0),
        trusted_share=0,
    )
    chosen = batch_of(np.asarray(want.index).ravel())
    got, metrics = jax.jit(rw.step)(second, batch)
    second = second._replace(memory=())
    expected, others = jax.jit(trusted.step)(second, batch, chosen)
    np.testing.assert_allclose(got.params, expected.params, rtol=1e-6)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7),
        (got.meta_params, metrics["meta_loss"]),
        (expected.meta_params, others["meta_loss"]),
    )


def test_a_skipped_step_remembers_nothing():
    rw, state = trained()
    batch = batch_of(np.arange(40))
    batch["x"] = batch["x"] * np.nan
    after, metrics = jax.jit(rw.step)(state, batch)
    assert metrics["skipped"] == 1
    jax.tree.map(np.testing.assert_array_equal, after.memory, state.memory)


def test_weights_are_those_of_the_file(tmp_path):
    rw, state = trained()
    observed, losses = blobs()[2], np.linspace(0, 5, SAMPLES, dtype=np.float32)
    rw.save(state, tmp_path / "v.safetensors")
    function = load_weighting(tmp_path / "v.safetensors")
    # Families by hand: of class sizes 160 + wrong ones, and what is left of the others.
    sizes = np.bincount(observed)
    nearest = np.abs(sizes[observed][:, None] - function.centres[None]).argmin(1)
    np.testing.assert_allclose(
        rw.weights(state, losses, observed), function(losses, nearest), rtol=1e-6
    )
    assert (function.loss, function.normalisation) == ("cross_entropy", "weights")


REFUSED = {
    "no index": (lambda b: b.pop("index"), "batch has no 'index'.*'lowest_loss'"),
    "index of floats": (
        lambda b: b.update(index=b["index"] * 1.0),
        r"batch\['index'\] must be integers of shape \[N\], got float",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_batches_without_their_numbers_are_refused(name):
    rw, state = trained()
    change, message = REFUSED[name]
    batch = batch_of(np.arange(40))
    change(batch)
    with pytest.raises(ValueError, match=message):
        rw.step(state, batch)
    with pytest.raises(ValueError, match=message):
        rw.init(jnp.zeros((8, CLASSES)), batch=batch)


def test_what_cannot_be_is_refused():
    rw, state = trained()
    batch = batch_of(np.arange(40))
    with pytest.raises(
        ValueError, match=r"init was given no batch.*init\(params, batch="
    ):
        rw.init(jnp.zeros((8, CLASSES)))
    with pytest.raises(ValueError, match="was given a meta_batch.*leave it out"):
        rw.step(state, batch, batch)
    given = partial(reweight, loss_fn, optax.sgd(0.1), labels=blobs()[2])
    with pytest.raises(ValueError, match="meta='easiest' is unknown; choose one of"):
        given(meta="easiest")
    with pytest.raises(ValueError, match="per_class=0 must be at least 1"):
        given(meta="lowest_loss", per_class=0)
    with pytest.raises(ValueError, match=r"losses has shape \[3\] for 2 labels"):
        rw.weights(state, np.ones(3), [0, 1])
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 4\), got 4"):
        rw.weights(state, np.ones(2), [0, 4])
