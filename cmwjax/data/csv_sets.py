"""Data sets from one's own .csv and .tsv files: rows of numbers, or texts."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from cmwjax.core.labels import CLASSES, TARGETS
from cmwjax.data.csv_files import READERS, CsvFile, read_csv
from cmwjax.data.csv_labels import class_numbers, target_numbers
from cmwjax.data.dataset import TEST, Dataset, keys_of
from cmwjax.data.text import Vocabulary, build_vocabulary

PURPOSES = {  # of each file
    "train": "train on",
    "test": "test with",
    "trusted": "trust",
    "truth": "compare with",
}


class Rows(Sequence[str]):
    """Samples as a person reads them: 'column 1 = 0.23, ...', written when asked for.

    Args:
      names: names of the D columns.
      inputs: numbers, `[N, D]`.
    """

    def __init__(self, names: Sequence[str], inputs: np.ndarray) -> None:
        self.names, self.inputs = names, inputs

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, position: Any) -> Any:
        cells = zip(self.names, self.inputs[position], strict=True)
        return ", ".join(f"{name} = {value:.4g}" for name, value in cells)


def is_name(name: str | os.PathLike[str]) -> bool:
    """Whether data of this name are in such a file."""
    return Path(name).suffix.lower() in READERS


def load(
    name: str | os.PathLike[str],
    *,
    label_kind: str = CLASSES,
    text: str = "",
    label: str = "",
    classes: Sequence[str] = (),
    test: str = "",
    test_share: float = 0.25,
    trusted: str = "",
    truth: str = "",
    length: int = 128,
    separator: str = "",
) -> Dataset:
    """Reads a data set; see `csv_files.read_csv` for what a file may hold.

    All files have the classes of the first one. Texts become tokens by a vocabulary of
    the training texts. Rows are counted without the header and blank lines; those of
    trusted samples go on from the last one of the first file.

    Args:
      name: file of the training samples.
      label_kind: 'classes', or 'targets' for labels that are numbers.
      text: column of texts; '': all columns but the labels are numbers.
      label: column of labels; '': see `read_csv`.
      classes: their names in the order in which they are numbered, which a task may
        read; (): that of the names, see `csv_files.class_numbers`.
      test: file of the test samples; '': a share of the training samples is taken for
        it, with every class in proportion. Samples to test with that are also trained
        on or trusted are counted in a warning.
      test_share: this share, in [0, 1); 0: there are none to test with.
      trusted: file of further samples whose labels are trusted; '': none. A sample to
        train on that is among them, by its inputs, is left out of training.
      truth: file of the same samples with the right labels, if somebody knows them: for
        experiments, which then can tell wrong labels from right ones.
      length: tokens per text at most; what comes after is cut off.
      separator: what stands between several candidates for the label of a training
        sample; '': each has one label. Samples to test with, to trust or to compare
        with have one label all the same.

    Raises:
      ValueError: as `read_csv`; for files that differ in their columns, a truth of
        other samples, a class that the first file does not have, or a text without a
        word.
    """
    files = {"train": read_csv(name, text=text, label=label)}
    others = {"test": test, "trusted": trusted, "truth": truth}
    for part, path in others.items():
        if path:
            files[part] = read_csv(path, text=text, label=label)
            _check_columns(files["train"], files[part], name, path)
    if truth:
        _check_same(files["train"], files["truth"], name, truth)
    return assemble(
        files,
        label_kind=label_kind,
        classes=classes,
        is_text=bool(text),
        test_share=test_share,
        length=length,
        separator=separator,
    )


def assemble(
    files: dict[str, CsvFile],
    *,
    label_kind: str = CLASSES,
    classes: Sequence[str] = (),
    is_text: bool = False,
    test_share: float = 0.25,
    length: int = 128,
    separator: str = "",
) -> Dataset:
    """Makes a data set of what files hold.

    Args:
      files: 'train' and, where there are such, 'test', 'trusted' and 'truth'.
      label_kind: as for `load`.
      classes: as for `load`.
      is_text: whether inputs are texts.
      test_share: as for `load`.
      length: as for `load`.
      separator: as for `load`.
    """
    if label_kind == TARGETS:
        for part, file in files.items():  # an error names the row as it is in the file
            name = _name_of_labels(part, file)
            target_numbers(file.labels, name=name, lines=file.lines)
    has_test = "test" in files
    size = len(files["train"].labels)
    rows, unused = np.arange(size), ()
    if not has_test and test_share:
        if separator and "truth" not in files:
            raise ValueError(
                f"config.data.csv.test_share={test_share} would test with samples of "
                "several candidates, of which nobody knows the right one: give "
                "config.data.csv.test or truth a file, or set test_share=0 and "
                "config.data.validation to a share, such as 0.1."
            )
        files, rows = _split(files, test_share, stratified=label_kind == CLASSES)
        unused = ((TEST, np.setdiff1d(np.arange(size), rows)),)
    if "trusted" in files and "test" in files:
        _warn_of_overlap(files, "trusted")
    if has_test:  # rows of one file may well be alike
        _warn_of_overlap(files, "train")
    sets = None
    if separator:
        files, classes, sets = _sets(files, separator, classes)
    labels, class_names = _labels(files, label_kind, classes)
    inputs, kind, vocabulary = _inputs(files, is_text, length)
    parts, trusted_index = ["train"], None
    if "trusted" in files:
        parts.append("trusted")
        first, count = len(labels["train"]), len(labels["trusted"])
        trusted_index = first + np.arange(count, dtype=np.int32)
        rows = np.append(rows, size + np.arange(count))
        if sets is not None:
            right = labels["trusted"][:, None] == np.arange(len(class_names))
            sets = np.concatenate([sets, right])
    given = np.concatenate([labels[part] for part in parts])
    right = {**labels, "train": labels.get("truth", labels["train"])}
    return Dataset(
        train_inputs=np.concatenate([inputs[part] for part in parts]),
        train_labels=np.concatenate([right[part] for part in parts]),
        test_inputs=inputs.get("test", inputs["train"][:0]),
        test_labels=labels.get("test", labels["train"][:0]),
        num_classes=len(class_names),
        class_names=class_names,
        observed_labels=given if "truth" in files and sets is None else None,
        knows_true_labels=sets is None or "truth" in files,
        candidates=sets,
        kind=kind,
        trusted_index=trusted_index,
        shown=_shown([files[part] for part in parts], is_text),
        vocabulary=vocabulary,
        rows=rows,
        test_texts=_shown([files["test"]], True) if is_text and "test" in files else (),
        unused=unused,
    )


def _sets(
    files: dict[str, CsvFile], separator: str, classes: Sequence[str]
) -> tuple[dict[str, CsvFile], tuple[str, ...], np.ndarray]:
    """The files with the first candidate as label, names of classes, and the sets."""
    train = files["train"]
    written = [
        [part.strip() for part in label.split(separator)] for label in train.labels
    ]
    lines = train.lines or range(len(written))
    lengths = [len(labels) for labels in written]
    numbers, names = class_numbers(
        [label for labels in written for label in labels],
        tuple(map(str, classes)) or None,
        name=_name_of_labels("train", train),
        lines=np.repeat(lines, lengths).tolist(),
    )
    sets = np.zeros((len(written), len(names)), bool)
    sets[np.repeat(np.arange(len(written)), lengths), numbers] = True
    first = train._replace(labels=tuple(labels[0] for labels in written))
    return {**files, "train": first}, names, sets


def _labels(
    files: dict[str, CsvFile], label_kind: str, classes: Sequence[str]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Classes or targets of each file, and the names of the classes."""
    if label_kind == TARGETS:
        return {part: target_numbers(file.labels) for part, file in files.items()}, ()
    known = [files[part] for part in ("train", "truth") if part in files]
    names = tuple(map(str, classes))
    if not names:
        _, names = class_numbers(
            [label for file in known for label in file.labels],
            name=_name_of_labels("train", known[0]),
            lines=[line for file in known for line in file.lines],
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f"config.data.csv.classes={names} has {twice[0]!r} twice: name each class "
            "once."
        )
    numbers = {
        part: class_numbers(
            file.labels, names, name=_name_of_labels(part, file), lines=file.lines
        )[0]
        for part, file in files.items()
    }
    return numbers, names


