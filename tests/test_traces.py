"""Every step is traced, and so compiled, once in a run, however often it is called."""

import chex
import pytest
from runs import metrics, run, tiny

from cmwjax.training import steps


@pytest.fixture
def counted(monkeypatch):
    """The steps of the core fail when they are traced more often than they may be."""
    chex.clear_trace_counter()
    calls = dict.fromkeys(("meta_step", "weighted_step"), 0)

    def count(name, most):
        step = chex.assert_max_traces(getattr(steps, name), most)

        def counting(*arguments, **others):
            calls[name] += 1
            return step(*arguments, **others)

        monkeypatch.setattr(steps, name, counting)

    count("meta_step", 1)
    count("weighted_step", 2)  # in the warm-up, and between meta steps
    yield calls
    chex.clear_trace_counter()


@pytest.mark.parametrize("parallel", ["pmap", "jit"])
def test_steps_are_traced_once(tmp_path, counted, parallel):
    # No other test has this configuration, whose program would be there already.
    config = tiny(**{"parallel": parallel, "model.options": {"hidden": (17,)}})
    run(config, tmp_path / "run", devices=2)
    assert len(metrics(tmp_path / "run")) == 3
    assert counted == {"meta_step": 1, "weighted_step": 2}


def test_another_seed_traces_nothing(tmp_path, counted):
    for seed in (0, 1):
        config = tiny(**{"seed": seed, "model.options": {"hidden": (18,)}})
        run(config, tmp_path / str(seed))
    assert counted == {"meta_step": 1, "weighted_step": 2}


def test_a_step_that_is_traced_twice_is_noticed(tmp_path, counted):
    for hidden in (19, 20):
        config = tiny(**{"model.options": {"hidden": (hidden,)}})
        if hidden == 20:
            with pytest.raises(AssertionError, match="is traced > "):
                run(config, tmp_path / str(hidden))
        else:
            run(config, tmp_path / str(hidden))
