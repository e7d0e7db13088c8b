"""Who finds wrong labels best: this package, the loss of ordinary training, cleanlab.

    pip install -e '.[labels]'
    CMWJAX_DATA_DIR=FOLDER python benchmarks/wrong_labels.py --seeds=3 \
        --files pmd=FILE.npz embeddings=FILE.npz human=FILE.npz yoruba=FOLDER \
        mammography=FILE.csv
    ... --cells digits-asym-0.6 mammography --rankings cmwjax "cmwjax, cv=5"
    python benchmarks/wrong_labels.py --page=results/wrong_labels.md

Adds a line to results/wrong_labels.jsonl for each cell, ranking and seed; those that
are there already are not repeated. All rankings have the same samples, network,
optimizer and epochs, those of a configuration in `configs/`, and nobody is told of any
label that it is right. A line says how many networks were trained for the ranking, and
the seconds, which rankings of the same networks share. With `--page`, nothing is
trained, and the tables of that page are written anew.
"""

import argparse
import collections
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from benchmarks.panel_tables import markdown
from cmwjax import CMWClassifier, compare, find_label_errors
from cmwjax.bias.problem import prepare
from results.biases import read_config

FOLDS = 5
INSPECTED = 1000  # labels that somebody might look through
FASHION = "fashion_mnist.py:fast,"
EMBEDDINGS = "embeddings.py:data={embeddings},meta=lowest_loss,"
CELLS = {
    "digits-asym-0.6": "quickstart.py:meta=lowest_loss",
    "fashion-sym-0.4": f"{FASHION}noise=sym,rate=0.4",
    "fashion-asym-0.6": f"{FASHION}noise=asym,rate=0.6",
    "fashion-pmd-1-35": f"{FASHION}labels={{pmd}}:type1_035",
    "embeddings-human-worse": f"{EMBEDDINGS}labels={{human}}:worse_label",
    "embeddings-human-aggre": f"{EMBEDDINGS}labels={{human}}:aggre_label",
    "yoruba": "text.py:data={yoruba}/train_clean_noisy_labels.tsv,text=news_title,"
    "truth={yoruba}/train_clean.tsv,test={yoruba}/test.tsv",
    "mammography": "tabular.py:data={mammography},rate=0.2,per_class=20",
}


class Given(NamedTuple):
    """What a ranking is made of, and what it is judged by.

    Attributes:
      inputs: N, as `CMWClassifier` takes them.
      labels: classes as they were given, `[N]`.
      true_labels: `[N]`, for the judge alone.
      settings: parameters of `CMWClassifier` that all rankings share.
    """

    inputs: Any
    labels: NDArray[np.integer]
    true_labels: NDArray[np.integer]
    settings: dict[str, Any]


class Ranking(NamedTuple):
    """How well each label suits its sample, low is suspicious, and a better label."""

    quality: NDArray[np.floating]
    suggested: NDArray[np.integer]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jsonl", type=Path, default="results/wrong_labels.jsonl")
    parser.add_argument("--files", nargs="*", default=[], help="NAME=PATH of data")
    parser.add_argument("--cells", nargs="*", default=list(CELLS))
    parser.add_argument("--rankings", nargs="*", default=list(FITS))
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--page", type=Path, help="writes the tables, trains nothing")
    options = parser.parse_args(argv)
    logging.set_verbosity(logging.ERROR)
    if options.page is not None:
        write_tables(options.page, read(options.jsonl))
        return
    files = dict(text.split("=", 1) for text in options.files)
    for cell in options.cells:
        for seed in range(options.seeds):
            add_rows(options.jsonl, cell, seed, files, set(options.rankings))


def add_rows(
    path: Path, cell: str, seed: int, files: dict[str, str], wanted: set[str]
) -> None:
    """Measures what is wanted and not in the file yet, and adds it."""
    common = {"cell": cell, "seed": seed}
    done = {r["ranking"] for r in read(path) if (r["cell"], r["seed"]) == (cell, seed)}
    missing, given = wanted - done, None
    for judge, names in JUDGES.items():
        if not missing.intersection(names):
            continue
        given = given or given_by(CELLS[cell].format(**files), seed)
        begin = time.perf_counter()
        found = judge(given)
        seconds = round(time.perf_counter() - begin, 1)
        for name in names:
            if name in missing:
                row = common | {"ranking": name, "fits": FITS[name], "seconds": seconds}
                row |= scores(found[name], given.labels, given.true_labels)
                print(row, flush=True)
                with path.open("a") as file:
                    file.write(json.dumps(row) + "\n")


