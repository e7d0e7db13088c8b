"""Stopped runs: wherever it happened, the same command ends at the same bits."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmwjax import train
from cmwjax.bias import meta_set
from cmwjax.core.weighting import CMWNet
from cmwjax.core.weighting_file import WeightingFunction, save_weighting
from cmwjax.data import datasets
from cmwjax.stopping import EXIT_CODE, Interrupted, Signals
from cmwjax.training import checkpoints, measure
from cmwjax.training.health import (
    Diverged,
    warn_if_collapsed,
    warn_if_exploded,
    warn_of_weights,
)
from cmwjax.training.program import Program
from runs import (
    ROOT,
    STEPS,
    assert_close,
    assert_same,
    finish,
    lines,
    metrics,
    newest,
    run,
    saved,
    stop_after,
    tiny,
    two_processes,
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A finished run of `tiny`, not to be written to."""
    workdir = tmp_path_factory.mktemp("uninterrupted") / "run"
    run(tiny(), workdir)
    return workdir


# Batch statistics of both, the teacher's its own; soft labels that begin as given and
# are averaged; a teacher that freezes on the way; images that are shifted.
ALL_STATE = {
    "method": "cmw_net_sl",
    "model.name": "small_conv",
    "model.options": {"features": (4,)},
    "soft_labels.momentum": 0.9,
    "soft_labels.start": "one_hot",
    "mixup.second_weight": "mixed",
    "mixup.meta_alpha": 1.0,
    "augment.pad": 1,
    "ema.batch_stats": False,
    "ema.freeze_epoch": 2,
}


def check_stopped(tmp_path, monkeypatch, config, stops):
    """A run that is stopped after some of its steps ends as if it never was."""
    run(config, tmp_path / "once")
    stop_after(monkeypatch, *stops)
    for step in stops:
        with pytest.raises(Interrupted, match=f"continues from step {step}[.]"):
            run(config, tmp_path / "often")
    run(config, tmp_path / "often")
    assert_same(tmp_path / "often", tmp_path / "once")
    assert [line["step"] for line in metrics(tmp_path / "often")] == [5, 10, 15]


@pytest.mark.slow
@pytest.mark.parametrize("top_k", [0, 3])
def test_stopped_after_every_step(tmp_path, monkeypatch, top_k):
    stops = range(1, STEPS + 1)
    config = tiny(**ALL_STATE, **{"memory.top_k": top_k})
    check_stopped(tmp_path, monkeypatch, config, stops)


def slow(**fields):
    return pytest.param(fields, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        slow(**{"meta_set.policy": "lowest_loss", "data.train_size": 200}),
        {"method": "elr", "memory.top_k": 3},  # a memory, written to at every step
        {"method": "plc"},  # labels that change before an epoch
        slow(method="rrm"),  # weights that do
        slow(method="trusted_only"),  # an order of its own
        slow(method="erm_mixup_ema"),  # a teacher
        slow(
            **{"method": "cmw_net_sl", "mixup.meta_alpha": 1.0}
        ),  # and its soft labels
    ],
    ids=lambda fields: "-".join(map(str, fields.values())) or "cmw_net",
)
def test_stopped_within_epochs_and_at_their_ends(tmp_path, monkeypatch, fields):
    check_stopped(tmp_path, monkeypatch, tiny(**fields), (4, 5, 9))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parallel", "meta_every"),
    [
        ("jit", 3),
        ("pmap", 1),
        ("pmap", 3),
        ("jit", 1),
    ],
)
def test_steps_that_are_dispatched_together(tmp_path, parallel, meta_every):
    """A warm-up, meta steps and weighted ones, on two devices."""
    fields = {"parallel": parallel, "meta_every": meta_every}
    fields |= {"checkpoint.every_steps": 0}
    run(tiny(**fields), tmp_path / "one", devices=2)
    run(tiny(**fields, steps_per_call=5), tmp_path / "five", devices=2)
    assert_close(tmp_path / "five", tmp_path / "one")


def test_stopped_between_steps_that_are_dispatched_together(tmp_path, monkeypatch):
    """Three at a time, from the beginning of an epoch on, but not over a checkpoint."""
    steps = []

    def check(self, step):
        steps.append(step)

    with monkeypatch.context() as patch:
        patch.setattr(Signals, "check", check)
        run(tiny(steps_per_call=3), tmp_path / "dispatches")
    assert steps == [3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15]
    stops = (3, 4, 8, 10, 14)
    check_stopped(tmp_path, monkeypatch, tiny(steps_per_call=3), stops)


