"""The site: every public name has a docstring and a place, and links lead somewhere."""

import importlib
import inspect
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

import cmwjax

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    page for page in DOCS.rglob("*.md") if "generated" not in page.parts
) + sorted((ROOT / name) for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))
PAGES += sorted([*ROOT.glob("results/*.md"), ROOT / "benchmarks" / "README.md"])
DIRECTIVE = re.compile(r"^\.\. auto(function|class|module):: ([\w.]+)", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def documented():
    """What pages of the API have a directive for: kind and full name of each."""
    for page in sorted((DOCS / "api").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for kind, name in DIRECTIVE.findall(text):
            yield kind, name if name.startswith("cmwjax.") else f"cmwjax.{name}"


def found(name):
    """The object of a dotted name."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, last = name.rpartition(".")
        return getattr(importlib.import_module(module), last)


def has_text(thing):
    """Whether it has a docstring of its own, not the signature that Python makes up."""
    says = inspect.getdoc(thing) or ""
    made_up = says.startswith(f"{getattr(thing, '__name__', '')}(")
    return len(says.split()) > 2 and not made_up


def without_docstring(thing):
    """Public functions, classes and their methods that have none."""
    if not has_text(thing):
        yield thing.__name__
    if inspect.isclass(thing):
        for name, member in vars(thing).items():
            own = inspect.isfunction(member) or isinstance(member, property)
            if own and not name.startswith("_") and not has_text(member):
                yield f"{thing.__name__}.{name}"


def test_every_public_name_is_on_a_page_of_the_api():
    on_pages = {name for _, name in documented()}
    missing = {f"cmwjax.{name}" for name in cmwjax.__all__} - on_pages
    assert not missing, f"no directive in docs/api/ for {sorted(missing)}"


def test_every_public_name_has_a_docstring():
    names = {name for _, name in documented()}
    names |= {f"cmwjax.{name}" for name in cmwjax.__all__}
    bare = []
    for name in sorted(names):
        thing = found(name)
        if inspect.ismodule(thing):
            own = [
                member
                for key, member in vars(thing).items()
                if not key.startswith("_")
                and (inspect.isfunction(member) or inspect.isclass(member))
                and member.__module__ == name
            ]
            bare += [f"{name}.{bad}" for each in own for bad in without_docstring(each)]
        else:
            bare += list(without_docstring(thing))
    assert bare == []


def test_a_missing_docstring_is_noticed():
    class Bare:
        """It says something itself."""

        def method(self):
            pass

    assert list(without_docstring(Bare)) == ["Bare.method"]
    assert list(without_docstring(lambda: None)) == ["<lambda>"]


def anchors(page):
    """What may follow `#` in a link to a page, as GitHub and the site make it."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        yield re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def dead_links(page):
    """Links of a page to files or headings that do not exist."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue  # of the network
        file, _, anchor = unquote(target).partition("#")
        where = (page.parent / file).resolve() if file else page
        if "generated" in where.parts:
            continue  # made when the site is; Sphinx looks
        wants = anchor if where.suffix == ".md" else ""
        if not where.exists() or wants and wants not in anchors(where):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_link_is_dead(page):
    assert list(dead_links(page)) == []


def test_a_dead_link_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A heading\n[a](#a-heading) [b](#b) [c](c.md) [d](https://d)\n")
    assert list(dead_links(page)) == ["#b", "c.md"]


@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if p.is_relative_to(DOCS)],
    ids=lambda p: str(p.relative_to(DOCS)),
)
def test_no_page_is_without_code_table_or_picture(page):
    text = page.read_text(encoding="utf-8")
    assert re.search(r"^(```|    \S|\|)|!\[|\{figure\}", text, re.MULTILINE)


def test_every_file_of_a_run_has_a_line():
    from cmwjax import files

    page = (DOCS / "files.md").read_text(encoding="utf-8")
    names = [
        value
        for key, value in vars(files).items()
        if key.isupper() and isinstance(value, str) and not key.startswith("_")
    ]
    assert len(names) > 15
    assert [name for name in names if f"`{name}" not in page] == []


def test_the_citation_has_the_version_of_the_package():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", text, re.MULTILINE)[1] == cmwjax.__version__
