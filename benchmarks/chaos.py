"""Kills runs wherever it hurts, and shows that they end at the same bits all the same.

    python benchmarks/chaos.py --kills=120 --corruptions=200 --json=results/chaos.json

Starts the real command again and again; SIGKILL or SIGTERM hits it inside a save, a
compilation, the refresh of the meta set, an evaluation, an ordinary step, and so on.
What survives to the end is compared with a run that nobody disturbed. Then checkpoint
files of a stopped run are corrupted, one way at a time, and the run is continued.
"""

import argparse
import collections
import contextlib
import datetime
import json
import os
import pathlib
import platform
import runpy
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIG = """
from cmwjax.config import base_config

def get_config():
    config = base_config()
    config.epochs = 30
    config.warmup_epochs = 2
    config.meta_every = 2
    config.checkpoint.every_steps = 3
    config.data.train_size = 240
    config.data.batch_size = 40
    config.data.validation = 0.2
    config.noise.kind = "symmetric"
    config.noise.rate = 0.3
    config.meta_set.policy = "lowest_loss"
    config.meta_set.per_class = 4
    config.meta_set.batch_size = 20
    config.model.options.hidden = (32,)
    return config
"""
# Where a kill may fall, the most telling first; how often that comes about in a run, or
# often enough; and how many seconds after its beginning a kill is sent at most.
PHASES = {
    "save": (5, 0.08),
    "compilation": (12, 0.3),
    "writing results": (1, 0.02),
    "writing metrics": (3, 0.0),
    "meta set": (3, 0.003),
    "evaluation": (3, 0.005),
    "restore": (1, 0.03),
    "step": (1, 0.1),
    "start": (1, 2.0),
}
EXIT_CODE = 75
KILLS_PER_RUN = 15  # then it may finish
TELL_SECONDS = ("metrics.jsonl", "report.html")


### In the process to be killed


def child(pipe: int, arguments: list[str]) -> None:
    """`run.py`, reporting to a pipe what it is about to do and what it has done."""

    def mark(sign, phase):
        os.write(pipe, f"{sign}{phase}\n".encode())

    def marked(owner, name, phase):
        original = getattr(owner, name)

        def wrapped(*args, **kwargs):
            mark("+", phase)
            try:
                return original(*args, **kwargs)
            finally:
                mark("-", phase)

        setattr(owner, name, wrapped)

    mark("+", "start")
    sys.path.insert(0, str(ROOT))
    import jax

    from cmwjax import train
    from cmwjax.training import checkpoints, measure

    def on_event(event: str, duration_secs: float, **kwargs: str | int) -> None:
        del duration_secs, kwargs
        if event == "/jax/core/compile/jaxpr_to_mlir_module_duration":
            mark("+", "compilation")
        elif event == "/jax/core/compile/backend_compile_duration":
            mark("-", "compilation")

    jax.monitoring.register_event_duration_secs_listener(on_event)
    marked(checkpoints.Checkpoints, "_write", "save")
    marked(checkpoints.Checkpoints, "restore", "restore")
    marked(train, "append_metrics", "writing metrics")
    marked(train, "choose_meta_set", "meta set")
    marked(measure, "epoch_metrics", "evaluation")
    marked(measure, "write_results", "writing results")

    class Signals(train.Signals):
        """Those of the loop."""

        def __enter__(self):
            mark("-", "start")
            mark("+", "step")
            return super().__enter__()

    train.Signals = Signals
    sys.argv = ["run.py", *arguments]
    runpy.run_path(str(ROOT / "run.py"), run_name="__main__")


### Around it


class Life:
    """One start of the command, and what it reports."""

    def __init__(self, scratch: pathlib.Path, workdir: pathlib.Path, *, cached: bool):
        reader, writer = os.pipe()
        environment = os.environ | {"JAX_PLATFORMS": "cpu"}
        if cached:
            environment |= {
                "JAX_COMPILATION_CACHE_DIR": str(scratch / "compiled"),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            }
        else:
            environment |= {"JAX_ENABLE_COMPILATION_CACHE": "false"}
        self.log = open(scratch / "log.txt", "w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, __file__, f"--child={writer}"]
            + [f"--config={scratch / 'config.py'}", f"--workdir={workdir}"],
            env=environment,
            pass_fds=[writer],
            stdout=self.log,
            stderr=self.log,
        )
        os.close(writer)
        self._pipe, self._rest = reader, b""
        self.active: collections.Counter[str] = collections.Counter()
        self.seen: collections.Counter[str] = collections.Counter()

    def listen(self, timeout: float) -> bool:
        """Takes in what was reported until now; False once the process is gone."""
        if not select.select([self._pipe], [], [], timeout)[0]:
            return True
        received = os.read(self._pipe, 2**16)
        *lines, self._rest = (self._rest + received).split(b"\n")
        for line in lines:
            sign, phase = line[:1].decode(), line[1:].decode()
            self.active[phase] += 1 if sign == "+" else -1
            self.seen[phase] += sign == "+"
        return bool(received)

    @property
    def phase(self) -> str:
        return next((p for p in PHASES if self.active[p] > 0), "end")

    def finish(self) -> int:
        while self.listen(timeout=60):
            pass
        os.close(self._pipe)
        code = self.process.wait()
        self.log.close()
        return code