def test_the_comparison_would_notice_a_difference(tmp_path, uninterrupted):
    run(tiny(seed=1), tmp_path / "run")
    with pytest.raises(AssertionError):
        assert_same(tmp_path / "run", uninterrupted)


def on_many_devices(**fields):
    return tiny(**{"warmup_epochs": 0, "meta_every": 1, "epochs": 2} | fields)


def on_two_processes():
    return on_many_devices(method="erm", epochs=5)  # quickly compiled


def test_fewer_devices_continue_with_the_same_samples(tmp_path, monkeypatch):
    run(on_many_devices(), tmp_path / "four", devices=4)
    stop_after(monkeypatch, 2, 6)
    for devices in (4, 2):
        with pytest.raises(Interrupted):
            run(on_many_devices(), tmp_path / "run", devices=devices)
    run(on_many_devices(), tmp_path / "run", devices=1)
    assert_close(tmp_path / "run", tmp_path / "four")


STOP_OR_GO = """
import os, signal, time
from cmwjax.stopping import EXIT_CODE, Interrupted
from runs import train
from test_resume import on_two_processes

workdir, what = sys.argv[1:]

def on_epoch(metrics):
    time.sleep(0.3)  # for the processes to agree on where they stop
    if what == "stop" and metrics["epoch"] == 1 and jax.process_index() == 1:
        os.kill(os.getpid(), signal.SIGTERM)

try:
    train.run(on_two_processes(), workdir, on_epoch=on_epoch)
except Interrupted as stop:
    print(stop)
    sys.exit(EXIT_CODE)
"""


@pytest.mark.slow
def test_two_processes_stop_together_and_continue(tmp_path):
    for what, wanted in (("stop", EXIT_CODE), ("go", 0)):
        outputs = two_processes(STOP_OR_GO, tmp_path / "run", what)
        assert [code for code, _ in outputs] == [wanted, wanted], outputs
        for _, output in outputs:
            assert ("continues from step" in output) == (what == "stop"), output
    run(on_two_processes(), tmp_path / "once", devices=4)
    assert_close(tmp_path / "run", tmp_path / "once")


@pytest.mark.parametrize("harm", ["flip", "truncate", "manifest", "folder", "all"])
def test_a_run_survives_damage(tmp_path, monkeypatch, caplog, uninterrupted, harm):
    stop_after(monkeypatch, 11)
    with pytest.raises(Interrupted):
        run(tiny(), tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    assert sorted(p.name for p in folder.iterdir()) == ["11", "8"]
    victims = ["11", "8"] if harm == "all" else ["11"]
    for victim in victims:
        path = max(folder.glob(f"{victim}/ocdbt*/d/*"), key=lambda p: p.stat().st_size)
        content = path.read_bytes()
        if harm == "manifest":
            (folder / victim / checkpoints.MANIFEST).unlink()
        elif harm == "folder":
            shutil.rmtree(path.parent)
        elif harm == "flip":
            middle = len(content) // 2
            flipped = bytes([content[middle] ^ 4])
            path.write_bytes(content[:middle] + flipped + content[middle + 1 :])
        else:
            path.write_bytes(content[:-1])
    monkeypatch.undo()
    run(tiny(), tmp_path / "run")
    assert "checkpoints/11 is damaged" in caplog.text
    assert ("starting over" in caplog.text) == (harm == "all")
    assert_same(tmp_path / "run", uninterrupted)


def test_a_finished_run_is_left_alone_even_elsewhere(tmp_path, uninterrupted):
    shutil.copytree(uninterrupted, tmp_path / "copy")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "copy").rglob("*")}
    calls = []
    result = run(tiny(), tmp_path / "copy", on_epoch=calls.append)
    assert result == train.summarise(uninterrupted) and not calls
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "copy").rglob("*")}


