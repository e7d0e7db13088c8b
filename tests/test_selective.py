"""Selective classification: curves by hand, losses sample by sample, whole runs."""

import itertools
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmwjax.classifier import load_classifier
from cmwjax.methods import selective as methods
from cmwjax.report import page, plots
from cmwjax.report.risk_coverage import figure_of, read_risks, table_of
from cmwjax.stopping import Interrupted
from cmwjax.tasks import classification
from cmwjax.tasks import selective as task
from configs import selective as config_file
from methods import build
from runs import (
    STEPS,
    assert_close,
    assert_same,
    metrics,
    run,
    saved,
    stop_after,
    tiny,
)

B, C = 30, 4
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, (B, C + 1)).astype(np.float32)
LABELS = RNG.integers(C, size=B).astype(np.int32)
P = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)


# ----------------------------------------------------------------------------- the task


def test_confidence_is_the_odds_of_the_class_against_all_else():
    best = P[:, :-1].max(axis=1)
    np.testing.assert_allclose(
        task.confidence(LOGITS), np.log(best / (1 - best)), rtol=1e-4, atol=1e-5
    )
    plain = np.exp(LOGITS[:, :C]) / np.exp(LOGITS[:, :C]).sum(axis=1, keepdims=True)
    best = plain.max(axis=1)
    np.testing.assert_allclose(
        classification.confidence(LOGITS[:, :C]), np.log(best / (1 - best)), rtol=1e-4
    )
    np.testing.assert_allclose(task.probabilities(LOGITS), plain, rtol=1e-5)
    np.testing.assert_array_equal(task.predict(LOGITS), P[:, :C].argmax(axis=1))
    sure = jnp.array([[60.0, 0, 0], [50.0, 0, 0]])  # both have a probability of 1
    assert np.diff(task.confidence(sure)) < 0


def test_a_classifier_that_never_abstains_is_one_of_classification():
    never = np.concatenate([LOGITS[:, :C], np.full((B, 1), -np.inf, np.float32)], 1)
    batch = {"label": jnp.asarray(LABELS)}
    ours = task.SELECTIVE.losses(jnp.asarray(never), batch)
    theirs = classification.losses(jnp.asarray(LOGITS[:, :C]), batch)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    same = classification.confidence(jnp.asarray(LOGITS[:, :C]))
    np.testing.assert_allclose(task.confidence(jnp.asarray(never)), same, rtol=1e-5)


def expected_risks(wrong, confidence):
    """The mean over all orders of samples that are equally sure."""
    orders = [
        order
        for order in itertools.permutations(range(len(wrong)))
        if all(confidence[a] >= confidence[b] for a, b in itertools.pairwise(order))
    ]
    curves = [
        [np.mean([wrong[i] for i in order[:k]]) for k in range(1, len(wrong) + 1)]
        for order in orders
    ]
    return np.mean(curves, axis=0)


@pytest.mark.parametrize("seed", range(5))
def test_risks_are_those_of_every_order_of_equal_confidences(seed):
    rng = np.random.default_rng(seed)
    wrong = rng.random(6) < 0.5
    confidence = rng.integers(3, size=6).astype(float)
    want = expected_risks(wrong, confidence)
    found = task.risks(wrong, confidence)
    np.testing.assert_allclose(found, want)
    assert task.aurc(found) == pytest.approx(np.mean(want))


def test_excess_of_the_area_is_what_a_perfect_ranking_would_save():
    rng = np.random.default_rng(1)
    wrong = rng.random(50) < 0.3
    perfect = task.risks(wrong, -wrong.astype(float))
    worst = task.risks(wrong, wrong.astype(float))
    assert task.excess_aurc(perfect) == pytest.approx(0)
    gap = task.aurc(worst) - task.aurc(perfect)
    assert task.excess_aurc(worst) == pytest.approx(gap) and gap > 0.3
    # For many samples it is r + (1 - r) log(1 - r), as in the paper.
    many = np.arange(10**5) < 2 * 10**4
    area = task.aurc(task.risks(many, -many.astype(float)))
    assert area == pytest.approx(0.2 + 0.8 * np.log(0.8), abs=1e-4)


def test_coverages_are_rounded_up_to_a_sample():
    risks = np.arange(1, 11) / 10
    assert [task.at_coverage(risks, c) for c in (1, 0.95, 0.9, 0.3, 0.01)] == [
        1,
        1,
        0.9,
        0.3,
        0.1,
    ]
    assert task.answered(1437, 0.9) == 1294


