"""What `python run.py --help` and docs/configuration.md say of a configuration.

    python -m cmwjax.config_help > docs/configuration.md

writes the latter anew, from a clone. The meaning of a field is the comment on it in
`config.py`; of an option of a method it is what the method's docstring says.
"""

import ast
import difflib
import importlib
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from cmwjax import config as configuration
from cmwjax.config import base_config
from cmwjax.config_check import CHOICES, RENAMED
from cmwjax.methods.catalogue import LOSSES, METHODS, method_of

FREE = (
    "model.options",
    "compare.tuned",
)  # groups whose fields files in configs/ choose


class Field(NamedTuple):
    """A field of a configuration.

    Attributes:
      name: with those of its groups, as `optim.schedule.name`.
      default: its value in `base_config`.
      meaning: a phrase; of a field that is a choice it ends in what there is to choose.
    """

    name: str
    default: Any
    meaning: str


class Configuration(NamedTuple):
    """A file of `configs/`.

    Attributes:
      path: from the clone.
      text: its docstring.
      arguments: name -> default of what may follow its colon.
    """

    path: str
    text: str
    arguments: dict[str, Any]


def fields() -> list[Field]:
    """Every field of `base_config`, by name."""
    meanings = comments(inspect.getsource(configuration)) | option_meanings()
    found = []
    for name, default in flatten(base_config()).items():
        meaning = meanings[name].rstrip(".")
        if name in CHOICES:
            meaning += f" (one of {', '.join(CHOICES[name])})"
        found.append(Field(name, default, meaning))
    return found


