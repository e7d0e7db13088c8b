"""A virtual step that moves some of the parameters, against other ways to say it."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import path_aware_map

from cmwjax.models.catalogue import MODELS, build
from cmwjax.models.heads import last_layer
from problems import assert_close, problem
from runs import lines, run, tiny

INNER_LR = 0.5
TX, META_TX = optax.sgd(0.05, 0.9), optax.sgd(1.0, 0.9)  # whose trace is the gradient


def last(params):
    return path_aware_map(lambda path, _: path[0] == "Dense_0", params)


def step_of(p, **options):
    inner_lr = optax.constant_schedule(INNER_LR)
    return p.step(tx=TX, meta_tx=META_TX, inner_lr=inner_lr, **options)


def meta_gradient(state):
    return state.meta_opt_state[0].trace


def test_the_meta_gradient_is_that_of_the_moved_parameters_alone():
    """Against a loop over samples: -lr/n sum_i dv_i <grad meta loss, grad loss_i>."""
    with jax.enable_x64(True):
        p = problem(1, dtype=np.float64)
        state = p.state(TX, META_TX)
        n = len(p.batch["label"])

        def losses(params):
            return p.loss_fn(params, p.model_state, p.batch, state.key)[0]

        jacobian = jax.jacrev(losses)(p.params)[
            "Dense_0"
        ]  # of the last layer, [n, ...]
        values = losses(p.params)
        weights = p.weight_fn(p.meta_params, values, p.batch)
        head = jax.tree.map(
            lambda w, j: w - INNER_LR / n * np.tensordot(weights, j, 1),
            p.params["Dense_0"],
            jacobian,
        )

        def meta_loss(head):
            params = p.params | {"Dense_0": head}
            losses = p.meta_loss_fn(params, p.model_state, p.meta_batch, state.key)
            return losses.mean()

        slopes = jax.grad(meta_loss)(head)
        products = [
            sum(float((slopes[name] * jacobian[name][i]).sum()) for name in slopes)
            for i in range(n)
        ]
        wanted = jax.grad(
            lambda theta: (
                -INNER_LR
                / n
                * jnp.array(products)
                @ p.weight_fn(theta, values, p.batch)
            )
        )(p.meta_params)

        for lean in (False, True):
            step = jax.jit(step_of(p, lookahead_mask=last, lean=lean))
            got, metrics = step(state, p.batch, p.meta_batch)
            assert_close(meta_gradient(got), wanted, 1e-10)
            assert metrics["meta_loss"] == pytest.approx(float(meta_loss(head)), 1e-12)


def test_all_parameters_are_the_exact_step_and_a_tree_is_as_good_as_a_function():
    p = problem(1)
    state = p.state(TX, META_TX)
    exact, masked, tree, function = (
        step_of(p, lookahead_mask=mask)(state, p.batch, p.meta_batch)[0]
        for mask in (
            None,
            jax.tree.map(lambda _: True, p.params),
            last(p.params),
            last,
        )
    )
    assert_close(meta_gradient(masked), meta_gradient(exact), 0)
    assert_close(meta_gradient(tree), meta_gradient(function), 0)
    with pytest.raises(AssertionError):
        assert_close(meta_gradient(tree), meta_gradient(exact), 1e-3)


def test_trusted_samples_still_teach_all_of_the_classifier():
    p = problem(1)
    state = p.state(TX, META_TX)
    step = step_of(p, lookahead_mask=last, trusted_share=0.5)
    shared, alone = (
        s(state, p.batch, p.meta_batch)[0].params
        for s in (step, step_of(p, lookahead_mask=last))
    )
    for one, other in zip(*map(jax.tree.leaves, (shared, alone)), strict=True):
        assert not np.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (lambda params: {"Dense_0": True}, "no tree like params"),
        (partial(jax.tree.map, lambda _: False), "has no parameter"),
    ],
)
def test_bad_masks(mask, message):
    p = problem(1)
    with pytest.raises(ValueError, match=message):
        step_of(p, lookahead_mask=mask)(p.state(TX, META_TX), p.batch, p.meta_batch)


@pytest.mark.parametrize("name", list(MODELS))
def test_every_model_has_a_last_layer(name):
    model = build(name, num_classes=7, vocabulary_size=11)
    size = {"inception_resnet_v2": 299, "mlp": 8}.get(name, 32)
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    if name == "text":
        tokens = jax.ShapeDtypeStruct((1, 5), jnp.int32)
        x = {"tokens": tokens, "mask": jax.ShapeDtypeStruct((1, 5), bool)}
    variables = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), x)
    params = variables["params"]
    chosen = [
        path
        for path, is_last in jax.tree.leaves_with_path(last_layer(params))
        if is_last
    ]
    assert 1 <= len(chosen) <= 2 and all(path[0].key == "head" for path in chosen)
    assert all(7 in x.shape for x in jax.tree.leaves(params["head"]))


@pytest.mark.slow
def test_a_run_looks_ahead_by_the_last_layer_or_leanly(tmp_path):
    curves = {}
    for name, fields in {
        "exact": {},
        "lean": {"weighting.lean": True},
        "last": {"weighting.lookahead_layers": "last"},
    }.items():
        run(tiny(**fields), tmp_path / name)
        curves[name] = np.array([x["meta_loss"] for x in lines(tmp_path / name)[1:]])
    np.testing.assert_allclose(curves["lean"], curves["exact"], rtol=1e-4)
    difference = np.abs(curves["last"] / curves["exact"] - 1)
    assert 1e-3 < difference.max() < 0.5


def test_a_model_without_a_head_is_refused_before_anything_is_written(tmp_path):
    class Own(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return nn.Dense(10, name="last")(x.reshape(len(x), -1))

    config = tiny(**{"weighting.lookahead_layers": "last"})
    with pytest.raises(ValueError, match=r"lookahead_layers='last'.*\['last'\]"):
        run(config, tmp_path / "run", model=Own())
    assert not (tmp_path / "run").exists()
