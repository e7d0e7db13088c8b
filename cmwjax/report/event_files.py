"""The numbers of `metrics.jsonl` once more, as TensorBoard reads them."""

import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import Any

import jax

from cmwjax.files import EVENTS, METRICS
from cmwjax.report.metrics import plain
from cmwjax.report.read import read_metrics

NOT_OVER_TIME = ("curve_loss", "test_class_accuracy", "test_risks")


def check_installed() -> None:
    """Raises `ValueError` where the package that writes event files is missing."""
    try:
        import tensorboardX  # noqa: F401, an extra
    except ImportError as error:
        raise ValueError(
            "--tensorboard needs the package tensorboardX, which is missing: run "
            "`pip install -e '.[tensorboard]'`, or do without the flag."
        ) from error


@contextmanager
def event_files(
    workdir: Path,
) -> Generator[Callable[[dict[str, Any]], None], None, None]:
    """Keeps `workdir/tensorboard` like `workdir/metrics.jsonl` while a run goes on.

    What is there already of an earlier process is written anew, so that no step comes
    twice however often a run was stopped, and none is missing that came before.

    Args:
      workdir: of the run.

    Yields:
      What to call with the metrics of every epoch, after they are in `metrics.jsonl`.
    """
    if jax.process_index() != 0:
        yield lambda metrics: None
        return
    writer = None

    def begin() -> None:
        nonlocal writer
        from tensorboardX import SummaryWriter  # an extra

        shutil.rmtree(workdir / EVENTS, ignore_errors=True)
        writer = SummaryWriter(str(workdir / EVENTS))
        for metrics in read_metrics(workdir):
            _write(writer, metrics)

    def on_epoch(metrics: dict[str, Any]) -> None:
        if writer is None:
            begin()  # its line among the others
        else:
            _write(writer, plain(metrics))

    try:
        yield on_epoch
        if writer is None and (workdir / METRICS).exists():  # it was finished before
            begin()
    finally:
        if writer is not None:
            writer.close()


def scalars(metrics: dict[str, Any]) -> dict[str, float]:
    """Tag -> number of a line of `metrics.jsonl`; one tag each of those by family."""
    found = {}
    for name, value in metrics.items():
        if isinstance(value, list) and name not in NOT_OVER_TIME:
            numbers = {f"{name}/{k}": number for k, number in enumerate(value)}
        else:
            numbers = {name: value}
        found |= {tag: float(v) for tag, v in numbers.items() if isinstance(v, Real)}
    return found


def _write(writer: Any, metrics: dict[str, Any]) -> None:
    for tag, value in scalars(metrics).items():
        writer.add_scalar(tag, value, metrics["step"])
    writer.flush()
