"""Partial labels: losses sample by sample, PRODEN by hand, whole runs."""

import csv
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmwjax.bias.problem import prepare
from cmwjax.core.families import Families, group_classes
from cmwjax.data.table import Table
from cmwjax.methods import partial
from cmwjax.methods.memory import Memory, chain
from cmwjax.report import page, plots
from cmwjax.report.samples import is_wrong, read_samples, samples_of
from cmwjax.stopping import Interrupted
from cmwjax.tasks.partial import PARTIAL
from cmwjax.training.run import Progress, assemble
from configs import partial as config_file
from methods import build
from runs import (
    STEPS,
    assert_close,
    assert_same,
    metrics,
    run,
    saved,
    some,
    stop_after,
    tiny,
)

B, C = 40, 5
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, (B, C))
SETS = RNG.random((B, C)) < 0.4
SETS[np.arange(B), np.arange(B) % C] = True
CONFIDENCES = SETS * RNG.random((B, C))
CONFIDENCES /= CONFIDENCES.sum(axis=1, keepdims=True)
BATCH = {
    "candidates": jnp.asarray(SETS),
    "confidences": jnp.asarray(CONFIDENCES, jnp.float32),
}


def softmax(z):
    e = np.exp(z - np.max(z))
    return e / e.sum()


def config_of(**fields):
    given = {
        "task": "partial",
        "loss": "proden",
        "candidates.kind": "binomial",
        "candidates.rate": 0.4,
        "noise.kind": "none",
        "noise.rate": 0.0,
        "meta_set.policy": "lowest_loss",
    }
    return tiny(**given | fields)


# --------------------------------------------------------------------------- formulas


def test_losses_sample_by_sample():
    logits = jnp.asarray(LOGITS, jnp.float32)
    got = [build(name).losses(logits, BATCH) for name in ("proden", "cc")]
    got.append(PARTIAL.losses(logits, BATCH))
    for i in range(B):
        p, inside = softmax(LOGITS[i]), np.flatnonzero(SETS[i])
        proden = -sum(CONFIDENCES[i, c] * np.log(p[c]) for c in inside)
        want = proden, -np.log(sum(p[c] for c in inside)), min(-np.log(p[inside]))
        np.testing.assert_allclose([loss[i] for loss in got], want, rtol=1e-4)


def test_scores_sample_by_sample():
    logits = jnp.asarray(LOGITS, jnp.float32)
    found = PARTIAL.scores(logits, BATCH)
    quality = PARTIAL.label_quality(logits, BATCH, jnp.ones(C) / C)
    outside = 0
    for i in range(B):
        p, inside = softmax(LOGITS[i]), np.flatnonzero(SETS[i])
        likeliest = inside[np.argmax(p[inside])]
        inside_all = p[inside].sum()
        outside += inside_all < 0.5
        assert quality[i] == pytest.approx(inside_all, rel=1e-4)
        assert found["prediction"][i] == np.argmax(p)
        assert found["label"][i] == likeliest
        want = likeliest if inside_all > 0.5 else np.argmax(p)
        assert found["suggestion"][i] == want
        assert found["is_candidate"][i] == (np.argmax(p) in inside)
    assert 5 < outside < B - 5
    hits = np.mean(np.asarray(found["is_candidate"]))
    found = {name: np.asarray(values) for name, values in found.items()}
    assert PARTIAL.summary(found, None) == {"accuracy": pytest.approx(hits)}
    none = {"is_candidate": np.zeros(0, bool)}
    assert np.isnan(PARTIAL.summary(none, np.zeros(0))["accuracy"])


def test_large_logits_stay_finite():
    logits, batch = jnp.array([[900.0, -900.0]]), {"candidates": jnp.eye(2)[1:] > 0}
    for losses in (build("proden").losses, build("cc").losses, PARTIAL.losses):
        value, slope = jax.value_and_grad(lambda z, f=losses: f(z, batch)[0])(logits)
        assert value == 1800 and np.isfinite(slope).all()


def test_the_slope_of_cc_is_that_of_confidences_of_the_same_step():
    def mean(name, z):
        return jnp.mean(build(name).losses(z, {"candidates": BATCH["candidates"]}))

    logits = jnp.asarray(LOGITS, jnp.float32)
    slopes = [jax.grad(lambda z, n=n: mean(n, z))(logits) for n in ("proden", "cc")]
    np.testing.assert_allclose(*slopes, atol=1e-7)


# --------------------------------------------------------------------- the confidences


