"""A run from arrays and a module of one's own, put together and checked beforehand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmwjax import train
from cmwjax.data import datasets
from cmwjax.models import catalogue as models
from cmwjax.training import program as programs
from cmwjax.training.run import assemble
from runs import assert_same, run, some, tiny


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits", train_size=300)


def test_arrays_train_as_an_archive_of_them_does(tmp_path, digits):
    np.savez(
        tmp_path / "set.npz",
        x_train=digits.train_inputs,
        y_train=digits.train_labels,
        x_test=digits.test_inputs,
        y_test=digits.test_labels,
    )
    config = tiny(**{"data.name": str(tmp_path / "set.npz")})
    run(config, tmp_path / "archive")
    # Of another type, as people have them.
    arrays = digits._replace(
        rows=None,  # as they stand
        train_labels=digits.train_labels.astype(np.int64),
        test_labels=digits.test_labels.astype(np.uint8),
    )
    run(config, tmp_path / "arrays", arrays=arrays)
    assert_same(tmp_path / "arrays", tmp_path / "archive")


def test_the_configuration_chooses_of_the_arrays(tmp_path):
    config = tiny(**{"data.name": "mine", "data.train_size": 240})
    arrays = datasets.load("digits")
    problem = assemble(config, tmp_path / "run", arrays=arrays).problem
    want = datasets.load("digits", train_size=240)
    np.testing.assert_array_equal(problem.dataset.train_inputs, want.train_inputs)
    assert problem.dataset.knows_true_labels
    fields = {"data.name": "mine", "data.labels": "given", "meta_set.policy": "none"}
    config = tiny(**fields, **{"noise.kind": "none", "noise.rate": 0.0}, method="erm")
    problem = assemble(config, tmp_path / "run", arrays=arrays).problem
    assert not problem.dataset.knows_true_labels


def test_observed_labels_come_with_the_arrays(tmp_path, digits):
    observed = np.roll(digits.train_labels, 7)
    observed[250:] = -1  # unlabelled, with true labels: these validate
    config = tiny(**{"data.name": "mine", "data.train_size": 0, "noise.kind": "none"})
    with config.unlocked():
        config.noise.rate, config.meta_set.per_class = 0.0, 2
    arrays = digits._replace(observed_labels=observed)
    problem = assemble(config, tmp_path / "run", arrays=arrays).problem
    np.testing.assert_array_equal(problem.train_index, np.arange(250))
    np.testing.assert_array_equal(problem.labels[:250], observed[:250])
    aside = [problem.meta_index, problem.validation_index]
    assert set(np.concatenate(aside)) == set(range(250, 300))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"train_inputs": np.zeros((300, 8, 8, 1))},
            "mine: train_inputs must be uint8",
        ),
        ({"test_labels": np.full(360, 10)}, r"mine: test_labels must lie in \[0, 10\)"),
        ({"observed_labels": np.zeros(3, int)}, r"mine: observed_labels have shape"),
        ({"observed_labels": np.full(300, -2)}, "mine: observed_labels must lie in"),
    ],
)
def test_arrays_that_do_not_do_are_refused(tmp_path, digits, change, message):
    with pytest.raises(ValueError, match=message):
        train.run(
            tiny(**{"data.name": "mine"}),
            tmp_path / "run",
            arrays=digits._replace(**change),
        )
    assert not (tmp_path / "run").exists()


class Classifier(nn.Module):
    """`tiny`'s own, in other words."""

    width: int = 16

    @nn.compact
    def __call__(self, images, train):
        return models.build("mlp", num_classes=10, hidden=(self.width,))(images, train)


def test_a_module_takes_the_place_of_the_models(tmp_path):
    run(tiny(), tmp_path / "by_name")
    mlp = models.build("mlp", num_classes=10, hidden=(16,))
    unused = {"model.options": {"hidden": (3,)}}
    result = run(tiny(**unused), tmp_path / "given", model=mlp)
    want = train.summarise(tmp_path / "by_name")
    assert result.test_score == want.test_score
    for name in ("samples.csv", "weighting.safetensors"):
        given, by_name = (tmp_path / run / name for run in ("given", "by_name"))
        assert given.read_bytes() == by_name.read_bytes()


def test_seeds_share_what_is_compiled_for_a_module(tmp_path):
    def program(seed, width):
        model = Classifier(width)  # made anew each time, as a function would
        config = tiny(seed=seed)
        return assemble(config, tmp_path / "run", model=model, devices=some(1)).program

    assert program(0, 5) is program(1, 5)
    assert program(0, 5) is not program(0, 6)
    assert programs.build.cache_info().currsize > 1


class Lists(nn.Module):
    """Cannot be hashed."""

    weights: np.ndarray

    @nn.compact
    def __call__(self, images, train):
        return jnp.zeros((len(images), 10))


class Flat(nn.Module):
    """Wants rows of numbers."""

    @nn.compact
    def __call__(self, rows, train):
        return nn.Dense(10)(rows @ jnp.zeros((64, 7)))


class Features(nn.Module):
    """Lacks a head."""

    @nn.compact
    def __call__(self, images, train):
        return nn.Dense(7)(images.reshape(len(images), -1))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Lists(np.ones(3)), "Lists that cannot be hashed"),
        (Flat(), r"a Flat, does not work on images of shape \[\[8, 8, 1\]\]"),
        (
            Features(),
            r"a Features, returns \[1, 7\] for one sample, .* needs 10 outputs",
        ),
    ],
)
def test_modules_that_do_not_do_are_refused(tmp_path, model, message):
    with pytest.raises(ValueError, match=message):
        train.run(tiny(), tmp_path / "run", model=model)
    assert not (tmp_path / "run").exists()


def test_assembling_writes_nothing(tmp_path):
    assembled = assemble(tiny(), tmp_path / "run")
    assert not any(tmp_path.iterdir())
    assert (assembled.steps_per_epoch, assembled.total_steps) == (5, 15)
    assert [assembled.has_meta_steps(epoch) for epoch in range(3)] == [0, 1, 1]
    start = assembled.start.run.learner
    assert start.step == 0 and all(
        isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(start)
    )
