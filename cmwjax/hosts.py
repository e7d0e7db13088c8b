"""Several processes, on one host or many, that train one model together."""

import faulthandler
import os
import sys
from typing import NoReturn

import jax

FOUND = "auto"  # what JAX finds by itself, on TPU slices and under SLURM or Open MPI
# Whoever is not heard of for so long is lost, and the others end.
HEARTBEAT_SECONDS = 60
JOIN_SECONDS = 300


def join(
    coordinator: str | None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Waits until all processes are there; before anything else asks for devices.

    Every process is started by the same command, with the same files in reach, a
    number of its own, and a `--workdir` that all of them see. See
    https://docs.jax.dev/en/latest/multi_process.html.

    Args:
      coordinator: HOST:PORT where process 0 listens, or 'auto': what JAX finds, on TPU
        slices and under SLURM, Open MPI or Kubernetes; None, the only process.
      num_processes: N, at least 1; None with 'auto'.
      process_id: number of this one, from 0 to N - 1; None with 'auto'.

    Raises:
      ValueError: if that is no address, number or cluster, or the others do not come.
    """
    numbers = {"--num_processes": num_processes, "--process_id": process_id}
    given = [name for name, number in numbers.items() if number is not None]
    if coordinator in (None, FOUND):
        if given:
            raise ValueError(
                f"{given[0]} is read with --coordinator=HOST:PORT alone: give that, or "
                f"leave {given[0]} out."
            )
        if coordinator is None:
            return
        address = None
    else:
        host, _, port = coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(
                f"--coordinator={coordinator} is not HOST:PORT, where process 0 is to "
                f"listen, as in 10.0.0.1:1234; or {FOUND!r}, in a cluster."
            )
        for name, number in numbers.items():
            if number is None:
                raise ValueError(
                    f"{name} is missing: with --coordinator={coordinator}, "
                    "--num_processes=N says how many there are, and --process_id, "
                    "from 0 to N - 1, which one this is."
                )
        processes = range(num_processes or 0)
        if not processes:
            raise ValueError(f"--num_processes={num_processes} must be at least 1.")
        if process_id not in processes:
            raise ValueError(
                f"--process_id={process_id} must be from 0 to {processes[-1]}, for "
                f"there are {num_processes} processes."
            )
        address = coordinator
    # JAX ends a process whose coordinator is gone, and says so; no stack below it.
    faulthandler.disable()
    try:
        jax.distributed.initialize(
            address,
            num_processes,
            process_id,
            cluster_detection_method=None if address is None else "deactivate",
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        where = "a cluster" if address is None else coordinator
        raise ValueError(
            f"--coordinator={coordinator}: the processes did not find each other at "
            f"{where}: start all of them within {JOIN_SECONDS} seconds, each with a "
            f"number of its own. ({' '.join(str(error).split())})"
        ) from error


def are_several() -> bool:
    """Whether processes were joined."""
    return jax.distributed.is_initialized()


def leave(message: str) -> NoReturn:
    """Ends the process with a message on standard error and exit code 1.

    One of several ends at once: JAX would wait at its end for the others, who wait for
    this one in the middle of a step, or are gone. They notice.
    """
    if not are_several():
        sys.exit(message)
    print(message, file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)