def small_problem():
    index = np.arange(3, B)
    sets = SETS[index] / SETS[index].sum(axis=1, keepdims=True)
    families = group_classes(sets.sum(axis=0), 3)
    return SimpleNamespace(candidates=SETS, train_index=index, families=families)


@pytest.mark.parametrize("num_devices", [1, 4])
def test_confidences_are_renewed_for_the_next_visit(num_devices):
    memory, problem = partial.running_confidences(), small_problem()
    state = memory.init(problem)
    want = SETS / SETS.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(state["confidences"], want, rtol=1e-6)
    before = jax.pmap(
        lambda state, batch, p: memory.before(state, batch, p, "data"),
        "data",
        in_axes=(None, 0, 0),
        out_axes=(None, 0),
        devices=jax.devices()[:num_devices],
    )
    rng = np.random.default_rng(1)
    for _ in range(4):
        index = rng.choice(B, 12, replace=False)
        p = rng.dirichlet(np.ones(C), 12).astype(np.float32)
        p[0] = 0  # was not finite
        batch = {"index": index, "candidates": SETS[index]}
        cut = jax.tree.map(
            lambda x: x.reshape(num_devices, -1, *x.shape[1:]), (batch, p)
        )
        state, batch = before(state, *cut)
        used = batch["confidences"].reshape(-1, C)
        np.testing.assert_allclose(used, want[index], rtol=1e-5)  # of the visit before
        of_class = small_problem().families.family
        family = of_class[[np.argmax(want[i]) for i in index]]
        np.testing.assert_array_equal(batch["family"].reshape(-1), family)
        for i, row in zip(index[1:], p[1:], strict=True):
            total = sum(row[c] for c in range(C) if SETS[i, c])
            want[i] = [row[c] / total if SETS[i, c] else 0 for c in range(C)]
    for shard in state["confidences"].addressable_shards:
        np.testing.assert_allclose(shard.data, want, rtol=1e-5)


def test_families_are_made_of_what_is_believed():
    memory, problem = partial.running_confidences(), small_problem()
    state = {**memory.init(problem), "confidences": CONFIDENCES.astype(np.float32)}
    state = memory.refresh(state, problem, -1, None)
    sizes = np.zeros(C)
    for i in problem.train_index:
        sizes += CONFIDENCES[i]
    want = group_classes(sizes, 3)
    found = memory.families(state)
    assert isinstance(found, Families)
    best = CONFIDENCES.argmax(axis=1)
    np.testing.assert_array_equal(memory.labels(state, np.arange(B)), best)
    batch = {"index": np.array([7, 2]), "candidates": SETS[[7, 2]]}
    only = memory.believed(state, batch)["candidates"]
    np.testing.assert_array_equal(only, np.eye(C)[best[[7, 2]]])
    np.testing.assert_array_equal(found.family, want.family)
    np.testing.assert_allclose(found.centres, want.centres, rtol=1e-6)
    table = Table(np.zeros(B), np.zeros(B, int), np.full(B, 9), (), {"x": np.ones(B)})
    table = memory.scored(state, table)
    of_samples = want.family[CONFIDENCES.argmax(axis=1)]
    np.testing.assert_array_equal(table.family, of_samples)
    np.testing.assert_allclose(table.features["confidences"], CONFIDENCES, rtol=1e-6)
    assert table.features["x"].all() and len(set(of_samples)) > 1


def test_proden_by_hand(tmp_path):
    """Softmax regression by the published algorithm, three epochs of it."""
    fields = {"model.options": {"hidden": ()}, "method": "erm"}
    config = config_of(**fields)
    begun = assemble(config, tmp_path / "run", devices=some(1))
    program, problem, table = begun.program, begun.problem, begun.sets.train.table
    state, order = Progress.of(begun, begun.start).state, begun.order
    params = jax.device_get(state.learner.params)["head"]
    w = np.vstack([params["kernel"], params["bias"]]).astype(np.float64)
    mean, deviation = (np.asarray(s, np.float64) for s in table.statistics[:2])
    images = (np.asarray(table.inputs, np.float64) / 255 - mean) / deviation
    x = np.column_stack([images.reshape(len(images), -1), np.ones(len(images))])
    believed = problem.candidates / problem.candidates.sum(axis=1, keepdims=True)
    velocity = np.zeros_like(w)
    for step in range(STEPS):
        index = order(step)
        rows = program.layout.split({"index": index})
        make = program.step.warmup if step < 5 else program.step.weighted
        state = make(state, table, rows)
        p = np.stack([softmax(z) for z in x[index] @ w])
        gradient = x[index].T @ (p - believed[index]) / len(index)
        inside = p * problem.candidates[index]
        believed[index] = inside / inside.sum(axis=1, keepdims=True)
        velocity = 0.9 * velocity + gradient + 5e-4 * w
        w -= 0.1 * velocity
    end = jax.device_get(state)
    np.testing.assert_allclose(end.memory["confidences"], believed, atol=2e-4)
    np.testing.assert_allclose(
        end.learner.params["head"]["kernel"], w[:-1], rtol=2e-3, atol=2e-4
    )
    assert np.abs(believed - problem.candidates / 3).max() > 0.3


