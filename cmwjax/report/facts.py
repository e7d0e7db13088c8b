"""The files of one finished run, read once, for a page about it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cmwjax.core.labels import CLASSES
from cmwjax.files import CONFIG, HISTORY, PROBLEM, read_json
from cmwjax.methods.catalogue import METHODS, title
from cmwjax.report.read import read_metrics, task_of
from cmwjax.report.result import selects
from cmwjax.report.samples import samples_of
from cmwjax.report.shown import Shown, read_arrays, read_suspects
from cmwjax.tasks.task import Task


class Facts(NamedTuple):
    """What the files of a run say.

    Attributes:
      folder: of the run.
      config: `config.json`.
      problem: `problem.json`, {} without one.
      metrics: of each epoch, see `read_metrics`.
      samples: see `read_samples`.
      task: what labels are.
      suspects: what the most suspicious samples look like, if that was kept.
      history: arrays of `history.npz`, if there is one.
    """

    folder: Path
    config: dict[str, Any]
    problem: dict[str, Any]
    metrics: list[dict[str, Any]]
    samples: dict[str, np.ndarray]
    task: Task
    suspects: Shown | None
    history: dict[str, np.ndarray] | None

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes in the order of the data; none of a regression."""
        if self.task.label_kind != CLASSES:
            return []
        found = self.samples
        return self.problem.get("classes") or sorted(
            {*found["given_label"], *found["suggested_label"]}
        )

    @property
    def has_margin(self) -> bool:
        """Whether a quality below 0.5 says that another class suits a sample better."""
        return self.task.quality is not None

    @property
    def doubted(self) -> np.ndarray:
        """Where a label looks wrong, bool `[N]`: by its quality, or by another one."""
        if self.has_margin:
            return self.samples["quality"] < 0.5
        return self.samples["given_label"] != self.samples["suggested_label"]

    @property
    def method(self) -> str:
        """The method by its title."""
        name = self.config.get("method", "")
        return title(name) if name in METHODS else name or self.folder.parent.name

    @property
    def data(self) -> str:
        """The data by a name that tells nothing of the machine."""
        return data_title(self.config.get("data", {}).get("name", "data"))

    @property
    def selected(self) -> dict[str, Any] | None:
        """Metrics of the epoch that validation chose; None where nothing does."""
        name = selects(self.metrics[-1], self.task.criterion)
        if name is None:
            return None
        values = [row.get(name) for row in self.metrics]
        scores = [-np.inf if value is None else value for value in values]
        return self.metrics[int(np.argmax(scores))]


def read_facts(run_dir: str | os.PathLike) -> Facts:
    """Reads the files of a finished run.

    Raises:
      FileNotFoundError: if it is not finished, or there is none.
      ValueError: if one of its files is damaged.
    """
    folder = Path(run_dir)
    samples = samples_of(folder)  # first: it is the last one of a run
    history = None
    if (folder / HISTORY).is_file():
        names = ("row", "epoch", "loss", "weight")
        history = read_arrays(folder / HISTORY, names)
    return Facts(
        folder=folder,
        config=read_json(folder / CONFIG),
        problem=read_json(folder / PROBLEM),
        metrics=read_metrics(folder),
        samples=samples,
        task=task_of(folder),
        suspects=read_suspects(folder),
        history=history,
    )


def data_title(name: str) -> str:
    """What a data set is called without the folders that it lies in."""
    path = name.removeprefix("folder:").rstrip("/")
    return path.rpartition("/")[2] or name


def step_seconds(metrics: Sequence[dict[str, Any]]) -> float | None:
    """Median over the epochs of the seconds per step, all that comes with it included.

    Without what training waited for checkpoints and for the compiler. None where the
    metrics do not tell.
    """
    seconds, before = [], 0
    for row in metrics:
        steps, before = row["step"] - before, row["step"]
        spent = row.get("seconds")
        if steps > 0 and spent is not None:
            waits = (row.get(f"{of}_seconds", 0) for of in ("checkpoint", "compile"))
            seconds.append((spent - sum(waits)) / steps)
    return float(np.median(seconds)) if seconds else None
