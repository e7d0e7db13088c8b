"""Who abstains best: the area under the risk-coverage curve, on right and wrong labels.

    CMWJAX_DATA_DIR=FOLDER python benchmarks/selective.py --runs=FOLDER \
        --files embeddings=FILE.npz --page=results/selective.md
    ... --cells digits digits-sym-0.4

Runs `configs/selective.py` in every cell, three seeds of each method, into a folder of
its own; what is finished stays. Then writes the tables of the page anew, below its last
comment, from the folders that there are.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from absl import logging

from benchmarks.panel_tables import markdown
from cmwjax import compare
from cmwjax.methods.catalogue import title
from cmwjax.report.risk_coverage import COVERAGES, risks_by_method
from cmwjax.report.summary import mean_and_std
from results.biases import read_config

DATA = {
    "digits": "digits",
    "fashion": "fashion_mnist",
    "embeddings": "{embeddings}",
    "cifar10": "cifar10",
}
NOISE = {"": "none", "-sym-0.4": "sym,rate=0.4", "-asym-0.6": "asym,rate=0.6"}
CELLS = {
    f"{name}{suffix}": f"selective.py:data={data},noise={noise}"
    for name, data in DATA.items()
    for suffix, noise in NOISE.items()
}
END = "<!-- What follows is written by benchmarks/selective.py. -->\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line; runs what is missing, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--files", nargs="*", default=[], help="NAME=PATH of data")
    parser.add_argument("--cells", nargs="*", default=list(CELLS))
    parser.add_argument("--page", type=Path, help="whose tables are written")
    options = parser.parse_args(argv)
    logging.set_verbosity(logging.ERROR)
    files = dict(text.split("=", 1) for text in options.files)
    for cell in options.cells:
        config = read_config(CELLS[cell].format(**files))
        print(cell, compare.run(config, options.runs / cell), sep="\n", flush=True)
    if options.page:
        text = options.page.read_text() if options.page.exists() else END
        head = text.partition(END)[0]
        tables = [
            f"\n## {cell}\n\n{table(options.runs / cell)}"
            for cell in CELLS
            if (options.runs / cell / "summary.json").is_file()
        ]
        options.page.write_text(head + END + "\n".join(tables))


def table(folder: Path) -> str:
    """AURC, E-AURC and errors at some coverages, in percent, mean ± std over seeds."""
    headings = ["method", "AURC", "E-AURC", *(f"error at {c} %" for c in COVERAGES)]
    rows = [
        [title(method)]
        + [
            mean_and_std(list(values), 2)
            for values in (
                risks.aurc,
                risks.e_aurc,
                *(risks.at[:, c - 1] for c in COVERAGES),
            )
        ]
        for method, risks in risks_by_method(folder).items()
    ]
    return markdown([headings, len(headings) * ["---"], *rows])


if __name__ == "__main__":
    main()
