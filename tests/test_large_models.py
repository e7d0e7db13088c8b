"""Models for large images: published counts, shapes, and PyTorch's names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from cmwjax.models.catalogue import build
from cmwjax.models.torch_names import from_torch, torch_name
from cmwjax.models.vgg import adaptive_average_pool

KEY = jax.random.key(0)
BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def shapes(name, size, num_classes=1000, **options):
    model, x = build(name, num_classes=num_classes, **options), (2, size, size, 3)
    return jax.eval_shape(lambda: model.init(KEY, jnp.zeros(x), False))


def initial(name, size, **options):
    """Variables with random values, statistics too."""
    rng = np.random.default_rng(3)
    tree = shapes(name, size, num_classes=5, **options)
    return jax.tree.map(lambda a: rng.normal(size=a.shape).astype("f4"), tree)


# ---------------------------------------------------------------- counts and shapes


@pytest.mark.parametrize(
    ("name", "options", "params", "batch_stats"),
    [
        # torchvision's models; the statistics are two for each normalised channel.
        ("resnet50", {}, 25_557_032, 53_120),
        ("resnet50", {"stage_sizes": (3, 4, 23, 3)}, 44_549_160, 105_344),
        ("vgg19_bn", {}, 143_678_248, 11_008),
        ("vgg19_bn", {"stage_sizes": (2, 2, 3, 3, 3)}, 138_365_992, 8_448),
        # timm's, and Keras' non-trainable ones.
        ("inception_resnet_v2", {}, 55_843_464, 60_544),
    ],
)
def test_published_counts(name, options, params, batch_stats):
    variables = shapes(name, 299, **options)
    counts = {k: sum(x.size for x in jax.tree.leaves(v)) for k, v in variables.items()}
    assert counts == {"params": params, "batch_stats": batch_stats}


def feature_maps(name, size, parts, **options):
    """`(pixels, channels)` of what the parts put out."""
    model = build(name, num_classes=10, **options)
    _, state = jax.eval_shape(
        lambda: model.init_with_output(
            KEY, jnp.zeros((1, size, size, 3)), False, capture_intermediates=True
        )
    )
    maps = (state["intermediates"][part]["__call__"][0].shape for part in parts)
    return [(height, channels) for _, height, _, channels in maps]


@pytest.mark.parametrize(
    ("size", "pixels"),
    [
        (224, (112, 56, 28, 14, 7)),
        (227, (114, 57, 29, 15, 8)),
        (299, (150, 75, 38, 19, 10)),
        (64, (32, 16, 8, 4, 2)),
    ],
)
def test_resnet50_feature_maps(size, pixels):
    parts = ["conv1", *(f"layer{stage}_0" for stage in (1, 2, 3, 4))]
    maps = feature_maps("resnet50", size, parts, stage_sizes=(1, 1, 1, 1))
    assert maps == list(zip(pixels, (64, 256, 512, 1024, 2048), strict=True))


@pytest.mark.parametrize(
    ("size", "pixels"),
    [
        (299, (149, 147, 147, 73, 71, 35, 35, 17, 17, 8, 8, 8)),
        (224, (111, 109, 109, 54, 52, 25, 25, 12, 12, 5, 5, 5)),
        (75, (37, 35, 35, 17, 15, 7, 7, 3, 3, 1, 1, 1)),
    ],
)
def test_inception_resnet_feature_maps(size, pixels):
    channels = {
        **{"conv2d_1a": 32, "conv2d_2a": 32, "conv2d_2b": 64, "conv2d_3b": 80},
        **{"conv2d_4a": 192, "mixed_5b": 320, "repeat_0": 320, "mixed_6a": 1088},
        **{"repeat_1_0": 1088, "mixed_7a": 2080, "block8": 2080, "conv2d_7b": 1536},
    }
    name, options = "inception_resnet_v2", {"repeats": (1, 1, 0)}
    maps = feature_maps(name, size, channels, **options)
    assert maps == list(zip(pixels, channels.values(), strict=True))


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (74, {}, "74x74 pixels are too small; give at least 75x75"),
        (75, {"shrink": 3}, "shrink=3 must be 1, 2, 4, 8 or 16"),
        (75, {"shrink": 32}, "shrink=32"),
        (75, {"repeats": (1, 1)}, r"repeats=\(1, 1\) must be three"),
    ],
)
def test_inception_resnet_says_what_it_cannot_do(size, options, message):
    with pytest.raises(ValueError, match=message):
        shapes("inception_resnet_v2", size, **options)


def test_initial_values():
    model = build("resnet50", num_classes=200, stage_sizes=())
    params = jax.jit(lambda: model.init(KEY, jnp.zeros((1, 8, 8, 3)), False))()
    params = params["params"]
    kernel = params["conv1"]["kernel"]  # 64 outputs, each 49 times
    np.testing.assert_allclose(np.std(kernel), (2 / (49 * 64)) ** 0.5, rtol=0.03)
    for leaf in params["head"].values():
        assert 0.95 < np.abs(leaf).max() * 64**0.5 <= 1


# ------------------------------------------------------------------ PyTorch's names


def torchvision_resnet(width=64, stage_sizes=(3, 4, 6, 3), classes=1000):
    """Shapes of torchvision's state dict, by name."""

    def norm(name, channels):
        return {
            f"{name}.num_batches_tracked": (),
            **{f"{name}.{leaf}": (channels,) for leaf in BATCH_NORM},
        }

    state = {"conv1.weight": (width, 3, 7, 7), **norm("bn1", width)}
    inputs = width
    for stage, blocks in enumerate(stage_sizes):
        thin = width * 2**stage
        wide = 4 * thin
        for block in range(blocks):
            at = f"layer{stage + 1}.{block}"
            state |= {f"{at}.conv1.weight": (thin, inputs, 1, 1)}
            state |= {f"{at}.conv2.weight": (thin, thin, 3, 3)}
            state |= {f"{at}.conv3.weight": (wide, thin, 1, 1)}
            state |= norm(f"{at}.bn1", thin) | norm(f"{at}.bn2", thin)
            state |= norm(f"{at}.bn3", wide)
            if block == 0:
                state |= {f"{at}.downsample.0.weight": (wide, inputs, 1, 1)}
                state |= norm(f"{at}.downsample.1", wide)
            inputs = wide
    return state | {"fc.weight": (classes, inputs), "fc.bias": (classes,)}


