"""Images from disk: the run from memory, wherever it stops and whoever decodes."""

import csv
import json
from functools import partial

import jax
import numpy as np
import pytest

from cmwjax.bias.problem import prepare
from cmwjax.config_check import check_config
from cmwjax.core.parallel import layout
from cmwjax.data import decode, on_disk, stream
from cmwjax.data.decode import View
from cmwjax.data.order import Order, epoch_batches
from cmwjax.data.unreadable import Listed, Unreadable
from cmwjax.randomness import Purpose, generator
from cmwjax.report import plots
from cmwjax.report.samples import read_samples
from cmwjax.stopping import Interrupted
from cmwjax.training import program
from cmwjax.training.sets import Pictures
from image_files import BROKEN, SIZE, break_file, files, write_folder
from runs import (
    assert_same,
    metrics,
    newest,
    run,
    samples,
    stop_after,
    tiny,
    two_processes,
)

STEPS = 6  # of a run of two epochs


def config(folder, **fields):
    """Two epochs of three steps: a warm-up, then meta steps and weighted ones."""
    given = {
        "data.name": f"folder:{folder}",
        "epochs": 2,
        "data.train_size": 0,
        "data.batch_size": 16,
        "data.stream.image_size": SIZE,
        "data.stream.resize": 0,
        "data.stream.evaluation_batch": 24,
        "data.stream.workers": 0,
        "meta_set.batch_size": 8,
        "noise.rate": 0.2,
        "weighting.num_families": 2,
    }
    return tiny(**given | fields)


SLOW = pytest.mark.slow
LISTED = {"train": Listed(np.arange(60), [""] * 60)}
RANDOM = {
    "data.stream.image_size": 8,
    "data.stream.crop": "random_resized_crop",
    "augment.flip": True,
    "augment.meta": True,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("images")
    write_folder(path)
    return path


@pytest.fixture(scope="module")
def broken_folder(tmp_path_factory):
    """A set with one image of each kind that cannot be decoded, and where they are."""
    path = tmp_path_factory.mktemp("broken")
    write_folder(path)
    at = {kind: 6 + 17 * i for i, kind in enumerate(BROKEN)}
    for kind, position in at.items():
        break_file(files(path)[position], kind)
    break_file(files(path, "test")[4], "damaged")
    return path, at


def listed(workdir):
    if not (workdir / "unreadable.csv").exists():
        return []
    with (workdir / "unreadable.csv").open() as file:
        return [tuple(row.values()) for row in csv.DictReader(file)]


def line(folder, part, row, kind):
    """What is listed of a broken image."""
    path = files(folder, part)[row].relative_to(folder)
    return (part, str(row), str(path), kind)


# ---- rows


@pytest.mark.parametrize(
    ("workers", "mode"), [(0, "pmap"), (1, "jit"), (2, "pmap"), (9, "jit")]
)
def test_rows_are_those_of_a_loop_from_any_step_on(
    tmp_path, broken_folder, workers, mode
):
    read = on_disk.load(f"folder:{broken_folder[0]}", tests=["test"]).train.read
    views = stream.Views(
        View(8, 12, "random_crop", True),
        View(8, 0, "random_resized_crop"),
        View(8, 9),
    )
    unreadable = Unreadable(tmp_path, LISTED)
    source = stream.Streamed(
        "train",
        read,
        layout(mode),
        views=views,
        seed=3,
        workers=workers,
        prefetch=1,
        unreadable=unreadable,
    )
    settings = dict(batch_size=16, shards=4, seed=3)
    table = partial(epoch_batches, np.arange(60), **settings)

    def check(rows, index, view, purpose, moment=0, by_device=mode == "pmap"):
        host = jax.tree.map(np.asarray, rows)
        if by_device:
            host = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), host)
        np.testing.assert_array_equal(host["index"], index)
        for i, position in enumerate(index):
            rng = generator(3, purpose, moment=moment, part=position)
            want, code = decode.load(read, position, view, rng)
            np.testing.assert_array_equal(host["input"][i], want)
            assert host["mask"][i] == (code == 0)

    order, steps = Order(table, 3), range(4, 8)
    for step, rows in zip(steps, source.training(order, steps), strict=True):
        epoch, row = divmod(step, 3)
        index = table(epoch=epoch)[row]
        check(rows, index, views.train, Purpose.AUGMENT, epoch)
    order, steps = Order(table, 3, period=1), range(4, 8, 2)
    rows_of_meta = source.training(order, steps, meta=True)
    for step, rows in zip(steps, rows_of_meta, strict=True):
        check(rows, order(step), views.meta, Purpose.META_AUGMENT, step)
    assert list(source.training(order, range(5, 5))) == []

    index = np.arange(59, 39, -1)
    first, second = source.evaluation(index, 16)
    fixed = partial(check, view=views.evaluation, purpose=Purpose.EVALUATION)
    fixed(first, index[:16], by_device=False)
    fixed(second, [*index[16:], *index[:12]], by_device=False)


