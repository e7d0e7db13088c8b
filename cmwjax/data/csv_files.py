"""Tables of numbers and lists of texts, with their labels, from .csv and .tsv files."""

import csv
import glob
import io
import itertools
import os
import reprlib
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging
from numpy.typing import NDArray

from cmwjax.data.csv_labels import FLOAT32_MAX, is_number, number
from cmwjax.files import expanded

LABEL_NAMES = ("label", "class", "target")  # in this order, whatever their case
DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
READERS = {
    ".csv": partial(csv.reader, delimiter=",", strict=True),
    ".tsv": partial(csv.reader, delimiter="\t", quoting=csv.QUOTE_NONE),
}


class CsvFile(NamedTuple):
    """What a file says of its N samples, in the order of its rows."""

    names: tuple[str, ...]  # of the columns that are inputs
    inputs: NDArray[np.float64] | tuple[str, ...]  # [N, D] numbers, or N texts
    labels: tuple[str, ...]  # N, as written
    label_name: str = "label"  # of their column
    # N, where each row begins, from 1, and in which of several files; (): in none
    lines: tuple[int | str, ...] = ()


class _Sheet(NamedTuple):
    """The cells of a file below its header."""

    path: Path
    names: list[str]  # of all columns
    has_header: bool
    unnamed: bool  # whether the header leaves out the name of the first column
    rows: list[list[str]]
    lines: list[int]  # of the file, where each row begins, from 1

    def error(self, row: int, column: int, problem: str, remedy: str) -> ValueError:
        cell = reprlib.repr(self.rows[row][column])  # shortened, should it be long
        return ValueError(
            f"data: {self.path}, line {self.lines[row]}, column "
            f"{self.names[column]!r}: {cell} {problem}: {remedy}."
        )


def read_csv(
    path: str | os.PathLike[str], *, text: str = "", label: str = ""
) -> CsvFile:
    """Reads samples and their labels, a row each, and checks every cell.

    A `.csv` file has commas and the usual quotes, a `.tsv` file tabs and no quotes;
    both are UTF-8, with or without a byte order mark. The first row is a header if
    it has the column that `text` or `label` names, a column called 'label', 'class'
    or 'target' in which no other row says so, or a word above a column of numbers.
    Without a header, columns are called 'column 1', 'column 2', .... Columns of
    numbers may share a name.

    A path with `*`, `?` or `[...]`, as `parts/*.csv`, is that of several files with
    the same columns, whose rows follow each other as the names of the files do
    ('10' is before '2').

    An unnamed first column of distinct whole numbers, which pandas writes for the
    index, is dropped: in a file sorted by class it would give the label away. A
    constant column of numbers is kept, so that files of one kind have one width, and
    logged; standardised, it is zero.

    Args:
      path: path of the file, or a pattern of several.
      text: name of the column of texts; '': all columns but the labels are numbers.
      label: name of the column of labels; '': the column called 'label', 'class' or
        'target', else the last one.

    Returns:
      The numbers or texts, and the labels. These are as written, less blanks and a
      pair of quotes around them: a class number is text until `class_numbers`.

    Raises:
      ValueError: if there is no such file or column; for another suffix, bytes that are
        not UTF-8, or NUL, or quotes that do not close; for another delimiter; for two
        columns of labels; for a row of another length; for a cell that is no finite
        number of float32, or an empty text or label.
    """
    path = expanded(path)
    if glob.has_magic(str(path)) and not path.exists():
        found = _joined(path, text, label)
    else:
        found = _read_file(path, text, label)
    if not isinstance(found.inputs, tuple):
        is_constant = np.all(found.inputs == found.inputs[0], axis=0)
        constant = list(itertools.compress(found.names, is_constant))
        if constant:
            logging.warning("%s: constant columns tell nothing: %s.", path, constant)
    return found


def _joined(pattern: Path, text: str, label: str) -> CsvFile:
    """Reads all files of a pattern."""
    paths = [Path(name) for name in sorted(glob.glob(str(pattern)))]
    if not paths:
        raise ValueError(
            f"data: there is no file {pattern}: put files there, or correct the path."
        )
    files = [_read_file(path, text, label) for path in paths]
    first = files[0]
    for path, file in zip(paths, files, strict=True):
        columns = [(*f.names, f.label_name) for f in (first, file)]
        if columns[0] != columns[1]:
            raise ValueError(
                f"data: {path} has the columns {list(columns[1])}, but {paths[0]} has "
                f"{list(columns[0])}: give all files of {pattern} the same."
            )
    inputs = [file.inputs for file in files]
    chain = itertools.chain.from_iterable
    return first._replace(
        inputs=tuple(chain(inputs)) if text else np.concatenate(inputs),
        labels=tuple(chain(file.labels for file in files)),
        lines=tuple(
            f"{line} of {path.name}"
            for path, file in zip(paths, files, strict=True)
            for line in file.lines
        ),
    )


