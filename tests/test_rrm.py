"""RRM: its weights against a linear programme and a loop, its memory, whole runs."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

from cmwjax import train
from cmwjax.config import base_config
from cmwjax.config_check import check_config
from cmwjax.methods.rrm import relax
from cmwjax.report.samples import read_samples
from cmwjax.training import measure
from cmwjax.training.run import Progress, assemble
from methods import build
from runs import saved, some, tiny


def solved(losses, theta):
    """Weights and value of min sum_i (1/N + u_i) loss_i + theta |u|_1, by a solver.

    With u = gain - loss, both at least 0; what is lost is at most 1/N.
    """
    n = len(losses)
    found = linprog(
        np.concatenate([losses + theta, theta - losses]),
        A_eq=np.concatenate([np.ones(n), -np.ones(n)])[None],
        b_eq=[0],
        bounds=[(0, None)] * n + [(0, 1 / n)] * n,
    )
    assert found.success
    gain, loss = found.x[:n], found.x[n:]
    return 1 + n * (gain - loss), found.fun + losses.mean()


@pytest.mark.parametrize("noise_rate", [0.0, 0.1, 0.35, 0.5, 0.9])
def test_weights_solve_the_linear_programme(noise_rate):
    rng = np.random.default_rng(0)
    for n in (7, 40):
        losses = rng.gamma(1.0, 1.0, n)
        got = relax(losses, noise_rate=noise_rate)
        # The price at which the highest loss that stays is about to go.
        gamma = losses[got > 0].max() - losses.min()
        _, best = solved(losses, gamma / 2)
        u = got.astype(np.float64) / n - 1 / n
        value = np.sum((1 / n + u) * losses) + gamma / 2 * np.abs(u).sum()
        assert value == pytest.approx(best, rel=1e-5)
        # At a price a little higher it stays, and there is one solution.
        want, _ = solved(losses, (gamma + 1e-6) / 2)
        np.testing.assert_allclose(got, want, atol=1e-4)
        assert (got == 0).sum() == np.ceil(noise_rate * (n - 1) - 1e-9)


def test_weights_as_a_loop_over_samples():
    losses = [0.5, 2.0, 0.1, 3.0, 0.1, 1.0, 2.0, 0.7, 0.3, 4.0]
    highest = sorted(losses)[int(0.7 * 9)]
    lost = sum(1 for x in losses if x > highest)
    least = sum(1 for x in losses if x == min(losses))
    want = [
        0.0 if x > highest else 1 + lost / least if x == min(losses) else 1.0
        for x in losses
    ]
    assert want == [1, 1, 2, 0, 2, 1, 1, 1, 1, 0]  # one of equals goes with the other
    np.testing.assert_allclose(relax(losses, noise_rate=0.3), want)
    np.testing.assert_array_equal(relax(np.full(5, 0.2), noise_rate=0.5), 1)


def problem():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=30).astype(np.int32)
    train_index = np.arange(4, 30)
    counts = np.bincount(labels[train_index])
    return SimpleNamespace(
        labels=labels, train_index=train_index, group_counts=counts, candidates=None
    )


@pytest.mark.parametrize("loss", ["cross_entropy", "gce", "ldam"])
def test_weights_follow_the_losses_every_few_epochs(loss):
    fields = {"noise_rate": 0.3, "every": 2, "step": 0.5}
    fields = {f"baseline__rrm__{name}": value for name, value in fields.items()}
    method, start = build("rrm", num_classes=3, loss=loss, **fields), problem()
    memory, index = method.memory, start.train_index
    state, want = memory.init(start), np.ones(30)
    rng = np.random.default_rng(1)
    for epoch in range(-2, 5):
        logits = rng.normal(0, 2, (26, 3))
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        state = memory.refresh(state, start, epoch, lambda p=p: p.astype(np.float32))
        if epoch >= 0 and epoch % 2 == 0:
            batch = {"label": start.labels[index]}
            for name, values in method.class_features(start.group_counts).items():
                batch[name] = values[batch["label"]]
            now = relax(method.losses(jnp.asarray(logits), batch), noise_rate=0.3)
            want[index] = 0.5 * want[index] + 0.5 * now
        np.testing.assert_allclose(state["weights"], want, rtol=1e-5)
    assert len(np.unique(want)) > 4 and np.all(want[:4] == 1)  # held out
    _, batch = memory.before(state, {"index": np.array([9, 5])}, None, None)
    got = method.weight_fn(None, jnp.zeros(2), batch)
    np.testing.assert_allclose(got, want[[9, 5]], rtol=1e-5)
    np.testing.assert_array_equal(memory.weigh(state, index), state["weights"][4:])


def test_what_is_not_a_number_loses_its_weight():
    method, start = build("rrm", num_classes=3), problem()
    p = np.full((26, 3), 1 / 3, np.float32)
    p[5], p[7] = np.nan, np.eye(3)[start.labels[11]]
    memory = method.memory
    state = memory.refresh(memory.init(start), start, 0, lambda: p)
    assert state["weights"][4 + 5] == 0 and np.isfinite(state["weights"]).all()
    assert state["weights"][4 + 7] > 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("noise_rate", 1.0), ("noise_rate", -0.1), ("every", 0), ("step", 0.0)],
)
def test_options_out_of_range(field, value):
    with pytest.raises(ValueError, match=rf"config.baseline.rrm.{field}={value} is"):
        build("rrm", **{f"baseline__rrm__{field}": value})


def test_it_needs_a_warm_up_and_no_meta_set():
    check_config(tiny(**{"method": "rrm", "meta_set.policy": "none"}))
    with pytest.raises(ValueError, match="config.warmup_epochs=0, but RRM"):
        check_config(tiny(method="rrm", warmup_epochs=0))


def test_samples_are_listed_with_the_weights_that_they_have_had_last(tmp_path):
    c = tiny(**{"method": "rrm", "meta_set.policy": "none", "data.validation": 40})
    this = assemble(c, tmp_path / "run", devices=some(1))
    progress = Progress.of(this, this.start)
    weights = np.random.default_rng(0).gamma(1, 1, 240).astype(np.float32)
    memory = this.program.layout.replicate({"weights": weights})
    progress.state = progress.state._replace(memory=memory)
    this.workdir.mkdir()
    measure.write_results(this, progress)
    table = read_samples(this.workdir / "samples.csv")
    index = this.problem.train_index
    rows = this.problem.dataset.row_numbers[index]
    listed = dict(zip(table["row"], table["weight"], strict=True))
    np.testing.assert_allclose([listed[r] for r in rows], weights[index], rtol=1e-6)
    assert len(listed) == len(index)


@pytest.mark.slow
def test_it_learns_from_noisy_digits_what_erm_does_not(tmp_path):
    c = base_config()
    c.epochs, c.warmup_epochs = 20, 4
    c.noise.kind, c.noise.rate, c.meta_set.policy = "symmetric", 0.4, "none"
    c.baseline.rrm.noise_rate = 0.4
    results = {}
    for c.method in ("erm", "rrm"):
        results[c.method] = train.run(c, tmp_path / c.method, devices=some(1))
    assert results["rrm"].test_score > results["erm"].test_score + 0.1
    assert results["rrm"].auroc > 0.9
    weights = saved(tmp_path / "rrm")["run/memory/weights"]
    lost = int(np.ceil(0.4 * (len(weights) - 1)))
    assert (weights == 0).sum() == lost and weights.mean() == pytest.approx(1)
