"""The folders: imports point down only, and a room says what lives in it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cmwjax"
# Whoever stands on a floor may import from the floors below, and from its own room.
FLOORS = (
    {"console", "files", "hosts", "pickled", "randomness", "stopping"},
    {"compilation", "core"},
    {"models"},
    {"data", "methods", "tasks"},
    {"bias", "classifier", "config", "defaults"},
    {"config_check", "gathering", "report"},
    {"config_help"},
    {"training"},
    {"train"},
    {"compare", "fitting"},
    {"estimator"},
    {"label_errors"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)
FILES += sorted(path for path in PACKAGE.glob("[!_]*.py"))


def room(path):
    """The folder, or the file where there is none."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(source):
    """Rooms of cmwjax that a file takes something from, wherever it says so."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [node.module]
            if node.module == "cmwjax":
                names = [f"cmwjax.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("cmwjax."):
                yield name.split(".")[1]


def goes_up(own, source):
    """Imports of a file in room `own` that do not point down."""
    others = [other for other in imported_rooms(source) if other != "__version__"]
    return [other for other in others if other != own and FLOOR[other] >= FLOOR[own]]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    assert goes_up(room(path), path.read_text(encoding="utf-8")) == []


def test_an_import_that_points_up_is_noticed():
    source = "def f():\n    from cmwjax.training import steps\n"
    assert goes_up("bias", source) == ["training"]
    assert goes_up("methods", "import cmwjax.data.view") == ["data"]
    assert goes_up("training", source + "from cmwjax import bias\n") == []


def test_every_folder_says_what_lives_there():
    folders = [p for p in PACKAGE.iterdir() if p.is_dir() and p.name[0] != "_"]
    assert {p.name for p in folders} <= set(FLOOR)
    for folder in folders:
        body = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
        says = ast.get_docstring(body)
        assert says and (folder.name == "models" or "Not here" in says), folder