def kill(life: Life, target: str, number: int, rng: np.random.Generator) -> dict | None:
    """Sends a signal during the target phase, or as the run is about to end.

    Returns:
      What happened; None if it ended before.
    """
    times, latest = PHASES[target]
    occurrence = rng.integers(1, times + 1)
    while life.seen[target] < occurrence and not life.seen["writing results"]:
        if not life.listen(timeout=60):
            return None
    time.sleep(rng.uniform(0, latest))
    while select.select([life._pipe], [], [], 0)[0]:
        if not life.listen(timeout=0):
            return None
    phase, begin = life.phase, time.perf_counter()
    with contextlib.suppress(ProcessLookupError):
        life.process.send_signal(number)
    code = life.finish()
    if number == signal.SIGKILL:
        phase = life.phase  # nothing is reported after death
    return {
        "aimed_at": target,
        "phase": phase,
        "signal": signal.Signals(number).name,
        "exit_code": code,
        "seconds_to_exit": time.perf_counter() - begin,
    }


def rarest(kills: list[dict], rng: np.random.Generator) -> str:
    """A phase, most likely one in which few kills fell."""
    odds = np.array([1 + sum(k["phase"] == p for k in kills) for p in PHASES]) ** -2.0
    return str(rng.choice(list(PHASES), p=odds / odds.sum()))


def artefacts(workdir: pathlib.Path) -> dict[str, object]:
    """Everything that a finished run must have in common with another."""
    from cmwjax.training.checkpoints import read

    newest = max((workdir / "checkpoints").iterdir(), key=lambda p: int(p.name))
    found: dict[str, object] = {k: v.tobytes() for k, v in read(newest).items()}
    del found["seconds"]
    for path in workdir.iterdir():
        if path.is_file() and path.name not in TELL_SECONDS:
            found[path.name] = path.read_bytes()
    found |= {name: (workdir / name).is_file() for name in TELL_SECONDS}
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        metrics = json.loads(line)
        for name in ("seconds", "checkpoint_seconds", "compile_seconds"):
            del metrics[name]
        found[f"epoch {metrics['epoch']}"] = metrics
    return found


def kill_runs(
    scratch: pathlib.Path, *, wanted: int, seed: int
) -> tuple[list, int, int]:
    """Kills until there were enough; every run is finished and compared.

    Returns:
      The kills, the number of runs, and the number of those that were lost.
    """
    rng, kills, runs, lost = np.random.default_rng(seed), [], 0, 0
    undisturbed = Life(scratch, scratch / "undisturbed", cached=True)
    if undisturbed.finish() != 0:
        raise RuntimeError((scratch / "log.txt").read_text())
    reference = artefacts(scratch / "undisturbed")
    while len(kills) < wanted:
        workdir, suffered, code = scratch / f"run_{runs}", 0, None
        runs += 1
        while code != 0:
            target = rarest(kills, rng)
            number = int(rng.choice([signal.SIGKILL, signal.SIGTERM], p=[0.6, 0.4]))
            # Compilation is to take its time when it is to be killed.
            life = Life(scratch, workdir, cached=target != "compilation")
            fate = None
            if suffered < KILLS_PER_RUN:
                fate = kill(life, target, number, rng)
            code = life.finish() if fate is None else fate["exit_code"]
            allowed = {0} if fate is None else {0, EXIT_CODE, -number}
            if code not in allowed:
                print((scratch / "log.txt").read_text())
                print(f"run {runs}: exit code {code} after {fate}")
                break
            if fate is not None and code != 0:
                suffered += 1
                kills.append(fate)
        same = code == 0 and artefacts(workdir) == reference
        lost += not same
        print(f"run {runs}: {suffered} kills, {'same' if same else 'LOST'}", flush=True)
        shutil.rmtree(workdir)
    return kills, runs, lost


### Corruption


