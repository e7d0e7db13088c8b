"""The text classifier, against a loop over samples in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import InvalidRngError

from cmwjax.models.catalogue import build

KEY = jax.random.key(0)
TOKENS = np.array([[3, 5, 5, 0], [2, 0, 0, 0], [1, 6, 4, 2], [0, 0, 0, 0]], np.int32)
X = {"tokens": TOKENS, "mask": TOKENS > 0}


def model_and_variables(**options):
    options = {"num_classes": 3, "vocabulary_size": 7, "embedding": 5} | options
    model = build("text", **options)
    tree = jax.eval_shape(lambda: model.init(KEY, X, False))
    rng = np.random.default_rng(2)
    return model, jax.tree.map(lambda a: rng.normal(size=a.shape).astype("f4"), tree)


@pytest.mark.parametrize("hidden", [(), (4,), (4, 6)])
def test_logits_are_those_of_a_loop_over_samples(hidden):
    model, variables = model_and_variables(hidden=hidden)
    logits = model.apply(variables, X, False)
    assert logits.shape == (4, 3) and logits.dtype == jnp.float32
    params = jax.tree.map(np.float64, variables["params"])
    for row, expected in zip(TOKENS, logits, strict=True):
        x = [params["Embed_0"]["embedding"][token] for token in row if token]
        x = sum(x) / len(x) if x else np.zeros(5)
        for i in range(len(hidden)):
            layer = params[f"Dense_{i}"]
            x = np.maximum(x @ layer["kernel"] + layer["bias"], 0)
        x = x @ params["head"]["kernel"] + params["head"]["bias"]
        np.testing.assert_allclose(expected, x, rtol=1e-5)


def test_padding_changes_nothing():
    model, variables = model_and_variables(hidden=(4,))
    padded = np.full((4, 7), 6, np.int32)  # a token that means something
    padded[:, 1:5] = TOKENS
    mask = np.zeros((4, 7), bool)
    mask[:, 1:5] = X["mask"]

    def gradient(x):
        return jax.grad(lambda v: jnp.sum(model.apply(v, x, False) ** 2))(variables)

    ours, other = gradient(X), gradient({"tokens": padded, "mask": mask})
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        assert np.all(np.isfinite(a))  # with a row of nothing but padding
    assert np.all(ours["params"]["Embed_0"]["embedding"][0] == 0)


def test_cosine_head_keeps_to_its_scale():
    model, variables = model_and_variables(head="cosine", scale=7.0)
    logits = model.apply(variables, X, False)
    assert 1 < np.abs(logits).max() <= 7.001
    assert np.all(logits[3] == 0)


def test_dropout_needs_a_key_in_training_only():
    model, variables = model_and_variables(dropout=0.5)
    model.apply(variables, X, False)
    with pytest.raises(InvalidRngError):
        model.apply(variables, X, True)
    one, again, two = (
        model.apply(variables, X, True, rngs={"dropout": jax.random.key(seed)})
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, two)


def test_bfloat16_keeps_parameters_and_logits_in_float32():
    model, variables = model_and_variables(dtype="bfloat16", hidden=(4,))
    assert {a.dtype for a in jax.tree.leaves(variables)} == {np.dtype("float32")}
    logits = model.apply(variables, X, False)
    exact = model_and_variables(hidden=(4,))[0].apply(variables, X, False)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, exact, rtol=0.05, atol=0.05)
    assert not np.array_equal(logits, exact)
