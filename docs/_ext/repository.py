"""Pages that are made of other files of the repository, and links between all of them.

`generated/` gets a copy of the pages that lie elsewhere, of the notebooks in colabs/,
and a page for each program in examples/. Links in any page are as the repository has
them, so that they lead somewhere there, too: those to a file that is a page of the site
lead to that page, others to `repository_url`, or nowhere where it is not set.
"""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
GENERATED = DOCS / "generated"
PAGES = {  # file of the repository -> page below generated/
    "results/README.md": "results.md",
    "results/cells.md": "results_cells.md",
    "results/panel.md": "results_panel.md",
    "results/h100.md": "results_h100.md",
    "results/wrong_labels.md": "results_wrong_labels.md",
    "results/selective.md": "results_selective.md",
    "results/semi.md": "results_semi.md",
    "results/partial.md": "results_partial.md",
    "results/zoo.md": "results_zoo.md",
    "benchmarks/README.md": "benchmarks.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
PROGRAMS = """# Programs and notebooks

Short programs, each of which runs as it stands, and notebooks with their outputs. Most
follow the same four lines:

```python
init, step = cmwjax.reweight(loss_fn, tx, labels=train_labels)
state, step = init(params, model_state), jax.jit(step)
for batch, trusted in batches:
    state, metrics = step(state, batch, trusted)
```

"""
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def contents() -> Iterator[tuple[Path, str]]:
    """Every generated page: its path, and what is in it."""
    for name, page in PAGES.items():
        yield GENERATED / page, (ROOT / name).read_text(encoding="utf-8")
    notebooks = sorted((ROOT / "colabs").glob("*.ipynb"))
    for notebook in notebooks:
        text = notebook.read_text(encoding="utf-8")
        yield GENERATED / "colabs" / notebook.name, text
    programs = sorted((ROOT / "examples").glob("[!_]*.py"))
    for program in programs:
        yield GENERATED / "examples" / f"{program.stem}.md", example(program)
    listed = [f"examples/{program.stem}" for program in programs]
    listed += [f"colabs/{notebook.stem}" for notebook in notebooks]
    pages = "\n".join(listed)
    contents = f"```{{toctree}}\n:maxdepth: 1\n\n{pages}\n```\n" if listed else ""
    yield GENERATED / "programs.md", PROGRAMS + contents


def example(program: Path) -> str:
    """A page of a program: what its docstring says, and the rest."""
    source = program.read_text(encoding="utf-8")
    says = ast.get_docstring(ast.parse(source)) or program.stem
    title, _, rest = says.partition("\n")
    code = re.sub(r'\A\s*r?"""(.|\n)*?"""\s*', "", source)
    file = program.relative_to(ROOT)
    return (
        f"# {title.strip().rstrip('.')}\n\n{rest.strip()}\n\n`{file}`, which runs as "
        f"it stands:\n\n```python\n{code.strip()}\n```\n"
    )


def write(app: Sphinx) -> None:
    """Makes `generated/`; what has not changed is left alone, what is gone goes."""
    wanted = dict(contents())
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in GENERATED.rglob("*.*"):
        if path not in wanted:
            path.unlink()


def source_of(page: Path) -> Path:
    """The file of the repository that a page was copied of, or the page itself."""
    for name, copy in PAGES.items():
        if page == GENERATED / copy:
            return ROOT / name
    return page


def page_of(file: Path) -> Path | None:
    """The page of the site that a file of the repository is, if it is one."""
    name = file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else ""
    if name in PAGES:
        return GENERATED / PAGES[name]
    if file == ROOT / "README.md":
        return DOCS / "index.md"
    if file.parent == ROOT / "examples" and file.suffix == ".py":
        return GENERATED / "examples" / f"{file.stem}.md"
    if file.parent == ROOT / "colabs":
        return GENERATED / "colabs" / file.name
    return file if file.suffix == ".md" and file.is_relative_to(DOCS) else None


def redirect(app: Sphinx, docname: str, source: list[str]) -> None:
    """Links of a page, for where it lies in the site."""
    page = Path(app.env.doc2path(docname))
    if page.suffix != ".md":
        return
    origin = source_of(page)

    def link(match: re.Match) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if re.match(r"[a-z]+:", target):
            return match[0]
        file = (origin.parent / target).resolve()
        if not file.exists() and not (origin.parent / f"{target}.md").exists():
            raise ValueError(f"{origin.relative_to(ROOT)}: no file for link {target!r}")
        found = page_of(file)
        if found is not None:
            return f"[{text}]({os.path.relpath(found, page.parent)}{anchor})"
        if app.config.repository_url and file.is_relative_to(ROOT):
            url = f"{app.config.repository_url}/{file.relative_to(ROOT).as_posix()}"
            return f"[{text}]({url}{anchor})"
        return text if text.startswith("`") else f"`{text}`"

    source[0] = LINK.sub(link, source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("repository_url", "", "env", str)
    app.connect("builder-inited", write)
    app.connect("source-read", redirect)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