# ------------------------------------------------------------------------------- chain


def link(name, **others):
    def before(memory, batch, probabilities, axis_name):
        del probabilities, axis_name
        return memory + 1, {**batch, name: memory, "last": (*batch["last"], name)}

    return Memory(lambda problem: problem, before, **others)


def test_links_of_a_chain_follow_each_other():
    def refresh(memory, problem, epoch, predict):
        return memory + predict()

    def weigh(memory, index):
        return memory * index

    a, b = link("a", refresh=refresh, predicts=True), link("b", weigh=weigh)
    assert chain(None, a) is a and chain() is None and chain(None) is None
    both = chain(a, None, b)
    memory = both.init(5)
    memory, batch = both.before(memory, {"last": ()}, None, None)
    assert memory == (6, 6) and batch == {"a": 5, "b": 5, "last": ("a", "b")}
    memory = both.refresh(memory, None, 0, lambda: 10)
    assert memory == (16, 6) and both.weigh(memory, 2) == 12
    assert both.predicts and not both.in_warmup and both.families is None
    assert both.scored(memory, "table") == "table"


# ------------------------------------------------------------------------- whole runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of CMW-Net around PRODEN, not to be written to."""
    workdir = tmp_path_factory.mktemp("partial") / "run"
    run(config_of(), workdir)
    return workdir


@pytest.mark.slow
def test_sets_of_one_class_are_labels(tmp_path):
    """PRODEN is then ordinary training, whatever is made of the sets."""
    alone = {"candidates.rate": 0.0, "candidates.smallest": 1, "method": "erm"}
    run(config_of(**alone), tmp_path / "sets")
    same = {"noise.kind": "none", "noise.rate": 0.0, "method": "erm"}
    run(tiny(**same, **{"meta_set.policy": "none"}), tmp_path / "labels")
    for sets, labels in zip(
        metrics(tmp_path / "sets"), metrics(tmp_path / "labels"), strict=True
    ):
        assert sets["loss"] == pytest.approx(labels["loss"], rel=1e-4)
        assert sets["test_accuracy"] == labels["test_accuracy"]


