"""Checkpoints: all of a tree comes back, and damage is found and survived."""

import logging
import resource
import shutil
import threading
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.chaos import corruptions
from cmwjax.core.meta import MetaState
from cmwjax.core.optimizers import torch_adam, torch_sgd
from cmwjax.training import checkpoints as module
from cmwjax.training.checkpoints import MANIFEST, Checkpoints, to_host
from cmwjax.training.state import RunState, Saved, check_unchanged

CONFIG = {"seed": 0, "data": {"name": "digits", "shape": (1, 2)}}


def in_folder(folder, *, keep=2, config=CONFIG):
    return Checkpoints(folder / "checkpoints", keep=keep, config=config)


def small(value):
    return {"weights": np.full((3, 4), value, np.float32), "step": np.int32(value)}


def saved_at(folder, *steps, keep=2):
    with in_folder(folder, keep=keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, small(step))
    assert checkpoints.failures == 0
    return checkpoints


def steps_in(folder):
    return sorted(int(p.name) for p in (folder / "checkpoints").iterdir())


def whole_run():
    """A tree with everything that a run saves, small."""
    params = {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}}
    learner = MetaState.create(
        params=params,
        meta_params={"heads": jnp.ones((4, 2))},
        tx=torch_sgd(0.1, momentum=0.9, weight_decay=1e-4),
        meta_tx=torch_adam(1e-3, weight_decay=1e-4),
        model_state={"batch_stats": {"mean": jnp.zeros(3)}},
        key=jax.random.PRNGKey(0),
    )
    sums = {"loss": (np.float32(0), np.float32(0)), "weight": (np.zeros(2), 0.0)}
    return Saved(
        run=RunState(learner, jax.tree.map(jnp.asarray, sums)),
        meta_index=np.array([-1], np.int32),
        seconds=np.array([7.5, 0.25, 0.5]),
        quality=np.linspace(0, 3, 7, dtype=np.float32),
        looks=np.array(3, np.int32),
        frequencies=np.full(3, 1 / 3, np.float32),
        history=np.full((2, 2, 3), np.nan, np.float32),
        data=np.zeros(32, np.uint8),
        labels=np.zeros(7, np.int32),
        train_index=np.arange(5, dtype=np.int32),
        family=np.zeros(3, np.int32),
        centres=np.ones(2),
    )


def grown(kind, name):
    """A tuple like `kind` as it may look one day: with one field more."""
    fields = [(field, Any) for field in (*kind._fields, name)]
    return NamedTuple(f"Grown{kind.__name__}", fields)


def grown_run():
    saved = whole_run()
    accent = jax.tree.map(jnp.zeros_like, saved.run.learner.params)
    run = grown(RunState, "accent")(*saved.run, accent)
    return grown(Saved, "soft_labels")(*saved._replace(run=run), np.zeros((7, 3)))


@pytest.mark.parametrize("make", [whole_run, grown_run])
def test_every_field_comes_back_as_it_was(tmp_path, make):
    template, rng = to_host(make()), np.random.default_rng(0)
    # Bits at random, so that no leaf can be mistaken for another or for the template.
    tree = jax.tree.map(
        lambda x: np.frombuffer(rng.bytes(x.nbytes), x.dtype).reshape(x.shape), template
    )
    with in_folder(tmp_path) as checkpoints:
        checkpoints.save(3, tree)
    found = in_folder(tmp_path).restore(like=template)
    assert jax.tree.structure(found) == jax.tree.structure(template)
    for (path, want), got in zip(
        jax.tree.leaves_with_path(tree), jax.tree.leaves(found), strict=True
    ):
        assert (want.dtype, want.shape) == (got.dtype, got.shape), path
        assert want.tobytes() == got.tobytes(), path


def test_a_field_that_was_not_saved_is_named(tmp_path):
    with in_folder(tmp_path) as checkpoints:
        checkpoints.save(3, to_host(whole_run()))
    with pytest.raises(
        ValueError, match=r"missing \['run/accent/dense/bias'.*soft_lab"
    ):
        in_folder(tmp_path).restore(like=to_host(grown_run()))
    with in_folder(tmp_path) as checkpoints:
        checkpoints.save(4, to_host(grown_run()))
    with pytest.raises(ValueError, match=r"has unexpected \['run/accent/.*"):
        in_folder(tmp_path).restore(like=to_host(whole_run()))


def test_a_meta_set_of_another_size_comes_back(tmp_path):
    chosen = np.arange(6, dtype=np.int32)
    with in_folder(tmp_path) as checkpoints:
        checkpoints.save(3, to_host(whole_run()._replace(meta_index=chosen)))
    found = in_folder(tmp_path).restore(like=to_host(whole_run()))
    np.testing.assert_array_equal(found.meta_index, chosen)


