"""Data sets from one's own .csv and .tsv files: rows of numbers, or texts."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmwjax.data.csv_files import READERS, CsvFile, class_numbers, read_csv
from cmwjax.data.dataset import Dataset
from cmwjax.data.text import Vocabulary, build_vocabulary


class Rows(Sequence[str]):
    """Samples as a person reads them: 'column 1 = 0.23, ...', written when asked for.

    Args:
      names: of the columns, D.
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
    task: str = "classification",
    text: str = "",
    label: str = "",
    test: str = "",
    test_share: float = 0.25,
    trusted: str = "",
    truth: str = "",
    length: int = 128,
) -> Dataset:
    """Reads a data set; see `csv_files.read_csv` for what a file may hold.

    Classes are numbered in the order of their names, and all files have those of the
    first one. Texts become tokens by a vocabulary of the training texts.

    Args:
      name: file of the training samples.
      task: 'classification', or 'regression' for labels that are numbers.
      text: column of texts; '': all columns but the labels are numbers.
      label: column of labels; '': see `read_csv`.
      test: file of the test samples; '': a share of the training samples is taken for
        it, with every class in proportion.
      test_share: this share, in (0, 1).
      trusted: file of further samples whose labels are trusted; '': none.
      truth: file of the same samples with the right labels, if somebody knows them: for
        experiments, which then can tell wrong labels from right ones.
      length: tokens per text at most; what comes after is cut off.

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
        files, task=task, is_text=bool(text), test_share=test_share, length=length
    )


def assemble(
    files: dict[str, CsvFile],
    *,
    task: str = "classification",
    is_text: bool = False,
    test_share: float = 0.25,
    length: int = 128,
) -> Dataset:
    """Makes a data set of what files hold.

    Args:
      files: 'train' and, where there are such, 'test', 'trusted' and 'truth'.
      task: as for `load`.
      is_text: whether inputs are texts.
      test_share: as for `load`.
      length: as for `load`.
    """
    labels, class_names = _labels(files, task)
    train_labels = labels.get("truth", labels["train"])
    observed = labels["train"] if "truth" in files else None
    train, test_index = np.arange(len(train_labels)), None
    if "test" not in files:
        train, test_index = _split(train_labels, test_share, class_names)
    inputs, kind, vocabulary = _inputs(files, is_text, length, train)
    shown = _shown(files["train"], is_text, train)
    parts = [(inputs["train"][train], train_labels[train])]
    given = None if observed is None else [observed[train]]
    trusted_index = None
    if "trusted" in files:
        parts.append((inputs["trusted"], labels["trusted"]))
        shown = [*shown, *_shown(files["trusted"], is_text)]
        if given is not None:
            given.append(labels["trusted"])
        trusted_index = len(train) + np.arange(len(labels["trusted"]), dtype=np.int32)
    if test_index is None:
        test_inputs, test_labels = inputs["test"], labels["test"]
    else:
        test_inputs = inputs["train"][test_index]
        test_labels = train_labels[test_index]
    return Dataset(
        train_inputs=np.concatenate([x for x, _ in parts]),
        train_labels=np.concatenate([y for _, y in parts]),
        test_inputs=test_inputs,
        test_labels=test_labels,
        num_classes=len(class_names),
        class_names=class_names,
        observed_labels=None if given is None else np.concatenate(given),
        kind=kind,
        trusted_index=trusted_index,
        shown=shown,
        vocabulary=vocabulary,
    )


def _labels(
    files: dict[str, CsvFile], task: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Classes or targets of each file, and the names of the classes."""
    if task == "regression":
        return {part: _targets(file) for part, file in files.items()}, ()
    known = [files[part].labels for part in ("train", "truth") if part in files]
    _, names = class_numbers([label for labels in known for label in labels])
    return {
        part: class_numbers(file.labels, names)[0] for part, file in files.items()
    }, names


def _targets(file: CsvFile) -> np.ndarray:
    try:
        return np.array(file.labels, np.float32)
    except ValueError as error:
        raise ValueError(
            f"data: a target is no number ({error}): correct it, or set config.task="
            "'classification'."
        ) from None


def _inputs(
    files: dict[str, CsvFile], is_text: bool, length: int, train: np.ndarray
) -> tuple[dict[str, np.ndarray], str, Vocabulary | None]:
    """Inputs of each file, their kind, and the vocabulary of texts.

    Of the first file, only the rows `train` give words: others may be tested with.
    """
    inputs: dict[str, Any] = {part: file.inputs for part, file in files.items()}
    if not is_text:
        return inputs, "rows", None
    vocabulary = build_vocabulary(
        [*(inputs["train"][i] for i in train), *inputs.get("trusted", ())]
    )
    tokens = {part: vocabulary.encode(texts, length) for part, texts in inputs.items()}
    return tokens, "tokens", vocabulary


def _split(
    labels: np.ndarray, share: float, class_names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Positions to train on and to test with, ascending; the same ones every time."""
    from sklearn.model_selection import train_test_split

    try:
        train, test = train_test_split(
            np.arange(len(labels)),
            test_size=share,
            stratify=labels if class_names else None,
            random_state=0,
        )
    except ValueError as error:
        raise ValueError(
            f"config.data.csv.test_share={share} cannot be taken of {len(labels)} "
            f"samples ({error}): change it, or give config.data.csv.test a file."
        ) from None
    return np.sort(train), np.sort(test)


def _shown(file: CsvFile, is_text: bool, index: Any = slice(None)) -> Sequence[str]:
    if not is_text:
        return Rows(file.names, np.asarray(file.inputs)[index])
    return np.array(file.inputs, object)[index].tolist()


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
