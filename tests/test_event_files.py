"""TensorBoard's files: the numbers of metrics.jsonl, each once."""

import struct
import sys

import pytest

from cmwjax.report.event_files import check_installed, event_files, scalars
from cmwjax.report.metrics import append_metrics, drop_metrics
from cmwjax.stopping import Interrupted
from runs import lines, run, stop_after, tiny


def events(workdir):
    """`(tag, step, value)` of all event files, in any order."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in (workdir / "tensorboard").iterdir():
        content, start = path.read_bytes(), 0
        while start < len(content):  # length, its checksum, the event, its checksum
            (length,) = struct.unpack_from("<Q", content, start)
            event = Event.FromString(content[start + 12 : start + 12 + length])
            start += length + 16
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
    return sorted(found)


def expected(epochs):
    """The same from `(step, metrics)`; families are written out by hand."""
    return sorted(
        (tag, step, pytest.approx(value, rel=1e-6))
        for step, metrics in epochs
        for tag, value in metrics.items()
    )


def test_numbers_and_numbers_by_family_are_scalars():
    line = {"step": 5, "loss": 0.5, "auroc": None, "weight_mean": [0.25, None]}
    line |= {"curve_loss": [0.0, 1.0], "curve": [[0.5, 0.5]]}
    assert scalars(line) == {"step": 5.0, "loss": 0.5, "weight_mean/0": 0.25}


def test_steps_come_once_however_often_a_run_is_stopped(tmp_path):
    pytest.importorskip("tensorboardX")

    def epoch(number, loss, write):
        metrics = {"epoch": number, "step": 10 * number, "loss": loss}
        append_metrics(tmp_path, metrics)
        write(metrics)

    with pytest.raises(KeyboardInterrupt), event_files(tmp_path) as write:
        epoch(1, 0.5, write)
        epoch(2, 0.25, write)
        epoch(3, 9.0, write)
        raise KeyboardInterrupt
    drop_metrics(tmp_path, since=30)  # the third was not saved
    with event_files(tmp_path) as write:
        epoch(3, 0.125, write)
        epoch(4, float("nan"), write)
    losses = [(1, 0.5), (2, 0.25), (3, 0.125)]
    wanted = [(10 * e, {"epoch": e, "step": 10 * e, "loss": x}) for e, x in losses]
    assert events(tmp_path) == expected([*wanted, (40, {"epoch": 4, "step": 40})])
    with event_files(tmp_path):  # a run that was finished before
        pass
    assert len(events(tmp_path)) == 11


def test_a_run_that_goes_on_has_the_numbers_of_its_metrics(tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX")

    def part():
        with event_files(tmp_path) as write:
            run(tiny(method="erm"), tmp_path, on_epoch=write)

    with monkeypatch.context() as patch:
        stop_after(patch, 7)
        with pytest.raises(Interrupted):
            part()
    part()
    wanted = []
    for line in lines(tmp_path):
        numbers = {k: v for k, v in line.items() if isinstance(v, int | float)}
        wanted.append((line["step"], numbers))
    assert len(wanted) == 3
    plain = [event for event in events(tmp_path) if "/" not in event[0]]
    assert plain == expected(wanted)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ValueError, match=r"pip install -e '.\[tensorboard\]'"):
        check_installed()