def test_what_a_run_leaves(finished):
    problem = prepare(config_of())
    names, sets = problem.dataset.class_names, problem.candidates
    with (finished / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    position = {row: i for i, row in enumerate(problem.dataset.row_numbers)}
    arrays = saved(finished)
    believed = arrays["run/memory/confidences"]
    family = arrays["run/memory/family"]
    inside = 0
    for row in rows:
        i = position[int(row["row"])]
        candidates = [names[c] for c in np.flatnonzero(sets[i])]
        assert row["given_label"] == " | ".join(candidates)
        assert row["true_label"] in candidates
        in_set = row["suggested_label"] in candidates
        assert in_set or float(row["quality"]) < 0.6
        inside += in_set
        assert int(row["family"]) == family[np.argmax(believed[i])]
    assert len(rows) == 240 and inside > 120
    np.testing.assert_allclose(believed.sum(axis=1), 1, rtol=1e-5)
    assert not believed[~sets].any()
    sizes = believed[problem.train_index].sum(axis=0)
    assert np.abs(sizes - problem.group_counts).max() > 2  # they have moved
    with np.load(finished / "resolved.npz") as file:
        row, label = file["row"], file["label"]
    np.testing.assert_array_equal(row, problem.dataset.row_numbers)
    assert sets[np.arange(240), label].all()
    at = dict(zip(row.tolist(), label, strict=True))
    agree = [names[at[int(r["row"])]] == r["suggested_label"] for r in rows]
    assert sum(agree) == inside
    last = metrics(finished)[-1]
    assert last["test_accuracy"] > 0.15
    meta = arrays["meta_index"]
    right = believed[meta].argmax(axis=1) == problem.true_labels[meta]
    assert last["meta_purity"] == pytest.approx(right.mean()) and 0.2 < right.mean() < 1
    assert not is_wrong(samples_of(finished)).any()
    text = (page.write_report(finished, finished / "again.html")).read_text()
    assert "candidates of 10 classes in the mean" in text
    drawn = {path.stem for path in plots.run_figures(finished)}
    assert drawn == {"weight_curves", "weight_histogram"}


def test_a_set_is_wrong_without_the_true_label():
    samples = {
        "given_label": np.array(["a | b", "a | b", "a", "a", "a"], object),
        "true_label": np.array(["b", "c", "b", "a", ""], object),
    }
    assert is_wrong(samples).tolist() == [False, True, True, False, False]


@pytest.mark.slow
def test_a_second_stage_learns_what_the_first_made_of_the_sets(tmp_path):
    first = config_of(**{"data.train_size": 0, "method": "erm", "epochs": 1})
    run(first, tmp_path / "seed_0")
    labels = f"{tmp_path}/seed_{{seed}}/resolved.npz:label"
    given = {"noise.kind": "none", "noise.rate": 0.0, "data.labels": labels}
    problem = prepare(tiny(**given, **{"data.train_size": 0}))
    with np.load(tmp_path / "seed_0" / "resolved.npz") as file:
        learned = file["label"][problem.train_index]
    np.testing.assert_array_equal(problem.labels[problem.train_index], learned)
    assert 0 < problem.is_wrong.mean() < 0.8
    with pytest.raises(ValueError, match="there is no file .*seed_1"):
        prepare(tiny(**given, **{"data.train_size": 0, "seed": 1}))


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 4])
def test_results_do_not_depend_on_the_number_of_devices(finished, tmp_path, devices):
    run(config_of(), tmp_path / "run", devices=devices)
    assert_close(tmp_path / "run", finished)


@pytest.mark.slow
def test_stopped_at_any_step_it_ends_at_the_same_bits(finished, tmp_path, monkeypatch):
    stops = range(1, STEPS + 1)
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
        {"method": "cmw_net", "loss": "cc"},
        {"method": "mw_net"},
        {"method": "rrm", "meta_set.policy": "none"},
        {"method": "l2rw", "meta_every": 1, "meta_set.policy": "held_out"},
        {"method": "erm", "loss": "task", "data.validation": 40},
        {"method": "erm_mixup_ema", "parallel": "jit", "ema.decay": 0.5},
    ],
    ids=lambda fields: fields["method"],
)
def test_methods_for_all_tasks_weigh_sets(tmp_path, fields):
    run(config_of(**fields), tmp_path / "run")
    last = metrics(tmp_path / "run")[-1]
    assert np.isfinite(last["loss"]) and last["test_accuracy"] > 0.15
    assert last["skipped"] == 0
    if fields["method"] == "rrm":
        memory = saved(tmp_path / "run")
        assert "run/memory/0/confidences" in memory and "run/memory/1/weights" in memory
        found = read_samples(tmp_path / "run" / "samples.csv")
        weights = memory["run/memory/1/weights"]
        assert set(found["weight"].tolist()) == set(weights.astype(float).tolist())
    if fields.get("loss") == "task":
        assert 0 <= last["validation_accuracy"] <= 1
        assert (tmp_path / "run" / "validation.csv").is_file()


def test_the_configuration_file():
    config = config_file.get_config()
    assert config.task == "partial" and config.candidates.rate == 0.3
    paper = config_file.get_config("data=fashion_mnist,q=.7,smallest=1")
    assert paper.model.options.batch_norm and paper.epochs == 220
    assert paper.candidates.smallest == 1
    given = config_file.get_config("data=FILE.csv,q=0,separator=;,validation=.1")
    assert given.candidates.kind == "none" and given.data.csv.separator == ";"
    assert given.data.csv.test_share == 0
    first = config_file.get_config("data=fashion_mnist,stage=1")
    assert first.epochs == 100 and first.compare.methods == ("erm",)
    second = config_file.get_config("data=fashion_mnist,stage=2,first=runs/a")
    assert second.data.labels == "runs/a/erm/seed_{seed}/resolved.npz:label"
    assert second.task == "classification" and second.weighting.normalisation != "mean"
    with pytest.raises(ValueError, match="first='' with stage=2: it is the workdir"):
        config_file.get_config("stage=2")
    smoke = config_file.get_config("smoke")
    assert len(smoke.compare.seeds) == 1