def _name_of_labels(part: str, file: CsvFile) -> str:
    return f"data to {PURPOSES[part]}, column {file.label_name!r}"


def _inputs(
    files: dict[str, CsvFile], is_text: bool, length: int
) -> tuple[dict[str, np.ndarray], str, Vocabulary | None]:
    """Inputs of each file, their kind, and the vocabulary of texts."""
    inputs: dict[str, Any] = {part: file.inputs for part, file in files.items()}
    if not is_text:
        return inputs, "rows", None
    vocabulary = build_vocabulary([*inputs["train"], *inputs.get("trusted", ())])
    tokens = {part: vocabulary.encode(texts, length) for part, texts in inputs.items()}
    return tokens, "tokens", vocabulary


def _warn_of_overlap(files: dict[str, CsvFile], part: str) -> None:
    """Tells how many samples to test with are also in another file."""
    seen, test = set(_keys(files[part])), _keys(files["test"])
    count = sum(key in seen for key in test)
    if count:
        logging.warning(
            "%d of %d samples to test with have the inputs of a sample to %s: the test "
            "may look better than it is.",
            count,
            len(test),
            PURPOSES[part],
        )


def _keys(file: CsvFile) -> Sequence[str | bytes]:
    """One for each sample, equal where inputs are."""
    if isinstance(file.inputs, np.ndarray):
        return keys_of(file.inputs)
    return file.inputs