def random_state(shapes):
    rng = np.random.default_rng(0)
    return {
        name: np.asarray(rng.normal(size=shape).astype("f4"))
        for name, shape in shapes.items()
    }


def test_torchvision_names_and_shapes():
    theirs = torchvision_resnet()
    assert len(theirs) == 320  # as many tensors as torchvision saves
    theirs = {k: v for k, v in theirs.items() if "num_batches" not in k}
    ours = flatten_dict(shapes("resnet50", 224), sep="/")
    assert sorted(map(torch_name, ours)) == sorted(theirs)
    for path, leaf in ours.items():
        shape = theirs[torch_name(path)]
        if len(shape) == 4:
            out, into, height, width = shape
            shape = height, width, into, out
        assert leaf.shape == (shape[::-1] if len(shape) == 2 else shape)


def torchvision_vgg(stage_sizes=(2, 2, 4, 4, 4), classes=1000):
    """Shapes of its state dict, of VGG with batch norm."""
    state, place, inputs = {}, 0, 3
    for stage, convolutions in enumerate(stage_sizes):
        for _ in range(convolutions):
            outputs = min(64 * 2**stage, 512)
            at, behind = f"features.{place}", f"features.{place + 1}"
            state |= {f"{at}.weight": (outputs, inputs, 3, 3), f"{at}.bias": (outputs,)}
            state |= {f"{behind}.{leaf}": (outputs,) for leaf in BATCH_NORM}
            inputs, place = outputs, place + 3
        place += 1
    for place, into, out in ((0, 25088, 4096), (3, 4096, 4096), (6, 4096, classes)):
        at = f"classifier.{place}"
        state |= {f"{at}.weight": (out, into), f"{at}.bias": (out,)}
    return state


def test_torchvision_names_and_shapes_of_vgg():
    theirs = torchvision_vgg()
    assert {k.split(".")[1] for k in theirs if k.startswith("feat")} >= {"49", "50"}
    ours = flatten_dict(shapes("vgg19_bn", 64), sep="/")
    names = {
        torch_name(path, "classifier.6"): leaf.shape for path, leaf in ours.items()
    }
    assert names.keys() == theirs.keys()
    for name, shape in theirs.items():
        out, *into = shape
        assert names[name] == ((*into[1:], *into[:1], out) if into else shape)


