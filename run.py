"""Runs a configuration: `python run.py --config=configs/NAME.py --workdir=FOLDER`.

Without arguments, the quickstart. `--config=FILE:arguments` chooses an experiment,
`--config.FIELD=VALUE` changes one field. The same command again continues. `--help`
lists configurations, their arguments and all fields. `--workdir` is the folder for the
results, by default runs/NAME_OF_CONFIG; `--tensorboard` writes the numbers of
metrics.jsonl to the folder `tensorboard` of every run, too. `--mode=report` trains
nothing and writes report.html anew, from the files of the folder.

Several processes, on one host or many, train one model: the same command in each, with
--coordinator=HOST:PORT, where process 0 listens, --num_processes=N and --process_id=K;
or with --coordinator=auto on TPU slices and under SLURM, Open MPI or Kubernetes. All of
them need to see the data and the workdir.

Exit codes: 0, finished; 1, an error, which is printed; 75, stopped by SIGTERM or SIGINT
within 30 seconds and saved: run the same command again. A second SIGINT stops at once.

What was compiled is kept for the next run, 1 GiB of it, in the folder `compiled` of
$CMWJAX_CACHE_DIR (by default $XDG_CACHE_HOME/cmwjax, or ~/.cache/cmwjax), or in
$JAX_COMPILATION_CACHE_DIR; with JAX_ENABLE_COMPILATION_CACHE=false nothing is.
"""

import difflib
import errno
import re
import sys
import traceback
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from cmwjax import config_help, console
from cmwjax.config import base_config

# ml_collections loads configuration files in a way that Python 3.12 deprecates.
warnings.filterwarnings("ignore", "the load_module", DeprecationWarning)
# Even under -W error, for what was kept is compiled anew if it cannot be read.
warnings.filterwarnings("default", "Error (reading|writing) persistent compilation")

CONFIGS = Path(__file__).parent / "configs"
# What flags and ml_collections raise at a configuration that is wrong.
ERRORS = (flags.Error, ValueError, TypeError, LookupError, AttributeError, OSError)
IN_FILES = tuple(f"--config.{group}." for group in config_help.FREE)
KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


@contextmanager
def one_line() -> Generator[None, None, None]:
    """Ends the program with one line for an error in the configuration or a flag."""
    try:
        yield
    except flags.IllegalFlagValueError as error:
        sys.exit(f"error: {of_value(error)}")
    except ERRORS as error:
        chosen = [word for word in sys.argv if word.startswith(IN_FILES)]
        if chosen and isinstance(error, LookupError | AttributeError):
            sys.exit(
                f"error: {chosen[0]}: the configuration file has no such entry, and "
                "these are made there: add it to a copy of the file."
            )
        sys.exit(f"error: {innermost(error)}")


def innermost(error: BaseException) -> str:
    """What went wrong, out of what ml_collections makes of it."""
    # It tells of an error in a configuration file by a traceback.
    while "Traceback" in str(error) and error.__context__ is not None:
        error = error.__context__
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    text = error.args[0] if isinstance(error, KeyError) else error
    return " ".join(str(text).split())


def of_value(error: flags.IllegalFlagValueError) -> str:
    """What is wrong with the value of a field, in the words of the configuration."""
    text = innermost(error)
    found = re.match(r"flag --config\.([^=]+)=(.*?): ", text)
    if found is None:
        return text
    field, value = found.groups()
    default = config_help.value_of(base_config().to_dict(), field)
    if default is None:  # one of those that only some configurations have
        return text
    if isinstance(default, dict):
        return f"config.{field}={value} is a group; its fields are {sorted(default)}."
    kind = KINDS.get(type(default), type(default).__name__)
    return f"config.{field}={value} must be {kind}, as its default {default!r}."


def check_words(words: list[str]) -> None:
    """Refuses configuration files and fields that do not exist, with the nearest names.

    Args:
      words: of the command line.

    Raises:
      ValueError: naming the word.
    """
    for word, following in zip(words, [*words, ""][1:], strict=True):
        field = re.match(r"--?(?:no)?config\.([^=]+)", word)
        if field:
            config_help.check_field(field[1])
        file = re.match(r"--?config(?:=(.*)|$)", word)
        if file:
            name = file[1] if file[1] is not None else following
            check_file(name.partition(":")[0])


def check_file(name: str) -> None:
    """Raises `ValueError` if there is no such configuration file."""
    if Path(name).is_file():
        return
    known = {path.stem: f"configs/{path.name}" for path in CONFIGS.glob("*.py")}
    del known["common"]  # what they share
    near = difflib.get_close_matches(Path(name).stem, known, n=1)
    others = " or ".join(known[stem] for stem in near) or ", ".join(known.values())
    raise ValueError(f"--config={name}: there is no such file; did you mean {others}?")


