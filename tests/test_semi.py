"""Semi-supervised learning: FixMatch by hand, and whole runs."""

import csv
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmwjax.bias.problem import prepare
from cmwjax.config_check import check_config
from cmwjax.core import optimizers
from cmwjax.core.families import group_classes
from cmwjax.data import augment
from cmwjax.methods import fixmatch
from cmwjax.randomness import Purpose, fold
from cmwjax.report import page, plots
from cmwjax.report.samples import is_wrong, read_samples, samples_of
from cmwjax.stopping import Interrupted
from cmwjax.training.batches import Batches
from cmwjax.training.run import Progress, assemble
from configs import semi as config_file
from image_files import write_folder
from methods import build
from runs import (
    assert_close,
    assert_same,
    metrics,
    run,
    saved,
    some,
    stop_after,
)
from runs import semi as config_of

B, C = 36, 5
RNG = np.random.default_rng(0)
LABELLED = np.arange(B) % 3 == 0
LABELS = RNG.integers(0, C, B)
SETS = np.where(LABELLED[:, None], LABELS[:, None] == np.arange(C), True)
FAMILY = np.array([0, 2, 1, 0, 1], np.int32)


def softmax(z):
    e = np.exp(z - np.max(z))
    return e / e.sum()


# --------------------------------------------------------------------------- formulas


def step_batch(predicted):
    """A batch as the memory hands it to the losses, and the memory afterwards."""
    memory = fixmatch.pseudo_labels()
    state = {
        "confidences": SETS / SETS.sum(axis=1, keepdims=True),
        "family": FAMILY,
        "centres": np.arange(3.0),
    }
    state = jax.tree.map(jnp.asarray, state)
    batch = {
        "index": jnp.arange(B),
        "candidates": jnp.asarray(SETS),
        "input": {"x": jnp.zeros((B, 2))},
        "strong": {"x": jnp.ones((B, 2))},
    }
    return memory.before(state, batch, jnp.asarray(predicted, jnp.float32), None)


@pytest.mark.parametrize(("threshold", "factor"), [(0.6, 1.0), (0.0, 0.5)])
def test_fixmatch_sample_by_sample(threshold, factor):
    weak, strong = RNG.normal(0, 2, (2, B, C))
    predicted = np.stack([softmax(z) for z in weak])
    state, batch = step_batch(predicted)
    np.testing.assert_array_equal(batch["input"]["x"][:, 0], ~LABELLED)
    options = {
        "baseline__fixmatch__threshold": threshold,
        "baseline__fixmatch__factor": factor,
    }
    method = build("fixmatch", **options)
    terms, weight_fn = method.terms()
    losses = terms(jnp.asarray(strong, jnp.float32), batch)
    got = jnp.mean(weight_fn({}, losses, batch) * losses)
    given, others, kept = 0, 0, 0
    for i in range(B):
        p = softmax(strong[i])
        if LABELLED[i]:
            given -= np.log(p[LABELS[i]])
        else:
            pseudo = np.argmax(predicted[i])
            assert batch["family"][i] == FAMILY[pseudo]
            if predicted[i, pseudo] >= threshold:
                others, kept = others - np.log(p[pseudo]), kept + 1
    want = given / LABELLED.sum() + factor * others / (~LABELLED).sum()
    assert got == pytest.approx(want, rel=1e-5)
    assert kept == (~LABELLED).sum() if threshold == 0 else 3 < kept < 21
    believed = np.where(LABELLED[:, None], SETS, predicted)
    np.testing.assert_allclose(state["confidences"], believed, rtol=1e-5)


