"""The cosine head as an option of models; what it computes is in test_models.py."""

import jax
import numpy as np
import pytest

from cmwjax.models.catalogue import build

TINY = {"mlp": {"hidden": (9,)}, "small_conv": {"features": (4,)}}


@pytest.mark.parametrize("name", TINY)
def test_a_cosine_head_has_no_bias_and_keeps_to_its_scale(name):
    options, x = TINY[name], np.zeros((2, 12, 12, 3), np.float32)
    x[1] = np.random.default_rng(0).normal(size=x.shape[1:]) * 100
    counts = {}
    for head in ("linear", "cosine"):
        model = build(name, num_classes=10, head=head, scale=7.0, **options)
        variables = jax.jit(model.init, static_argnums=2)(jax.random.key(0), x, False)
        counts[head] = sum(p.size for p in jax.tree.leaves(variables["params"]))
    assert counts["cosine"] == counts["linear"] - 10
    logits = np.abs(model.apply(variables, x, False)[1])
    assert 0.5 < logits.max() <= 7.001


@pytest.mark.parametrize("name", TINY)
def test_another_head_is_refused(name):
    model = build(name, num_classes=10, head="cos", **TINY[name])
    with pytest.raises(ValueError, match=r"head='cos' is unknown; .*'cosine'"):
        model.init(jax.random.key(0), np.zeros((2, 12, 12, 3), np.float32), False)