def flatten(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Field by its whole name -> value; groups without a field of their own are one."""
    found = {}
    for name, value in config.items(preserve_field_references=False):
        if isinstance(value, ConfigDict) and len(value):
            found |= flatten(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def comments(source: str) -> dict[str, str]:
    """Field by its whole name -> the comment right above it and that beside it.

    Args:
      source: a module with `base_config`, which assigns to `config.GROUP.FIELD` and
        takes some groups from other functions of the module.
    """
    beside, above = {}, {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            alone = not token.line[: token.start[1]].strip()
            (above if alone else beside)[token.start[0]] = token.string.lstrip("# ")
    functions = {
        node.name: node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
    }
    found = {}

    def visit(function: ast.FunctionDef, prefix: str) -> None:
        for node in function.body:
            if not isinstance(node, ast.Assign):
                continue
            _, _, name = ast.unparse(node.targets[0]).partition(".")
            if not name:  # the group itself
                continue
            value = node.value
            if isinstance(value, ast.Call) and ast.unparse(value.func) in functions:
                visit(functions[ast.unparse(value.func)], f"{prefix}{name}.")
                continue
            words, line = [], node.lineno - 1
            while line in above:
                words.insert(0, above[line])
                line -= 1
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            words += [beside[line] for line in lines if line in beside]
            if words:
                found[prefix + name] = " ".join(words)

    visit(functions["base_config"], "")
    return found


def option_meanings() -> dict[str, str]:
    """`baseline.METHOD.OPTION` -> what the docstring of the method says of it."""
    found = {}
    for name, options in base_config().baseline.items():
        entry = (METHODS | LOSSES)[name]
        text = inspect.getdoc(entry.build) or ""
        for option in options:
            says = re.search(rf"^  {option}: (.*(?:\n    .*)*)", text, re.MULTILINE)
            if says:
                meaning = " ".join(says[1].split())
                found[f"baseline.{name}.{option}"] = f"{entry.title}: {meaning}"
    return found


def configurations(folder: Path) -> list[Configuration]:
    """The files of `configs/`, each with what may follow its colon.

    Args:
      folder: `configs/` of a clone, which can be imported from.
    """
    found = []
    for path in sorted(folder.glob("*.py")):
        module = importlib.import_module(f"configs.{path.stem}")
        if not hasattr(module, "get_config"):  # what others share
            continue
        try:
            module.get_config("?")  # an argument that no file has
        except ValueError as error:
            arguments = getattr(error, "arguments", {})
        else:
            arguments = {}
        text = inspect.getdoc(module) or ""
        found.append(Configuration(f"configs/{path.name}", text, arguments))
    return found


def help_text(folder: Path) -> str:
    """Configurations and fields for a terminal, after what says how to run them."""
    lines = ["Configurations, and what may follow the colon (with its default):", ""]
    for each in configurations(folder):
        lines.append(f"  {each.path}: {each.text.splitlines()[0]}")
        lines += _wrapped(_arguments(each), 6)
    lines += [
        "",
        "Fields, as --config.FIELD=VALUE (with the default of base_config()):",
    ]
    lines.append("")
    for field in fields():
        lines.append(f"  {field.name} = {_plain(field.default)}")
        lines += _wrapped(field.meaning, 6)
    return "\n".join(lines)


def markdown(folder: Path) -> str:
    """The same as a page, with all that files say of themselves."""
    lines = [
        "# Configurations and their fields",
        "",
        "Made by `python -m cmwjax.config_help > docs/configuration.md` of the",
        "comments in [cmwjax/config.py](../cmwjax/config.py) and of the files in",
        "[configs/](../configs/); `python run.py --help` prints the same.",
        "",
        "## Configurations",
    ]
    for each in configurations(folder):
        lines += ["", f"### {each.path}", "", *each.text.splitlines(), ""]
        lines += textwrap.wrap(f"After the colon: {_arguments(each, '`')}.", 88)
    lines += [
        "",
        "## Fields",
        "",
        "| `--config.` | default | meaning |",
        "|---|---|---|",
    ]
    for field in fields():
        meaning = field.meaning.replace("|", "\\|").replace("*", "\\*")
        lines.append(f"| `{field.name}` | `{_plain(field.default)}` | {meaning} |")
    return "\n".join(lines) + "\n"


def check_field(name: str) -> None:
    """Refuses a field that no configuration has.

    Args:
      name: with those of its groups, or a group.

    Raises:
      ValueError: with the nearest names.
    """
    known = set()
    for field in flatten(base_config()):
        parts = field.split(".")
        known |= {".".join(parts[: i + 1]) for i in range(len(parts))}
    name = name.partition("[")[0]  # of a tuple's item
    if name in known or name.startswith(tuple(f"{group}." for group in FREE)):
        return
    renamed = RENAMED.get(name)
    if renamed:
        raise ValueError(f"config.{name} is called config.{renamed} now.")
    hint = did_you_mean(name, flatten(base_config()), "config.")
    raise ValueError(
        f"config.{name} is an unknown field{hint} `python run.py --help` lists all."
    )


def value_of(fields: Mapping[str, Any], name: str) -> Any:
    """The field `GROUP.FIELD` of nested dictionaries; None if there is none."""
    value: Any = fields
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def is_tuned(config: ConfigDict, row: str, name: str) -> bool:
    """Whether a row of a comparison has a value of its own for a field."""
    tuned = config.compare.tuned.to_dict()
    rows = (method_of(row), row)
    return any(value_of(tuned.get(each, {}), name) is not None for each in rows)


def did_you_mean(name: str, names: Iterable[str], prefix: str = "") -> str:
    """`'; did you mean ...?'` with the nearest names, or a full stop.

    A name in a group is near if all of it is, or its last part.
    """
    tails: dict[str, list[str]] = {}
    for full in sorted(names):
        tails.setdefault(full, []).append(full)
        tails.setdefault(full.rpartition(".")[2], []).append(full)
    tail = name.rpartition(".")[2]
    near = difflib.get_close_matches(name, tails, n=3, cutoff=0.7)
    near += difflib.get_close_matches(tail, tails, n=3, cutoff=0.7)
    found = list(dict.fromkeys(full for each in near for full in tails[each]))[:3]
    if not found:
        return "."
    return f"; did you mean {' or '.join(prefix + each for each in found)}?"


def _arguments(each: Configuration, mark: str = "") -> str:
    items = (f"{name}={value}" for name, value in each.arguments.items())
    return ", ".join(mark + item + mark for item in items)


def _plain(value: Any) -> str:
    return repr(value.to_dict() if isinstance(value, ConfigDict) else value)


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(
        text, 88, initial_indent=" " * indent, subsequent_indent=" " * indent
    )


if __name__ == "__main__":
    print(markdown(Path("configs")), end="")