def test_copies_outlive_the_donation_of_their_originals():
    state = {"x": jnp.arange(1000.0), "y": jnp.zeros(())}
    step = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    copies = []
    for _ in range(20):
        copies.append(to_host(state))
        state = step(state)
    for number, copy in enumerate(copies):
        np.testing.assert_array_equal(copy["x"], np.arange(1000.0) + number)
        assert copy["y"] == number


def test_saving_goes_on_behind_the_back_of_training(tmp_path, monkeypatch):
    may_write, write = threading.Event(), module._write_arrays

    def slowly(*arguments):
        assert may_write.wait(10)
        write(*arguments)

    monkeypatch.setattr(module, "_write_arrays", slowly)
    checkpoints = in_folder(tmp_path)
    checkpoints.save(1, small(1))
    assert not (tmp_path / "checkpoints" / "1").exists()
    may_write.set()
    assert checkpoints.last == 1
    assert steps_in(tmp_path) == [1]


def test_the_newest_are_kept_and_files_of_others(tmp_path):
    saved_at(tmp_path, 1)
    (tmp_path / "checkpoints" / "notes").mkdir()
    (tmp_path / "checkpoints" / "7.orbax-checkpoint-tmp-5").mkdir()
    with in_folder(tmp_path, keep=3) as checkpoints:
        checkpoints.restore(like=small(0))
        for step in (2, 30, 100):
            checkpoints.save(step, small(step))
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {
        *("2", "30", "100", "notes")
    }


def test_nothing_is_deleted_before_the_next_one_reads_back(tmp_path, monkeypatch):
    saved_at(tmp_path, 1, keep=1)
    checkpoints, read = in_folder(tmp_path, keep=1), module.read
    checkpoints.restore(like=small(0))
    monkeypatch.setattr(
        module, "read", lambda path: read(path) | {"weights": small(9)["weights"]}
    )
    with checkpoints:
        checkpoints.save(2, small(2))
    assert (checkpoints.failures, checkpoints.last, steps_in(tmp_path)) == (1, 1, [1])
    monkeypatch.undo()
    with checkpoints:
        checkpoints.save(3, small(3))
    assert (checkpoints.last, steps_in(tmp_path)) == (3, [3])


def test_a_full_disk_is_reported_and_leaves_the_last_good_one(tmp_path, caplog):
    checkpoints = saved_at(tmp_path, 1, keep=1)
    noise = np.random.default_rng(0).bytes(2**20)  # does not compress
    # A quota, let us say: the disk has room, the file may not grow.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**17, before[1]))
    try:
        checkpoints.save(2, {"weights": np.frombuffer(noise, np.float32)})
        checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoints.failures == 1
    assert "checkpoints/2 could not be written; the last good one is 1" in caplog.text
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["1"]
    with checkpoints:  # there is room again
        checkpoints.save(3, small(3))
    assert checkpoints.last == 3


def test_two_hundred_corruptions_are_detected_or_harmless(tmp_path, caplog):
    saved_at(tmp_path, 1, 2)
    folder, intact = tmp_path / "checkpoints" / "2", tmp_path / "intact"
    shutil.copytree(folder, intact)
    detected, harmless = 0, []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        ways = corruptions(rng, folder)
        harm = ways[seed % len(ways)]
        harm()
        caplog.clear()
        checkpoints = in_folder(tmp_path)
        found = checkpoints.restore(like=small(0))
        step = checkpoints.last
        assert step == found["step"] and (found["weights"] == step).all()
        if step == 1 and folder.exists():
            assert f"{folder} is damaged" in caplog.text
            detected += 1
        else:
            harmless.append(harm.__name__)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(intact, folder)
    assert set(harmless) <= {"delete_the_folder", "add_garbage"}
    assert detected > 150


def test_too_little_room_is_seen_before_anything_is_written(
    tmp_path, monkeypatch, caplog
):
    checkpoints = saved_at(tmp_path, 1)
    room = shutil.disk_usage(tmp_path)._replace(free=51)  # one byte less than needed
    monkeypatch.setattr(shutil, "disk_usage", lambda path: room)
    checkpoints.save(2, small(2))
    assert checkpoints.last == 1 and checkpoints.failures == 1
    assert "52 bytes are needed and 51 free" in caplog.text
    monkeypatch.setattr(shutil, "disk_usage", lambda path: room._replace(free=52))
    checkpoints.save(2, small(2))
    assert checkpoints.last == 2


def test_the_next_checkpoint_replaces_a_damaged_one(tmp_path):
    saved_at(tmp_path, 1, 2)
    (tmp_path / "checkpoints" / "2" / MANIFEST).unlink()
    with in_folder(tmp_path) as checkpoints:
        checkpoints.restore(like=small(0))
        checkpoints.save(2, small(2))
    assert checkpoints.failures == 0 and steps_in(tmp_path) == [1, 2]
    assert in_folder(tmp_path).restore(like=small(0))["step"] == 2