def test_a_reader_that_fails_is_not_an_unreadable_image(tmp_path):
    def read(position):
        raise PermissionError("the disk is gone")

    source = stream.Streamed(
        "train",
        read,
        layout("jit"),
        views=stream.Views(*3 * [View(8, 0)]),
        seed=0,
        workers=0,
        prefetch=1,
        unreadable=Unreadable(tmp_path, LISTED),
    )
    with pytest.raises(PermissionError, match="the disk is gone"):
        next(source.evaluation(np.arange(8), 8))


# ---- runs


@pytest.mark.parametrize(
    "method", ["cmw_net", pytest.param("trusted_only", marks=SLOW)]
)
def test_a_run_from_disk_is_the_run_from_memory(tmp_path, folder, monkeypatch, method):
    monkeypatch.setattr(program, "EVALUATION_BATCH", 24)
    fields = {"warmup_epochs": 0, "meta_every": 1, "method": method}
    run(config(folder, **fields), tmp_path / "disk")
    fields["data.name"] = f"{folder}/set.npz"
    run(config(folder, **fields), tmp_path / "memory")
    disk, memory = newest(tmp_path / "disk"), newest(tmp_path / "memory")
    assert disk.keys() == memory.keys()
    assert disk.pop("data").tobytes() != memory.pop("data").tobytes()  # files' names
    for name in disk:
        # Compiled in another way: sums may round differently, but never far.
        np.testing.assert_allclose(disk[name], memory[name], 1e-6, 1e-6, err_msg=name)
    assert_close(tmp_path / "disk", tmp_path / "memory", rtol=1e-5)
    ours, theirs = (
        json.loads((tmp_path / way / "problem.json").read_text())
        for way in ("disk", "memory")
    )
    assert ours.pop("data_sha256") != theirs.pop("data_sha256")
    names = ours.pop("classes"), theirs.pop("classes")
    assert names == (["class0", "class1", "class2"], ["0", "1", "2"])
    assert ours == theirs


@pytest.fixture(scope="module")
def finished(tmp_path_factory, broken_folder):
    """A run with random views and broken images, not to be written to."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    run(config(broken_folder[0], **RANDOM), workdir)
    return workdir


LOWEST = {
    "meta_set.policy": "lowest_loss",
    "data.labels": "given",
    "noise.on_given": True,
    "meta_every": 1,
}
SOFT_LABELS = LOWEST | {  # and batch norm, as in configs/webvision.py
    "method": "cmw_net_sl",
    "model.name": "small_conv",
    "model.options": {"features": (4,)},
    "mixup.second_weight": "mixed",
    "mixup.meta_alpha": 1.0,
    "soft_labels.momentum": 0.9,
    "soft_labels.start": "one_hot",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "stops"),
    [
        ({}, (1, 3, 4)),
        (LOWEST, (2, 3, 5)),
        (SOFT_LABELS, (2, 3, 4)),
    ],
    ids=["held_out", "lowest_loss", "soft_labels"],
)
def test_stopped_wherever_it_is(
    tmp_path, broken_folder, finished, monkeypatch, fields, stops
):
    settings = config(broken_folder[0], **RANDOM | fields)
    once = finished
    if fields:
        once = tmp_path / "once"
        run(settings, once)
    stop_after(monkeypatch, *stops)
    for step in stops:
        with pytest.raises(Interrupted, match=f"continues from step {step}[.]"):
            run(settings, tmp_path / "often")
    other_machine = {"data.stream.prefetch": 1}
    other_machine["data.stream.workers"] = -1
    fields = RANDOM | fields | other_machine
    run(config(broken_folder[0], **fields), tmp_path / "often")
    assert_same(tmp_path / "often", once)
    assert listed(tmp_path / "often") == listed(once)
    broken = set(broken_folder[1].values())
    assert broken < set(newest(once)["train_index"])
    if once != finished:  # it chose the meta set by loss
        assert not broken & set(newest(once)["meta_index"])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["pmap", "jit"])
def test_devices_do_not_matter(tmp_path, broken_folder, finished, mode):
    settings = config(broken_folder[0], parallel=mode, **RANDOM)
    run(settings, tmp_path / "many", devices=4)
    assert_close(tmp_path / "many", finished)


def assert_close(workdir, other, rtol=2e-3):
    for ours, theirs in zip(metrics(workdir), metrics(other), strict=True):
        for name in ("loss", "meta_loss", "test_accuracy", "grad_norm"):
            if name in theirs:
                np.testing.assert_allclose(ours[name], theirs[name], rtol=rtol)
    assert listed(workdir) == listed(other)
    np.testing.assert_allclose(samples(workdir), samples(other), rtol=rtol)


# ---- images that cannot be decoded


def test_broken_images_are_listed_and_left_out(broken_folder, finished):
    folder, at = broken_folder
    want = [line(folder, "train", i, kind) for kind, i in at.items()]
    assert listed(finished) == [line(folder, "test", 4, "damaged"), *want]
    rows = read_samples(finished / "samples.csv")["row"]
    trained = set(newest(finished)["train_index"])
    assert set(rows) == trained - set(at.values()) < trained
    for epoch in metrics(finished):
        assert epoch["skipped"] == 0 and np.isfinite(epoch["loss"])
        # Of 21 test images, 20 can be judged.
        assert (epoch["test_accuracy"] * 20).is_integer()


@pytest.mark.slow
def test_what_is_wrong_with_an_image_makes_no_difference(
    tmp_path, broken_folder, finished
):
    same = tmp_path / "same"
    write_folder(same)
    for position in broken_folder[1].values():
        break_file(files(same)[position], "empty")
    break_file(files(same, "test")[4], "empty")
    run(config(same, **RANDOM), tmp_path / "other")
    ours, theirs = newest(finished), newest(tmp_path / "other")
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


def test_pictures_of_suspects_are_decoded_one_by_one(folder, finished):
    settings = config(folder)
    pictures = Pictures(settings, prepare(settings).dataset.files)
    arrays = np.load(folder / "set.npz")
    assert len(pictures) == 60
    np.testing.assert_array_equal(pictures[41], arrays["x_train"][41])
    figure = plots.suspects(finished, pictures, count=3)
    first = read_samples(finished / "samples.csv")["row"][:3]
    shown = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    np.testing.assert_array_equal(shown, arrays["x_train"][first])


# ---- test sets


@pytest.mark.slow
def test_several_test_sets_and_the_five_likeliest(tmp_path, monkeypatch):
    write_folder(tmp_path / "images", splits=("val", "far"))
    for label in range(3, 11):  # a class of one image, eight times
        for split in ("train", "val"):
            path = tmp_path / "images" / split / f"class{label:02}" / "0.png"
            path.parent.mkdir()
            path.write_bytes(files(tmp_path / "images")[label].read_bytes())
    fields = {
        "data.stream.tests": ("val", "far"),
        "data.labels": "given",
        "noise.on_given": True,
        "meta_set.policy": "balanced",
        "method": "erm",
        "epochs": 1,
    }
    result = run(config(tmp_path / "images", **fields), tmp_path / "run")
    last = metrics(tmp_path / "run")[-1]
    assert result.test_score == last["test_accuracy"]
    assert np.isnan(result.auroc)  # nobody knows which labels are wrong
    for name, size in [("test", 29), ("far", 21)]:
        hits = [last[f"{name}_{what}"] * size for what in ("accuracy", "top5")]
        np.testing.assert_allclose(hits, np.rint(hits), atol=1e-6)
        assert 0 <= hits[0] <= hits[1] < size or hits[1] == size
    assert "val_accuracy" not in last


# ---- processes

COUNTING = """
from runs import train
from test_stream import RANDOM, config, decode, np
seen, load = [], decode.load
def counted(read, position, view, rng):
    if view.crop != "centre":
        seen.append(position)
    return load(read, position, view, rng)
