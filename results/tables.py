"""README.md and cells.md beside this file, from the summaries in cells/."""

import json
from pathlib import Path

import numpy as np

from cmwjax import compare
from cmwjax.methods.catalogue import METHODS, method_of, title
from results.biases import SECTIONS, in_words

HERE = Path(__file__).parent


def write_tables():
    """Writes one matrix per section into README.md, and every cell into cells.md."""
    overview = [(HERE / "introduction.md").read_text()]
    details = [
        "# Every cell\n\nWhat README.md shows of each, and the rest; it says what the "
        "columns mean.\n"
    ]
    for section, cells in SECTIONS.items():
        found = [(c, read(name)) for name, c in cells.items() if kept(name).exists()]
        if found:
            overview += [f"## {section}\n", matrix(found)]
            details += [f"## {section}\n", *(table(*pair) for pair in found)]
    (HERE / "README.md").write_text("\n".join(overview))
    (HERE / "cells.md").write_text("\n".join(details))


def kept(name):
    """Where the summary of a cell is kept."""
    return HERE / "cells" / f"{name}.json"


def read(name):
    return json.loads(kept(name).read_text())


def matrix(found):
    """Markdown of pairs (cell, summary): methods by cells, last epoch, best in bold.

    The paper's accuracy, where it has one, follows in parentheses. A method that
    diverged says so, however many of its seeds did. A column of another configuration
    than the cell has now is marked.
    """
    columns = [texts_of(*pair) for pair in found]
    titles = [cell.title + " †" * is_older(cell, summary) for cell, summary in found]
    lines = [
        f"| method | {' | '.join(titles)} |",
        "|---|" + "---|" * len(found),
    ]
    rows = {row: None for column in columns for row in column}
    for row in sorted(rows, key=lambda row: list(METHODS).index(method_of(row))):
        texts = [column.get(row, "") for column in columns]
        lines.append(f"| {title(row)} | {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def is_older(cell, summary):
    """Whether the runs were made with another configuration than the cell has now."""
    return summary["config"] != in_words(cell.config)


def texts_of(cell, summary):
    """What a matrix says of each method of a cell."""
    means = {
        method: np.round(np.mean(values["last_epoch"]), 1)
        for method, values in summary["methods"].items()
        if not compare.diverged(values)
    }
    texts = {}
    for method, values in summary["methods"].items():
        text = compare.last_epoch(values)
        if method in means and means[method] == max(means.values()):
            text = f"**{text}**"
        if method in cell.paper:
            text += f" ({cell.paper[method]:.1f})"
        texts[method] = text
    return texts


def table(cell, summary):
    """Markdown of one cell."""
    lines = [
        f"### {cell.title}\n",
        f"`--config=configs/{summary['config']}`, seeds "
        f"{', '.join(map(str, summary['seeds']))}; {summary['hardware']}, JAX "
        f"{summary['jax']}, {summary['date']}\n",
        "| method | last epoch | selected | AUROC of wrong labels "
        "| seconds a run | paper |",
        "|---|---|---|---|---|---|",
    ]
    for method, values in summary["methods"].items():
        paper = cell.paper.get(method)
        cells = [
            title(method),
            compare.last_epoch(values),
            compare.mean_and_std(values["selected_epoch"], 1),
            compare.mean_and_std(values["wrong_label_auroc"], 3),
            compare.mean_and_std(values["seconds"], 0),
            "" if paper is None else f"{paper:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
