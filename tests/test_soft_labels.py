"""CMW-Net-SL: losses and meta-gradient, sample by sample; its state over steps."""

from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmwjax.bias import meta_set
from cmwjax.config import base_config
from cmwjax.core.meta import MetaState, meta_step
from cmwjax.core.parallel import MODES
from cmwjax.core.weighting import CMWNet
from cmwjax.data import view
from cmwjax.data.table import Table
from cmwjax.methods import catalogue, mixup, soft_labels
from cmwjax.methods.method import cross_entropy
from cmwjax.models import catalogue as models
from cmwjax.training import batches, steps
from cmwjax.training.run import Progress, assemble
from problems import assert_close
from runs import metrics, run, saved, some, two_processes

C, B, LR = 3, 6, 0.5


def log_softmax(z):
    z = np.asarray(z, np.float64)
    return z - np.log(np.exp(z).sum())


def ce(z, target):
    """Of one sample, against a class or probabilities."""
    probabilities = np.eye(C)[target] if np.ndim(target) == 0 else np.asarray(target)
    return -(probabilities * log_softmax(z)).sum()


def random_batch(seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    label = rng.integers(C, size=B)
    batch = {
        "input": rng.normal(size=(B, 6, 6, 2)).astype(dtype),
        "label": label.astype(np.int32),
        "family": np.array([2, 0, 1], np.int32)[label],
        "soft_label": rng.dirichlet(np.ones(C), B).astype(dtype),
    }
    return jax.tree.map(jnp.asarray, batch)


PARTNER = np.array([3, 0, 2, 5, 1, 4])
LAM = 0.7
NET, KEY = CMWNet(hidden=5), jax.random.key(0)


def terms_of(form):
    """Losses and coefficients; `form` is the second weight of MixUp, or none."""
    config = base_config()
    config.method, config.weighting.hidden = "cmw_net_sl", 5
    config.weighting.anchored = False
    config.mixup.alpha = 0.0 if form == "none" else 1.0
    config.mixup.second_weight = "permuted" if form == "none" else form
    method = catalogue.build(config, num_families=3)
    return method.terms()


def v_of(meta_params, loss, family):
    """The weight of one sample, of the net's parameters by hand."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), meta_params["params"])
    hidden = np.maximum(loss * p["shared"]["kernel"][0] + p["shared"]["bias"], 0)
    head = p["heads"]
    logit = hidden @ head["kernel"][:, family] + head["bias"][family]
    return 1 / (1 + np.exp(-logit))


@pytest.mark.parametrize("form", ["none", "permuted", "mixed"])
def test_loss_is_that_of_the_paper_sample_by_sample(form):
    batch, rng = random_batch(), np.random.default_rng(1)
    if form != "none":
        batch = mixup.mix(batch, jnp.float32(LAM), PARTNER)
    logits = rng.normal(0, 2, (B, C)).astype(np.float32)
    meta_params = NET.init(jax.random.key(0), jnp.zeros(1), jnp.zeros(1, int))
    losses_fn, weight_fn = terms_of(form)
    losses = losses_fn(jnp.asarray(logits), batch)
    got = np.sum(weight_fn(meta_params, losses, batch) * losses, axis=1)

    y, z, family = (np.asarray(batch[k]) for k in ("label", "soft_label", "family"))
    for i, j in enumerate(PARTNER):
        v1 = v_of(meta_params, ce(logits[i], y[i]), family[i])
        want = v1 * ce(logits[i], y[i]) + (1 - v1) * ce(logits[i], z[i])
        if form != "none":
            seen = ce(logits[j if form == "permuted" else i], y[j])
            v2 = v_of(meta_params, seen, family[j])
            second = v2 * ce(logits[i], y[j]) + (1 - v2) * ce(logits[i], z[j])
            want = LAM * want + (1 - LAM) * second
        np.testing.assert_allclose(got[i], want, rtol=1e-4, err_msg=str(i))


def test_second_weight_is_the_first_one_permuted_in_the_main_form():
    batch = mixup.mix(random_batch(), jnp.float32(LAM), PARTNER)
    losses = jnp.asarray(np.random.default_rng(2).exponential(size=(B, 4)), jnp.float32)
    meta_params = NET.init(jax.random.key(1), jnp.zeros(1), jnp.zeros(1, int))
    c = np.asarray(terms_of("permuted")[1](meta_params, losses, batch))
    np.testing.assert_allclose(c[:, 2] / (1 - LAM), c[PARTNER, 0] / LAM, rtol=1e-5)
    np.testing.assert_allclose(c.sum(axis=1), 1, rtol=1e-6)
    other = np.asarray(terms_of("mixed")[1](meta_params, losses, batch))
    assert np.abs(other[:, 2] - c[:, 2]).max() > 1e-3
    with pytest.raises(ValueError, match="second_weight='own' is unknown"):
        mixup.mixed_weights(lambda *a: a, "own")


@pytest.mark.parametrize("form", ["none", "permuted", "mixed"])
def test_meta_gradient_is_the_papers_closed_form(form):
    """Batch norm in training mode, a mixed meta batch, one gradient per sample."""
    with jax.enable_x64(True):
        batch, meta_batch = (random_batch(s, np.float64) for s in (0, 1))
        if form != "none":
            batch = mixup.mix(batch, jnp.float64(LAM), PARTNER)
        meta_batch = mixup.mix(meta_batch, jnp.float64(0.6), PARTNER[::-1].copy())
        model = models.build("small_conv", num_classes=C, features=(4,))
        variables = jax.tree.map(
            lambda x: np.random.default_rng(x.size).normal(0, 0.5, x.shape),
            jax.eval_shape(
                lambda: model.init(jax.random.key(0), batch["input"], False)
            ),
        )
        params, stats = variables.pop("params"), jax.tree.map(jnp.abs, variables)
        meta_params = jax.tree.map(
            lambda x: x.astype(np.float64),
            NET.init(jax.random.key(2), jnp.zeros(1), jnp.zeros(1, int)),
        )
        losses_fn, weight_fn = terms_of(form)
        record = optax.GradientTransformation(
            optax.tree.zeros_like, lambda g, s, p: (optax.tree.zeros_like(g), g)
        )
        tx = optax.sgd(0.1)
        state = MetaState.create(
            params=params,
            meta_params=meta_params,
            tx=tx,
            meta_tx=record,
            model_state=stats,
        )
        state, _ = meta_step(
            state,
            batch,
            meta_batch,
            loss_fn=steps.classifier_loss(model, losses_fn),
            weight_fn=weight_fn,
            tx=tx,
            meta_tx=record,
            inner_lr=optax.constant_schedule(LR),
            meta_loss_fn=steps.meta_loss(
                model, mixup.mixed_label_losses(cross_entropy)
            ),
        )

        def logits_at(w, images):
            return model.apply(
                {"params": w, **stats}, images, True, mutable=["batch_stats"]
            )[0]

        def ce_at(w, i, target):
            return -jnp.sum(
                target * jax.nn.log_softmax(logits_at(w, batch["input"])[i])
            )

        gradient = jax.jit(jax.grad(ce_at))
        value = jax.jit(ce_at)
        y, z = jnp.eye(C)[batch["label"]], batch["soft_label"]
        family = np.asarray(batch["family"])
        lam = 1.0 if form == "none" else LAM
        terms = []  # share, (sample whose loss V sees, label it is seen against), label
        for i, j in enumerate(PARTNER):
            terms.append((lam, i, i, i))
            if form != "none":
                seen_on = j if form == "permuted" else i
                terms.append((1 - lam, seen_on, j, i))
        virtual, slopes = params, []
        for share, seen_on, k, i in terms:
            loss = value(params, seen_on, y[k])

            def v(theta, loss=loss, k=k):
                return NET.apply(theta, loss[None], family[k : k + 1])[0]

            weight, slope = jax.value_and_grad(v)(meta_params)
            given, soft = gradient(params, i, y[k]), gradient(params, i, z[k])
            step = jax.tree.map(lambda g, s, w=weight: w * g + (1 - w) * s, given, soft)
            virtual = optax.tree.add_scale(virtual, -LR / B * share, step)
            slopes.append((share, slope, optax.tree.sub(given, soft)))

        def meta_loss(w):
            logp = jax.nn.log_softmax(logits_at(w, meta_batch["input"]))
            own, other = meta_batch["label"], meta_batch["label"][PARTNER[::-1]]
            at = np.arange(B)
            return -jnp.mean(0.6 * logp[at, own] + 0.4 * logp[at, other])

        ahead = jax.grad(meta_loss)(virtual)
        want = optax.tree.zeros_like(meta_params)
        for share, slope, difference in slopes:
            agreement = optax.tree.vdot(ahead, difference)
            want = optax.tree.add_scale(want, -LR / B * share * agreement, slope)
        assert_close(state.meta_opt_state, want, 1e-8)


# --- the memory --------------------------------------------------------------------


@pytest.mark.parametrize("start", ["predicted", "one_hot"])
def test_soft_labels_are_the_moving_average_of_the_visits(start):
    rng = np.random.default_rng(0)
    labels = rng.integers(C, size=5)
    problem = SimpleNamespace(labels=labels, dataset=SimpleNamespace(num_classes=C))
    memory = soft_labels.soft_label_memory(momentum=0.9, start=start)
    state = jax.tree.map(jnp.asarray, memory.init(problem))
    want = [np.eye(C)[y] if start == "one_hot" else None for y in labels]
    for visit in range(6):
        index = rng.permutation(5)[:3]
        p = rng.dirichlet(np.ones(C), 3).astype(np.float32)
        if visit == 3:
            p[1] = 0  # what a prediction that is not finite is turned into
        state, batch = memory.before(state, {"index": index}, p, None)
        for i, row in zip(index, p, strict=True):
            if row.any():
                want[i] = row if want[i] is None else 0.9 * want[i] + 0.1 * row
        for i, got in zip(index, batch["soft_label"], strict=True):
            np.testing.assert_allclose(
                got, 0 if want[i] is None else want[i], rtol=1e-5
            )
    for got, row in zip(state["soft_labels"], want, strict=True):
        np.testing.assert_allclose(got, 0 if row is None else row, rtol=1e-5)


# --- entire runs -------------------------------------------------------------------


def small_config(**fields):
    """Three epochs of ten steps, all randomness there is, no clean data."""
    config = base_config()
    given = {
        "method": "cmw_net_sl",
        "epochs": 3,
        "warmup_epochs": 1,
        "data.train_size": 400,
        "data.batch_size": 40,
        "noise.kind": "symmetric",
        "noise.rate": 0.4,
        "meta_set.policy": "lowest_loss",
        "meta_set.per_class": 4,
        "meta_set.batch_size": 20,
        "model.name": "small_conv",
        "model.options": {"features": (8,)},
        "augment.pad": 1,
        "augment.meta": True,
        "mixup.meta_alpha": 1.0,
        "ema.decay": 0.8,
        "soft_labels.momentum": 0.5,
        "optim.learning_rate": 0.05,
    }
    config.update_from_flattened_dict(given | fields)
    return config.lock()


def finished(config, workdir):
    """The metrics of each epoch of a run on one device."""
    run(config, workdir)
    return metrics(workdir)


def steps_of(config, count, devices):
    """The state after `count` steps, meta steps where the method has them."""
    begun = assemble(config, "never made", devices=some(devices))
    program, problem, table = begun.program, begun.problem, begun.sets.train.table
    state, split = Progress.of(begun, begun.start).state, program.layout.split
    rng = np.random.default_rng(0)
    shards = problem.train_index[: 4 * 80].reshape(80, 4).T  # 4 virtual ones
    for _ in range(count):
        rows = np.concatenate([rng.permutation(s)[:10] for s in shards])
        meta = np.concatenate([rng.permutation(s)[:5] for s in shards])
        rows, meta = (split({"index": x.astype(np.int32)}) for x in (rows, meta))
        if program.method.has_meta_step:
            state = program.step.meta(state, table, rows, meta)
        else:
            state = program.step.weighted(state, table, rows)
    return jax.device_get(state)


# Without meta steps, which are slow to compile: the teacher takes no part in them.
OWN_STATISTICS = {"method": "constant_sl", "ema.batch_stats": False, "mixup.alpha": 0.0}
SLOWLY = {"optim.learning_rate": 0.02}


@pytest.fixture(scope="module")
def on_one_device():
    return {
        fields: learned(steps_of(small_config(**SLOWLY | dict(fields)), 20, 1))
        for fields in ((), tuple(OWN_STATISTICS.items()))
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "devices", "fields"),
    [
        ("pmap", 4, {}),
        ("pmap", 2, OWN_STATISTICS),
        ("shard_map", 2, {}),
        ("jit", 4, {}),
    ],
)
def test_devices_end_alike_after_twenty_steps(on_one_device, mode, devices, fields):
    config = small_config(parallel=mode, **SLOWLY | fields)
    several = learned(steps_of(config, 20, devices))
    one = on_one_device[tuple(fields.items())]
    assert np.count_nonzero(several[-1]["soft_labels"].sum(axis=1)) > 250
    chex.assert_trees_all_close(several, one, rtol=1e-5, atol=1e-5)


TWENTY_STEPS = """
import numpy as np
from test_soft_labels import SLOWLY, jax, learned, small_config, steps_of
config = small_config(parallel=sys.argv[1], **SLOWLY)
state = learned(steps_of(config, 20, 4))
np.savez(f"{sys.argv[2]}.{jax.process_index()}.npz", *jax.tree.leaves(state))
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_two_processes_end_as_one_device_does(on_one_device, tmp_path, mode):
    outputs = two_processes(TWENTY_STEPS, mode, tmp_path / "state")
    assert [code for code, _ in outputs] == [0, 0], outputs
    for rank in range(2):
        with np.load(f"{tmp_path / 'state'}.{rank}.npz") as found:
            state = jax.tree.unflatten(
                jax.tree.structure(on_one_device[()]),
                [found[f"arr_{i}"] for i in range(len(found.files))],
            )
        chex.assert_trees_all_close(state, on_one_device[()], rtol=1e-5, atol=1e-5)


def learned(state):
    """What must not depend on the number of devices."""
    learner = state.learner
    net = (learner.params, learner.model_state, learner.meta_params)
    return net, state.teacher, state.memory


EVERY_EPOCH = {"checkpoint.every_steps": 10, "checkpoint.keep": 3}


def teachers(workdir):
    """The teacher at the end of each of three epochs, arrays by name."""
    return [
        {k: v for k, v in saved(workdir, step).items() if k.startswith("run/teacher/")}
        for step in (10, 20, 30)
    ]


@pytest.mark.slow
def test_a_frozen_teacher_and_the_purity_of_its_meta_set(tmp_path):
    config = small_config(**{"ema.freeze_epoch": 2}, **EVERY_EPOCH)
    lines = finished(config, tmp_path / "run")
    first, second, third = teachers(tmp_path / "run")
    assert first.keys() == second.keys() == third.keys() and first
    for name in first:
        assert not np.array_equal(first[name], second[name]), name
        np.testing.assert_array_equal(second[name], third[name])
    # It teaches on, but the classifier is what is judged.
    assert all(line["test_accuracy"] == line["net_accuracy"] for line in lines)
    assert len({line["teacher_accuracy"] for line in lines}) == 2
    assert len({line["net_accuracy"] for line in lines}) == 3
    assert "meta_purity" not in lines[0]  # the warm-up has no meta set
    assert all(0 < line["meta_purity"] <= 1 for line in lines[1:])
    assert {"net_accuracy", "meta_loss", "weight_mean"} <= lines[1].keys()
    with np.load(tmp_path / "run" / "labels.npz") as file:
        observed, wrong = file["observed"], file["changed"]
    assert meta_set.purity(np.arange(400), observed, observed) == 1
    # By far purer than the training set, if the teacher has learned anything.
    assert lines[-1]["meta_purity"] > 1 - wrong.mean()


@pytest.mark.slow
def test_a_teacher_may_have_its_own_batch_statistics(tmp_path):
    """As the authors': those of its predictions, and none from the warm-up."""
    fields = {"method": "constant_sl", "ema.batch_stats": False}
    lines = finished(small_config(**fields, **EVERY_EPOCH), tmp_path / "run")
    assert "meta_purity" not in lines[-1]
    first, second, _ = teachers(tmp_path / "run")
    (mean,) = (name for name in first if name.endswith("mean"))
    (var,) = (name for name in first if name.endswith("var"))
    np.testing.assert_array_equal(first[mean], 0)
    np.testing.assert_array_equal(first[var], 1)
    # Ten predictions in an epoch: the initial values keep 0.9 ** 10 of their weight.
    assert np.abs(second[mean]).min() > 0
    left = (second[var] - 0.9**10) / (1 - 0.9**10)
    assert np.all(left > 0) and np.abs(left - 1).min() > 0.01


@pytest.mark.slow
def test_without_mixup_the_plain_form_weights_given_labels_alone(tmp_path):
    """cmw_net_mixup with alpha = 0 is CMW-Net, evaluated by its teacher."""
    fields = {"epochs": 1, "warmup_epochs": 0, "ema.decay": 0.0}
    fields |= {"mixup.alpha": 0.0, "mixup.meta_alpha": 0.0}
    plain, same = (
        finished(small_config(method=method, **fields), tmp_path / method)
        for method in ("cmw_net", "cmw_net_mixup")
    )
    for a, b in zip(plain, same, strict=True):
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-4)
        assert a["test_accuracy"] == b["net_accuracy"]


