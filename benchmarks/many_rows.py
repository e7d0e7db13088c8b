"""A table of a million rows in several files: how fast it is read, in what memory.

    python benchmarks/many_rows.py --json=results/many_rows.json

Reads the same files alternately by `cmwjax.data.csv_sets` and by NumPy's `loadtxt`,
which checks nothing and names no cell. The memory is the largest of a process that
reads them once, less what it has before.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from cmwjax.data import csv_sets

COLUMNS, FILES = 10, 4
ALONE = """
import sys
from benchmarks.many_rows import READERS, peak
before = peak()
READERS[sys.argv[1]](sys.argv[2])
print(peak() - before)
"""


def main() -> None:
    """Parses the command line; writes files, reads them, and says how that went."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="where to write")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), args.rows)
        memory = {name: peak_alone(name, folder) for name in READERS}
        seconds: dict[str, list[float]] = {name: [] for name in READERS}
        for _ in range(args.rounds):
            for name, reader in READERS.items():
                begin = time.perf_counter()
                reader(folder)
                seconds[name].append(time.perf_counter() - begin)
    row = {
        "rows": args.rows,
        "columns": COLUMNS,
        "files": FILES,
        "cpus": os.cpu_count(),
    }
    for name, times in seconds.items():
        middle = statistics.median(times)
        row[name] = {
            "rows_per_second": round(args.rows / middle),
            "times_loadtxt": round(middle / statistics.median(seconds["loadtxt"]), 1),
            "peak_mib": round(memory[name] / 2**20),
        }
    args.json.write_text(json.dumps(row, indent=1) + "\n")
    print(json.dumps(row))


def write(folder: Path, rows: int) -> None:
    """Files of numbers and five classes, line by line."""
    rng = np.random.default_rng(0)
    header = ",".join([*(f"x{i}" for i in range(COLUMNS)), "label"])
    for part, size in enumerate(np.diff(np.linspace(0, rows, FILES + 1).astype(int))):
        table = np.column_stack(
            [rng.normal(size=(size, COLUMNS)), rng.integers(0, 5, size)]
        )
        form = [*["%.6g"] * COLUMNS, "%d"]
        path = folder / f"part-{part}.csv"
        np.savetxt(path, table, fmt=form, delimiter=",", header=header, comments="")


def by_cmwjax(folder: str) -> None:
    """As a run reads them."""
    csv_sets.load(f"{folder}/part-*.csv", test_share=0)


def by_loadtxt(folder: str) -> None:
    """Numbers alone, with nothing checked."""
    files = sorted(Path(folder).glob("part-*.csv"))
    tables = [np.loadtxt(file, np.float32, delimiter=",", skiprows=1) for file in files]
    np.concatenate(tables)


def peak() -> int:
    """The most memory this process has had so far, in bytes."""
    status = Path("/proc/self/status").read_text()  # of Linux
    return 1024 * int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0])


def peak_alone(name: str, folder: str) -> int:
    """What a process needs to read the files once, in bytes."""
    command = [sys.executable, "-c", ALONE, name, folder]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(run.stdout)


READERS = {"cmwjax": by_cmwjax, "loadtxt": by_loadtxt}

if __name__ == "__main__":
    main()
