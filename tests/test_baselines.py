"""Every baseline against its formula, as a loop over samples or in closed form."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmwjax.config import base_config
from cmwjax.config_check import check_config
from cmwjax.core import losses
from cmwjax.core.weighting import PerClassNet
from cmwjax.methods import class_sizes, elr, plc
from cmwjax.methods.catalogue import METHODS
from cmwjax.methods.forward import (
    count_transitions,
    estimate_transitions,
    transition_memory,
)
from cmwjax.training import measure
from cmwjax.training.batches import Batches
from cmwjax.training.run import Progress, assemble
from methods import build
from runs import some

C = 4


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (6, C)).astype(np.float32)
    return logits, rng.integers(C, size=6).astype(np.int32)


def probabilities(z):
    z = np.asarray(z, np.float64)
    return np.exp(z) / np.exp(z).sum()


def by_name(name, logits, labels, features=None, **options):
    """The losses that the method of this name minimises."""
    fields = {f"baseline__{name}__{option}": x for option, x in options.items()}
    method = build(name, num_classes=C, **fields)
    return method.losses(jnp.asarray(logits), {"label": labels, **(features or {})})


def test_every_method_is_listed_and_built():
    for name in METHODS:
        assert build(name, num_classes=C).losses is not None
    with pytest.raises(ValueError, match="config.baseline.focal.gamma=-1.0 is out"):
        build("focal", baseline__focal__gamma=-1.0)
    with pytest.raises(ValueError, match="config.baseline.ldam.scale=-2"):
        build("ldam_drw", baseline__ldam__scale=-2.0)


def test_label_smoothing(batch):
    want = []
    for z, y in zip(*batch, strict=True):
        target = np.full(C, 0.2 / C)
        target[y] += 0.8
        want.append(-target @ np.log(probabilities(z)))
    got = by_name("label_smoothing", *batch, smoothing=0.2)
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal(batch, gamma):
    want = [
        -((1 - probabilities(z)[y]) ** gamma) * np.log(probabilities(z)[y])
        for z, y in zip(*batch, strict=True)
    ]
    got = by_name("focal", *batch, gamma=gamma)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_focal_has_a_slope_where_the_label_is_certain():
    slope = jax.grad(lambda z: losses.focal(z, jnp.zeros(1, int), gamma=0.5).sum())(
        jnp.array([[200.0, 0.0]])
    )
    assert np.all(np.isfinite(slope))


def test_symmetric(batch):
    want = []
    for z, y in zip(*batch, strict=True):
        p, one_hot = probabilities(z), np.eye(C)[y]
        log_label = np.where(one_hot > 0, 0.0, -4.0)
        want.append(-0.3 * np.log(p[y]) - 2.0 * np.sum(p * log_label))
    got = by_name("symmetric", *batch, alpha=0.3, beta=2.0)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_gce(batch):
    want = [(1 - probabilities(z)[y] ** 0.7) / 0.7 for z, y in zip(*batch, strict=True)]
    np.testing.assert_allclose(by_name("gce", *batch, q=0.7), want, rtol=1e-5)
    # From cross entropy to absolute error.
    np.testing.assert_allclose(
        losses.generalized_cross_entropy(*map(jnp.asarray, batch), q=1e-4),
        losses.cross_entropy(*map(jnp.asarray, batch)),
        rtol=1e-2,
    )


def test_class_balanced():
    counts = np.array([5, 50, 500, 5000])
    # 1 + b + ... + b^(n-1): the effective number of samples, summed up.
    effective = [sum(0.999**k for k in range(n)) for n in counts]
    want = 1 / np.array(effective)
    want *= C / want.sum()
    np.testing.assert_allclose(
        class_sizes.balanced_weights(counts, beta=0.999), want, rtol=1e-5
    )
    np.testing.assert_allclose(class_sizes.balanced_weights(counts, beta=0.0), 1)
    inverse = class_sizes.balanced_weights(counts, beta=1.0)
    np.testing.assert_allclose(inverse * counts, inverse[0] * 5, rtol=1e-5)


def test_ldam(batch):
    counts = np.array([16, 81, 256, 625])
    margins = class_sizes.ldam_margins(counts)
    np.testing.assert_allclose(margins, [0.5, 0.5 * 2 / 3, 0.25, 0.2], rtol=1e-6)
    cosines, labels = np.tanh(batch[0]), batch[1]
    want = []
    for cosine, y in zip(cosines, labels, strict=True):
        z = cosine.copy()
        z[y] -= margins[y]
        want.append(-np.log(probabilities(30 * z)[y]))
    got = by_name("ldam_drw", 30 * cosines, labels, {"margin": margins[labels]})
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_ldam_drw_knows_margins_and_weights_of_the_classes():
    method = build("ldam_drw", num_classes=C)
    counts = np.array([10, 20, 40])
    features = method.class_features(counts)
    np.testing.assert_array_equal(features["margin"], class_sizes.ldam_margins(counts))
    weights = class_sizes.balanced_weights(counts, beta=0.9999)
    np.testing.assert_array_equal(features["class_weight"], weights)
    weighted = method.weight_fn({}, jnp.ones(2), {"class_weight": weights[[2, 0]]})
    np.testing.assert_array_equal(weighted, weights[[2, 0]])
    # In the warm-up it is LDAM already, not weighted yet.
    assert method.warmup_losses(None) is method.losses


def test_constant(batch):
    method = build("constant")
    np.testing.assert_array_equal(method.weight_fn({}, jnp.arange(3.0), {}), 0.5)


def test_per_class_nets_share_nothing():
    net = PerClassNet(C, hidden=7)
    label = jnp.array([0, 3, 1, 3, 2])
    seen = jnp.array([0.1, 2.0, 0.7, 4.0, 1.0])
    params = net.init(jax.random.key(0), seen, label)
    assert sum(x.size for x in jax.tree.leaves(params)) == C * (7 + 7 + 7 + 1)
    own = params["params"]["classes"]
    for loss, c, got in zip(seen, label, net.apply(params, seen, label), strict=True):
        hidden = np.maximum(
            loss * own["shared"]["kernel"][c, 0] + own["shared"]["bias"][c], 0
        )
        z = hidden @ own["heads"]["kernel"][c, :, 0] + own["heads"]["bias"][c, 0]
        np.testing.assert_allclose(got, 1 / (1 + np.exp(-z)), rtol=1e-5)
    assert net.curves(params, jnp.arange(6.0)).shape == (C, 6)
    method = build("per_class", num_families=2, num_classes=C)
    np.testing.assert_array_equal(method.families(np.zeros(C, int)), np.arange(C))


def test_forward(batch):
    rng = np.random.default_rng(1)
    matrix = rng.dirichlet(np.ones(C), C).astype(np.float32)
    matrix[2] = [0, 0, 1, 0]
    want = [
        -np.log((matrix.T.astype(float) @ probabilities(z))[y])
        for z, y in zip(*batch, strict=True)
    ]
    before = transition_memory("known").before
    _, columns = before({"transition": matrix}, {"label": batch[1]}, None, None)
    np.testing.assert_allclose(by_name("forward", *batch, columns), want, rtol=1e-5)


def problem(labels, true_labels, train_index):
    return SimpleNamespace(
        labels=np.asarray(labels),
        true_labels=np.asarray(true_labels),
        train_index=np.asarray(train_index),
        dataset=SimpleNamespace(num_classes=3),
    )


def test_transitions_known_and_estimated():
    true, seen = [0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 0, 1]
    want = [[0.75, 0.25, 0], [0.5, 0.5, 0], [0, 0, 1]]
    np.testing.assert_allclose(count_transitions(true, seen, num_classes=3), want)
    inside = problem([*seen, 2], [*true, 0], range(6))  # the last is held out
    known = transition_memory("known")
    np.testing.assert_allclose(known.init(inside)["transition"], want)
    assert known.refresh is None

    p = np.random.default_rng(0).dirichlet(np.ones(3), 200)
    got = estimate_transitions(p, quantile=0.9)
    for c in range(3):  # the row with 10 % of the samples above it
        order = sorted(range(200), key=lambda i: p[i, c])
        np.testing.assert_allclose(got[c], p[order[179]], rtol=1e-6)

    estimated = transition_memory("estimated")
    start = estimated.init(inside)
    np.testing.assert_array_equal(start["transition"], np.eye(3))
    for epoch in (-1, 1):
        assert estimated.refresh(start, inside, epoch, lambda: p) is start
    matrix = estimated.refresh(start, inside, 0, lambda: p)["transition"]
    np.testing.assert_allclose(matrix, estimate_transitions(p))


def test_elr(batch):
    logits, labels = batch
    targets = np.random.default_rng(1).dirichlet(np.ones(C), 6).astype(np.float32)
    want = []
    for z, y, t in zip(logits, labels, targets, strict=True):
        p = probabilities(z)
        want.append(-np.log(p[y]) + 3 * np.log(1 - p @ t))
    got = by_name("elr", logits, labels, {"target": targets}, strength=3.0)
    np.testing.assert_allclose(got, want, rtol=1e-3)


@pytest.mark.parametrize("num_devices", [1, 4])
def test_elr_targets_average_what_was_predicted(num_devices):
    early = elr.early_targets(0.7)
    store = early.init(problem(np.zeros(9), np.zeros(9), range(9)))
    rng = np.random.default_rng(0)
    want = np.zeros((9, 3))
    observe = jax.pmap(
        lambda store, index, p: early.before(store, {"index": index}, p, "data")[0],
        "data",
        in_axes=(None, 0, 0),
        out_axes=None,
        devices=jax.devices()[:num_devices],
    )
    for _ in range(3):
        index = rng.choice(9, 4, replace=False)
        p = rng.dirichlet(np.ones(3), 4).astype(np.float32)
        p[0] = 0.0  # was not finite
        store = observe(
            store, *(x.reshape(num_devices, -1, *x.shape[1:]) for x in (index, p))
        )
        for i, row in zip(index[1:], p[1:], strict=True):
            want[i] = 0.7 * want[i] + 0.3 * row
    for shard in store["targets"].addressable_shards:
        np.testing.assert_allclose(shard.data, want, atol=1e-4)
    _, batch = early.before(
        store, {"index": jnp.array([2, 5])}, jnp.zeros((2, 3)), None
    )
    np.testing.assert_allclose(batch["target"], want[[2, 5]], atol=1e-4)


def test_labels_are_corrected_by_the_likelihood_ratio():
    p = np.array([[0.1, 0.6, 0.3], [0.2, 0.6, 0.2], [0.5, 0.1, 0.4], [0.9, 0.1, 0.0]])
    got = plc.correct([0, 2, 2, 0], p, threshold=0.3)
    np.testing.assert_array_equal(got, [1, 2, 2, 0])  # ratios 1/6, 1/3, 4/5, 1


def test_plc_averages_five_epochs_and_raises_its_threshold():
    rng = np.random.default_rng(0)
    start = problem(rng.integers(3, size=30), np.zeros(30), np.arange(3, 30))
    memory = plc.refurbished_labels(0.3)
    state, history = memory.init(start), []
    labels, threshold = start.labels.copy(), 0.3
    for epoch in range(-2, 8):
        history.append(rng.dirichlet(np.full(3, 0.3), 27))
        state = memory.refresh(state, start, epoch, lambda: history[-1])
        if epoch >= 0:
            mean, changed = np.mean(history[-5:], axis=0), 0
            for i, f in zip(start.train_index, mean, strict=True):
                if f[labels[i]] / f.max() < threshold:
                    labels[i], changed = f.argmax(), changed + 1
            if changed < 0.001 * 27:
                threshold = min(threshold + 0.1, 0.9)
        np.testing.assert_array_equal(state["labels"], labels)
        np.testing.assert_allclose(state["threshold"], threshold, rtol=1e-6)
    assert threshold > 0.3 and np.any(labels != start.labels)
    np.testing.assert_array_equal(state["labels"][:3], start.labels[:3])  # held out
    batch = {"index": np.array([7, 4]), "label": None}
    _, batch = memory.before(state, batch, None, None)
    np.testing.assert_array_equal(batch["label"], labels[[7, 4]])


def linear_config(method):
    """Softmax regression on few digits, with a batch of eight."""
    c = base_config()
    c.method = method
    c.model.options.hidden = ()
    c.data.train_size, c.data.batch_size, c.meta_set.batch_size = 400, 8, 12
    c.optim.learning_rate, c.optim.momentum, c.optim.weight_decay = 0.2, 0.0, 0.0
    c.baseline.mcw.step = 4.0  # that it matters
    c.data.imbalance_factor = 4.0
    c.weighting.normalisation = "mean"
    return c


def begun(config, folder, num_devices=1):
    """A run, and where it is before its first step."""
    run = assemble(config, folder / "run", devices=some(num_devices))
    return run, Progress.of(run, run.start)


def matrix_of(params):
    """Softmax regression as one matrix `[D + 1, C]`, its bias last."""
    return np.vstack([params["head"]["kernel"], params["head"]["bias"]])


def inputs(table, train):
    """What is multiplied with it, `[N, D + 1]`; `train` says how to standardise."""
    images = np.asarray(table.inputs, np.float64) / 255
    x = (images - np.asarray(train.statistics[0])) / np.asarray(train.statistics[1])
    return np.column_stack([x.reshape(len(x), -1), np.ones(len(x))])


@pytest.mark.parametrize("num_devices", [1, 4])
@pytest.mark.parametrize("name", ["class_balanced", "l2rw", "mcw"])
def test_slot_and_class_weights_in_closed_form(tmp_path, name, num_devices):
    """Two steps; the second shows that the weights of the first are forgotten."""
    c = linear_config(name)
    run, progress = begun(c, tmp_path, num_devices)
    data, program, state = run.problem, run.program, progress.state
    table, w = run.sets.train.table, matrix_of(state.learner.params)
    x, y = inputs(table, table), np.eye(10)[data.labels]

    def gradients(w, index):  # of each sample, [B, D + 1, C]
        p = np.stack([probabilities(z) for z in x[index] @ w])
        return x[index][:, :, None] * (p - y[index])[:, None]

    counts = np.bincount(data.labels[data.train_index], minlength=10)
    balanced = class_sizes.balanced_weights(counts, beta=0.9999)[data.labels]
    rng = np.random.default_rng(0)
    for _ in range(2):
        index = rng.choice(data.train_index, 8, replace=False)
        meta_index = rng.choice(data.meta_index, 12, replace=False)
        rows = [program.layout.split({"index": i}) for i in (index, meta_index)]
        if name == "class_balanced":
            state = program.step.weighted(state, table, rows[0])
        else:
            state = program.step.meta(state, table, *rows)
        g, base = gradients(w, index), balanced[index]
        ahead = w if name == "l2rw" else w - 0.2 * np.einsum("i,idc->dc", base, g) / 8
        m = gradients(ahead, meta_index).mean(0)
        meta_gradient = np.array([-0.2 / 8 * np.sum(m * one) for one in g])
        if name == "class_balanced":
            weights = base
        elif name == "l2rw":
            u = np.maximum(-meta_gradient, 0)
            weights = u / u.sum() * 8
        else:
            weights = base - 4 * 8 * meta_gradient  # of a sum of eight
        w = w - 0.2 / 8 * np.einsum("i,idc->dc", weights, g)
        assert np.ptp(weights) > 0.01
    got = matrix_of(state.learner.params)
    np.testing.assert_allclose(got, w, rtol=1e-3, atol=1e-5)


def test_mixup_and_ema_in_closed_form(tmp_path):
    """Both labels of a mixed image are learned; their average over steps is judged."""
    c = linear_config("erm_mixup_ema")
    c.ema.decay = 0.6
    run, progress = begun(c, tmp_path)
    data, program, state = run.problem, run.program, progress.state
    table, w = run.sets.train.table, matrix_of(state.learner.params)
    x, y, teacher, seen = inputs(table, table), np.eye(10)[data.labels], w, []
    moved = []
    mixed_batch = jax.jit(
        Batches(c, None, program.method, program.view, None, 5).training
    )
    rng = np.random.default_rng(0)
    for _ in range(3):
        index = rng.choice(data.train_index, 8, replace=False)
        batch = jax.device_get(mixed_batch(state, table, {"index": index})[1])
        rows = program.layout.split({"index": index})
        state = program.step.weighted(state, table, rows)
        slope = np.zeros_like(w)
        for i, j, lam in zip(index, index[batch["partner"]], batch["lam"], strict=True):
            mixed, label = (lam * a[i] + (1 - lam) * a[j] for a in (x, y))
            p = probabilities(mixed @ w)
            seen.append(-label @ np.log(p))
            slope += np.outer(mixed, p - label) / 8
        assert batch["lam"][0] < 0.99
        moved.append(np.any(index != index[batch["partner"]]))
        w = w - 0.2 * slope
        teacher = 0.6 * teacher + 0.4 * w
    assert any(moved)  # a shard of two leaves both where they are every other time
    progress.state = state
    metrics = measure.epoch_metrics(run, progress)
    np.testing.assert_allclose(metrics["loss"], np.mean(seen), rtol=1e-4)
    for params, want in ((state.learner.params, w), (state.teacher.params, teacher)):
        np.testing.assert_allclose(matrix_of(params), want, rtol=1e-3, atol=1e-5)
    test = run.sets.tests["test"].table
    by_teacher, by_net = (
        np.mean(np.argmax(inputs(test, table) @ one, axis=1) == test.labels)
        for one in (teacher, w)
    )
    assert metrics["test_accuracy"] == pytest.approx(by_teacher) != by_net


@pytest.mark.parametrize("name", ["plc", "rrm", "forward"])
def test_predictions_are_not_taken_from_an_untrained_net(name):
    c = linear_config(name)
    c.baseline.forward.transition = "estimated"
    message = "config.warmup_epochs=0, but (PLC|RRM|Forward)"
    with pytest.raises(ValueError, match=message):
        check_config(c)
    c.warmup_epochs = 1
    check_config(c)


def test_slot_weights_need_a_meta_step_each_time():
    c = linear_config("l2rw")
    c.meta_every = 2
    with pytest.raises(ValueError, match="config.meta_every=2, but L2RW"):
        check_config(c)