def given_by(text: str, seed: int) -> Given:
    """What the configuration `configs/TEXT` trains on, with this seed."""
    config = compare.one_run(read_config(text), "erm", seed)
    problem = prepare(config)
    index, data = problem.train_index, problem.dataset
    inputs, shown = data.train_inputs[index], data.shown
    if data.kind == "tokens" and shown is not None:
        inputs = [shown[i] for i in index]
    options = config.model.options.to_dict()
    fields = {
        "optim": config.optim.to_dict(),
        "data.batch_size": config.data.batch_size,
    }
    fields |= {f"model.options.{name}": value for name, value in options.items()}
    fields["meta_set.batch_size"] = config.meta_set.batch_size
    return Given(
        inputs=inputs,
        labels=problem.labels[index],
        true_labels=problem.true_labels[index],
        settings=dict(
            model=config.model.name,
            epochs=config.epochs,
            config=fields,
            random_state=seed,
        ),
    )


# Who judges labels, and under which names: functions of `Given`.


def one_fit(given: Given) -> dict[str, Ranking]:
    """One weighted training, which looks at all labels after every epoch."""
    found = CMWClassifier(**given.settings).fit(given.inputs, given.labels)
    return {"cmwjax": Ranking(found.label_quality_, found.suggested_label_)}


def folds(given: Given) -> dict[str, Ranking]:
    """Each label by a weighted training without it."""
    return {"cmwjax, cv=5": _find_label_errors(given, "cmw_net")}


def erm_folds(given: Given) -> dict[str, Ranking]:
    """Each label by an ordinary training without it."""
    return {"ERM, cv=5": _find_label_errors(given, "erm")}


def _find_label_errors(given: Given, method: str) -> Ranking:
    found = find_label_errors(
        given.inputs, given.labels, cv=FOLDS, method=method, **given.settings
    )
    order = np.argsort(found["row"])
    return Ranking(found["label_quality"][order], found["predicted_label"][order])


def erm(given: Given) -> dict[str, Ranking]:
    """One ordinary training: its loss at the end, and its margin over the epochs."""
    found = CMWClassifier("erm", **given.settings).fit(given.inputs, given.labels)
    odds = found.predict_proba(given.inputs)
    of_given = odds[np.arange(len(odds)), _numbers(given.labels, found.classes_)]
    return {
        "ERM, loss": Ranking(of_given, found.predict(given.inputs)),
        "ERM, margin": Ranking(found.label_quality_, found.suggested_label_),
    }


def cleanlab(given: Given) -> dict[str, Ranking]:
    """cleanlab on probabilities of ordinary trainings without the sample.

    `find_label_issues` gives a set: who is in it comes first, by self-confidence.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    classes, labels = np.unique(given.labels, return_inverse=True)
    odds = cross_val_predict(
        CMWClassifier("erm", **given.settings),
        _sliceable(given.inputs),
        given.labels,
        cv=StratifiedKFold(
            FOLDS, shuffle=True, random_state=given.settings["random_state"]
        ),
        method="predict_proba",
    )
    suggested = classes[odds.argmax(axis=1)]
    by_confidence, by_margin = (
        get_label_quality_scores(labels, odds, method=method)
        for method in ("self_confidence", "normalized_margin")
    )
    is_issue = find_label_issues(labels, odds, n_jobs=1)
    return {
        "cleanlab, self-confidence": Ranking(by_confidence, suggested),
        "cleanlab, normalized margin": Ranking(by_margin, suggested),
        "cleanlab, issues first": Ranking(by_confidence - is_issue, suggested),
    }


def clean_learning(given: Given) -> dict[str, Ranking]:
    """cleanlab's own wrapper, which trains out of fold by itself."""
    from cleanlab.classification import CleanLearning

    classes, labels = np.unique(given.labels, return_inverse=True)
    learner = CleanLearning(
        CMWClassifier("erm", **given.settings),
        seed=given.settings["random_state"],
        cv_n_folds=FOLDS,
        find_label_issues_kwargs={"n_jobs": 1},
    )
    found = learner.find_label_issues(_sliceable(given.inputs), labels)
    quality = found["label_quality"].to_numpy()
    return {
        "CleanLearning": Ranking(quality, classes[found["predicted_label"].to_numpy()])
    }