def test_the_meta_batch_is_mixed_within_virtual_shards():
    config = small_config(method="cmw_net_sl", **{"augment.meta": False})
    method = catalogue.build(config, num_families=3)
    rng = np.random.default_rng(0)
    table = Table(
        inputs=rng.integers(256, size=(40, 2, 2, 1)).astype(np.uint8),
        labels=np.arange(40, dtype=np.int32) % 10,
        family=np.zeros(40, np.int32),
        statistics=(np.zeros(1, np.float32), np.ones(1, np.float32)),
    )
    learner = SimpleNamespace(key=jax.random.key(0), step=jnp.int32(3))
    make = batches.Batches(config, None, method, view.build("images", config), None, 10)
    rows = {"index": jnp.arange(20)}
    batch = make.meta(learner, jax.tree.map(jnp.asarray, table), rows)
    partner, lam = np.asarray(batch["partner"]), np.asarray(batch["lam"])
    np.testing.assert_array_equal(partner // 5, np.arange(20) // 5)
    assert 0.5 <= lam[0] < 1 and np.all(lam == lam[0])
    images = table.inputs[:20] / np.float32(255)
    want = lam[0] * images + (1 - lam[0]) * images[partner]
    np.testing.assert_allclose(batch["input"], want, rtol=1e-5)