@pytest.mark.parametrize("seen", ["weak", "strong"])
def test_a_net_weights_samples_without_a_label_alone(seen):
    predicted = RNG.dirichlet(np.ones(C), B)
    _, batch = step_batch(predicted)
    weak = np.where(LABELLED, 0, -np.log(predicted.max(axis=1)))
    np.testing.assert_allclose(batch["weak_loss"], weak, rtol=1e-4, atol=1e-6)
    fields = {"loss": "fixmatch", "baseline__fixmatch__seen": seen}
    method = build("cmw_net", **fields)
    params = method.net.init(jax.random.key(0), jnp.zeros(1), jnp.zeros(1, int))
    losses = jnp.asarray(RNG.exponential(size=B), jnp.float32)
    _, weight_fn = method.terms()
    got = weight_fn(params, losses, batch)
    seen_loss = losses if seen == "strong" else batch["weak_loss"]
    own = np.asarray(method.net.apply(params, seen_loss, batch["family"]))
    for i in range(B):
        want = B / LABELLED.sum() if LABELLED[i] else own[i] * B / (~LABELLED).sum()
        assert got[i] == pytest.approx(want, rel=1e-5)
    slope = jax.grad(lambda p: jnp.sum(weight_fn(p, losses, batch)))(params)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(slope))
    shares = method.statistics()(params, losses, batch)
    counts = np.bincount(np.asarray(batch["family"])[~LABELLED], minlength=3)
    np.testing.assert_allclose(shares["family_share"], counts / B, rtol=1e-5)
    scored = method.scored_weights(params, losses, batch)
    own = method.net.apply(params, losses, batch["family"])
    np.testing.assert_allclose(scored, np.where(LABELLED, 1, own), rtol=1e-6)
    warm = method.warmup_weights(params, losses, batch)
    np.testing.assert_allclose(warm, LABELLED * B / LABELLED.sum(), rtol=1e-6)


def test_scores_of_samples_that_are_not_visited():
    """The pseudo-label is then that of the logits themselves."""
    logits = jnp.asarray(RNG.normal(0, 2, (B, C)), jnp.float32)
    method = build("fixmatch", baseline__fixmatch__threshold=0.6)
    batch = {"candidates": jnp.asarray(SETS)}
    losses = method.losses(logits, batch)
    weights = method.scored_weights({}, losses, batch)
    for i in range(B):
        p = softmax(np.asarray(logits[i]))
        best = LABELS[i] if LABELLED[i] else np.argmax(p)
        assert losses[i] == pytest.approx(-np.log(p[best]), rel=1e-4)
        assert weights[i] == (LABELLED[i] or p[best] >= 0.6)
    assert 0 < np.mean(np.asarray(weights)[~LABELLED]) < 1


def test_families_follow_what_is_predicted():
    memory, index = fixmatch.pseudo_labels(), np.arange(2, B)
    families = group_classes(np.array([5, 9, 2, 5.1, 9.2]), 3)
    problem = SimpleNamespace(candidates=SETS, train_index=index, families=families)
    state = memory.init(problem)
    alike = {**state, "confidences": np.full((B, C), 1 / C, np.float32)}
    assert memory.refresh(alike, problem, 0, None) is alike
    counts = RNG.dirichlet(np.ones(C), B).astype(np.float32)
    sizes = np.zeros(C)
    for i in index:
        sizes += counts[i]
    state = memory.refresh({**state, "confidences": counts}, problem, 0, None)
    want = group_classes(sizes, 3)
    np.testing.assert_array_equal(state["family"], want.family)
    np.testing.assert_allclose(state["centres"], want.centres, rtol=1e-6)


def test_the_schedule_of_fixmatch():
    rate = optimizers.learning_rate(0.03, name="cosine_7_16", total_steps=1000)
    got = [float(rate(jnp.array(step))) for step in (0, 1, 500, 1000)]
    want = [0.03 * np.cos(7 * np.pi * step / 16000) for step in (0, 1, 500, 1000)]
    np.testing.assert_allclose(got, want, rtol=1e-5)


# ------------------------------------------------------------------------- whole runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of CMW-Net around FixMatch, not to be written to."""
    workdir = tmp_path_factory.mktemp("semi") / "run"
    run(config_of(), workdir)
    return workdir


