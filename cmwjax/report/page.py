"""`report.html`: what a run found, on one page that loads nothing and can be sent."""

import os
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from absl import logging

from cmwjax.core.families import family_names
from cmwjax.files import (
    CLASSIFIER,
    CLASSIFIER_SELECTED,
    CONFIG,
    METRICS,
    REPORT,
    SAMPLES,
    SET_ASIDE,
    SUMMARY,
    UNREADABLE,
    VALIDATION,
    WEIGHTING,
    replacing,
)
from cmwjax.report import page_figures as draw
from cmwjax.report import page_words as words
from cmwjax.report import risk_coverage
from cmwjax.report.by_class import ByClass, by_class, numbered, suggestions
from cmwjax.report.facts import Facts, read_facts
from cmwjax.report.page_parts import (
    SMALL,
    count,
    escaped,
    facts,
    figures,
    matrix,
    page,
    paragraph,
    percent,
    picture,
    section,
    table,
    tiles,
)
from cmwjax.report.panels import Samples
from cmwjax.report.plot_style import one_line
from cmwjax.report.samples import is_known, is_regression, is_wrong
from cmwjax.report.shown import COUNT
from cmwjax.report.summary import read_summary
from cmwjax.stopping import Interrupted

# What a page shows at most, however large the data are.
CLASSES, MATRIX, PAIRS = 50, 20, 10
FIRST = 24  # suspects; the others unfold


def write_report(
    run_dir: str | os.PathLike, path: str | os.PathLike | None = None
) -> Path:
    """Writes a page about a finished run, or about a comparison of runs.

    Everything on it comes from the files of the folder; the data are not read again.
    The same files give the same bytes.

    Args:
      run_dir: folder of a finished run, or of a finished comparison.
      path: the page, replaced in one piece; None: `report.html` in that folder.

    Returns:
      Its path.

    Raises:
      FileNotFoundError: if there is no run in the folder, or it is not finished.
      ValueError: if one of its files is damaged.
    """
    folder = Path(run_dir).expanduser()
    target = folder / REPORT if path is None else Path(path).expanduser()
    if (folder / SUMMARY).is_file():
        from cmwjax.report.comparison_page import comparison_page

        text = comparison_page(folder, is_inside=target.parent == folder)
    else:
        text = run_page(read_facts(folder))
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return target


def write_reports(folder: str | os.PathLike) -> list[Path]:
    """Writes the page of a run, or those of a comparison and of its finished runs.

    Returns:
      Their paths, that of `folder` last.

    Raises:
      FileNotFoundError: as `write_report`.
      ValueError: likewise.
    """
    folder, runs = Path(folder).expanduser(), []
    if (folder / SUMMARY).is_file():
        read_summary(folder)  # before a page is written
        runs = [file.parent for file in sorted(folder.glob(f"*/seed_*/{SAMPLES}"))]
    return [write_report(each) for each in (*runs, folder)]


def write_missing_report(run_dir: Path) -> None:
    """Writes `report.html` of a finished run that has none, as `write_or_warn`."""
    if not (run_dir / REPORT).exists():
        write_or_warn(run_dir)


def write_or_warn(run_dir: Path) -> None:
    """Writes `report.html` by the first process.

    A report that cannot be drawn is no reason to lose a run: the log says why.
    """
    if jax.process_index() != 0:
        return
    try:
        write_report(run_dir)
    except Interrupted:
        raise
    except Exception as error:
        logging.warning(
            "%s could not be written (%s: %s); `run.py --mode=report --workdir=%s` "
            "tries it again.",
            run_dir / REPORT,
            type(error).__name__,
            error,
            run_dir,
        )


def run_page(found: Facts) -> str:
    """The page about a run."""
    sections = list(_sections(found))
    links = [(f"#{name}", name.capitalize()) for name, *_ in sections]
    content = [section(*parts) for parts in sections]
    return page(words.title(found), links, content)


