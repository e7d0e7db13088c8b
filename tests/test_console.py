"""What a run shows on a terminal and in a file, and what help there is."""

import fcntl
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from cmwjax import config_help, console
from cmwjax.config import base_config

ROOT = Path(__file__).parents[1]


### Help


def test_the_page_of_the_configuration_is_up_to_date():
    """`python -m cmwjax.config_help > docs/configuration.md` makes it so."""
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == config_help.markdown(ROOT / "configs")


def test_every_field_has_its_default_and_a_meaning():
    config, names = base_config(), set()
    for field in config_help.fields():
        value = config
        for part in field.name.split("."):
            value = value[part]
        assert field.default == value
        assert len(field.meaning.split()) > 1, field
        names.add(field.name)
    assert len(names) == sum(1 for _ in _leaves(config.to_dict()))


def _leaves(tree):
    for value in tree.values():
        if isinstance(value, dict) and value:
            yield from _leaves(value)
        else:
            yield value


def test_a_meaning_is_the_comment_above_and_beside():
    source = """
def base_config():
    config = ConfigDict()
    # The first line
    # and the second;
    config.one = 1  # and this "# too".

    # About nothing.

    config.group = _group()
    config.two = (
        2  # in brackets
    )
    config.silent = "# no comment"
    return config

def _group():
    group = ConfigDict()
    group.inner = ConfigDict()
    group.inner.three = 3  # deep
    return group
"""
    assert config_help.comments(source) == {
        "one": 'The first line and the second; and this "# too".',
        "two": "in brackets",
        "group.inner.three": "deep",
    }


def test_configurations_tell_what_may_follow_the_colon():
    found = {each.path: each for each in config_help.configurations(ROOT / "configs")}
    assert "configs/common.py" not in found
    assert found["configs/quickstart.py"].arguments == {
        "rate": 0.6,
        "meta": "held_out",
        "methods": "erm+mw_net+cmw_net",
        "seeds": 3,
    }
    for each in found.values():
        assert each.arguments and each.text.count("\n") > 3


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("epoch", "did you mean config.epochs?"),
        ("learning_rate", "config.optim.learning_rate or config.weighting.optimizer."),
        ("optim.shedule.name", "did you mean config.optim.schedule.name"),
        ("noise.rat", "did you mean config.noise.rate"),
        ("optim.factor", "config.optim.factor is called config.optim.schedule.factor"),
        ("quux", "config.quux is an unknown field. `python run.py --help`"),
    ],
)
def test_an_unknown_field_is_told_the_nearest(name, near):
    with pytest.raises(ValueError, match=re.escape(near)):
        config_help.check_field(name)


@pytest.mark.parametrize(
    "name", ["epochs", "optim", "compare.seeds[0]", "model.options.width"]
)
def test_fields_that_there_are_pass(name):
    config_help.check_field(name)


### The log

LOG = """
import logging, sys, warnings
from absl import flags, logging as absl_logging
from cmwjax import console

console.INTERVAL = 0.0
absl_logging.use_absl_handler()
flags.FLAGS(["run.py"])
absl_logging.set_verbosity(absl_logging.INFO)
console.set_up()
with console.Progress(4) as progress:
    progress.describe("ERM, seed 0")
    progress.reach(1)
    logging.getLogger("jax._src.xla_bridge").info("Unable to initialize backend 'tpu'")
    logging.getLogger("jax").warning("a warning of JAX")
    for _ in range(2):
        absl_logging.info("samples: %d", 7)
        absl_logging.warning("weights look odd")
    warnings.warn("a warning of Python")
    progress.reach(4)
"""
SAID = ["samples: 7", "warning: weights look odd", "warning: a warning of JAX"]


def script(**streams):
    return subprocess.Popen(
        [sys.executable, "-c", LOG],
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        **streams,
    )


def test_in_a_file_there_are_lines_and_no_bar():
    process = script(stderr=subprocess.PIPE, text=True)
    _, output = process.communicate(timeout=120)
    assert process.returncode == 0, output
    lines = output.splitlines()
    assert "\r" not in output and "backend" not in output
    assert [line for line in lines if line in SAID] == [SAID[2], SAID[0], SAID[1]]
    assert lines[0] == "ERM, seed 0: epoch 1 of 4"
    assert lines[-1] == "ERM, seed 0: epoch 4 of 4"
    assert sum("a warning of Python" in line for line in lines) == 1


def test_on_a_terminal_lines_stand_above_the_bar():
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 40, 100, 0, 0))
    process, output = script(stderr=theirs), b""
    os.close(theirs)
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # at its end, on Linux
            break
        if not part:
            break
        output += part
    os.close(ours)
    assert process.wait(timeout=120) == 0, output
    text = output.decode()
    shown = [_overwritten(line) for line in text.replace("\r\n", "\n").split("\n")]
    for line in SAID:
        assert shown.count(line) == 1, text
    assert "backend" not in text
    assert shown[-2].startswith("ERM, seed 0: 100%") and shown[-1] == ""


def _overwritten(line):
    """What is left to see of a line, parts of which begin at its start again."""
    seen = ""
    for part in line.split("\r"):
        seen = part + seen[len(part) :]
    return seen.rstrip()


def test_a_long_run_says_in_a_file_where_it_is_now_and_then(monkeypatch):
    now, said = [0.0], []
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(
        console.absl_logging, "info", lambda text, *args: said.append(text % args)
    )
    monkeypatch.setattr(console, "tqdm", lambda **_: _Hidden())
    with console.Progress(100) as progress:
        progress.describe("CMW-Net")
        for epoch in range(1, 101):
            now[0] += 1.0
            progress.reach(epoch)
    assert said == [f"CMW-Net: epoch {e} of 100" for e in (30, 60, 90)]
    assert progress.done == 100


class _Hidden:
    disable = True

    def update(self, count):
        assert count == 1

    def set_description(self, text):
        pass

    def close(self):
        pass


def test_debugging_lines_of_others_are_left_out():
    keep = console._Worthwhile().filter
    record = logging.LogRecord("absl", 20, "orbax/a.py", 1, "saved %d", (3,), None)
    assert not keep(record)
    record.pathname = "cmwjax/train.py"
    assert keep(record) and not keep(record)