def test_values_of_vgg_go_where_they_belong():
    """A state dict is found by its head, and linear layers see channels first."""
    options = {"stage_sizes": (1,), "width": 2, "hidden": 3}
    like = initial("vgg19_bn", 8, **options)
    state = {}
    for path, leaf in flatten_dict(like, sep="/").items():
        axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(leaf.ndim, (0,))
        name = path.split("/", 1)[1].replace("head", "classifier.6").replace("_", ".")
        for old, new in {
            "/kernel": ".weight",
            "/scale": ".weight",
            "/bias": ".bias",
            "/mean": ".running_mean",
            "/var": ".running_var",
        }.items():
            name = name.replace(old, new)
        state[name] = leaf.transpose(axes)
    loaded = from_torch(state, initial("vgg19_bn", 8, **options))
    jax.tree.map(np.testing.assert_array_equal, loaded, like)


def test_bilinear_cnn_has_the_convolutions_of_vgg16():
    params = shapes("bcnn_vgg16", 448, num_classes=200)["params"]
    sizes = {k: sum(x.size for x in jax.tree.leaves(v)) for k, v in params.items()}
    assert sizes.pop("head") == (512 * 512 + 1) * 200
    assert sum(sizes.values()) == 138_357_544 - 25_089 * 4096 - 4097 * 5096
    # In torchvision's `vgg16`; ReLU and pools have the numbers between.
    places = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert sizes.keys() == {f"features_{place}" for place in places}


def test_bilinear_cnn_starts_from_a_whole_vgg16():
    options = {"stage_sizes": (1,), "width": 2}
    like = initial("bcnn_vgg16", 8, **options)
    rng, state = np.random.default_rng(0), {}
    for name, shape in {
        "features.0.weight": (2, 3, 3, 3),
        "features.0.bias": (2,),
        "classifier.0.weight": (4, 98),
        "classifier.0.bias": (4,),
        "classifier.6.weight": (1000, 4),
        "classifier.6.bias": (1000,),
    }.items():
        state[name] = rng.normal(size=shape).astype("f4")
    loaded = from_torch(state, like)["params"]
    kernel = loaded["features_0"]["kernel"]
    wanted = state["features.0.weight"][:, 0, 1, 2]
    np.testing.assert_array_equal(kernel[1, 2, 0], wanted)
    own = like["params"]["head"]
    jax.tree.map(np.testing.assert_array_equal, loaded["head"], own)


@pytest.mark.parametrize(
    ("size", "pooled"),
    [
        (1, [1] * 7),
        (2, [1, 1, 1, 1.5, 2, 2, 2]),
        (14, [1.5, 3.5, 5.5, 7.5, 9.5, 11.5, 13.5]),
    ],
)
def test_vgg_pools_parts_of_any_image(size, pooled):
    row = jnp.arange(1.0, size + 1)
    x = jnp.broadcast_to(row[None, :, None, None], (1, size, 3, 1))
    got = adaptive_average_pool(x, 7)[0, :, :, 0]
    np.testing.assert_allclose(got, np.tile(np.array(pooled)[:, None], 7), rtol=1e-6)


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (31, {}, "31x31 pixels are too small; give at least 32x32"),
        (64, {"stage_sizes": (1,) * 6}, "must be one to 5 numbers"),
    ],
)
def test_vgg_says_what_it_cannot_do(size, options, message):
    with pytest.raises(ValueError, match=message):
        shapes("vgg19_bn", size, **options)