def _read_file(path: Path, text: str, label: str) -> CsvFile:
    sheet = _read(path, wanted=[name for name in (text, label) if name])
    target = _label_column(sheet, label)
    labels = tuple(_unquoted(row[target]) for row in sheet.rows)
    if "" in labels:
        remedy = "give every row a label, or remove the row"
        raise sheet.error(labels.index(""), target, "is no label", remedy)
    if text:
        column = _find(sheet, text, "text")
        if column == target:
            raise ValueError(
                f"data: {sheet.path}: column {text!r} cannot be both text and label: "
                "name the column of labels."
            )
        texts = _texts(sheet, column)
        return CsvFile((text,), texts, labels, sheet.names[target], tuple(sheet.lines))
    columns = [c for c in range(len(sheet.names)) if c != target]
    if columns and _is_row_number(sheet, columns[0]):
        logging.info("%s: the unnamed column of row numbers is dropped.", path)
        columns = columns[1:]
    if not columns:
        raise ValueError(
            f"data: {sheet.path} has no column beside its labels "
            f"{sheet.names[target]!r}: add columns of numbers, or check that the file "
            f"is delimited as its suffix {sheet.path.suffix} says."
        )
    inputs = np.stack([_numbers(sheet, c) for c in columns], axis=1)
    names = tuple(sheet.names[c] for c in columns)
    return CsvFile(names, inputs, labels, sheet.names[target], tuple(sheet.lines))


def _read(path: Path, wanted: list[str]) -> _Sheet:
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise ValueError(
            f"data: {path} is neither a .csv file (commas) nor a .tsv file (tabs): "
            "convert or rename it."
        )
    reader = READERS[suffix](io.StringIO(_decoded(path), newline=""))
    rows, lines, line = [], [], 1
    try:
        for row in reader:
            if row:  # a blank line has no cells
                rows.append(row)
                lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"data: {path}, line {line}: {error}: check the quotes and the length of "
            "this row."
        ) from error
    _check_delimiter(path, rows)
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(rows[0]):
            raise ValueError(
                f"data: {path}, line {line} has {len(row)} cells, but line {lines[0]} "
                f"has {len(rows[0])}: give every row as many, and quote a cell that "
                "holds the delimiter."
            )
    header = bool(rows) and _is_header(rows, wanted)
    if len(rows) <= header:
        raise ValueError(f"data: {path} has no rows of samples: add some.")
    given = [_unquoted(cell) if header else "" for cell in rows[0]]
    names = [name or f"column {c + 1}" for c, name in enumerate(given)]
    unnamed = header and not given[0]
    return _Sheet(path, names, header, unnamed, rows[header:], lines[header:])


def _check_delimiter(path: Path, rows: list[list[str]]) -> None:
    """Refuses a file whose first row is one cell, but has another delimiter in it."""
    others = [d for d in DELIMITERS if rows and len(rows[0]) == 1 and d in rows[0][0]]
    if others:
        suffix = path.suffix.lower()
        raise ValueError(
            f"data: {path} has {DELIMITERS[others[0]]} in its first row, and no "
            f"{DELIMITERS[READERS[suffix].keywords['delimiter']]}: save it with commas "
            "as a .csv file, or with tabs as a .tsv file."
        )


def _decoded(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(
            f"data: there is no file {path}: put it there, or correct the path."
        ) from None
    except OSError as error:
        raise ValueError(f"data: {path} cannot be read ({error}).") from error
    if b"\0" in content:  # no text editor shows it
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        raise ValueError(
            f"data: {path}, line {line} has a NUL character, which no text has: remove "
            "it, or convert the file to UTF-8."
        )
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"data: {path}, line {line}: byte {content[error.start]:#04x} is not "
            "UTF-8: convert the file to UTF-8."
        ) from error


