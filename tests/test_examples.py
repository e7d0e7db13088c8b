"""Every example, run as its reader would: what it prints shows that weights help."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
LOWER_IS_BETTER = {"regression"}
ON_DEVICES = {"pmap_devices", "shard_map_devices"}


def run(name, *arguments):
    """What `python examples/NAME.py` prints; fails where it does, and on warnings."""
    devices = {"JAX_NUM_CPU_DEVICES": "4"} if name in ON_DEVICES else {}
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / f"{name}.py", *arguments],
        env=os.environ | {"PYTHONPATH": str(EXAMPLES.parent)} | devices,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def before_and_after(line):
    """The two numbers of a closing line."""
    before, after = re.findall(r"\d+\.\d+", line)
    return float(before), float(after)


@pytest.mark.slow  # compiling takes ten seconds and more
@pytest.mark.parametrize("name", NAMES)
def test_weights_help(name):
    printed = run(name)
    closing = [line for line in printed.splitlines() if "with" in line and "%" in line]
    if name in LOWER_IS_BETTER:
        before, after = before_and_after(printed.splitlines()[-1])
        assert after < before / 2, printed
        return
    assert len(closing) == (2 if name == "two_hosts" else 1), printed
    for line in closing:
        before, after = before_and_after(line)
        assert after > before + 3, printed
    if name in ON_DEVICES:
        gap = re.search(r"4 devices, after five steps (\S+) from", printed)
        assert gap and float(gap[1]) < 1e-4, printed
    if name == "two_hosts":  # each has learned from both halves
        one, other = sorted(closing)
        assert one.replace("host 0", "host 1") == other
    if name == "adam":
        assert "refused" in printed and "eps_root" in printed


@pytest.mark.parametrize("name", NAMES)
def test_it_is_short_and_stands_alone(name):
    source = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 60
    tree = ast.parse(source)
    assert ast.get_docstring(tree)
    imported = {
        alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert "cmwjax" in imported and not imported & set(NAMES)


def test_the_table_has_every_example_and_its_lines():
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    rows = dict(
        re.findall(r"^\| \[(\w+)\.py\]\(\1\.py\) \|.*?\| (\d+) \|", table, re.M)
    )
    lines = {
        name: str(len((EXAMPLES / f"{name}.py").read_text().splitlines()))
        for name in NAMES
    }
    assert rows == lines