def _sections(found: Facts) -> Iterator[tuple[str, ...]]:
    """Name, heading and contents of each part of the page."""
    what = "target" if is_regression(found.samples) else "label"
    yield (
        "summary",
        "Summary",
        tiles(words.numbers(found)),
        *map(paragraph, map(escaped, words.summary(found))),
    )
    yield "suspects", f"Most suspicious {what}s", *suspects(found)
    yield (
        "quality",
        f"Quality of {what}s",
        paragraph(escaped(words.quality(found))),
        figures([draw.quality(found)]),
    )
    if found.task.has_sets:
        if found.task.semi:
            text = words.pseudo_labels(found)
            yield "labels", "Labels and pseudo-labels", paragraph(escaped(text))
        else:
            text = words.candidates(found)
            yield "candidates", "Candidates", paragraph(escaped(text))
        suggested = numbered(found.samples["suggested_label"], found.classes)
        yield "classes", "Classes that are suggested", *_classes(found, suggested)
    elif found.classes:
        given = numbered(found.samples["given_label"], found.classes)
        yield "classes", "Classes", *_classes(found, given)
        yield (
            "confusion",
            "Confusion of given and suggested labels",
            *_confusion(found, given),
        )
    else:
        yield "families", "Ranges of targets", _families(found)
        yield "targets", "Given and suggested targets", draw.targets(found)
    risks = risk_coverage.read_risks([found.folder])
    if risks is not None:
        methods = {found.config["method"]: risks}
        yield "coverage", risk_coverage.HEADING, *risk_coverage.contents(methods)
    yield "weights", "Weights", *_weights(found)
    yield "training", "Training", figures([draw.scores(found), draw.losses(found)])
    drawn = draw.over_time(found)
    about = words.OVER_TIME if drawn else words.NO_HISTORY
    yield "history", "Samples over the epochs", paragraph(escaped(about)), drawn
    yield "details", "Details", facts(words.details(found)), _files(found)


def _weights(found: Facts) -> Iterator[str]:
    """The weighting function, and what it gave to the samples."""
    weighting, beyond = draw.weighting(found)
    text = words.weights(found)
    text += " The bars, on a root scale, tell how many samples have which loss."
    if beyond:
        largest = found.samples["loss"].max()
        text += f" The last one has all larger losses as well, {count(beyond)} samples"
        text += f" up to {largest:.3g}."
    yield paragraph(escaped(text))
    yield figures([weighting])
    drawn = draw.weights(found)
    if drawn:
        yield paragraph(
            "How weights are distributed in the end: each kind of samples adds up to "
            "100 %."
        )
        yield figures(drawn)


def suspects(found: Facts) -> Iterator[str]:
    """The samples that rank first, each with row or file and its labels."""
    samples = found.samples
    size = min(COUNT, len(samples["row"]))
    yield paragraph(escaped(words.suspects(found, size)))
    shown = found.suspects
    at = {} if shown is None else {row: i for i, row in enumerate(shown.row.tolist())}
    entries, kind = [], "rows"
    if shown is not None and shown.images is not None:
        is_small = max(shown.images.shape[1:3]) <= SMALL
        kind = "images pixels" if is_small else "images"
    for position in range(size):
        i = at.get(int(samples["row"][position]))
        caption = _caption(samples, position)
        if shown is not None and i is not None and shown.images is not None:
            name = draw.identity(samples, position)
            entries.append(f"<li>{picture(shown.images[i], name)}{caption}</li>")
        elif shown is not None and i is not None and shown.texts is not None:
            entries.append(f"<li>{caption}<q>{escaped(shown.texts[i])}</q></li>")
        else:
            entries.append(f"<li>{caption}</li>")
    first, others = entries[:FIRST], entries[FIRST:]
    yield f'<ol class="{kind}">\n{chr(10).join(first)}\n</ol>'
    if others:
        yield (
            f"<details><summary>{len(others)} more</summary>\n"
            f'<ol class="{kind}">\n{chr(10).join(others)}\n</ol></details>'
        )


def _caption(samples: Samples, position: int) -> str:
    file, row = samples["file"][position], samples["row"][position]
    name = escaped(file or f"row {row}")
    labels = escaped(draw.labels(samples, position))
    if "→" not in labels:
        labels += ' <span class="is">also suggested</span>'
    truth = ""
    if is_known(samples["true_label"][position : position + 1])[0]:
        one = {
            name: column[position : position + 1] for name, column in samples.items()
        }
        truth = '<span class="wrong">wrong</span>' if is_wrong(one)[0] else "right"
        truth += " · "
    value = samples["quality"][position]
    quality = f"{value:.3f}" if value >= 0.001 else "&lt;0.001"
    return (
        f'<div><span class="is">{name}</span><br><b>{labels}</b><br>'
        f'<span class="is">{truth}{quality}</span></div>'
    )