@pytest.mark.parametrize("head", ["classif", "last_linear"], ids=["timm", "Cadene"])
def test_inception_resnet_names(head):
    blocks = [f"repeat.{i}" for i in range(10)] + [f"repeat_1.{i}" for i in range(20)]
    blocks += [f"repeat_2.{i}" for i in range(9)] + ["block8"]
    units = [f"conv2d_{i}" for i in ("1a", "2a", "2b", "3b", "4a", "7b")]
    chains = {
        "mixed_5b": "0 1.0 1.1 2.0 2.1 2.2 3.1",
        "mixed_6a": "0 1.0 1.1 1.2",
        "mixed_7a": "0.0 0.1 1.0 1.1 2.0 2.1 2.2",
    }
    for block in blocks:
        first = block.startswith("repeat.")
        chains[block] = "0 1.0 1.1 2.0 2.1 2.2" if first else "0 1.0 1.1 1.2"
    units += [
        f"{k}.branch{i}" for k, branches in chains.items() for i in branches.split()
    ]
    names = {f"{unit}.conv.weight" for unit in units}
    names |= {f"{unit}.bn.{leaf}" for unit in units for leaf in BATCH_NORM}
    names |= {
        f"{block}.conv2d.{leaf}" for block in blocks for leaf in ("weight", "bias")
    }
    names |= {f"{head}.weight", f"{head}.bias"}
    ours = flatten_dict(shapes("inception_resnet_v2", 75), sep="/")
    assert {torch_name(path, head) for path in ours} == names
    assert len(ours) == len(names) == 5 * 204 + 2 * 40 + 2


TINY = {"width": 4, "stage_sizes": (1, 2)}


def test_values_go_where_they_belong():
    state = random_state(torchvision_resnet(4, (1, 2), classes=5))
    variables = from_torch(state, initial("resnet50", 12, **TINY))
    params, stats = variables["params"], variables["batch_stats"]
    kernel, theirs = params["layer2_1"]["conv2"]["kernel"], "layer2.1.conv2.weight"
    for h, w, i, o in np.ndindex(3, 3, 8, 8):
        assert kernel[h, w, i, o] == state[theirs][o, i, h, w]
    np.testing.assert_array_equal(params["head"]["kernel"], state["fc.weight"].T)
    norm, at = "downsample_1", "layer2.0.downsample.1"
    for tree, leaf, theirs in [
        (params, "scale", "weight"),
        (params, "bias", "bias"),
        (stats, "mean", "running_mean"),
        (stats, "var", "running_var"),
    ]:
        ours = tree["layer2_0"][norm][leaf]
        np.testing.assert_array_equal(ours, state[f"{at}.{theirs}"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bn1.running_var": None}, "^bn1.running_var is missing; give weights of"),
        ({"fc.bias": None}, "^fc.bias is missing"),
        (
            {"layer3.0.conv1.weight": (16, 32, 1, 1)},
            "^layer3.0.conv1.weight is not known to the model; give weights",
        ),
        (
            {"conv1.weight": (4, 3, 3, 3)},
            r"^conv1.weight has shape \[4, 3, 3, 3\], not \[4, 3, 7, 7\]; give",
        ),
        ({"conv1.weight": (4, 3)}, r"has shape \[4, 3\], not \[4, 3, 7, 7\]"),
        ({"fc.weight": (7, 32)}, r"fc.weight has shape \[7, 32\], not \[5, 32\]"),
        ({"fc.weight": (7, 16), "fc.bias": (7,)}, r"fc.bias has shape \[7\], not \[5"),
        ({"fc.weight": (7, 32), "fc.bias": ()}, r"fc.bias has shape \[\], not \[5\]"),
    ],
)
def test_other_state_dicts_are_refused(change, message):
    theirs = torchvision_resnet(4, (1, 2), classes=5) | change
    state = random_state({k: v for k, v in theirs.items() if v is not None})
    with pytest.raises(ValueError, match=message):
        from_torch(state, initial("resnet50", 12, **TINY))


def test_a_prefix_is_pointed_out_and_the_list_is_short():
    state = random_state(torchvision_resnet(4, (1, 2), classes=5))
    state = {f"module.{name}": value for name, value in state.items()}
    message = (
        "^bn1.bias, .* and 57 others are missing, module.bn1.bias, .* and 59 "
        "others are not known to the model; .* no prefix"
    )
    with pytest.raises(ValueError, match=message) as error:
        from_torch(state, initial("resnet50", 12, **TINY))
    assert len(str(error.value)) < 500


def test_only_finite_numbers_are_weights():
    state = random_state(torchvision_resnet(4, (1, 2), classes=5))
    like = initial("resnet50", 12, **TINY)
    for bad in (np.full(4, np.nan, "f4"), np.ones(4, int), np.array(list("abcd"))):
        with pytest.raises(ValueError, match="bn1.bias, of type .* finite"):
            from_torch(state | {"bn1.bias": bad}, like)