def test_what_a_run_leaves(finished):
    problem = prepare(config_of())
    names, given = problem.dataset.class_names, set(problem.labelled_index.tolist())
    with (finished / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    position = {row: i for i, row in enumerate(problem.dataset.row_numbers)}
    arrays = saved(finished)
    believed, family = (
        arrays[f"run/memory/{name}"] for name in ("confidences", "family")
    )
    assert len(rows) == 240 and sum(row["given_label"] != "" for row in rows) == 40
    for row in rows:
        i = position[int(row["row"])]
        if i in given:
            assert row["given_label"] == names[problem.labels[i]]
            assert float(row["weight"]) == 1
        else:
            assert float(row["quality"]) > 0.999 and 0 < float(row["weight"]) < 1
        assert int(row["family"]) == family[np.argmax(believed[i])]
    assert not is_wrong(samples_of(finished)).any()
    np.testing.assert_array_equal(np.sort(arrays["meta_index"]), sorted(given))
    last = metrics(finished)[-1]
    assert last["meta_purity"] == 1 and "meta_accuracy" not in last
    assert last["test_accuracy"] == last["teacher_accuracy"]
    assert np.nansum(last["family_share"]) == pytest.approx(2 / 3, abs=1e-3)
    text = (page.write_report(finished, finished / "again.html")).read_text()
    assert "40 of 240 training samples have a label" in text
    drawn = {path.stem for path in plots.run_figures(finished)}
    assert drawn == {"weight_curves", "weight_histogram"}


@pytest.mark.slow
def test_a_step_learns_two_views(tmp_path):
    """The gradient of one step of softmax regression, by hand."""
    fields = {"model.options": {"hidden": ()}, "method": "fixmatch"}
    begun = assemble(config_of(**fields), tmp_path / "run", devices=some(1))
    program, table = begun.program, begun.sets.train.table
    state, index = Progress.of(begun, begun.start).state, begun.order(0)
    params = jax.device_get(state.learner.params)["head"]
    learner = begun.start.run.learner
    weak, strong = (
        augment.sample_keys(fold(learner.key, purpose, 0), by)
        for purpose, by in (
            (Purpose.AUGMENT, index),
            (Purpose.STRONG_VIEW, jnp.arange(48)),
        )
    )
    raw = np.asarray(table.inputs)[index]
    views = [
        np.asarray(view(raw, begun.sets.statistics, keys), np.float64).reshape(48, -1)
        for view, keys in ((program.view.prepare, weak), (program.view.strong, strong))
    ]
    assert np.abs(views[0] - views[1]).mean() > 0.1
    sets, gradient, loss = begun.problem.candidates[index], 0, 0
    for sees_weak, sees_strong, candidates in zip(*views, sets, strict=True):
        p = softmax(sees_weak @ params["kernel"] + params["bias"])
        if candidates.sum() == 1:
            x, target, share = sees_weak, np.argmax(candidates), 1 / 16
        else:
            x, target = sees_strong, np.argmax(p)
            share = (p.max() >= 0.3) / 32
        p = softmax(x @ params["kernel"] + params["bias"])
        loss -= share * np.log(p[target])
        gradient += share * np.outer(x, p - np.eye(10)[target])
    gradient += 5e-4 * params["kernel"]
    rows = program.layout.split({"index": index})
    end = jax.device_get(program.step.weighted(state, table, rows))
    moved = params["kernel"] - end.learner.params["head"]["kernel"]
    np.testing.assert_allclose(moved, 0.1 * gradient, rtol=2e-3, atol=1e-5)
    assert end.sums["loss"][0] == pytest.approx(loss, rel=1e-4)
    average = 0.8 * params["kernel"] + 0.2 * end.learner.params["head"]["kernel"]
    np.testing.assert_allclose(end.teacher.params["head"]["kernel"], average, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("looks", ["plain", "strong"])
def test_views_of_the_meta_set(tmp_path, looks):
    config = config_of(**{"baseline.fixmatch.meta_view": looks})
    begun = assemble(config, tmp_path / "run", devices=some(1))
    method, view, table = (
        begun.program.method,
        begun.program.view,
        begun.sets.train.table,
    )
    learner = begun.start.run.learner
    index, keys = begun.problem.labelled_index[:20], None
    batches = Batches(begun.config, begun.program.parts.model, method, view, None, 1)
    memory = begun.start.run.memory
    batch = batches.meta(learner, table, {"index": jnp.asarray(index)}, memory)
    look = view.prepare
    if looks == "strong":
        look = view.strong
        key = fold(learner.key, Purpose.STRONG_META_VIEW, learner.step)
        keys = augment.sample_keys(key, jnp.arange(20))
    want = look(np.asarray(table.inputs)[index], begun.sets.statistics, keys)
    np.testing.assert_allclose(batch["input"], want, rtol=1e-6)
    only = begun.problem.labels[index][:, None] == np.arange(10)
    np.testing.assert_array_equal(batch["candidates"], only)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 4])
