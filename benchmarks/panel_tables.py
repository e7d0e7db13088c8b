"""Tables of what `panel.py` measured, as Markdown.

    python benchmarks/panel_tables.py --jsonl=results/panel.jsonl
    python benchmarks/panel_tables.py --jsonl=results/panel.jsonl --score=validation

The first has a row for each cell and a column for each method and setting: the mean
over seeds, and the mean difference to ERM with the same seed and its standard error.
The second says of CMW-Net with the default setting what it is above ERM, training on
the trusted samples alone, and MW-Net, and whether it is behind the first two by more
than half a point and a standard error; in cells of two classes by average precision,
which a shift of their sizes leaves alone. The third has what ranks wrong labels: mean
and worst AUROC and average precision over cells and methods, and how far each is behind
the best score of its cell at its worst.
"""

import collections
import json
from pathlib import Path

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("jsonl", "results/panel.jsonl", "lines of panel.py")
flags.DEFINE_string("score", "test", "or validation, average_precision")


def main(_):
    rows = [json.loads(line) for line in Path(FLAGS.jsonl).read_text().splitlines()]
    print(panel(rows, FLAGS.score), judged(rows), label_scores(rows), sep="\n\n")


def panel(rows, score):
    """Cells x methods and settings."""
    found = collections.defaultdict(dict)  # (cell, column) -> seed -> score
    for row in rows:
        column = " ".join(filter(None, (row["method"], row["setting"])))
        if score in row or "test" not in row:
            found[row["cell"], column][row["seed"]] = row.get(score, np.nan)
    cells = list(dict.fromkeys(cell for cell, _ in found))
    columns = list(dict.fromkeys(column for _, column in found))
    lines = [["cell", *columns], ["---"] * (1 + len(columns))]
    for cell in cells:
        erm = found.get((cell, "erm"), {})
        texts = [text(found.get((cell, c), {}), erm, c != "erm") for c in columns]
        lines.append([cell, *texts])
    return markdown(lines)


def text(scores, erm, is_compared):
    """Mean, and what it is above ERM with the same seeds, with its standard error."""
    if not scores:
        return ""
    mean = f"{np.mean(list(scores.values())):.1f}"
    if not is_compared or not scores.keys() & erm.keys():
        return mean
    return f"{mean} ({'{:+.1f} ± {:.1f}'.format(*above(scores, erm))})"


def above(scores, others):
    """Mean difference with the same seeds, and its standard error."""
    both = sorted(scores.keys() & others.keys())
    differences = [scores[seed] - others[seed] for seed in both]
    error = np.std(differences, ddof=1) / len(both) ** 0.5 if len(both) > 1 else np.nan
    return np.mean(differences), error


def judged(rows):
    """Cells x rivals of CMW-Net by default."""
    found = collections.defaultdict(dict)
    for row in rows:
        if "test" in row and row["setting"] in ("", "default"):
            score = row.get("average_precision", row["test"])
            found[row["cell"], row["method"]][row["seed"]] = score
    rivals = ("erm", "trusted_only", "mw_net")
    lines = [["cell", "seeds", *rivals, "holds"], ["---"] * 6]
    for cell in dict.fromkeys(cell for cell, _ in found):
        ours = found.get((cell, "cmw_net"), {})
        if not ours:
            continue
        texts, holds = [], True
        for rival in rivals:
            theirs = found.get((cell, rival), {})
            if not ours.keys() & theirs.keys():
                texts.append("")
                continue
            mean, error = above(ours, theirs)
            texts.append(f"{mean:+.1f} ± {error:.1f}")
            holds &= rival == "mw_net" or mean >= -max(0.5, error)
        lines.append([cell, str(len(ours)), *texts, "yes" if holds else "no"])
    return markdown(lines)


def label_scores(rows):
    """What ranks wrong labels, best mean AUROC first."""
    cells = collections.defaultdict(lambda: collections.defaultdict(list))
    for row in rows:
        for name, pair in row.get("labels", {}).items():
            run = row["cell"], row["method"], row["setting"]
            cells[run][name].append(pair)
    if not cells:
        return ""
    names = list(next(iter(cells.values())))
    means = np.array(
        [[np.mean(found[n], 0) for n in names] for found in cells.values()]
    )
    behind = np.min(means - means.max(axis=1, keepdims=True), axis=0)
    order = np.argsort(-means[..., 0].mean(0))
    head = "AUROC, mean | worst | most behind | average precision, mean | worst"
    lines = [["label is ranked by", *head.split(" | "), "most behind"], ["---"] * 7]
    for i in order:
        numbers = []
        for k in (0, 1):
            column = means[:, i, k]
            numbers += [column.mean(), column.min(), behind[i, k]]
        lines.append([names[i], *(f"{x:.3f}" for x in numbers)])
    return markdown(lines)


def markdown(lines):
    """A table of rows of texts."""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    app.run(main)
