"""What a terminal or a log file shows of a run: plain lines, and how far it is."""

import io
import logging
import os
import sys
import time
from types import TracebackType
from typing import Any

from absl import logging as absl_logging
from tqdm import tqdm

INTERVAL = 30.0  # seconds between lines about the progress, where there is no terminal


class Progress:
    """How much is done: a bar on a terminal, else a line every half minute.

    Args:
      total: epochs in all.
      unit: what else is counted.
    """

    shown = True

    def __init__(self, total: int, unit: str = "epoch"):
        disable = None if self.shown else True
        self._bar = tqdm(total=total, unit=unit, mininterval=1, disable=disable)
        self._total, self._unit, self._description = total, unit, ""
        self.done, self._said = 0, time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    def describe(self, text: str) -> None:
        """Says what is going on."""
        self._description = text
        self._bar.set_description(text)

    def reach(self, done: int) -> None:
        """Says that this many are done."""
        self._bar.update(done - self.done)
        self.done = done
        if self._bar.disable and time.monotonic() - self._said >= INTERVAL:
            self._said = time.monotonic()
            absl_logging.info(
                "%s: %s %d of %d", self._description, self._unit, done, self._total
            )


class _AboveBar(io.TextIOBase):
    """Standard error, where lines stand above the bar and not in it."""

    def write(self, text: str) -> int:
        tqdm.write(text, file=sys.stderr, end="")
        return len(text)

    def flush(self) -> None:
        sys.stderr.flush()


class _Plain(logging.Formatter):
    """The text alone, after what makes it more than information."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.name == "py.warnings":  # and not the line of code that comes with it
            text = text.partition("\n")[0]
        if record.levelno < logging.WARNING:
            return text
        return f"{record.levelname.lower()}: {text}"


class _Worthwhile(logging.Filter):
    """Keeps what cmwjax says and others warn of, each text once."""

    def __init__(self):
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        # Orbax reports every file that it touches; cmwjax says what matters of it.
        ours = record.name == "absl" and "orbax" not in record.pathname
        if not ours and (record.levelno < logging.WARNING or record.name == "absl"):
            return False
        text = record.getMessage()
        is_new = text not in self._said
        self._said.add(text)
        return is_new


def be_quiet() -> None:
    """Leaves what is shown to another process, but for warnings and errors."""
    absl_logging.set_verbosity(absl_logging.WARNING)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115, until the process ends
    Progress.shown = False


def set_up() -> None:
    """Makes the process log in plain lines that keep off the progress bar."""
    handler: Any = absl_logging.get_absl_handler()
    python_handler = handler.python_handler
    python_handler.addFilter(_Worthwhile())
    python_handler.setFormatter(_Plain())
    if python_handler.stream is sys.stderr:  # and no file of --log_dir
        python_handler.stream = _AboveBar()
    logging.captureWarnings(True)
