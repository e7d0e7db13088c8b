"""The weighting net and the class families, each against a slower way to get them."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from cmwjax.core.families import group_classes
from cmwjax.core.weighting import CMWNet, metrics_fn, summarise_weights, weight_fn

LOSSES = np.array([0.0, 0.3, 1.0, 2.5, 7.0, 20.0], np.float32)
FAMILY = np.array([2, 0, 1, 1, 0, 2], np.int32)


def net_and_params(seed=0, **kwargs):
    net = CMWNet(**kwargs)
    return net, net.init(jax.random.key(seed), LOSSES, np.zeros_like(FAMILY))


# --- the net -------------------------------------------------------------------------


@pytest.mark.parametrize(("families", "count"), [(3, 503), (1, 301)])
def test_number_of_parameters(families, count):
    _, params = net_and_params(num_families=families)
    assert sum(x.size for x in jax.tree.leaves(params)) == count


@pytest.mark.parametrize("families", [1, 3, 5])
def test_weights_are_those_of_a_loop_over_samples(families):
    net, variables = net_and_params(num_families=families)
    params = jax.tree.map(np.float64, variables["params"])
    family = np.minimum(FAMILY, families - 1)
    weights = net.apply(variables, LOSSES, family)
    assert weights.shape == LOSSES.shape
    for weight, loss, k in zip(weights, LOSSES, family, strict=True):
        hidden = loss * params["shared"]["kernel"][0] + params["shared"]["bias"]
        hidden = [max(0.0, h) for h in hidden]
        logit = params["heads"]["bias"][k]
        for j, h in enumerate(hidden):
            logit += h * params["heads"]["kernel"][j, k]
        np.testing.assert_allclose(weight, 1 / (1 + np.exp(-logit)), rtol=1e-5)


def test_a_family_trains_its_own_head_only():
    net, variables = net_and_params(num_families=3)
    family = np.full(6, 1)
    gradient = jax.grad(lambda v: net.apply(v, LOSSES, family).sum())(variables)
    gradient = gradient["params"]
    assert np.all(gradient["heads"]["kernel"][:, [0, 2]] == 0)
    assert np.any(gradient["heads"]["kernel"][:, 1] != 0)
    assert np.any(gradient["shared"]["kernel"] != 0)


def test_initial_parameters_are_pytorchs():
    _, variables = net_and_params(num_families=3, hidden=400)
    for layer, bound in (("shared", 1.0), ("heads", 400**-0.5)):
        kernel = np.asarray(variables["params"][layer]["kernel"]) / bound
        bias = np.asarray(variables["params"][layer]["bias"]) / bound
        assert np.abs(kernel).max() <= 1 and np.abs(bias).max() <= 1
        quartiles = np.quantile(kernel, [0, 0.25, 0.5, 0.75, 1])
        np.testing.assert_allclose(quartiles, [-1, -0.5, 0, 0.5, 1], atol=0.12)
    bias = variables["params"]["shared"]["bias"]
    assert np.std(bias) > 0.5  # biases are drawn, too


def test_initial_weights_spread_as_published():
    net, keys = CMWNet(1), jax.random.split(jax.random.key(0), 2000)
    losses, family = jnp.array([0.0, 1, 2, 4, 8]), jnp.zeros(5, int)
    weights = jax.vmap(
        lambda key: net.apply(net.init(key, losses, family), losses, family)
    )(keys)
    np.testing.assert_allclose(weights.mean(0), 0.5, atol=0.02)
    np.testing.assert_allclose(
        weights.std(0), [0.06, 0.08, 0.12, 0.20, 0.30], atol=0.015
    )


def test_a_flat_start_is_one_half_and_can_be_left():
    net, params = net_and_params(num_families=3, start="flat")
    assert np.all(net.apply(params, LOSSES, FAMILY) == 0.5)
    gradient = jax.grad(lambda p: net.apply(p, LOSSES, FAMILY).sum())(params)
    assert np.any(gradient["params"]["heads"]["kernel"] != 0)


@pytest.mark.parametrize("start", ["torch", "flat"])
def test_an_anchored_net_has_one_weight_for_a_loss_of_zero(start):
    """Logits of the paper's net, less its logit at zero, plus 2."""
    net, params = net_and_params(num_families=3, start=start, anchored=True)
    assert set(params["params"]["heads"]) == {"kernel"}
    kernel = np.random.default_rng(0).normal(size=(100, 3))
    params["params"]["heads"]["kernel"] = jnp.asarray(kernel, jnp.float32)
    free = CMWNet(3).init(jax.random.key(1), LOSSES, FAMILY)
    free["params"]["shared"] = params["params"]["shared"]
    free["params"]["heads"]["kernel"] = params["params"]["heads"]["kernel"]
    logits = logit(free_curves := np.float64(CMWNet(3).curves(free, LOSSES)))
    assert np.ptp(free_curves[:, 0]) > 0.01
    wanted = expit(logits - logits[:, :1] + 2)
    np.testing.assert_allclose(net.curves(params, LOSSES), wanted, rtol=2e-3)
    np.testing.assert_allclose(net.curves(params, LOSSES)[:, 0], expit(2), rtol=1e-6)
    plain = {"params": net.plain(params["params"])}
    np.testing.assert_allclose(
        CMWNet(3).curves(plain, LOSSES), net.curves(params, LOSSES), rtol=1e-4
    )


