"""Training on the trusted samples alone, against a loop of its own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmwjax.config_check import check_config
from cmwjax.data import order
from cmwjax.training.run import Progress, assemble
from runs import metrics, newest, run, saved, some, tiny

HELD_OUT = 4 * 10  # fewer than in a batch


def config(**fields):
    given = {"method": "trusted_only", "data.batch_size": 60, "data.train_size": 340}
    return tiny(**{**given, "meta_set.batch_size": 12, **fields})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trusted") / "run"
    run(config(), folder)
    return folder


def test_it_is_a_plain_loop_over_the_trusted_samples(finished, tmp_path):
    this = assemble(config(), tmp_path / "run", devices=some(1))
    problem, optim = this.problem, this.config.optim
    assert len(problem.meta_index) == HELD_OUT
    table = this.sets.train.table
    mean, std = map(np.asarray, table.statistics)
    x = (np.asarray(table.inputs, np.float32) / 255 - mean) / std
    x, y = jnp.asarray(x.reshape(len(x), -1)), jnp.asarray(problem.true_labels)
    tx = optax.chain(
        optax.add_decayed_weights(optim.weight_decay),
        optax.sgd(optim.learning_rate, momentum=optim.momentum),
    )

    @jax.jit
    def step(params, opt_state, index):
        def loss(params):
            one, two = params["Dense_0"], params["head"]
            h = jax.nn.relu(x[index] @ one["kernel"] + one["bias"][None])
            logits = h @ two["kernel"] + two["bias"][None]
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, y[index])
            return losses.mean()

        updates, opt_state = tx.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    params = this.start.run.learner.params
    opt_state = tx.init(params)
    steps = 300 // 60  # in an epoch: as many as of ERM
    for epoch in range(3):
        rows = order.meta_batches(
            problem.meta_index, batch_size=60, shards=4, seed=0, epoch=epoch, steps=5
        )
        assert rows.shape == (steps, HELD_OUT)
        for index in rows:
            params, opt_state = step(params, opt_state, index)
    got = newest(finished)
    for path, want in jax.tree.leaves_with_path(params):
        name = "run/learner/params/" + jax.tree_util.keystr(
            path, simple=True, separator="/"
        )
        np.testing.assert_allclose(got[name], want, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_labels_of_the_training_set_have_no_influence(finished, tmp_path):
    run(config(**{"noise.rate": 1.0}), tmp_path / "run")
    ours, theirs = saved(finished), saved(tmp_path / "run")
    assert np.any(ours["labels"] != theirs["labels"])
    names = [name for name in ours if name.startswith("run/learner")]
    assert len(names) > 4
    for name in names:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_its_samples_weigh_nothing_and_no_epoch_is_selected_by_what_it_learned(
    finished,
):
    table = np.genfromtxt(finished / "samples.csv", delimiter=",", names=True)
    assert not table["weight"].any() and len(table) == 300
    assert np.all(np.diff(table["quality"]) >= 0)  # the least likely labels first
    assert not [name for name in metrics(finished)[-1] if name.startswith("meta")]
    assert not (finished / "classifier_selected.safetensors").exists()


@pytest.mark.parametrize("method", ["trusted_only", "erm"])
def test_a_trusted_sample_looks_another_way_each_time(method, tmp_path):
    c = config(**{"method": method, "augment.pad": 2, "augment.flip": True})
    this = assemble(c, tmp_path / "run", devices=some(1))
    program, losses = this.program, []
    rows = program.layout.split({"index": this.problem.meta_index})
    for step in (0, 1):  # of one epoch, in which the classifier stays as it is
        state = Progress.of(this, this.start).state
        state = state._replace(
            learner=state.learner._replace(
                step=program.layout.replicate(jnp.int32(step))
            )
        )
        state = program.step.weighted(state, this.sets.train.table, rows)
        losses.append(float(state.sums["loss"][0]))
    assert (losses[0] != losses[1]) == (method == "trusted_only")
    assert this.order.period == (1 if method == "trusted_only" else 5)


@pytest.mark.parametrize("policy", ["balanced", "lowest_loss", "none"])
def test_without_trusted_labels_it_is_refused(policy):
    with pytest.raises(ValueError, match=rf"config.meta_set.policy='{policy}' has no"):
        check_config(config(**{"meta_set.policy": policy}))


def test_fewer_trusted_samples_than_shards_are_refused(tmp_path):
    fields = {"data.shards": 60, "meta_set.per_class": 1}
    with pytest.raises(ValueError, match="meta set has 10 samples, fewer than the 60"):
        assemble(config(**fields), tmp_path / "run", devices=some(1))