def test_the_summary():
    found = {"prediction": LABELS.copy(), "confidence": RNG.normal(size=B)}
    found["prediction"][:9] = (LABELS[:9] + 1) % C
    numbers = task.summary(found, LABELS)
    order = np.argsort(-found["confidence"])
    wrong = (found["prediction"] != LABELS)[order]
    area = np.mean([wrong[:k].mean() for k in range(1, B + 1)])
    assert numbers["aurc"] == pytest.approx(area)
    assert numbers["selective_accuracy"] == pytest.approx(1 - area)
    assert numbers["accuracy"] == pytest.approx(21 / 30)
    risks = task.at_the_end(found, LABELS)["risks"]
    assert len(risks) == 100 and risks[-1] == pytest.approx(9 / 30)
    assert risks[49] == pytest.approx(wrong[:15].mean())
    none = {name: value[:0] for name, value in found.items()}
    assert np.isnan(list(task.summary(none, LABELS[:0]).values())).all()
    assert task.at_the_end(none, LABELS[:0]) == {}


# ------------------------------------------------------------------------- the losses


def fields_of(loss="task", **others):
    return {"task": "selective", "loss": loss, **others}


def test_sat_learns_what_it_believes_of_a_label_and_to_abstain_for_the_rest():
    belief = RNG.random(B).astype(np.float32)
    losses = build("sat", **fields_of("sat")).losses
    batch = {"label": jnp.asarray(LABELS), "belief": jnp.asarray(belief)}
    found = losses(jnp.asarray(LOGITS), batch)
    for i in range(B):
        want = -belief[i] * np.log(P[i, LABELS[i]])
        want -= (1 - belief[i]) * np.log(P[i, C])
        assert found[i] == pytest.approx(want, rel=1e-4)
    del batch["belief"]
    plain = losses(jnp.asarray(LOGITS), batch)
    np.testing.assert_allclose(plain, -np.log(P[np.arange(B), LABELS]), rtol=1e-4)


def test_beliefs_are_moving_averages_of_the_probability_of_the_label():
    memory = methods.belief_in_labels(0.9)
    state = jax.tree.map(jnp.asarray, memory.init(SimpleNamespace(labels=LABELS)))
    want = np.ones(B)
    rng = np.random.default_rng(2)
    for _ in range(3):
        index = rng.choice(B, 8, replace=False)
        p = rng.dirichlet(np.ones(C + 1), 8).astype(np.float32)
        p[0] = 0  # was not finite
        batch = {"index": index, "label": jnp.asarray(LABELS[index])}
        state, batch = memory.before(state, batch, jnp.asarray(p), None)
        for i, row in zip(index[1:], p[1:], strict=True):
            want[i] = 0.9 * want[i] + 0.1 * row[LABELS[i]]
        np.testing.assert_allclose(batch["belief"], want[index], rtol=1e-5)
    np.testing.assert_allclose(state["belief"], want, rtol=1e-5)
    assert want.min() < 0.9 and want.max() == 1


@pytest.mark.parametrize("name", ["cmw_net_abstain", "constant_abstain"])
def test_what_a_label_lacks_in_weight_is_learned_of_abstention(name):
    method = build(name, **fields_of())
    losses, weight_fn = method.terms()
    memory = method.memory.init(SimpleNamespace(dataset=SimpleNamespace(num_classes=C)))
    batch = {"label": jnp.asarray(LABELS), "family": jnp.asarray(LABELS % 3)}
    _, batch = method.memory.before(memory, batch, None, None)
    terms = losses(jnp.asarray(LOGITS), batch)
    theta = {}
    if method.net is not None:
        theta = method.net.init(jax.random.key(0), jnp.zeros(1), jnp.zeros(1, int))
    coefficients = weight_fn(theta, terms, batch)
    for i in range(B):
        plain = -np.log(P[i, LABELS[i]])
        v = 0.5
        if method.net is not None:
            one = jnp.array([plain], jnp.float32), batch["family"][i : i + 1]
            v = float(method.net.apply(theta, *one)[0])
        want = v * plain + (1 - v) * -np.log(P[i, C])
        assert jnp.sum(terms[i] * coefficients[i]) == pytest.approx(want, rel=1e-4)


# ------------------------------------------------------------------------- whole runs