JUDGES: dict[Callable[[Given], dict[str, Ranking]], tuple[str, ...]] = {
    one_fit: ("cmwjax",),
    folds: ("cmwjax, cv=5",),
    erm: ("ERM, loss", "ERM, margin"),
    erm_folds: ("ERM, cv=5",),
    cleanlab: (
        "cleanlab, self-confidence",
        "cleanlab, normalized margin",
        "cleanlab, issues first",
    ),
    clean_learning: ("CleanLearning",),
}
OF_ONE_FIT = ("cmwjax", "ERM, loss", "ERM, margin")
FITS = {
    name: 1 if name in OF_ONE_FIT else FOLDS
    for names in JUDGES.values()
    for name in names
}


def _numbers(labels: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.integer]:
    """The column of each label's class."""
    order = np.argsort(classes)
    return order[np.searchsorted(classes, labels, sorter=order)]


def _sliceable(inputs: Any) -> NDArray[Any]:
    """Inputs that any code can take some rows of."""
    return np.array(inputs, object) if isinstance(inputs, list) else inputs


def scores(
    found: Ranking, labels: NDArray[np.integer], true_labels: NDArray[np.integer]
) -> dict[str, float]:
    """How well a ranking finds the wrong ones among labels `[N]`.

    Returns:
      `samples` whose true label is known and the number of `wrong` labels among them;
      `auroc` and `average_precision`; `precision`, the share of wrong labels in the
      first `at`, 1,000 or as many as are wrong; `right_suggestions`, the share of wrong
      labels for which the true one is suggested. Shares are in [0, 1].
    """
    known = true_labels >= 0
    is_wrong = (labels != true_labels)[known]
    quality, suggested = found.quality[known], found.suggested[known]
    at = min(INSPECTED, int(is_wrong.sum()))
    first = np.argsort(quality, kind="stable")[:at]
    is_right = (suggested == true_labels[known])[is_wrong]
    return {
        "samples": int(known.sum()),
        "wrong": int(is_wrong.sum()),
        "auroc": round(float(roc_auc_score(is_wrong, -quality)), 5),
        "average_precision": round(
            float(average_precision_score(is_wrong, -quality)), 5
        ),
        "precision": round(float(is_wrong[first].mean()), 5),
        "at": at,
        "right_suggestions": round(float(is_right.mean()), 5),
    }


TABLES = {
    "average_precision": "Average precision",
    "auroc": "AUROC",
    "precision": "Precision in the first 1,000, or as many as are wrong",
    "right_suggestions": "Wrong labels for which the true one is suggested",
    "seconds": "Seconds of all fits of a ranking",
}
HERE = "<!-- What follows is written by benchmarks/wrong_labels.py --page. -->"


def read(path: Path) -> list[dict[str, Any]]:
    """The lines that are there."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def write_tables(page: Path, rows: list[dict[str, Any]]) -> None:
    """Replaces what follows the mark on the page, or on a new one."""
    text = page.read_text() if page.exists() else ""
    head = text.partition(HERE)[0]
    parts = [f"## {title}\n\n{table(rows, key)}\n" for key, title in TABLES.items()]
    page.write_text(head + "\n".join([HERE, "", *parts]))


def table(rows: list[dict[str, Any]], key: str) -> str:
    """Rankings x cells: means over seeds, ± the standard deviation if there are some.

    The best mean of a cell is bold, and the last column is the mean over the cells that
    every ranking has.
    """
    found = collections.defaultdict(list)
    for row in rows:
        found[row["ranking"], row["cell"]].append(row[key])
    cells = [cell for cell in CELLS if any(cell == c for _, c in found)]
    rankings = [name for name in FITS if any(name == n for n, _ in found)]
    means = np.array(
        [[np.mean(found.get((n, c), np.nan)) for c in cells] for n in rankings]
    )
    best = np.nanmax(means, axis=0) if key != "seconds" else np.full(len(cells), np.inf)
    digits = 0 if key == "seconds" else 3
    complete = ~np.isnan(means).any(axis=0)
    lines = [["ranking", "fits", *cells, "mean"], ["---"] * (3 + len(cells))]
    for name, of_name in zip(rankings, means, strict=True):
        line = [name, str(FITS[name])]
        for cell, mean, top in zip(cells, of_name, best, strict=True):
            values = found.get((name, cell), [])
            text = f"{mean:.{digits}f}" if values else ""
            text = f"**{text}**" if round(mean, 3) == round(top, 3) else text
            if len(values) > 1:
                text += f" ± {np.std(values, ddof=1):.{digits}f}"
            line.append(text)
        lines.append([*line, f"{of_name[complete].mean():.{digits}f}"])
    return markdown(lines)


if __name__ == "__main__":
    main()
