"""Every step is traced, and so compiled, once in a run, however often it is called."""

import gc
import weakref

import chex
import pytest

from cmwjax.training import program, steps
from runs import metrics, run, tiny


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


@pytest.mark.parametrize(
    "parallel", ["pmap", pytest.param("jit", marks=pytest.mark.slow)]
)
def test_steps_are_traced_once_over_a_run_and_for_all_seeds(
    tmp_path, counted, parallel
):
    # No other test has this configuration, whose program would be there already.
    fields = {"parallel": parallel, "model.options": {"hidden": (17,)}}
    for seed in (0, 1) if parallel == "pmap" else (0,):
        run(tiny(seed=seed, **fields), tmp_path / str(seed), devices=2)
        assert len(metrics(tmp_path / str(seed))) == 3
    assert counted == {"meta_step": 1, "weighted_step": 2}


def test_programs_of_earlier_runs_are_forgotten(tmp_path, monkeypatch):
    """In a process that tries one configuration after the other."""
    monkeypatch.setattr(program, "FORGET_EVERY", 1)
    program.build.cache_clear()
    built, build = [], steps.build

    def remembered(*arguments, **others):
        found = build(*arguments, **others)
        built.append(weakref.ref(found.warmup))
        return found

    monkeypatch.setattr(steps, "build", remembered)
    for width in (18, 19):
        fields = {"method": "erm", "epochs": 1, "model.options": {"hidden": (width,)}}
        run(tiny(**fields), tmp_path / str(width))
        program.build.cache_clear()
        gc.collect()
        assert [step() is None for step in built[:-1]] == [True] * (len(built) - 1)
    assert len(built) == 2