def test_unknown_start():
    with pytest.raises(ValueError, match="start='zero'.*'torch', 'flat'"):
        net_and_params(start="zero")


def test_weight_fn_reads_the_family_of_the_batch():
    net, params = net_and_params(num_families=3)
    weights = weight_fn(net)(params, LOSSES, {"family": FAMILY})
    np.testing.assert_array_equal(weights, net.apply(params, LOSSES, FAMILY))
    others = weight_fn(net)(params, LOSSES, {"family": (FAMILY + 1) % 3})
    assert np.all(weights != others)


def test_curves_are_the_weights_of_every_family():
    net, params = net_and_params(num_families=3)
    curves = net.curves(params, LOSSES)
    assert curves.shape == (3, len(LOSSES))
    for k, curve in enumerate(curves):
        wanted = net.apply(params, LOSSES, np.full_like(FAMILY, k))
        np.testing.assert_allclose(curve, wanted, rtol=1e-6)


# --- what the metrics say about the weights ------------------------------------------


@pytest.mark.parametrize("terms", [1, 2])
def test_summary_over_batches_is_that_of_all_samples(terms):
    rng = np.random.default_rng(0)
    net, params = net_and_params(num_families=4)
    kernel = params["params"]["heads"]["kernel"]
    params["params"]["heads"]["kernel"] = 10 * kernel  # weights near 0 and 1, too
    losses = rng.exponential(3, (40, terms)).astype(np.float32)
    losses = losses[:, 0] if terms == 1 else losses
    family = rng.integers(3, size=40)  # the fourth family has no sample
    weights = net.apply(params, losses if terms == 1 else losses[:, 0], family)

    moments = [
        metrics_fn(net)(params, losses[i : i + 10], {"family": family[i : i + 10]})
        for i in range(0, 40, 10)
    ]
    means = jax.tree.map(lambda *x: np.mean(x, axis=0), *moments)
    summary = summarise_weights(means)
    for k in range(3):
        w = np.asarray(weights, np.float64)[family == k]
        assert (w < 0.05).any() or (w > 0.95).any()
        wanted = {
            "family_share": np.mean(family == k),
            "weight_mean": w.mean(),
            "weight_std": w.std(),
            "weight_low": np.mean(w < 0.05),
            "weight_high": np.mean(w > 0.95),
        }
        assert set(summary) == set(wanted)
        for name, value in wanted.items():
            np.testing.assert_allclose(summary[name][k], value, atol=2e-4)
    assert summary["family_share"][3] == 0 and np.isnan(summary["weight_mean"][3])


def test_std_of_equal_weights_is_zero_not_nan():
    moments = {"family_share": 1.0, "weight": 0.7, "weight_squared": 0.7**2 - 1e-9}
    moments = {k: np.array([v]) for k, v in moments.items()}
    moments["weight_low"] = moments["weight_high"] = np.zeros(1)
    assert summarise_weights(moments)["weight_std"] == 0


# --- families of classes -------------------------------------------------------------


def inertia(counts, family):
    """Sum of squared distances to the mean of the own family."""
    counts = np.asarray(counts, np.float64)
    own = [counts[family == k] for k in np.unique(family)]
    return sum(((c - c.mean()) ** 2).sum() for c in own)


def test_never_worse_than_fifty_restarts_of_scikit_learn():
    rng, strictly_better = np.random.default_rng(0), 0
    for i in range(200):
        num_classes, k = int(rng.integers(3, 101)), int(rng.integers(1, 6))
        counts = (
            rng.integers(1, 6000, num_classes)
            if i % 2
            else np.ceil(5000 * rng.random(num_classes) ** 4).astype(int)
        )
        k = min(k, len(np.unique(counts)))
        families = group_classes(counts, k)
        restarts = KMeans(k, n_init=50, random_state=i, algorithm="lloyd")
        with threadpool_limits(1):  # threads cost more than such small problems
            best = restarts.fit(counts[:, None].astype(float)).inertia_
        ours = inertia(counts, families.family)
        assert ours <= best * (1 + 1e-9) + 1e-9
        strictly_better += ours < best * (1 - 1e-6)
    assert strictly_better < 100  # else the two do not minimise the same thing


