"""Runs a configuration: `python run.py --config=configs/NAME.py --workdir=FOLDER`.

Without arguments, the quickstart. `--config=FILE:arguments` chooses an experiment,
`--config.field=value` changes one field. The same command again continues.
"""

from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

HERE = Path(__file__).parent
_CONFIG = config_flags.DEFINE_config_file(
    "config", str(HERE / "configs" / "quickstart.py"), "configuration file"
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder for the results; by default runs/NAME_OF_CONFIG"
)


def main(_) -> None:
    # After the flags are parsed: --help and a mistyped flag answer at once.
    from cmwjax import compare, train

    config = _CONFIG.value
    workdir = _WORKDIR.value
    if workdir is None:
        name = config_flags.get_config_filename(flags.FLAGS["config"])
        workdir = Path("runs") / Path(name.partition(":")[0]).stem
    try:
        if config.compare.methods:
            print(f"\n{compare.run(config, workdir)}\n")
        else:
            print(train.run(config, workdir))
    except (ValueError, FileNotFoundError) as error:
        raise app.UsageError(str(error)) from error
    print(f"Results are in {workdir}/")


if __name__ == "__main__":
    app.run(main)