def config_of(**fields):
    given = fields_of(**{"method": "cmw_net_abstain", "meta_set.policy": "lowest_loss"})
    return tiny(**given | fields)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of SAT with weights, not to be written to."""
    workdir = tmp_path_factory.mktemp("selective") / "run"
    run(config_of(loss="sat", method="cmw_net"), workdir)
    return workdir


def test_what_a_run_leaves(finished):
    last = metrics(finished)[-1]
    assert last["test_selective_accuracy"] == pytest.approx(1 - last["test_aurc"])
    assert len(last["test_risks"]) == 100
    assert last["test_risks"][-1] == pytest.approx(1 - last["test_accuracy"])
    assert not any("test_risks" in line for line in metrics(finished)[:-1])
    belief = saved(finished)["run/memory/belief"]
    assert 0 < belief.min() < 1
    text = page.write_report(finished, finished / "again.html").read_text()
    assert "Error by coverage" in text and "E-AURC" in text
    risks = read_risks([finished])
    assert risks is not None
    headings, (row,) = table_of({"cmw_net": risks})
    assert headings[:3] == ["method", "AURC", "E-AURC"]
    assert row[3] == f"{100 * (1 - last['test_accuracy']):.2f}"
    figure_of({"cmw_net": risks})
    drawn = {path.stem for path in plots.run_figures(finished)}
    assert "transition_matrix" in drawn


def test_runs_of_other_tasks_have_no_risks(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"epoch": 1}) + "\n")
    assert read_risks([tmp_path]) is None


def test_the_classifier_abstains_where_it_is_least_sure(finished):
    from cmwjax.bias.problem import prepare

    data = prepare(config_of()).dataset
    one = load_classifier(finished)
    every, some = one.predict(data.test_inputs), one.predict(data.test_inputs, 0.8)
    assert np.ma.isMaskedArray(some) and not np.ma.isMaskedArray(every)
    answered = ~np.ma.getmaskarray(some)
    assert answered.sum() == task.answered(len(every), 0.8)
    np.testing.assert_array_equal(some[answered], every[answered])
    sure = np.asarray(task.confidence(jnp.asarray(one._outputs(data.test_inputs))))
    assert sure[answered].min() >= sure[~answered].max()
    wrong = every != data.test_labels
    risks = metrics(finished)[-1]["test_risks"]
    assert wrong[answered].mean() == pytest.approx(risks[79], abs=0.02)
    assert one.predict_proba(data.test_inputs[:3]).shape == (3, 10)
    for coverage in (0, 1.5):
        with pytest.raises(ValueError, match=f"coverage={coverage} is the share of"):
            one.predict(data.test_inputs, coverage)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"loss": "cross_entropy"}, "config.loss='cross_entropy' is not for config.ta"),
        ({"method": "cmw_net_sl"}, "config.method='cmw_net_sl' is not for config.task"),
        ({"task": "classification"}, "is not for config.task='classification'"),
        ({"baseline.sat.momentum": 2.0}, r"config.baseline.sat.momentum=2.0 is out of"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, fields, match):
    with pytest.raises(ValueError, match=match):
        run(config_of(**fields), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 4])
def test_results_do_not_depend_on_the_number_of_devices(finished, tmp_path, devices):
    run(config_of(loss="sat", method="cmw_net"), tmp_path / "run", devices=devices)
    assert_close(tmp_path / "run", finished)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sat", "cmw_net_abstain"])
def test_stopped_at_any_step_it_ends_at_the_same_bits(tmp_path, monkeypatch, name):
    loss = "sat" if name == "sat" else "task"
    config = config_of(method=name, loss=loss)
    run(config, tmp_path / "whole")
    stops = range(1, STEPS + 1, 2)
    stop_after(monkeypatch, *stops)
    for _ in stops:
        with pytest.raises(Interrupted):
            run(config, tmp_path / "run")
    run(config, tmp_path / "run")
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_the_configuration_file():
    config = config_file.get_config("data=fashion_mnist,noise=sym,rate=.4")
    assert config.task == "selective" and config.noise.rate == 0.4
    assert config.warmup_epochs == 5 and config.epochs == 15
    assert config.compare.tuned["cmw_net@sat"].to_dict() == {"loss": "sat"}
    smoke = config_file.get_config("smoke")
    assert smoke.compare.seeds == (0,) and smoke.epochs == 12