def test_a_moved_folder_continues(tmp_path, monkeypatch, uninterrupted):
    stop_after(monkeypatch, 7)
    with pytest.raises(Interrupted):
        run(tiny(), tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    run(tiny(), tmp_path / "there")
    assert_same(tmp_path / "there", uninterrupted)


def test_what_a_killed_process_leaves_does_no_harm(
    tmp_path, monkeypatch, uninterrupted
):
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / ".config.json.123.tmp").write_text("{")  # before config.json was there
    stop_after(monkeypatch, 12)
    with pytest.raises(Interrupted):
        run(tiny(), workdir)
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "step": 15, "lo')
    (workdir / ".samples.csv.123.tmp").write_text("index,given")
    (workdir / ".metrics.jsonl.123.tmp").write_text("{")
    (workdir / ".weighting.safetensors.host-123-0ab.tmp").write_bytes(b"\x07")
    (workdir / ".weight_curves.png.host-123-0ab.tmp").write_bytes(b"\x07")
    (workdir / "weighting.safetensors").write_bytes(b"\x07")
    (workdir / "checkpoints" / "13.orbax-checkpoint-tmp").mkdir()
    (workdir / "checkpoints" / "14").mkdir()
    run(tiny(), workdir)
    assert_same(workdir, uninterrupted)
    assert {p.name for p in workdir.iterdir()} == {
        p.name for p in uninterrupted.iterdir()
    }
    assert {p.name for p in (workdir / "checkpoints").iterdir()} == {"12", "15"}


def test_other_data_and_other_configurations_are_refused(tmp_path, monkeypatch):
    stop_after(monkeypatch, 3)
    with pytest.raises(Interrupted):
        run(tiny(), tmp_path / "run")
    with pytest.raises(ValueError, match="noise.rate is 0.3 there and 0.2 here"):
        run(tiny(**{"noise.rate": 0.2}), tmp_path / "run")
    digits = datasets.load("digits")
    images, labels = digits.train_inputs.copy(), np.roll(digits.train_labels, 1)
    images[:, 0, 0] ^= 1
    for other in ({"train_inputs": images}, {"train_labels": labels}):
        with pytest.raises(ValueError, match="data are not what the run in .* began"):
            run(tiny(), tmp_path / "run", arrays=digits._replace(**other))
    same = digits._replace(observed_labels=labels)
    with pytest.raises(ValueError, match="data are not what the run in"):
        run(tiny(), tmp_path / "run", arrays=same)


class NotANumber(nn.Module):
    """A classifier of which nothing can be learned."""

    @nn.compact
    def __call__(self, images, train):
        logits = nn.Dense(10)(images.reshape(len(images), -1))
        return logits * jnp.nan if train else logits


def test_a_run_that_diverges_stops_and_names_the_last_good_checkpoint(tmp_path):
    config, model = tiny(max_skips_in_a_row=6), NotANumber()
    with pytest.raises(Diverged, match=r"last 8 updates before step 8 .* of step 4\."):
        run(config, tmp_path / "run", model=model)
    good = newest(tmp_path / "run")
    assert all(np.isfinite(x).all() for x in good.values())
    assert good["run/learner/skipped_in_a_row"] == 4
    with pytest.raises(Diverged, match=r"checkpoint is that of step 4\. .*=0\.1"):
        run(config, tmp_path / "run", model=model)  # again the same, not worse
    with pytest.raises(Diverged, match="before step 5 .*There is no good"):
        run(
            tiny(**{"max_skips_in_a_row": 5, "checkpoint.every_steps": 0}),
            tmp_path / "no checkpoint",
            model=model,
        )


class Overflown(nn.Module):
    """A classifier that begins with a parameter that is not finite."""

    @nn.compact
    def __call__(self, images, train):
        del train
        bias = nn.initializers.constant(np.inf)
        return nn.Dense(10, bias_init=bias)(images.reshape(len(images), -1))


def test_parameters_that_are_not_finite_are_not_saved(tmp_path):
    with pytest.raises(
        Diverged, match=r"params\['Dense_0'\].* step 4, .*There is no good"
    ):
        run(tiny(), tmp_path / "run", model=Overflown())
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_collapsed_weights_are_called_so(tmp_path, caplog):
    healthy = {"weight_low": [1.0, 0.0], "weight_high": [0.0, 1.0]}
    collapsed = {"weight_low": [0.0, np.nan, 0.0], "weight_high": [1.0, np.nan, 0.9999]}
    common = {"epoch": 7, "weight_mean": [0.1, 0.2]}
    assert not warn_if_collapsed({"epoch": 7}, tmp_path)  # no weighting net
    assert not warn_if_collapsed(healthy | common, tmp_path)
    assert not caplog.text
    assert warn_if_collapsed(collapsed | common, tmp_path)
    assert "in epoch 7 all weights are near 1" in caplog.text