def corruptions(rng: np.random.Generator, folder: pathlib.Path) -> list:
    """Ways to harm the files of a checkpoint folder; each may be called once."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    file = files[rng.integers(len(files))]
    content = file.read_bytes()
    place = rng.integers(len(content))

    def flip_a_bit():
        flipped = bytes([content[place] ^ 1 << rng.integers(8)])
        file.write_bytes(content[:place] + flipped + content[place + 1 :])

    def truncate():
        file.write_bytes(content[:place])

    def empty():
        file.write_bytes(b"")

    def append():
        file.write_bytes(content + rng.bytes(5))

    def overwrite():
        file.write_bytes(rng.bytes(len(content)))

    def delete_a_file():
        file.unlink()

    def delete_half_of_the_files():
        for victim in files[::2]:
            victim.unlink()

    def delete_an_inner_folder():
        shutil.rmtree(folder / str(rng.choice(["d", "ocdbt.process_0"])))

    def delete_the_folder():
        shutil.rmtree(folder)

    def put_a_folder_in_place_of_a_file():
        file.unlink()
        file.mkdir()

    def add_garbage():
        (file.parent / "garbage").write_bytes(rng.bytes(100))

    return [
        flip_a_bit,
        truncate,
        empty,
        append,
        overwrite,
        delete_a_file,
        delete_half_of_the_files,
        delete_an_inner_folder,
        delete_the_folder,
        put_a_folder_in_place_of_a_file,
        add_garbage,
    ]


def corrupt_runs(scratch: pathlib.Path, *, wanted: int, seed: int) -> dict:
    """Continues a stopped run after each corruption of its newest checkpoint."""
    import jax
    from absl import logging

    from cmwjax import train
    from cmwjax.training import checkpoints

    logging.set_verbosity(logging.ERROR)
    names = runpy.run_path(str(scratch / "config.py"))
    config, one = names["get_config"](), (jax.devices()[0],)
    config.epochs = 12
    train.run(config, scratch / "whole", devices=one)
    reference = artefacts(scratch / "whole")
    check = train.Signals.check

    def stop_at_40(self, step):
        if step == 40:  # the checkpoint of step 39 is there as well
            raise train.Interrupted

    train.Signals.check = stop_at_40
    with contextlib.suppress(train.Interrupted):
        train.run(config, scratch / "stopped", devices=one)
    train.Signals.check = check
    counts, lost = collections.Counter(), 0
    for number in range(wanted):
        rng = np.random.default_rng([seed, number])
        workdir = scratch / "corrupted"
        shutil.copytree(scratch / "stopped", workdir)
        newest = workdir / "checkpoints" / "40"
        ways = corruptions(rng, newest)
        harm = ways[rng.integers(len(ways))]
        harm()
        try:
            checkpoints.verify(newest)
            noticed = "harmless"
        except checkpoints.Damaged:
            noticed = "detected"
        train.run(config, workdir, devices=one)
        lost += artefacts(workdir) != reference
        counts[f"{harm.__name__.replace('_', ' ')}: {noticed}"] += 1
        shutil.rmtree(workdir)
    return {"corruptions": wanted, "lost": lost, "kinds": dict(sorted(counts.items()))}


def print_kills(kills: list[dict]) -> None:
    """How many fell where."""
    print(f"\n{'killed during':<20} {'SIGKILL':>8} {'SIGTERM':>8}")
    for phase in (*PHASES, "end"):
        counts = [
            sum(k["phase"] == phase and k["signal"] == name for k in kills)
            for name in ("SIGKILL", "SIGTERM")
        ]
        print(f"{phase:<20} {counts[0]:>8} {counts[1]:>8}")


def main() -> None:
    """Parses the command line, disturbs, compares, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=120)
    parser.add_argument("--corruptions", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=pathlib.Path, help="file to write")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    args, rest = parser.parse_known_args()
    if args.child is not None:
        return child(args.child, rest)
    sys.path.insert(0, str(ROOT))
    import jax

    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        (scratch / "config.py").write_text(CONFIG)
        kills, runs, lost = kill_runs(scratch, wanted=args.kills, seed=args.seed)
        corrupted = corrupt_runs(scratch, wanted=args.corruptions, seed=args.seed)
    polite = [k for k in kills if k["exit_code"] == EXIT_CODE]
    slowest = max((k["seconds_to_exit"] for k in polite), default=0.0)
    print_kills(kills)
    print(f"\n{len(kills)} kills of {runs} runs, {lost} lost")
    print(f"{len(polite)} left with code {EXIT_CODE}, within {slowest:.1f} s")
    print(f"{corrupted['corruptions']} corruptions, {corrupted['lost']} runs lost")
    for kind, count in corrupted["kinds"].items():
        print(f"  {count:>4} {kind}")
    if args.json:
        report = {
            "date": datetime.date.today().isoformat(),
            "python": platform.python_version(),
            "jax": jax.__version__,
            "minutes": (time.perf_counter() - begin) / 60,
            "runs": runs,
            "kills": len(kills),
            "lost": lost,
            "where": {
                phase: dict(
                    collections.Counter(
                        k["signal"] for k in kills if k["phase"] == phase
                    )
                )
                for phase in (*PHASES, "end")
            },
            "exit_codes": dict(collections.Counter(str(k["exit_code"]) for k in kills)),
            "slowest_exit_after_sigterm_seconds": slowest,
            "corrupted": corrupted,
        }
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    if lost or corrupted["lost"]:
        sys.exit("runs were lost")


if __name__ == "__main__":
    main()