def _is_header(rows: list[list[str]], wanted: list[str]) -> bool:
    first, later = rows[0], rows[1:]
    names = [_unquoted(cell) for cell in first]
    if any(name in names for name in wanted):
        return True
    if not (later or wanted or any(map(is_number, names))):
        return True
    for c, name in enumerate(names):
        # A class may be called 'class', but not a single sample of it.
        below = (_unquoted(row[c]) for row in later)
        if name.lower() in LABEL_NAMES and name not in below:
            return True

    # A gap does not make a column of numbers one of words.
    def numbers(column):
        cells = [row[column].strip() for row in later]
        return any(cells) and all(not cell or is_number(cell) for cell in cells)

    return any(
        name and not is_number(name) and numbers(c) for c, name in enumerate(names)
    )


def _label_column(sheet: _Sheet, label: str) -> int:
    if label:
        return _find(sheet, label, "label")
    for wanted in LABEL_NAMES:
        found = [name for name in sheet.names if name.lower() == wanted]
        if len(found) > 1:
            raise ValueError(
                f"data: {sheet.path} has {len(found)} columns of labels, {found}: "
                "rename one of them, or remove it."
            )
        if found:
            return sheet.names.index(found[0])
    return len(sheet.names) - 1


def _find(sheet: _Sheet, name: str, field: str) -> int:
    count = sheet.names.count(name)
    if count != 1:
        found = "no column" if count == 0 else f"{count} columns"
        choices = f"{sheet.names}"
        if not sheet.has_header:  # or one that only the right name would tell
            first = reprlib.repr([_unquoted(cell) for cell in sheet.rows[0]])
            choices = (
                f"{first} if line {sheet.lines[0]} is the header, or else {choices}"
            )
        raise ValueError(
            f"data: {sheet.path} has {found} {name!r}: choose {field} among {choices}."
        )
    return sheet.names.index(name)


def _is_row_number(sheet: _Sheet, column: int) -> bool:
    if column or not sheet.unnamed:
        return False
    cells = [row[0].strip() for row in sheet.rows]
    return len(set(cells)) == len(cells) and all(cell.isdecimal() for cell in cells)


def _texts(sheet: _Sheet, column: int) -> tuple[str, ...]:
    texts = tuple(row[column] for row in sheet.rows)
    for row, text in enumerate(texts):
        if not text.strip():
            remedy = "write one, or remove the row"
            raise sheet.error(row, column, "is no text", remedy)
    return texts


def _numbers(sheet: _Sheet, column: int) -> NDArray[np.float64]:
    cells = [row[column] for row in sheet.rows]
    values = _floats(cells)
    if values is None:
        bad = next(row for row, cell in enumerate(cells) if number(cell) is None)
        raise _not_a_number(sheet, bad, column)
    if max(map(len, cells)) > 15:
        _warn_of_rounding(sheet, column)
    return values


def _floats(cells: list[str]) -> NDArray[np.float64] | None:
    """What `number` makes of each, ten times as fast; None if one is none."""
    try:
        values = np.array(list(map(float, cells)))
    except ValueError:
        return None
    fits = bool(np.all(np.abs(values) <= FLOAT32_MAX))
    return values if fits and "_" not in "".join(cells) else None


def _not_a_number(sheet: _Sheet, row: int, column: int) -> ValueError:
    cell, fill = sheet.rows[row][column], "fill it in, or remove the row"
    if not cell.strip():
        return sheet.error(row, column, "is empty", fill)
    if is_number(cell):
        return sheet.error(row, column, "is not finite in float32", fill)
    remedy = (
        "correct it, name the column of texts (text=COLUMN) or of labels "
        "(label=COLUMN), or remove the column"
    )
    return sheet.error(row, column, "is not a number", remedy)


def _warn_of_rounding(sheet: _Sheet, column: int) -> None:
    """Tells of whole numbers that are too large to be told apart."""
    for row in sheet.rows:
        cell = row[column].strip()
        if len(cell) > 15 and cell.isdecimal() and int(cell) != float(cell):
            logging.warning(
                "%s, column %r: %s is rounded, as are other whole numbers beyond 2^53, "
                "which then may be equal. Subtract what they have in common, or remove "
                "the column if it only numbers the rows.",
                sheet.path,
                sheet.names[column],
                cell,
            )
            return


def _unquoted(cell: str) -> str:
    cell = cell.strip()
    if len(cell) > 1 and cell[0] == cell[-1] and cell[0] in "'\"":
        cell = cell[1:-1].strip()
    return cell
