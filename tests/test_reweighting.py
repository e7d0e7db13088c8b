"""Class-aware weighting in a loop of five lines."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmwjax.core.losses import cross_entropy
from cmwjax.core.reweighting import reweight

CLASSES, NOISE = 6, {0: 1, 2: 3}  # 60 % of classes 0 and 2 carry a wrong label
SHRUNK, UNTOUCHED, GROWN = [0, 2], [4, 5], [1, 3]


@cache
def blobs():
    """Noisy training set, clean meta set and test set of six Gaussian classes."""
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 1.5, (CLASSES, 8))

    def sample(per_class):
        label = np.repeat(np.arange(CLASSES), per_class)
        x = centres[label] + rng.normal(0, 1, (len(label), 8))
        return {"x": jnp.asarray(x, jnp.float32), "label": jnp.asarray(label)}

    train, meta, test = sample(100), sample(10), sample(200)
    noisy = np.array(train["label"])
    for source, target in NOISE.items():
        noisy[rng.choice(np.flatnonzero(noisy == source), 60, replace=False)] = target
    return {**train, "label": jnp.asarray(noisy)}, meta, test


def loss_fn(params, model_state, batch, key):
    return cross_entropy(batch["x"] @ params, batch["label"]), model_state


def accuracy(params, batch):
    return np.mean(np.argmax(batch["x"] @ params, axis=1) == batch["label"])


@cache
def init_and_step(**kwargs):
    labels = np.asarray(blobs()[0]["label"])
    init, step = reweight(loss_fn, optax.sgd(1.0, 0.9), labels=labels, **kwargs)
    return init, jax.jit(step)


def train(steps, meta=True, **kwargs):
    batch, trusted, _ = blobs()
    init, step = init_and_step(**kwargs)
    state, metrics = init(jnp.zeros((8, CLASSES))), None
    for _ in range(steps):
        state, metrics = step(state, batch, trusted if meta else None)
    return state, metrics


def test_it_beats_ordinary_training_under_class_dependent_noise():
    batch, _, test = blobs()
    params, tx = jnp.zeros((8, CLASSES)), optax.sgd(1.0, 0.9)
    opt_state = tx.init(params)

    @jax.jit
    def erm_step(params, opt_state):
        gradient = jax.grad(lambda w: loss_fn(w, {}, batch, None)[0].mean())(params)
        updates, opt_state = tx.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    for _ in range(150):
        params, opt_state = erm_step(params, opt_state)
    state, metrics = train(150)
    erm, ours = accuracy(params, test), accuracy(state.params, test)
    assert ours > erm + 0.1, (ours, erm)
    assert state.skipped == 0
    # Small classes are trusted more than those that took in the wrong labels.
    moments = metrics["weighting"]
    mean_weight = moments["weight"] / moments["family_share"]
    assert mean_weight[0] > mean_weight[2] + 0.1, mean_weight


def test_families_are_the_class_sizes_of_the_labels():
    _, metrics = train(1)
    batch, _, _ = blobs()
    counts = np.bincount(batch["label"]) / len(batch["label"])
    wanted = [counts[family].sum() for family in (SHRUNK, UNTOUCHED, GROWN)]
    np.testing.assert_allclose(metrics["weighting"]["family_share"], wanted, rtol=1e-5)


def test_one_family_is_mw_net():
    state, metrics = train(1, meta=False, num_families=1)
    assert state.meta_params["params"]["heads"]["kernel"].shape == (100, 1)
    np.testing.assert_allclose(metrics["weighting"]["family_share"], [1])


def test_without_a_meta_batch_the_weighting_net_rests():
    state, metrics = train(2, meta=False)
    fresh, _ = train(0)
    for a, b in zip(
        *map(jax.tree.leaves, (state.meta_params, fresh.meta_params)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert np.any(state.params != fresh.params) and "meta_loss" not in metrics


@pytest.mark.parametrize("steps", [1, 2])
def test_the_virtual_step_is_plain_sgd_if_given_a_learning_rate(steps):
    sgd, by_tx = (train(steps, inner_lr=lr)[0].meta_params for lr in (1.0, None))
    errors = [
        np.max(np.abs(a - b))
        for a, b in zip(*map(jax.tree.leaves, (sgd, by_tx)), strict=True)
    ]
    # With momentum the two part at the second step.
    assert max(errors) < 1e-6 if steps == 1 else min(errors) > 1e-5


def test_devices_share_the_work():
    batch, trusted, _ = blobs()
    _, named = reweight(
        loss_fn,
        optax.sgd(1.0, 0.9),
        labels=np.asarray(batch["label"]),
        inner_lr=optax.constant_schedule(1.0),
        axis_name="data",
    )
    state, _ = train(0, inner_lr=1.0)
    wanted, _ = train(1, inner_lr=1.0)

    def split(batch):
        return jax.tree.map(lambda x: x.reshape(4, -1, *x.shape[1:]), batch)

    mapped = jax.pmap(named, "data", in_axes=(None, 0, 0), out_axes=None)
    after, _ = mapped(state, split(batch), split(trusted))
    for name in ("params", "meta_params"):
        for a, b in zip(
            *(jax.tree.leaves(getattr(s, name)) for s in (after, wanted)), strict=True
        ):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_default_lookahead_refuses_an_adam_without_eps_root():
    batch, trusted, _ = blobs()
    init, step = reweight(loss_fn, optax.adam(1e-3), labels=batch["label"])
    state = init(jnp.zeros((8, CLASSES)))
    with pytest.raises(ValueError, match="eps_root.*give reweight an inner_lr") as info:
        step(state, batch, trusted)
    assert "lookahead=" not in str(info.value)  # which reweight does not have


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint64])
def test_labels_of_any_integer_type(dtype):
    labels = np.array([0, 1, 1, 2, 2, 2], dtype)
    init, step = reweight(loss_fn, optax.sgd(0.1), labels=labels)
    batch = {"x": jnp.ones((3, 8)), "label": labels[[0, 1, 3]]}
    _, metrics = step(init(jnp.zeros((8, 3))), batch)
    np.testing.assert_allclose(metrics["weighting"]["family_share"], 1 / 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("labels", "num_classes", "message"),
    [
        ([0.0, 1.0], None, "integers of shape .*got float64"),
        ([[0], [1]], None, r"of shape \[2, 1\]"),
        (np.array([], int), None, "labels are empty: pass those of all training"),
        ([], 3, "labels are empty"),
        ([0, -1], None, r"must lie in \[0, ...\), got -1 at position 1"),
        ([0, 1, 5], 3, r"must lie in \[0, 3\), got 5 at position 2"),
        ([0, 2, 2], None, r"class\(es\) \[1\] have no sample"),
        ([0, 1], 4, r"class\(es\) \[2, 3\] have no sample"),
    ],
)
def test_bad_labels(labels, num_classes, message):
    with pytest.raises(ValueError, match=message):
        reweight(loss_fn, optax.sgd(0.1), labels=labels, num_classes=num_classes)


# --- what a step is given ------------------------------------------------------------


def few(start=0):
    x, label = blobs()[0]["x"][start : start + 6], np.arange(6) % CLASSES
    return {"x": x, "label": label}


def a_step(batch, meta_batch, loss_fn=loss_fn, jit=jax.jit):
    labels = np.asarray(blobs()[0]["label"])
    init, step = reweight(loss_fn, optax.sgd(1.0), labels=labels)
    return jit(step)(init(jnp.zeros((8, CLASSES))), batch, meta_batch)


LABEL = few()["label"]
ONE_PER_SAMPLE = r"must be integers of shape \[N\], got .*: pass one class number"


@pytest.mark.parametrize("jit", [jax.jit, lambda step: step], ids=["jit", "eager"])
@pytest.mark.parametrize("which", ["batch", "meta_batch"])
@pytest.mark.parametrize(
    ("label", "message"),
    [
        (LABEL[:, None], rf"\['label'\] {ONE_PER_SAMPLE}"),
        (np.eye(CLASSES)[LABEL], ONE_PER_SAMPLE),
        (LABEL.astype(np.float32), "got float32 of shape"),
        (LABEL == 1, "got bool of shape"),
        (LABEL[0], r"of shape \[\]"),
        (None, r"has no 'label', only \['x'\]: add the class"),
    ],
)
def test_bad_labels_of_a_batch(label, message, which, jit):
    batches = {"batch": few(), "meta_batch": few()}
    if label is None:
        del batches[which]["label"]
    else:
        batches[which]["label"] = label
    with pytest.raises(ValueError, match=f"^{which}.*{message}"):
        a_step(**batches, jit=jit)


@pytest.mark.parametrize("which", ["batch", "meta_batch"])
@pytest.mark.parametrize("label", [-1, CLASSES, np.iinfo(np.int32).max])
def test_a_label_that_is_no_class_is_refused_or_its_update_skipped(which, label):
    batches = {"batch": few(), "meta_batch": few()}
    batches[which]["label"] = np.where(np.arange(6) == 2, label, LABEL)
    state, metrics = a_step(**batches)  # its value is not known
    assert metrics["skipped"] == 1 and not np.any(state.params)
    message = rf"{which}\['label'\] must lie in \[0, 6\), got {label} at position 2"
    with pytest.raises(ValueError, match=message):
        a_step(**batches, jit=lambda step: step)


def test_labels_may_be_a_list():
    batch = few() | {"label": [0, 1, 2, 3, 4, 5]}
    for jit in (jax.jit, lambda step: step):
        assert a_step(batch, batch, jit=jit)[1]["skipped"] == 0


@pytest.mark.parametrize("with_meta", [True, False])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, None], r"shape \[6, 1\] for 6 labels: return one loss per"),
        (jnp.mean, r"shape \[\] for 6 labels"),
        (lambda x: x[:3], r"shape \[3\] for 6 labels"),
        (lambda x: x.astype(int), "losses of type int32 for batch, which have no"),
    ],
)
def test_bad_losses(change, message, with_meta):
    def changed(*arguments):
        losses, model_state = loss_fn(*arguments)
        return change(losses), model_state

    with pytest.raises(ValueError, match=message) as info:
        a_step(few(), few() if with_meta else None, changed)
    for other_door in ("meta_loss_fn", "lookahead", "weight_fn"):
        assert other_door not in str(info.value)


@pytest.mark.parametrize("which", ["batch", "meta_batch"])
def test_an_empty_batch_is_refused(which):
    empty = {key: value[:0] for key, value in few().items()}
    with pytest.raises(ValueError, match=f"{which} is empty; pass at least one"):
        a_step(**{"batch": few(), "meta_batch": few(), which: empty})