def test_a_damaged_newer_one_goes_when_another_is_saved(tmp_path):
    saved_at(tmp_path, 1, 9)
    (tmp_path / "checkpoints" / "9" / MANIFEST).write_bytes(b"")
    with in_folder(tmp_path) as checkpoints:
        checkpoints.restore(like=small(0))
        assert steps_in(tmp_path) == [1, 9]  # nothing new is safe yet
        checkpoints.save(5, small(5))
    assert steps_in(tmp_path) == [1, 5]


def test_without_a_whole_one_it_starts_over_and_says_so(tmp_path, caplog):
    assert in_folder(tmp_path).restore(like=small(0)) is None
    assert not caplog.text
    saved_at(tmp_path, 1)
    (tmp_path / "checkpoints" / "1" / "_METADATA").unlink()
    assert in_folder(tmp_path).restore(like=small(0)) is None
    assert "_METADATA is missing" in caplog.text
    assert "starting over" in caplog.text


def test_what_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    """Else a file server's hiccup would make a long run start over."""
    saved_at(tmp_path, 1)

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(module, "_digest", refuse)
    with pytest.raises(PermissionError):
        in_folder(tmp_path).restore(like=small(0))


def test_another_configuration_is_refused_with_the_difference(tmp_path):
    saved_at(tmp_path, 1)
    other = CONFIG | {"data": {"name": "letters", "shape": (1, 2)}}
    with pytest.raises(
        ValueError, match="data.name is 'digits' there and 'letters' here"
    ):
        in_folder(tmp_path, config=other).restore(like=small(0))


def test_another_version_is_named(tmp_path, caplog, monkeypatch):
    saved_at(tmp_path, 1)
    assert in_folder(tmp_path).restore(like=small(0)) and not caplog.records
    monkeypatch.setattr(module, "__version__", "99.0")
    assert in_folder(tmp_path).restore(like=small(0))["step"] == 1
    assert caplog.records[0].levelno == logging.WARNING and "99.0" in caplog.text


def test_a_copy_elsewhere_is_as_good(tmp_path):
    saved_at(tmp_path / "here", 1, 2)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    shutil.rmtree(tmp_path / "here")
    assert in_folder(tmp_path / "there").restore(like=small(0))["step"] == 2


def with_kernel(kernel):
    """A saved run whose classifier has this kernel."""
    saved = whole_run()
    params = {"dense": {"kernel": kernel, "bias": jnp.zeros(3)}}
    learner = saved.run.learner._replace(params=params)
    return to_host(saved._replace(run=saved.run._replace(learner=learner)))


@pytest.mark.parametrize(
    ("kernel", "there"),
    [
        (jnp.ones((2, 4)), r"float32 of shape \[2, 4\]"),
        (jnp.ones((3, 2)), r"float32 of shape \[3, 2\]"),
        (jnp.ones((2, 3), jnp.bfloat16), r"bfloat16 of shape \[2, 3\]"),
    ],
)
def test_a_leaf_of_another_model_is_named_before_training(tmp_path, kernel, there):
    with in_folder(tmp_path) as checkpoints:
        checkpoints.save(3, with_kernel(kernel))
    start = with_kernel(jnp.ones((2, 3)))
    saved = in_folder(tmp_path).restore(like=start)
    name = "run/learner/params/dense/kernel"
    with pytest.raises(
        ValueError,
        match=rf"{name} is {there} in .* and float32 of shape \[2, 3\] here.*bring it",
    ):
        check_unchanged(saved, start, tmp_path)
    changed = saved._replace(labels=np.ones(7, np.int32))  # what other shapes come from
    with pytest.raises(ValueError, match="labels are not what the run"):
        check_unchanged(changed, start, tmp_path)
    check_unchanged(start, start, tmp_path)


def test_what_the_oldest_orbax_wrote_is_read(tmp_path, caplog):
    """By orbax-checkpoint 0.11.28 with JAX 0.10.2, the oldest that are supported."""
    kept = Path(__file__).parent / "data" / "checkpoint_orbax_0.11.28.zip"
    with zipfile.ZipFile(kept) as archive:
        archive.extractall(tmp_path / "checkpoints")
    expected = {
        "params": {
            "kernel": np.arange(12, dtype=np.float32).reshape(3, 4) / 8,
            "bias": np.zeros(4, np.float32),
        },
        "step": np.int32(7),
        "key": np.array([3, 2**32 - 1], np.uint32),
        "seen": np.array([True, False, True, False, True, False]),
        "rows": np.arange(5, dtype=np.uint8),
    }
    checkpoints = in_folder(tmp_path, config={"seed": 0})
    with caplog.at_level(logging.WARNING):
        found = checkpoints.restore(jax.tree.map(np.zeros_like, expected))
    assert checkpoints.last == 7
    assert all(jax.tree.leaves(jax.tree.map(module._identical, found, expected)))
    if jax.__version__ != "0.10.2":
        assert "'jax': '0.10.2'" in caplog.text  # who wrote it is said
