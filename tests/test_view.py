"""How inputs of each kind become what a model sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from cmwjax.config import base_config
from cmwjax.data import view
from cmwjax.data.table import Table, make_batch
from cmwjax.data.view import Spec
from cmwjax.training import program

RNG = np.random.default_rng(0)


def seen(view_, raw, statistics):
    """What a model sees of raw inputs."""
    return view_.prepare(view_.place(raw, statistics), statistics, None)


def test_rows_are_standardised_by_the_columns_of_the_training_rows():
    train = (RNG.normal(size=(200, 3)) * [1e-3, 1, 1e4] + [0, 5, -2e4]).astype("f4")
    test = train[:7] + np.float32(1)
    prepared = seen(view.rows(), test, view.rows().statistics(train))
    want = StandardScaler().fit(train.astype(np.float64)).transform(test)
    np.testing.assert_allclose(prepared, want, rtol=1e-4, atol=1e-4)


def test_rows_of_any_size_have_finite_values():
    train = np.array([[1e-40, 9e37], [0, -9e37], [0, 9e37], [0, 9e37]], np.float32)
    prepared = seen(view.rows(), train, view.rows().statistics(train))
    # The first differs too little for float32 to divide by.
    assert np.abs(prepared[:, 0]).max() <= 1e-40
    want = StandardScaler().fit_transform(train[:, 1:].astype(np.float64))
    np.testing.assert_allclose(prepared[:, 1:], want, rtol=1e-5)


@pytest.mark.parametrize("offset", [1.7e9, -3e12])
def test_an_offset_of_a_column_costs_no_digits(offset):
    train = RNG.integers(0, 100, (200, 2)).astype(float)
    prepared = seen(view.rows(), train + offset, view.rows().statistics(train + offset))
    np.testing.assert_allclose(
        prepared, StandardScaler().fit_transform(train), atol=1e-5
    )
    assert prepared.dtype == np.float32


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("value", [0.0, 0.1, -123.456, 1e30])
def test_a_constant_column_becomes_zero(value, dtype):
    train = np.stack([np.full(999, value), np.arange(999)], axis=1).astype(dtype)
    prepared = seen(view.rows(), train, view.rows().statistics(train))
    assert (prepared[:, 0] == 0).all() and np.isfinite(prepared).all()
    assert view.rows().statistics(train)[1][0] == 1


def test_tokens_have_a_mask_and_stay_as_they_are():
    raw = np.array([[3, 1, 0], [2, 0, 0]], np.int32)
    assert view.tokens().statistics(raw) == ()
    for keys in (None, jax.random.split(jax.random.key(0), 2)):
        prepared = view.tokens().prepare(raw, (), keys)
        np.testing.assert_array_equal(prepared["tokens"], raw)
        want = [[True, True, False], [True, False, False]]
        assert prepared["mask"].tolist() == want


def test_a_batch_of_tokens_is_zero_where_there_is_no_sample():
    tokens = jnp.array([[3, 1, 0], [2, 4, 5]], jnp.int32)
    table = Table(tokens, jnp.zeros(2, int), jnp.zeros(2, int), ())
    rows = {"index": jnp.array([1, 0]), "mask": jnp.array([True, False])}
    got = make_batch(table, rows, view.tokens().prepare)["input"]
    assert got["tokens"].tolist() == [[2, 4, 5], [0, 0, 0]]
    assert got["mask"].astype(bool).tolist() == [[True] * 3, [False] * 3]
    assert got["mask"].dtype == bool


def test_images_are_those_of_the_training_pixels():
    raw = RNG.integers(256, size=(20, 4, 5, 2)).astype(np.uint8)
    images = view.build("images", base_config())
    got = images.prepare(raw, images.statistics(raw), None)
    scaled = raw.astype(np.float64) / 255
    mean, std = (f(scaled, axis=(0, 1, 2)) for f in (np.mean, np.std))
    np.testing.assert_allclose(got, (scaled - mean) / std, rtol=1e-4, atol=1e-5)
    config = base_config()
    config.data.standardise = "imagenet"
    mean, std = view.build("images", config).statistics(raw)
    np.testing.assert_allclose(mean, [0.485, 0.456, 0.406], rtol=1e-6)


def test_specs_are_keys():
    inputs = np.zeros((5, 3), np.float32)
    one, same = Spec.of("rows", inputs), Spec.of("rows", inputs[:2])
    assert one == same and hash(one) == hash(same) and one.shapes == [[3]]
    others = [
        Spec.of("rows", inputs[:, :2]),
        Spec.of("rows", inputs.astype(np.int32)),
        Spec.of("tokens", inputs),
        Spec.of("rows", inputs, vocabulary_size=4),
        Spec.of("rows", {"x": inputs}),
    ]
    assert len({one, same, *others}) == 6


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("images", np.zeros((3, 4, 5, 2), np.uint8)),
        ("rows", np.zeros((3, 6), np.float32)),
        ("tokens", np.ones((3, 6), np.int32)),
    ],
)
def test_blank_is_like_what_a_model_sees_of_one_sample(kind, raw):
    looks = view.build(kind, base_config())
    blank = view.blank(looks, Spec.of(kind, raw))
    found = seen(looks, raw[:1], looks.statistics(raw))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), blank) == jax.tree.map(
        lambda x: (x.shape, x.dtype), found
    )
    assert not any(leaf.any() for leaf in jax.tree.leaves(blank))


@pytest.mark.parametrize("method", ["erm_mixup_ema", "cmw_net_sl"])
def test_mixup_of_tokens_is_refused(method):
    config = base_config()
    config.method = method
    arguments = dict(num_classes=2, num_groups=2, num_families=2, steps_per_epoch=1)
    tokens = Spec.of("tokens", np.ones((3, 6), np.int32), vocabulary_size=9)
    with pytest.raises(ValueError, match=f"method='{method}' blends inputs .*tokens"):
        program.build(program.shared_part(config), inputs=tokens, **arguments)
