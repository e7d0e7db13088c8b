"""Signals that ask a run to stop: it saves, and its exit code asks to go on later."""

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager

import jax
from jax.experimental import multihost_utils

EXIT_CODE = 75  # EX_TEMPFAIL: not finished, the same command continues
SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE = 25.0  # seconds until the process ends in any case


class Interrupted(Exception):
    """The run was asked to stop. Nothing is wrong: the same command continues."""


class Signals:
    """While it is entered, SIGTERM and SIGINT stop at a place of our choice.

    The first one makes `check` raise `Interrupted`, as does the code inside `at_once`.
    Where neither comes to pass within `GRACE` seconds (a long compilation), the process
    ends with `EXIT_CODE`; at a second SIGINT it ends at once. Handlers are those of
    before when it is left.

    With several processes, JAX's preemption service listens to SIGTERM instead, and
    all processes stop after the same step. Outside the main thread nothing happens.
    """

    def __enter__(self) -> "Signals":
        self._received, self._may_raise = False, False
        main = threading.current_thread() is threading.main_thread()
        self._listens = main and not jax.distributed.is_initialized()
        if self._listens:
            self._reader, self._writer = os.pipe()
            os.set_blocking(self._writer, False)
            # Python's handlers wait until a compilation returns; this thread does not.
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()
            self._old_fd = signal.set_wakeup_fd(self._writer)
            self._old = {
                number: signal.signal(number, self._handle)
                for number in SIGNALS
                if signal.getsignal(number) != signal.SIG_IGN
            }
        return self

    def __exit__(self, *_) -> None:
        if self._listens:
            for number, handler in self._old.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._old_fd)
            os.write(self._writer, b"\0")
            self._watcher.join()
            os.close(self._reader)
            os.close(self._writer)

    def check(self, step: int) -> None:
        """Raises `Interrupted` if the run is to stop after `step` steps."""
        if jax.distributed.is_initialized():
            self._received = multihost_utils.reached_preemption_sync_point(step)
        if self._received:
            raise Interrupted

    @contextmanager
    def at_once(self) -> Generator[None, None, None]:
        """A block that a signal may end anywhere by `Interrupted`."""
        self._may_raise = True
        try:
            if self._received:
                raise Interrupted
            yield
        finally:
            self._may_raise = False

    def _handle(self, number, frame):
        del number, frame
        self._received = True
        if self._may_raise:
            raise Interrupted("stopped; the same command continues.")

    def _watch(self):
        deadline = threading.Timer(GRACE, os._exit, [EXIT_CODE])
        deadline.daemon = True
        while number := os.read(self._reader, 1)[0]:
            if number in SIGNALS and not deadline.is_alive():
                deadline.start()
            elif number == signal.SIGINT:
                os._exit(128 + number)
        deadline.cancel()
