"""Entire runs of methods that carry more than a classifier, on one and four devices."""

import functools

import jax
import numpy as np
import pytest

from cmwjax.config import base_config
from cmwjax.models import catalogue as models
from runs import metrics, run


def small_config(method):
    """All randomness there is, and a warm-up of one epoch of three."""
    c = base_config()
    c.method = method
    c.epochs, c.warmup_epochs = 3, 1
    c.data.train_size, c.data.batch_size, c.meta_set.batch_size = 300, 40, 40
    c.noise.kind, c.noise.rate = "symmetric", 0.4
    c.model.options.hidden = (32,)
    if method == "erm_mixup_ema":  # batch statistics have a teacher, too
        c.model.name, c.model.options = "small_conv", {"features": (8,)}
    c.augment.pad, c.augment.flip, c.augment.meta = 1, True, True
    c.optim.learning_rate = 0.05
    c.baseline.forward.transition = "estimated"
    c.ema.decay = 0.9
    return c


def finished(config, workdir, num_devices=1):
    """Loss, gradient norm and accuracy of each epoch, and the loss of each sample."""
    run(config, workdir, devices=num_devices)
    samples = np.genfromtxt(workdir / "samples.csv", delimiter=",", names=True)
    names = ("loss", "grad_norm", "test_accuracy")
    measured = [[line[name] for name in names] for line in metrics(workdir)]
    return np.array(measured), np.sort(samples["loss"])


@pytest.fixture(scope="module")
def on_one_device(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    return functools.cache(lambda m: finished(small_config(m), folder / m))


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        "erm_mixup_ema",
        pytest.param("elr", marks=pytest.mark.slow),
        pytest.param("plc", marks=pytest.mark.slow),
        pytest.param("rrm", marks=pytest.mark.slow),
        pytest.param("trusted_only", marks=pytest.mark.slow),
    ],
)
def test_results_do_not_depend_on_the_number_of_devices(
    method, tmp_path, on_one_device
):
    one, losses = on_one_device(method)
    four, same_losses = finished(small_config(method), tmp_path / "run", 4)
    np.testing.assert_allclose(four[:, :2], one[:, :2], rtol=2e-3)
    np.testing.assert_allclose(four[:, 2], one[:, 2], atol=0.01)
    np.testing.assert_allclose(same_losses, losses, rtol=0.02, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["elr", "plc", "rrm", "forward", "class_balanced", "cmw_net"]
)
def test_memories_and_weights_are_used_only_after_the_warm_up(method, on_one_device):
    (erm, _), (measured, _) = on_one_device("erm"), on_one_device(method)
    np.testing.assert_allclose(measured[0], erm[0], rtol=1e-5)
    assert np.abs(measured[1:, 0] / erm[1:, 0] - 1).max() > 1e-3


def test_bfloat16_computes_so_and_keeps_its_parameters(tmp_path, on_one_device):
    config = small_config("erm")
    config.model.options = {"hidden": (32,), "dtype": "bfloat16"}
    exact, rounded = on_one_device("erm")[0], finished(config, tmp_path / "run")[0]
    np.testing.assert_allclose(rounded[:, 0], exact[:, 0], rtol=0.05)
    assert np.any(np.abs(rounded[:, 0] / exact[:, 0] - 1) > 1e-4)
    model = models.build("mlp", num_classes=10, **config.model.options)
    params = model.init(jax.random.key(0), np.zeros((1, 8, 8, 1)), False)
    assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype("float32")}


class Crash(Exception):
    pass


@pytest.mark.parametrize(("method", "every_steps"), [("plc", 5), ("elr", 4)])
def test_what_is_remembered_survives_a_crash(
    method, every_steps, tmp_path, on_one_device
):
    """At the end of an epoch, five steps long, or within it."""
    config = small_config(method)
    config.checkpoint.every_steps = every_steps

    def crash(metrics):
        if metrics["epoch"] == 2:
            raise Crash

    with pytest.raises(Crash):
        run(config, tmp_path / "run", on_epoch=crash)
    measured, losses = finished(config, tmp_path / "run")
    want, want_losses = on_one_device(method)
    np.testing.assert_array_equal(measured, want)
    np.testing.assert_array_equal(losses, want_losses)