decode.load = counted
folder, workdir = sys.argv[1:]
train.run(config(folder, **RANDOM), workdir)
np.save(f"{workdir}-{jax.process_index()}.npy", seen)
"""


@pytest.mark.slow
def test_two_processes_each_decode_their_half(tmp_path, broken_folder, finished):
    folder, workdir = broken_folder[0], tmp_path / "run"
    outputs = two_processes(COUNTING, folder, workdir)
    assert [code for code, _ in outputs] == [0, 0], outputs
    assert_close(workdir, finished)
    halves = [np.load(f"{workdir}-{i}.npy") for i in range(2)]
    problem = prepare(config(folder))
    for index in (problem.train_index, problem.meta_index):
        sides = [set(index[i::4]) | set(index[i + 1 :: 4]) for i in (0, 2)]
        for half, side in zip(halves, sides, strict=True):
            assert set(half) & set(index) <= side
    # Training visits all; meta batches are decoded for the steps that have one.
    for half in halves:
        assert np.isin(half, problem.train_index).sum() == STEPS * 8


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_what_threads_make_comes_in_order_and_not_all_at_once(workers):
    begun, made = [], []

    def make(number):
        begun.append(number)
        if number == 30:
            raise OSError("number 30")
        return number

    with pytest.raises(OSError, match="number 30"):
        for number in stream.in_order(make, 40, workers=workers, prefetch=2):
            made.append(number)
            assert len(begun) <= len(made) + 2 * workers + 2
    assert made == list(range(30))

    again = []  # not `begun`: threads of before may still be at work

    def make_again(number):
        again.append(number)
        return number

    numbers = stream.in_order(make_again, 20, workers=workers, prefetch=1)
    next(numbers)
    numbers.close()  # and no thread goes on
    assert len(again) <= 2 + 2 * workers


# ---- settings


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data.stream.resize": 8}, r"resize=8 leaves less than .* image_size=10"),
        ({"augment.pad": 2}, r"augment\.pad=2 is for images in memory"),
        ({"data.stream.tests": ("test", "test")}, "repeats a name"),
        ({"data.stream.tests": ("test", "validation")}, "repeats a name, or has one"),
        ({"data.stream.crop": "random"}, "crop='random' is unknown"),
        ({"data.stream.workers": -2}, r"workers=-2 is out of range"),
        ({"data.labels": "given"}, r"policy='held_out' trusts"),
    ],
)
def test_settings_that_cannot_be(folder, fields, message):
    with pytest.raises(ValueError, match=message):
        check_config(config(folder, **fields))