def test_exactly_as_good_as_trying_everything():
    rng = np.random.default_rng(1)
    for _ in range(40):
        num_classes, k = int(rng.integers(3, 8)), int(rng.integers(1, 4))
        counts = rng.integers(1, 12, num_classes)  # with ties
        k = min(k, len(np.unique(counts)))
        best = min(
            inertia(counts, np.array(assignment))
            for assignment in itertools.product(range(k), repeat=num_classes)
        )
        families = group_classes(counts, k)
        np.testing.assert_allclose(inertia(counts, families.family), best, atol=1e-9)


def test_families_are_sorted_by_size_and_equal_counts_stay_together():
    rng = np.random.default_rng(2)
    for k in (1, 2, 3, 5):
        counts = rng.integers(1, 30, 60)
        family, centres = group_classes(counts, k)
        assert family.dtype == np.int32 and family.shape == (60,)
        assert centres.shape == (k,) and np.all(np.diff(centres) > 0)
        for j, centre in enumerate(centres):
            np.testing.assert_allclose(counts[family == j].mean(), centre)
        order = np.argsort(counts)
        assert np.all(np.diff(family[order]) >= 0)
        for count in np.unique(counts):
            assert len(set(family[counts == count])) == 1


def long_tail(num_classes, largest, imbalance):
    exponents = np.arange(num_classes) / (num_classes - 1)
    return np.floor(largest * (1 / imbalance) ** exponents).astype(int)


@pytest.mark.parametrize(
    ("num_classes", "imbalance", "sizes"),
    [
        (10, 200, [7, 2, 1]),
        (10, 100, [7, 2, 1]),
        (10, 50, [7, 2, 1]),
        (10, 20, [6, 2, 2]),
        (10, 10, [5, 3, 2]),
        (100, 200, [70, 19, 11]),
        (100, 50, [63, 23, 14]),
        (100, 20, [57, 26, 17]),
    ],
)
def test_families_of_the_long_tailed_cifars(num_classes, imbalance, sizes):
    counts = long_tail(num_classes, 50000 // num_classes, imbalance)
    families = group_classes(counts)
    assert np.bincount(families.family).tolist() == sizes


@pytest.mark.parametrize(
    ("imbalance", "published", "exact"),
    [(100, [67, 20, 13], [66, 21, 13]), (10, [51, 29, 20], [52, 28, 20])],
)
def test_two_published_groupings_are_not_quite_optimal(imbalance, published, exact):
    counts = long_tail(100, 500, imbalance)
    family = group_classes(counts).family
    assert np.bincount(family).tolist() == exact
    theirs = np.repeat([2, 1, 0], published[::-1])  # counts descend
    assert inertia(counts, family) < inertia(counts, theirs)


def test_families_of_asymmetric_noise():
    counts = np.array([8, 8, 2, 2, 2, 8, 5, 8, 5, 2]) * 1000  # rate 0.6, CIFAR-10
    family, centres = group_classes(counts)
    assert family.tolist() == [2, 2, 0, 0, 0, 2, 1, 2, 1, 0]
    assert centres.tolist() == [2000, 5000, 8000]


@pytest.mark.parametrize(
    ("counts", "family", "centres"),
    [
        ([5, 5, 5, 5], [0, 0, 0, 0], [5]),
        ([9, 2, 9, 2], [1, 0, 1, 0], [2, 9]),
        ([7], [0], [7]),
        ([0, 0, 4], [0, 0, 1], [0, 4]),
    ],
)
def test_fewer_distinct_sizes_give_fewer_families_and_a_warning(
    counts, family, centres
):
    with pytest.warns(UserWarning, match=f"only {len(centres)} distinct class sizes"):
        families = group_classes(np.array(counts))
    assert families.family.tolist() == family
    assert families.centres.tolist() == centres


def test_as_many_families_as_sizes_is_no_reason_to_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert group_classes(np.array([30, 10, 20])).family.tolist() == [2, 0, 1]
        assert group_classes(np.array([4, 4]), 1).family.tolist() == [0, 0]


def test_large_counts_do_not_cancel():
    counts = np.array([0, 1, 10, 11, 20, 21]) + 10**9
    assert group_classes(counts).family.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("counts", "families", "message"),
    [
        ([], 3, "vector of class sizes"),
        ([[1, 2]], 3, "vector of class sizes"),
        ([3, -1], 3, "class sizes >= 0"),
        ([3, np.nan], 3, "class sizes >= 0"),
        ([3, np.inf], 3, "finite"),
        ([3, 4], 0, "num_families=0 must be at least 1"),
    ],
)
def test_bad_counts(counts, families, message):
    with pytest.raises(ValueError, match=message):
        group_classes(np.array(counts), families)
