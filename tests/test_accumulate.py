"""Steps of a run that work through their batches in slices are the same steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmwjax.config import base_config
from cmwjax.core.meta import MetaState, meta_step
from cmwjax.core.weighting import CMWNet
from cmwjax.methods import catalogue, mixup
from cmwjax.methods.method import cross_entropy
from cmwjax.models import catalogue as models
from cmwjax.training import steps
from cmwjax.training.run import assemble
from problems import assert_close
from runs import assert_close as assert_close_runs
from runs import newest, run, some, stop_after, tiny

C, B = 3, 8
PARTNER = np.array([3, 0, 2, 5, 1, 4, 7, 6])  # in other slices, most of them


def random_batch(seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(C, size=B)
    batch = {
        "input": rng.normal(size=(B, 5, 1, 1)),
        "label": label.astype(np.int32),
        "family": label.astype(np.int32),
        "soft_label": rng.dirichlet(np.ones(C), B),
    }
    return mixup.mix(jax.tree.map(jnp.asarray, batch), jnp.float64(0.7), PARTNER)


@pytest.mark.parametrize("lean", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_step_in_slices_is_that_of_the_whole_batch(lean):
    """CMW-Net-SL with MixUp, in float64, without batch norm."""
    config = base_config()
    config.method, config.weighting.hidden = "cmw_net_sl", 5
    config.weighting.anchored = False
    losses, weight_fn = catalogue.build(config, num_families=C).terms()
    model = models.build("mlp", num_classes=C, hidden=(6,))
    tx = meta_tx = optax.sgd(1.0, 0.9)  # whose state is the (meta-)gradient
    with jax.enable_x64(True):
        batch, meta_batch, key = random_batch(0), random_batch(1), jax.random.key(0)
        net, one = CMWNet(C, hidden=5), jnp.zeros(1)
        first = jax.tree.map(
            lambda x: x.astype(jnp.float64),
            {
                "params": model.init(key, batch["input"], False)["params"],
                "meta_params": net.init(key, one, one.astype(int)),
            },
        )
        state = MetaState.create(**first, tx=tx, meta_tx=meta_tx)

        def stepped(accumulate):
            of_meta = mixup.mixed_label_losses(cross_entropy)
            return meta_step(
                state,
                batch,
                meta_batch,
                loss_fn=steps.classifier_loss(model, losses, accumulate),
                meta_loss_fn=steps.meta_loss(model, of_meta, accumulate),
                weight_fn=weight_fn,
                tx=tx,
                meta_tx=meta_tx,
                inner_lr=optax.constant_schedule(0.5),
                normalisation="weights",
                lean=lean and accumulate > 1,
            )

        step = jax.jit(stepped, static_argnums=0)
        (whole, measured), (sliced, same) = step(1), step(4)
        for name in ("params", "opt_state", "meta_params", "meta_opt_state"):
            assert_close(getattr(sliced, name), getattr(whole, name), 1e-12)
        for name in ("loss", "meta_loss", "meta_grad_norm"):
            assert_close(same[name], measured[name], 1e-12)


@pytest.mark.parametrize(
    ("fields", "devices", "message"),
    [
        ({}, 1, r"accumulate=3 .* 40 samples .* each of 1 .*data.batch_size, 40 in"),
        ({}, 4, r"accumulate=3 .* 10 samples .* each of 4 .*data.batch_size, 40 in"),
        (
            {"data.batch_size": 48},
            1,
            r"accumulate=3 .* 20 samples .*meta_set.batch_size, 20 in all.* divides 20",
        ),
        ({"optim.accumulate": 0}, 1, r"config.optim.accumulate=0 is out of range"),
    ],
)
def test_slices_are_equal(tmp_path, fields, devices, message):
    fields = {"optim.accumulate": 3} | fields
    with pytest.raises(ValueError, match=message):
        assemble(tiny(**fields), tmp_path / "run", devices=some(devices))
    assert not list(tmp_path.iterdir())


# Teacher, soft labels, MixUp of both batches; all of it in slices.
SLICED = {"method": "cmw_net_sl", "mixup.meta_alpha": 1.0, "optim.accumulate": 5}


@pytest.mark.slow
@pytest.mark.parametrize("lean", [False, True])
def test_a_run_in_slices_ends_as_one_of_whole_batches(tmp_path, lean):
    run(tiny(**SLICED | {"optim.accumulate": 1}), tmp_path / "whole")
    run(tiny(**SLICED, **{"weighting.lean": lean}), tmp_path / "sliced")
    assert_close_runs(tmp_path / "sliced", tmp_path / "whole")


BATCH_NORM = {
    "model.name": "small_conv",
    "model.options": {"features": (4,)},
    "ema.batch_stats": False,
}


@pytest.mark.slow
def test_a_run_in_slices_goes_on_after_a_stop(tmp_path, monkeypatch):
    config = tiny(**SLICED, **BATCH_NORM)
    run(config, tmp_path / "once")
    stop_after(monkeypatch, 4, 7)
    for _ in range(2):
        with pytest.raises(BaseException, match="continues from step"):
            run(config, tmp_path / "often")
    run(config, tmp_path / "often")
    once, often = newest(tmp_path / "once"), newest(tmp_path / "often")
    for name, array in once.items():
        assert array.tobytes() == often[name].tobytes(), name


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "devices"), [("pmap", 4), ("jit", 2)])
def test_slices_are_the_same_samples_over_any_devices(tmp_path, mode, devices):
    """Batch norm would tell."""
    fields = {"method": "cmw_net", "optim.accumulate": 5, "epochs": 2} | BATCH_NORM
    run(tiny(**fields), tmp_path / "one")
    run(tiny(**fields, parallel=mode), tmp_path / "more", devices=devices)
    assert_close_runs(tmp_path / "more", tmp_path / "one")