WEIGHTS = {  # of losses 0, 1, ... 9 -> what is said of two families
    "one falls": (lambda x: (1 - x / 9, x / 9), None),
    "both rise": (lambda x: (0.5 + x / 90, x / 9), "the larger a loss, the larger"),
    "one rises, one is flat": (lambda x: (0.7 + 0 * x, x / 9), "the larger a loss"),
    "both are flat": (lambda x: (0.7 + x / 9000, 0.2 + 0 * x), "family are alike"),
}


def test_losses_that_explode_are_told_once(tmp_path, caplog):
    config = tiny(method="erm", **{"optim.learning_rate": 300.0})
    for loss, exploded in ((6.9, False), (9.5e26, True), (float("nan"), False)):
        assert warn_if_exploded({"epoch": 7, "loss": loss}, config) == exploded
    message = caplog.records[-1].getMessage()
    assert "epoch 7 is 9.5e+26" in message and "optim.learning_rate=300.0" in message
    caplog.clear()
    run(config, tmp_path / "run")
    assert max(epoch["loss"] for epoch in metrics(tmp_path / "run")) > 1e3
    told = [r for r in caplog.records if "beyond that of a guess" in r.getMessage()]
    assert len(told) == 1


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_rank_nothing_or_the_wrong_ones_are_called_so(
    tmp_path, caplog, name
):
    weights, message = WEIGHTS[name]
    losses, family = np.tile(np.arange(10.0), 2), np.repeat([0, 2], 10)
    weights = np.concatenate(weights(np.arange(10.0)))
    assert warn_of_weights(losses, weights, family, tmp_path) == (message is not None)
    assert not caplog.text if message is None else message in caplog.text


def test_a_run_whose_weights_collapse_warns_once(tmp_path, caplog):
    loss = np.zeros(1, np.float32)
    params = CMWNet(3).init(jax.random.key(0), loss, loss.astype(int))["params"]
    params["heads"]["bias"] += -50.0  # no sample counts
    centres = np.array([1.0, 2.0, 3.0])
    save_weighting(tmp_path / "none.safetensors", WeightingFunction(params, centres))
    fields = {"weighting.load": str(tmp_path / "none.safetensors")}
    fields |= {"meta_set.policy": "none", "data.imbalance_factor": 3.0}
    run(tiny(**fields, warmup_epochs=0), tmp_path / "run")
    assert len(metrics(tmp_path / "run")) > 1
    assert caplog.text.count("all weights are near 0") == 1


### Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(tmp_path, uninterrupted, number):
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(Interrupted, match="continues from step [56][.]"):
        run(tiny(), tmp_path / "run", on_epoch=lambda _: os.kill(os.getpid(), number))
    assert handlers == [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    assert not (tmp_path / "run" / "samples.csv").exists()
    run(tiny(), tmp_path / "run")
    assert_same(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize(
    ("module", "place"), [(measure, "epoch_metrics"), (meta_set, "lowest_loss")]
)
def test_a_signal_ends_evaluation(tmp_path, monkeypatch, module, place):
    config = tiny(**{"meta_set.policy": "lowest_loss", "data.train_size": 200})
    run(config, tmp_path / "once")
    original = getattr(module, place)

    def interrupted(*arguments, **others):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)  # Python runs its handlers between two instructions
        pytest.fail("went on")

    monkeypatch.setattr(module, place, interrupted)
    with pytest.raises(Interrupted, match="continues from step 5[.]"):
        run(config, tmp_path / "run")
    monkeypatch.setattr(module, place, original)
    run(config, tmp_path / "run")
    assert_same(tmp_path / "run", tmp_path / "once")


def test_a_signal_before_an_epoch_leaves_the_metrics_of_the_one_before(
    tmp_path, monkeypatch
):
    """The meta set of the next epoch is chosen already, but it has not begun."""
    config = tiny(**{"meta_set.policy": "lowest_loss", "data.train_size": 200})
    run(config, tmp_path / "once")
    chosen, lowest_loss = [], meta_set.lowest_loss

    def spy(*arguments, **others):
        chosen.append(lowest_loss(*arguments, **others))
        return chosen[-1]

    def interrupted(*arguments):
        if len(chosen) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
            pytest.fail("went on")
        return arguments[1]

    with monkeypatch.context() as patch:
        patch.setattr(meta_set, "lowest_loss", spy)
        patch.setattr(Program, "refresh", interrupted)
        with pytest.raises(Interrupted, match="continues from step 10[.]"):
            run(config, tmp_path / "run")
    assert not np.array_equal(*chosen)  # else either would do
    np.testing.assert_array_equal(newest(tmp_path / "run")["meta_index"], chosen[0])
    run(config, tmp_path / "run")
    assert_same(tmp_path / "run", tmp_path / "once")


def test_seconds_count_what_a_stopped_process_has_spent(tmp_path, monkeypatch):
    def check(self, step):
        if step == 3:
            time.sleep(1)
            raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(Signals, "check", check)
        with pytest.raises(Interrupted):
            run(tiny(method="erm"), tmp_path / "run")
    seconds, stall, compiling = saved(tmp_path / "run")["seconds"]
    assert seconds >= 1 > stall == 0 and seconds - 1 > compiling > 0
    result = run(tiny(method="erm"), tmp_path / "run")
    epochs = [line["seconds"] for line in lines(tmp_path / "run")]
    assert epochs[0] > seconds and sum(epochs) == result.seconds
    compiled = [line["compile_seconds"] for line in lines(tmp_path / "run")]
    assert compiled[0] > compiling and sum(compiled) == result.compile_seconds
    assert all(part < whole for part, whole in zip(compiled, epochs, strict=True))


# One call into C for minutes, as a compilation: no Python handler gets a chance to run.
BUSY = """
import hashlib, sys
from cmwjax import stopping
stopping.GRACE = float(sys.argv[1])
with stopping.Signals():
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


@contextmanager
def ends_with_its_block(process):
    """A failed assertion must not wait for it."""
    with process:
        try:
            yield
        finally:
            process.kill()


def test_a_busy_process_ends_in_time_and_at_once_at_a_second_sigint():
    options = dict(cwd=ROOT, stdout=subprocess.PIPE, text=True)
    patient, impatient = (
        subprocess.Popen([sys.executable, "-c", BUSY, grace], **options)
        for grace in ("60", "0.5")
    )
    with ends_with_its_block(patient), ends_with_its_block(impatient):
        assert patient.stdout.readline() == impatient.stdout.readline() == "busy\n"
        time.sleep(0.1)
        impatient.send_signal(signal.SIGTERM)
        patient.send_signal(signal.SIGINT)
        time.sleep(0.2)
        assert impatient.poll() is None and patient.poll() is None
        patient.send_signal(signal.SIGINT)
        assert patient.wait(60) == 128 + signal.SIGINT
        assert impatient.wait(60) == EXIT_CODE


def test_outside_the_main_thread_signals_stay_as_they_are():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def elsewhere():
        with Signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before]


### The command


def command(tmp_path, workdir, **fields):
    """`python run.py` with `tiny`."""
    config = tmp_path / "tiny.py"
    config.write_text(
        f"import sys\nsys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
        f"from runs import tiny\nget_config = lambda: tiny(**{fields})\n"
    )
    return subprocess.Popen(
        [sys.executable, "-W", "error", ROOT / "run.py", f"--config={config}"]
        + [f"--workdir={workdir}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_twice_from_the_command_line_once_with_a_signal(tmp_path):
    # Long enough to be caught.
    fields = {"epochs": 30, "warmup_epochs": 29, "checkpoint.every_steps": 70}
    stopped = command(tmp_path, tmp_path / "b", **fields)
    while not (tmp_path / "b" / "metrics.jsonl").exists():
        assert stopped.poll() is None, stopped.communicate()
        time.sleep(0.01)
    stopped.send_signal(signal.SIGTERM)
    code, output = finish(stopped)
    assert code == EXIT_CODE, output
    assert "the same command continues from step" in output
    twice = [command(tmp_path, tmp_path / name, **fields) for name in "ab"]
    for process in twice:
        code, output = finish(process)
        assert code == 0 and "after the last epoch" in output, output
    assert_same(tmp_path / "b", tmp_path / "a")
    code, output = finish(command(tmp_path, tmp_path / "b", **fields))
    assert code == 0 and "there was nothing to do" in output