def _split(
    files: dict[str, CsvFile], share: float, *, stratified: bool
) -> tuple[dict[str, CsvFile], np.ndarray]:
    """Sets a share of the training samples aside for testing, the same every time.

    Returns:
      The files, and where the training samples that are left were in theirs.
    """
    from sklearn.model_selection import train_test_split

    right = files.get("truth", files["train"])
    if stratified:
        _check_classes(right)
    try:
        train, test = train_test_split(
            np.arange(len(right.labels)),
            test_size=share,
            stratify=right.labels if stratified else None,
            random_state=0,
        )
    except ValueError as error:
        raise ValueError(
            f"config.data.csv.test_share={share} cannot be taken of "
            f"{len(right.labels)} samples ({error}): change it, or give "
            "config.data.csv.test a file."
        ) from None
    rows = np.sort(train)
    kept = {
        part: _take(files[part], rows) for part in ("train", "truth") if part in files
    }
    return {**files, **kept, "test": _take(right, np.sort(test))}, rows


def _check_classes(file: CsvFile) -> None:
    """Refuses classes of one sample, which cannot be both in training and test."""
    counts = Counter(file.labels)
    single = [name for name, count in counts.items() if count == 1]
    if single:
        raise ValueError(
            f"data: {len(single)} of {len(counts)} classes in column "
            f"{file.label_name!r} have one sample, as {single[0]!r}, but a share of "
            "each is taken to test with: add samples, give config.data.csv.test a "
            "file, correct config.data.csv.label, or for a regression set config.task."
        )


def _take(file: CsvFile, index: np.ndarray) -> CsvFile:
    """Some samples of a file."""
    inputs = file.inputs
    if isinstance(inputs, np.ndarray):
        taken = inputs[index]
    else:
        taken = tuple(inputs[i] for i in index)
    labels = tuple(file.labels[i] for i in index)
    lines = tuple(file.lines[i] for i in index) if file.lines else ()
    return file._replace(inputs=taken, labels=labels, lines=lines)


def _shown(files: Sequence[CsvFile], is_text: bool) -> Sequence[str]:
    """What a person sees of each sample of these files."""
    if is_text:
        return [str(text) for file in files for text in file.inputs]
    return Rows(files[0].names, np.concatenate([file.inputs for file in files]))


def _check_columns(first: CsvFile, other: CsvFile, name: Any, path: str) -> None:
    if first.names != other.names:
        raise ValueError(
            f"data: {path} has the columns {list(other.names)}, and {name} has "
            f"{list(first.names)}: give both the same, in the same order."
        )


def _check_same(given: CsvFile, truth: CsvFile, name: Any, path: str) -> None:
    if not np.array_equal(np.asarray(given.inputs), np.asarray(truth.inputs)):
        raise ValueError(
            f"data: {path} has other samples than {name}, or another order: it must "
            "have the same rows with the right labels."
        )