with one_line():  # fields on the command line are looked up when this is defined
    check_words(sys.argv[1:])
    _CONFIG = config_flags.DEFINE_config_file(
        "config", str(CONFIGS / "quickstart.py"), "configuration file"
    )
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder for the results; by default runs/NAME_OF_CONFIG"
)
_TENSORBOARD = flags.DEFINE_bool(
    "tensorboard", False, "whether to write the metrics for TensorBoard, too"
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0, of several; or auto, in a cluster"
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "how many processes there are, with --coordinator=HOST:PORT"
)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "which of them this is, from 0")
_MODE = flags.DEFINE_enum(
    "mode", "run", ["run", "report"], "report: write report.html anew, and no more"
)


def parse(arguments: list[str]) -> list[str]:
    """Parses flags, and with them the configuration file and what follows its colon."""
    if {"-h", "-help", "--help"} & set(arguments[1:]):
        print(f"{__doc__}\n{config_help.help_text(CONFIGS)}")
        sys.exit()
    console.set_up()
    with one_line():
        words = flags.FLAGS(arguments)
        _CONFIG.value.compare  # noqa: B018, a file that cannot be read is told here
        for word in words[1:]:
            raise ValueError(
                f"nobody reads {word!r}: a configuration is chosen by --config=FILE, a "
                "field by --config.FIELD=VALUE, the folder by --workdir=FOLDER."
            )
        given = config_flags.get_override_values(flags.FLAGS["config"])
        check_read(_CONFIG.value, given)
    return words


def check_read(config: ConfigDict, given: dict) -> None:
    """Refuses fields of a single run where several are compared.

    Args:
      config: what is run.
      given: field of it -> value, from the command line.

    Raises:
      ValueError: if a field is read by none of the runs.
    """
    rows = config.compare.methods
    if not rows:
        return
    for field, plural in (("method", "methods"), ("seed", "seeds")):
        if field in given:
            raise ValueError(
                f"config.{field}={given[field]!r} is not read where methods are "
                f"compared: set --config.compare.{plural}={given[field]}, or for a "
                "single run --config.compare.methods='()' "
                "--config.compare.seeds='()'."
            )
    for field in given:
        if field.startswith("compare."):
            continue
        tuned = [row for row in rows if config_help.is_tuned(config, row, field)]
        if len(tuned) == len(rows):
            raise ValueError(
                f"config.{field} is not read: config.compare.tuned has a value of its "
                f"own for each of {rows}. Set --config.compare.tuned='{{}}' as well, "
                "or change it in a copy of the configuration file."
            )
        if tuned:
            logging.warning(
                "config.%s is not read by %s, for which config.compare.tuned has a "
                "value of their own.",
                field,
                ", ".join(tuned),
            )


def main(_) -> None:
    # After the flags are parsed: a mistyped flag answers at once.
    import jax

    from cmwjax import compare, compilation, hosts, train
    from cmwjax.files import expanded
    from cmwjax.methods.catalogue import title
    from cmwjax.report import event_files
    from cmwjax.report.page import write_reports
    from cmwjax.report.result import sentence
    from cmwjax.stopping import EXIT_CODE, Interrupted, Signals
    from cmwjax.training.health import Diverged
    from cmwjax.training.workdir import is_finished

    config, tensorboard = _CONFIG.value, _TENSORBOARD.value
    workdir = _WORKDIR.value
    if workdir is None:
        name = config_flags.get_config_filename(flags.FLAGS["config"])
        workdir = Path("runs") / Path(name.partition(":")[0]).stem
    workdir = expanded(workdir)
    try:
        if _MODE.value == "report":
            *_, path = write_reports(workdir)
            print(f"The report is {path}")
            return
        if tensorboard:
            event_files.check_installed()
        hosts.join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
        if jax.process_index() > 0:  # the first one speaks for all
            console.be_quiet()
        compilation.keep_programs()
        with Signals() as signals, signals.at_once():
            if config.compare.methods:
                table = compare.run(config, workdir, tensorboard=tensorboard)
                print(f"\n{table}\n")
            else:
                finished = is_finished(workdir)
                with (
                    console.Progress(config.epochs) as progress,
                    compare.hooks(progress, workdir, tensorboard) as on_epoch,
                ):
                    progress.describe(f"{title(config.method)}, seed {config.seed}")
                    result = train.run(config, workdir, on_epoch=on_epoch)
                print(sentence(result))
                if finished:
                    print("It was finished before; there was nothing to do.")
    except Interrupted as stop:
        print(f"{workdir}: {stop}")
        sys.exit(EXIT_CODE)
    except (ValueError, OSError, Diverged) as error:
        logging.debug("where it was found", exc_info=True)  # with --verbosity=1
        if getattr(error, "errno", None) == errno.ENOSPC:
            hosts.leave(
                f"error: no space is left for {workdir}: free some, and the same "
                f"command goes on. ({error})"
            )
        hosts.leave(f"error: {error}")
    except Exception as error:
        if not hosts.are_several():
            raise
        if not isinstance(error, jax.errors.JaxRuntimeError):
            traceback.print_exc()  # a fault of ours, for which the others must not wait
        hosts.leave(
            f"error: another process is gone, or this one failed. {error}\n"
            "What was saved is whole: the same command in all of them goes on."
        )
    print(f"Results are in {workdir}/")


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
