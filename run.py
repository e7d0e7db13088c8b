"""Runs a configuration: `python run.py --config=configs/NAME.py --workdir=FOLDER`.

Without arguments, the quickstart. `--config=FILE:arguments` chooses an experiment,
`--config.field=value` changes one field. The same command again continues.

Exit codes: 0, finished; 1, an error, which is printed; 75, stopped by SIGTERM or SIGINT
within 30 seconds and saved: run the same command again. A second SIGINT stops at once.
"""

import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

# ml_collections loads configuration files in a way that Python 3.12 deprecates.
warnings.filterwarnings("ignore", "the load_module", DeprecationWarning)

# Orbax reports every file that it touches; cmwjax says what matters of it.
logging.get_absl_logger().addFilter(lambda record: "orbax" not in record.pathname)

HERE = Path(__file__).parent


@contextmanager
def one_line() -> Generator[None, None, None]:
    """Ends the program with one line for an error in the configuration or a flag."""
    try:
        yield
    except (flags.Error, ValueError, TypeError, AttributeError, OSError) as error:
        cause: BaseException = error
        # ml_collections tells of an error in a configuration file by a traceback.
        while "Traceback" in str(cause) and cause.__context__ is not None:
            cause = cause.__context__
        while cause.args and isinstance(cause.args[0], BaseException):
            cause = cause.args[0]
        text = cause.args[0] if isinstance(cause, KeyError) else cause
        sys.exit(f"error: {' '.join(str(text).split())}")


with one_line():  # fields on the command line are looked up when this is defined
    _CONFIG = config_flags.DEFINE_config_file(
        "config", str(HERE / "configs" / "quickstart.py"), "configuration file"
    )
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder for the results; by default runs/NAME_OF_CONFIG"
)


def parse(arguments: list[str]) -> list[str]:
    """Parses flags, and with them the configuration file and what follows its colon."""
    with one_line():
        others = flags.FLAGS(arguments)
        _CONFIG.value.compare  # noqa: B018, a file that cannot be read is told here
    return others


def main(_) -> None:
    # After the flags are parsed: --help and a mistyped flag answer at once.
    from cmwjax import compare, train
    from cmwjax.stopping import EXIT_CODE, Interrupted, Signals
    from cmwjax.training.health import Diverged
    from cmwjax.training.workdir import is_finished

    config = _CONFIG.value
    workdir = _WORKDIR.value
    if workdir is None:
        name = config_flags.get_config_filename(flags.FLAGS["config"])
        workdir = Path("runs") / Path(name.partition(":")[0]).stem
    if config.compare.methods and not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # the bar and the table say it all
    try:
        with Signals() as signals, signals.at_once():
            if config.compare.methods:
                print(f"\n{compare.run(config, workdir)}\n")
            else:
                finished = is_finished(Path(workdir))
                print(train.run(config, workdir))
                if finished:
                    print("It was finished before; there was nothing to do.")
    except Interrupted as stop:
        print(f"{workdir}: {stop}")
        sys.exit(EXIT_CODE)
    except (ValueError, OSError, Diverged) as error:
        logging.debug("where it was found", exc_info=True)  # with --verbosity=1
        sys.exit(f"error: {error}")
    print(f"Results are in {workdir}/")


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
