"""Models: parameter counts by hand, forward passes and statistics by numpy."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import InvalidRngError
from flax.traverse_util import flatten_dict

from cmwjax.core.initializers import torch_uniform
from cmwjax.models.catalogue import MODELS, build
from cmwjax.models.heads import CosineHead
from cmwjax.models.initializers import kaiming_normal, torch_kernel
from cmwjax.models.resnet_cifar import pad_shortcut
from numpy_models import Numpy, reference

KEY = jax.random.key(0)
TINY = {
    "mlp": {"hidden": (8,)},
    "small_conv": {"features": (4, 8)},
    "resnet32": {"depth": 8},
    "preact_resnet18": {"stage_sizes": (1, 1), "width": 4},
    "resnet34": {"stage_sizes": (1, 1), "width": 4},
    "wide_resnet": {"depth": 10, "width": 1},
    "resnet50": {"stage_sizes": (1, 1), "width": 4},
    "vgg19_bn": {"stage_sizes": (1, 2), "width": 4, "hidden": 8, "dropout": 0.0},
    "bcnn_vgg16": {"stage_sizes": (1, 2), "width": 4},
    "efficientnet_lite0": {"stages": ((1, 3, 1, 1, 4), (2, 5, 2, 3, 6))},
    "inception_resnet_v2": {"repeats": (1, 1, 1), "shrink": 16},
}
IMAGE_MODELS = [name for name in MODELS if name != "text"]
SIZES = {"inception_resnet_v2": 75, "vgg19_bn": 32}  # the others take anything


def images(name, batch=5):
    size = SIZES.get(name, 12)
    return np.random.default_rng(1).normal(size=(batch, size, size, 3)).astype("f4")


def shapes(model, size=32, channels=3):
    x = jnp.zeros((2, size, size, channels))
    return jax.eval_shape(lambda: model.init(KEY, x, False))


def random_variables(model, x):
    """Every parameter random: zero biases and unit scales would hide mistakes."""
    rng = np.random.default_rng(2)
    tree = jax.eval_shape(lambda: model.init(KEY, x, False))
    return jax.tree.map(lambda a: rng.normal(size=a.shape).astype("f4"), tree)


# ---------------------------------------------------------------- parameter counts


def conv(inputs, outputs, kernel=3):
    return kernel**2 * inputs * outputs


def linear(inputs, outputs=10):
    return (inputs + 1) * outputs


def stem(outputs):
    return conv(3, outputs) + 2 * outputs  # batch norm has two per channel


def basic(inputs, outputs, blocks):
    return (
        conv(inputs, outputs)
        + (2 * blocks - 1) * conv(outputs, outputs)
        + (2 * blocks * 2 * outputs)
    )


def projected(inputs, outputs, blocks):
    projection = conv(inputs, outputs, kernel=1) + 2 * outputs
    return basic(inputs, outputs, blocks) + (inputs != outputs) * projection


def preact(inputs, outputs, blocks):
    # The first norm has the width of the input, the projection has no norm.
    projection = conv(inputs, outputs, kernel=1) + 2 * (inputs - outputs)
    return basic(inputs, outputs, blocks) + (inputs != outputs) * projection


def stages(kind, widths, blocks):
    return sum(kind(*args) for args in zip(widths, widths[1:], blocks, strict=False))


def wide_resnet(width):
    widths = 16, 16 * width, 32 * width, 64 * width
    return (
        conv(3, 16)
        + stages(preact, widths, (4, 4, 4))
        + 2 * widths[-1]
        + (linear(widths[-1]))
    )


THIN, FULL = (16, 16, 32, 64), (64, 64, 128, 256, 512)
COUNTS = [
    ("mlp", {}, linear(3072, 128) + linear(128, 128) + linear(128), 411_146),
    (
        "mlp",
        {"hidden": (8, 9), "batch_norm": True},
        3072 * 8 + 2 * 8 + 8 * 9 + 2 * 9 + linear(9),
        24_782,
    ),
    (
        "small_conv",
        {},
        stem(16) + conv(16, 32) + 2 * 32 + conv(32, 64) + 2 * 64 + linear(4 * 4 * 64),
        33_946,
    ),
    ("resnet32", {}, stem(16) + stages(basic, THIN, (5, 5, 5)) + linear(64), 464_154),
    (
        "preact_resnet18",
        {},
        stem(64) + stages(preact, FULL, (2, 2, 2, 2)) + linear(512),
        11_171_274,
    ),
    (
        "resnet34",
        {},
        stem(64) + stages(projected, FULL, (3, 4, 6, 3)) + linear(512),
        21_282_122,
    ),
    ("wide_resnet", {"width": 2}, wide_resnet(2), 1_467_610),
    ("wide_resnet", {}, wide_resnet(10), 36_479_194),
]


@pytest.mark.parametrize("name, options, formula, known", COUNTS)
def test_parameter_count(name, options, formula, known):
    params = shapes(build(name, num_classes=10, **options))["params"]
    assert sum(x.size for x in jax.tree.leaves(params)) == formula == known


def test_batch_norm_of_the_mlp_is_before_the_relu():
    model = build("mlp", num_classes=3, hidden=(5,), batch_norm=True)
    x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    variables = model.init(jax.random.key(0), x, False)
    params = variables["params"]
    layers = params["Dense_0"], params["head"]
    kernels = [np.asarray(layer["kernel"]) for layer in layers]
    for kernel in kernels:  # Xavier's bound
        assert np.abs(kernel).max() < np.sqrt(6 / sum(kernel.shape))
    got, _ = model.apply(variables, x, True, mutable=["batch_stats"])
    hidden = x @ kernels[0]
    hidden = (hidden - hidden.mean(axis=0)) / np.sqrt(hidden.var(axis=0) + 1e-5)
    want = np.maximum(hidden, 0) @ kernels[1]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_cosine_head_has_no_bias():
    params = shapes(build("resnet32", num_classes=10, head="cosine"))["params"]
    assert sum(x.size for x in jax.tree.leaves(params)) == 464_154 - 10


# -------------------------------------------------------------------------- shapes


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_logits_have_the_shape_of_the_classes(name):
    size = SIZES.get(name, 28)
    model = build(name, num_classes=7, **(TINY[name] if name in SIZES else {}))
    variables = shapes(model, size, 1)
    x = jax.ShapeDtypeStruct((4, size, size, 1), jnp.float32)
    drops = {"mutable": ["batch_stats"], "rngs": {"dropout": KEY}}
    logits, state = jax.eval_shape(
        lambda v, x: model.apply(v, x, True, **drops), variables, x
    )
    assert logits.shape == (4, 7)
    assert logits.dtype == jnp.float32
    assert state.get("batch_stats") == variables.get("batch_stats")


@pytest.mark.parametrize(
    "padding, sizes",
    [(0, (30, 15, 8, 4)), (1, (32, 16, 8, 4))],
    ids=["theirs", "usual"],
)
def test_resnet34_feature_maps(padding, sizes):
    model = build("resnet34", num_classes=10, stem_padding=padding)
    _, state = jax.eval_shape(
        lambda: model.init_with_output(
            KEY, jnp.zeros((1, 32, 32, 3)), False, capture_intermediates=True
        )
    )
    blocks = [
        state["intermediates"][f"BasicBlock_{i}"]["__call__"][0].shape[1]
        for i in range(16)
    ]
    expected = np.repeat(sizes, (3, 4, 6, 3)).tolist()
    assert blocks == expected


# -------------------------------------------------------------- forward passes


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_forward_pass_in_numpy(name):
    model, x = build(name, num_classes=3, **TINY[name]), images(name)
    variables = random_variables(model, x)
    logits, _ = jax.jit(lambda v: model.apply(v, x, True, mutable=["batch_stats"]))(
        variables
    )
    params = {k: v.astype("f8") for k, v in flatten_dict(variables["params"]).items()}
    expected = reference(name, Numpy(params), x.astype("f8"))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(logits / scale, expected / scale, atol=2e-5)


# ------------------------------------------------------------- several devices


@pytest.mark.parametrize("name", [name for name in IMAGE_MODELS if name != "mlp"])
def test_every_norm_averages_over_the_axis(name):
    model, x = (
        build(name, num_classes=3, axis_name="data", **TINY[name]),
        images(name, 8),
    )
    variables = random_variables(model, x)
    plain = build(name, num_classes=3, **TINY[name])
    expected = jax.eval_shape(
        lambda: plain.apply(variables, x, True, mutable=["batch_stats"])
    )
    # out_axes=None refuses statistics that are not the same on all devices.
    logits, state = jax.eval_shape(
        jax.vmap(
            lambda x: model.apply(variables, x, True, mutable=["batch_stats"]),
            axis_name="data",
            out_axes=(0, None),
        ),
        x.reshape(4, 2, *x.shape[1:]),
    )
    assert (logits.shape, state) == ((4, 2, 3), expected[1])


# ------------------------------------------------------------ parts of ResNet-32


def test_pad_shortcut():
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 4)).astype("f4")
    expected = np.zeros((2, 3, 3, 8), "f4")
    for row, column, channel in np.ndindex(3, 3, 4):
        expected[:, row, column, channel + 2] = x[:, 2 * row, 2 * column, channel]
    np.testing.assert_array_equal(pad_shortcut(x, features=8, strides=2), expected)
    np.testing.assert_array_equal(pad_shortcut(x, features=4, strides=1), x)


def test_cosine_head():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(4, 6)), rng.normal(size=(6, 3))
    logits = CosineHead(3, 16.0).apply({"params": {"kernel": jnp.float32(kernel)}}, x)
    for i in range(4):
        for c in range(3):
            cosine = x[i] @ kernel[:, c]
            cosine /= np.linalg.norm(x[i]) * np.linalg.norm(kernel[:, c])
            np.testing.assert_allclose(logits[i, c], 16 * cosine, rtol=1e-4)


def test_cosine_of_a_zero_vector_is_zero_and_differentiable():
    head = CosineHead(3, 1.0)
    variables = head.init(KEY, jnp.zeros((1, 6)))
    total = jax.jit(jax.value_and_grad(lambda x: head.apply(variables, x).sum()))
    value, gradient = total(jnp.zeros((1, 6)))
    assert value == 0
    assert np.all(np.isfinite(gradient))


# --------------------------------------------------------- dtype, dropout, initials


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_bfloat16_keeps_parameters_and_logits_in_float32(name):
    model, x = build(name, num_classes=3, dtype="bfloat16", **TINY[name]), images(name)
    variables = random_variables(model, x)
    dtypes = {x.dtype for x in jax.tree.leaves(shapes(model, x.shape[1]))}
    assert dtypes == {jnp.dtype("float32")}

    def apply(x):
        return model.apply(variables, x, True, mutable=["batch_stats"])

    logits, state = jax.eval_shape(apply, x)
    assert {x.dtype for x in jax.tree.leaves((logits, state))} == dtypes
    operation = "dot_general" if name == "mlp" else "conv_general_dilated"
    results = re.findall(
        rf":(\w+)\[[\d,]+\] = {operation}", str(jax.make_jaxpr(apply)(x))
    )
    head = ["f32"] if name == "mlp" else []  # its dot is the last one
    assert results == ["bf16"] * (len(results) - len(head)) + head
    assert len(results) > len(head)


def test_dropout():
    model, x = build("mlp", num_classes=3, dropout=0.5), images("mlp")
    variables = random_variables(model, x)

    @jax.jit
    def train(key):
        return model.apply(variables, x, True, rngs={"dropout": key})

    one, two = (train(jax.random.key(seed)) for seed in (1, 2))
    assert not np.allclose(one, two)
    np.testing.assert_array_equal(one, train(jax.random.key(1)))


@pytest.mark.parametrize(
    "name", ["mlp", "wide_resnet", "vgg19_bn", "inception_resnet_v2"]
)
def test_dropout_needs_a_key_in_training_only(name):
    options = TINY[name] | {"dropout": 0.5}
    model, x = build(name, num_classes=3, **options), images(name)
    variables = random_variables(model, x)

    def apply(train):
        mutable = ["batch_stats"] if train else False
        return jax.eval_shape(lambda: model.apply(variables, x, train, mutable=mutable))

    apply(train=False)
    with pytest.raises(InvalidRngError):
        apply(train=True)


def test_initial_values():
    shape, fan_in = (3, 3, 32, 64), 288
    kernel = np.abs(np.asarray(torch_kernel(KEY, shape))) * fan_in**0.5
    assert 0.999 < kernel.max() <= 1.0
    np.testing.assert_allclose(kernel.mean(), 0.5, atol=0.02)
    bias = np.abs(np.asarray(torch_uniform(16)(KEY, (1000,))))
    assert 0.24 < bias.max() <= 0.25
    kernel = np.asarray(kaiming_normal(KEY, shape)) * (fan_in / 2) ** 0.5
    np.testing.assert_allclose(kernel.std(), 1.0, atol=0.03)
    assert np.abs(kernel).max() > 3  # PyTorch does not truncate


# -------------------------------------------------------------------------- build


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("resnet33", {}, "model='resnet33' is unknown; choose one of .*resnet32"),
        ("mlp", {"widths": 3}, r"mlp has no option \['widths'\]; .*'hidden'"),
        ("mlp", {"parent": None}, "no option"),
    ],
)
def test_build_lists_the_choices(name, options, message):
    with pytest.raises(ValueError, match=message):
        build(name, num_classes=10, **options)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("resnet32", {"depth": 30}, "depth=30 must be 6n"),
        ("resnet32", {"depth": 2}, "depth=2 must be 6n"),
        ("resnet32", {"head": "cos"}, "head='cos' is unknown; .*cosine"),
        ("wide_resnet", {"depth": 26}, "depth=26 must be 6n"),
    ],
)
def test_options_out_of_range(name, options, message):
    with pytest.raises(ValueError, match=message):
        shapes(build(name, num_classes=10, **options))