def _classes(found: Facts, given: np.ndarray) -> Iterator[str]:
    """A row for each class; of many, those of which most labels look wrong."""
    numbers = by_class(found.samples, given, found.doubted, len(found.classes))
    accuracy = found.metrics[-1].get("test_class_accuracy")
    shown = np.arange(len(found.classes))
    if len(shown) > CLASSES:
        noise = np.nan_to_num(numbers.estimated_noise, nan=-1)
        shown = np.argsort(-noise, kind="stable")[:CLASSES]
        yield paragraph(
            f"The {CLASSES} of {count(len(found.classes))} classes with the largest "
            f"estimated noise; {SAMPLES} has what the others are computed of.",
            is_note=True,
        )
    headings, columns = class_columns(found, numbers, accuracy)
    yield table(headings, ([column[k] for column in columns] for k in shown))
    yield paragraph(escaped(words.classes(found)), is_note=True)


def class_columns(
    found: Facts, numbers: ByClass, accuracy: list[float | None] | None
) -> tuple[list[str], list[list[str]]]:
    """Headings of the table of classes, and its columns, a cell for each class."""
    columns: dict[str, list[str]] = {
        "class": [one_line(name, width=100) for name in found.classes],
        "samples": [count(size) for size in numbers.size],
    }
    families = max(1, int(numbers.family.max()) + 1)
    if families > 1:
        of_family = family_names(families)
        columns["family"] = [
            of_family[k].removesuffix(" classes") if k >= 0 else "–"
            for k in numbers.family
        ]
    columns["mean weight"] = [
        f"{weight:.3f}" if np.isfinite(weight) else "–" for weight in numbers.weight
    ]
    columns["estimated noise"] = [percent(share) for share in numbers.estimated_noise]
    if np.isfinite(numbers.noise).any():
        columns["wrong labels"] = [percent(share) for share in numbers.noise]
    if accuracy is not None:
        columns["test accuracy"] = [percent(share) for share in accuracy]
    return list(columns), list(columns.values())


def _confusion(found: Facts, given: np.ndarray) -> Iterator[str]:
    """Shares of few classes, and the pairs that differ most often."""
    classes = found.classes
    suggested = numbered(found.samples["suggested_label"], classes)
    pairs = suggestions(given, suggested, len(classes))
    if len(classes) <= MATRIX:
        counts = np.zeros((len(classes), len(classes)))
        counts[pairs.given, pairs.suggested] = pairs.count
        sizes = counts.sum(axis=1)
        shares = counts / np.maximum(sizes, 1)[:, None]
        names = [one_line(name, width=16) for name in classes]
        yield paragraph(
            "How many of the samples with a given label (rows) have which suggested "
            "label (columns), in percent."
        )
        yield matrix("given", names, shares, sizes.tolist())
    differ = np.flatnonzero(pairs.given != pairs.suggested)
    if not differ.size:
        yield paragraph("No label is suggested that is not the given one.")
        return
    total = pairs.count[differ].sum()
    size = len(found.samples["row"])
    yield paragraph(
        f"In the end, another label is suggested for {count(total)} of {count(size)} "
        f"samples ({percent(total / size)}). The most frequent changes:"
    )
    rows = [
        [
            f"{classes[pairs.given[i]]} → {classes[pairs.suggested[i]]}",
            count(pairs.count[i]),
        ]
        for i in differ[:PAIRS]
    ]
    yield table(["given → suggested", "samples"], rows, kind="pairs")


def _families(found: Facts) -> str:
    """A row for each range of targets."""
    family = np.maximum(found.samples["family"], 0)
    size = int(family.max()) + 1
    numbers = by_class(found.samples, family, found.doubted, size)
    names = family_names(len(numbers.size), found.problem.get("borders"))
    rows = []
    for k, name in enumerate(names):
        wrong = percent(numbers.noise[k])
        weight = f"{numbers.weight[k]:.3f}" if numbers.size[k] else "–"
        rows.append([name, count(numbers.size[k]), weight, wrong])
    return table(["given targets", "samples", "mean weight", "wrong targets"], rows)


def _files(found: Facts) -> str:
    """What lies beside the page."""
    about = {
        SAMPLES: "all training samples, the most suspicious first",
        VALIDATION: "those that validate, in the same form",
        SET_ASIDE: "all other rows, and why they are there",
        UNREADABLE: "images that could not be read",
        METRICS: "the numbers of every epoch",
        CLASSIFIER_SELECTED: "the classifier of the selected epoch, for "
        "cmwjax.load_classifier",
        CLASSIFIER: "the classifier after the last epoch",
        WEIGHTING: "the weighting function",
        CONFIG: "the whole configuration",
    }
    rows = [
        (name, text) for name, text in about.items() if (found.folder / name).is_file()
    ]
    return f"<h3>Files of the run</h3>\n{facts(rows)}" if rows else ""