def test_results_do_not_depend_on_the_number_of_devices(finished, tmp_path, devices):
    run(config_of(), tmp_path / "run", devices=devices)
    assert_close(tmp_path / "run", finished)


@pytest.mark.slow
def test_stopped_at_any_step_it_ends_at_the_same_bits(finished, tmp_path, monkeypatch):
    stops = range(1, metrics(finished)[-1]["step"] + 1)
    stop_after(monkeypatch, *stops)
    for _ in stops:
        with pytest.raises(Interrupted):
            run(config_of(), tmp_path / "run")
    run(config_of(), tmp_path / "run")
    assert_same(tmp_path / "run", finished)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        {"method": "trusted_only"},
        {"method": "fixmatch", "data.validation": 40, "semi.mu": 1},
        {"method": "constant", "warmup_epochs": 1, "parallel": "jit"},
        {"method": "mw_net", "meta_set.policy": "held_out"},
        {"method": "cmw_net", "loss": "proden"},
        {
            "method": "cmw_net",
            "data.name": "breast_cancer",
            "augment.pad": 0,
            "semi.labels": 12,
        },
    ],
    ids=str,
)
def test_methods_and_data_of_other_kinds(tmp_path, fields):
    run(config_of(**fields), tmp_path / "run")
    last = metrics(tmp_path / "run")[-1]
    assert np.isfinite(last["loss"]) and last["test_accuracy"] > 0.1
    found = read_samples(tmp_path / "run" / "samples.csv")
    if fields["method"] == "trusted_only":
        assert set(found["weight"].tolist()) == {0}
    if "data.validation" in fields:
        validation = read_samples(tmp_path / "run" / "validation.csv")
        assert (validation["given_label"] != "").all()
        assert 0 <= last["validation_accuracy"] <= 1


@pytest.mark.slow
def test_images_on_disk_have_the_views_of_those_in_memory(tmp_path):
    write_folder(tmp_path)
    common = {
        "data.train_size": 0,
        "data.batch_size": 12,
        "meta_set.batch_size": 8,
        "semi.labels": 12,
        "augment.pad": 0,
        "data.stream.image_size": 10,
        "data.stream.resize": 0,
        "data.stream.crop": "centre",
        "epochs": 2,
        "warmup_epochs": 1,
    }
    found = []
    for name in (f"folder:{tmp_path}", str(tmp_path / "set.npz")):
        workdir = tmp_path / f"run_{len(found)}"
        run(config_of(**common, **{"data.name": name}), workdir)
        found.append([(x["loss"], x["test_accuracy"]) for x in metrics(workdir)])
    np.testing.assert_allclose(*found, rtol=1e-4)


def test_the_configuration_file():
    config = config_file.get_config()
    check_config(config)
    assert (config.task, config.semi.labels, config.semi.mu) == ("semi", 40, 2)
    assert config.compare.methods[-1] == "cmw_net"
    tail = config_file.get_config("data=fashion_mnist,labels=250,imbalance=50,mu=3")
    assert tail.data.imbalance_factor == 50 and tail.data.batch_size == 256
    assert tail.model.name == "small_conv"
    smoke = config_file.get_config("smoke")
    assert len(smoke.compare.seeds) == 1
