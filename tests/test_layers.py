"""Fenced convolutions: values and derivatives are those of JAX's own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from numpy.testing import assert_allclose

from cmwjax.core.meta import all_mean
from cmwjax.models.catalogue import build
from cmwjax.models.layers import Conv, fence, fenced_convolution
from test_models import IMAGE_MODELS, SIZES, TINY

KEY = jax.random.key(0)
K1, K3 = (1, 1), (3, 3)
# Kernel size, strides, padding, bias: every convolution that a model has.
CONVOLUTIONS = [
    (K3, 1, 1, False),
    (K3, 1, 1, True),
    (K3, 1, 0, False),
    (K3, 2, 1, False),
    (K1, 1, 0, False),
    (K1, 2, 0, False),
    ((7, 7), 2, 3, False),
    (K3, 2, "VALID", False),
    (K3, 1, "VALID", False),
    (K3, 1, "SAME", False),
    (K3, 2, "SAME", False),
    ((5, 5), 1, "SAME", False),
    (K1, 1, "SAME", False),
    ((1, 7), 1, "SAME", False),
    ((7, 1), 1, "SAME", False),
    ((1, 3), 1, "SAME", False),
    ((3, 1), 1, "SAME", False),
    (K1, 1, "SAME", True),
]


def test_no_model_has_another_convolution_or_one_without_fences():
    seen = set()

    def look(method, args, kwargs, context):
        conv = context.module
        if isinstance(conv, nn.Conv):
            assert conv.conv_general_dilated is fenced_convolution, conv.path
            seen.add((conv.kernel_size, conv.strides, conv.padding, conv.use_bias))
        return method(*args, **kwargs)

    for name in IMAGE_MODELS:
        model = build(name, num_classes=3, **TINY[name])
        x = jnp.zeros((2, SIZES.get(name, 12), SIZES.get(name, 12), 3))
        with nn.intercept_methods(look):
            jax.eval_shape(lambda: model.init(KEY, x, False))  # noqa: B023
    assert seen == set(CONVOLUTIONS)


def normal(seed, *trees):
    """Like the trees, in float64."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), trees)


def assert_close(actual, expected, tolerance):
    jax.tree.map(
        lambda a, b: assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        actual,
        expected,
    )


def derivatives(conv, primals, tangents, seed):
    """Value, tangent and cotangents, each in every way that there is to have it."""
    value, tangent = jax.jvp(conv.apply, primals, tangents)
    same_value, linear = jax.linearize(conv.apply, *primals)
    _, pullback = jax.vjp(conv.apply, *primals)
    (cotangent,) = normal(seed, value)
    # A meta step differentiates the pullback, which is linear, and so goes forward.
    _, pullback_of_pullback = jax.vjp(pullback, cotangent)
    transposed = jax.linear_transpose(linear, *primals)
    return [
        (value, same_value),
        (tangent, linear(*tangents), pullback_of_pullback(tangents)[0]),
        (pullback(cotangent), transposed(cotangent)),
    ]


@pytest.mark.parametrize("kernel_size, strides, padding, bias", CONVOLUTIONS)
def test_value_and_derivatives_are_those_of_lax(kernel_size, strides, padding, bias):
    options = dict(strides=strides, padding=padding, use_bias=bias)
    ours, plain = (kind(4, kernel_size, **options) for kind in (Conv, nn.Conv))
    with jax.enable_x64(True):
        x = jnp.zeros((3, 9, 8, 5))
        primals = normal(0, jax.eval_shape(plain.init, KEY, x), x)
        tangents = normal(1, *primals)
        of = jax.jit(derivatives, static_argnums=(0, 3))
        for ways, (expected, *_) in zip(
            of(ours, primals, tangents, 2), of(plain, primals, tangents, 2), strict=True
        ):
            for way in ways:
                assert_close(way, expected, tolerance=1e-12)


def test_mapped_over_an_axis_the_gradient_is_that_of_the_whole_batch():
    options = dict(num_classes=3, stage_sizes=(1, 1), width=4)

    def gradient(variables, x, axis_name=None):
        model = build("preact_resnet18", axis_name=axis_name, **options)

        def loss(variables):
            logits, _ = model.apply(variables, x, True, mutable=["batch_stats"])
            return all_mean(jnp.mean(logits**2), axis_name)

        return all_mean(jax.grad(loss)(variables), axis_name)

    with jax.enable_x64(True):
        model, x = build("preact_resnet18", **options), jnp.zeros((8, 6, 6, 3))
        variables, x = normal(0, jax.eval_shape(lambda: model.init(KEY, x, False)), x)
        expected = jax.jit(gradient)(variables, x)
        mapped = jax.vmap(
            partial(gradient, axis_name="data"),
            in_axes=(None, 0),
            out_axes=None,
            axis_name="data",
        )
        parts = x.reshape(4, 2, *x.shape[1:])
        # Channels that hardly vary lose digits where their norms divide.
        assert_close(jax.jit(mapped)(variables, parts), expected, tolerance=1e-8)


@pytest.mark.parametrize("platform, fences", [("cpu", 1), ("cuda", 0), ("tpu", 0)])
def test_the_platform_that_is_lowered_for_decides(platform, fences):
    traced = jax.jit(lambda x: fence(x + 1)).trace(jnp.zeros(3))
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    assert program.count("optimization_barrier") == fences
