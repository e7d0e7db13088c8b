"""Samples from .csv and .tsv files, against NumPy's own reader and by hand."""

import csv
import logging
import re

import numpy as np
import pytest

from cmwjax.data import csv_sets
from cmwjax.data.csv_files import read_csv
from cmwjax.data.csv_labels import class_numbers

FLOWERS = "length,width,class\n1.5,-2e-3,rose\n3,4,'lily'\n"


@pytest.fixture
def write(tmp_path):
    """Writes a file, and returns its path."""

    def write(content, name="samples.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


# ------------------------------------------------------------------------------ tables


@pytest.mark.parametrize("header", ["", "a,b,c,d\n"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_numbers_are_those_of_numpys_reader(write, header, line_end):
    numbers = np.random.default_rng(0).normal(size=(20, 3)) * [1e-8, 1, 1e8]
    rows = [[*row, number % 3] for number, row in enumerate(numbers.tolist())]
    table = header + "".join(f"{str(row)[1:-1]}\n" for row in rows)
    file = read_csv(write(table.replace("\n", line_end)))
    expected = np.loadtxt(table.splitlines(), delimiter=",", skiprows=len(header) // 8)
    np.testing.assert_array_equal(file.inputs, expected[:, :3])
    assert file.inputs.dtype == np.float64
    assert [int(label) for label in file.labels] == expected[:, 3].tolist()
    assert file.names == (
        ("a", "b", "c") if header else ("column 1", "column 2", "column 3")
    )


def test_labels_lose_blanks_and_quotes_and_nothing_else(write):
    file = read_csv(write("1,'-1'\n2, +1 \n3,\" ' x\"\n4,' a b '\n5,'\n6,01"))
    assert file.labels == ("-1", "+1", "' x", "a b", "'", "01")


@pytest.mark.parametrize(
    ("header", "label", "expected"),
    [
        ("x,y,z", "", "z"),
        ("x,y,z", "y", "y"),
        ("label,y,z", "", "label"),
        ("x,'Target',z", "", "Target"),
        ("target,class,z", "", "class"),
        ("target,class,z", "z", "z"),
        ("1.5,2.5,3.5", "2.5", "2.5"),  # a header, for its column is named
    ],
)
def test_column_of_labels(write, header, label, expected):
    file = read_csv(write(f"{header}\n1,2,3\n4,5,7\n"), label=label)
    names = [name.strip("'") for name in header.split(",")]
    column = names.index(expected)
    assert file.labels == tuple(np.array([[1, 2, 3], [4, 5, 7]])[:, column].astype(str))
    assert file.names == tuple(name for name in names if name != expected)


@pytest.mark.parametrize(
    ("first", "labels"),
    [
        ("a,b,c", "xy"),
        ("1,b,3", "xy"),
        (",b,c", "xy"),
        ("1,2,c", "cxy"),
        ("1,2,Class", "xy"),
    ],
)
def test_a_header_has_a_word_above_numbers(write, first, labels):
    file = read_csv(write(f"{first}\n5,2,x\n3,4,y\n"))
    assert file.labels == tuple(labels)
    assert file.inputs[-2:, -1].tolist() == [2, 4]


def test_a_class_may_be_called_so(write):
    file = read_csv(write("1,2,class\n3,4,x\n5,6,class\n"))
    assert file.labels == ("class", "x", "class") and file.label_name == "column 3"


def test_columns_of_numbers_may_share_a_name(write):
    file = read_csv(write("a,a,label\n1,2,x\n3,4,y\n"))
    assert file.names == ("a", "a") and file.inputs.tolist() == [[1, 2], [3, 4]]


def test_columns_without_a_header_can_be_named(write):
    file = read_csv(write("3,1\n4,2\n"), label="column 1")
    assert (file.names, file.labels) == (("column 2",), ("3", "4"))


@pytest.mark.parametrize(
    ("header", "column", "kept"),
    [
        ("", "0 1 2", False),
        ("", "7 30 2", False),  # of a shuffled part
        ("", "0 1 1", True),
        ("", "0.5 1 2", True),
        ("i", "0 1 2", True),
    ],
)
def test_an_unnamed_column_of_row_numbers_is_dropped(write, header, column, kept):
    rows = "".join(f"{i},{x},c\n" for i, x in zip(column.split(), "689", strict=True))
    file = read_csv(write(f"{header},x,label\n{rows}"))
    assert file.inputs[:, -1].tolist() == [6, 8, 9]
    assert file.inputs.shape[1] == 1 + kept
    assert file.names == ((header or "column 1", "x") if kept else ("x",))


def test_constant_columns_are_kept_and_named_once(write, caplog):
    with caplog.at_level(logging.WARNING):
        file = read_csv(write("a,b,c,y\n1,2,0,p\n1,3,0,q\n"))
    assert file.inputs.tolist() == [[1, 2, 0], [1, 3, 0]]
    (record,) = caplog.records
    assert "['a', 'c']" in record.getMessage()


def test_byte_order_mark_and_blank_lines(write):
    plain = read_csv(write(FLOWERS))
    other = read_csv(write(b"\xef\xbb\xbf\n" + FLOWERS.replace("\n", "\n\n").encode()))
    assert other.names == plain.names == ("length", "width")
    assert other.labels == plain.labels == ("rose", "lily")
    np.testing.assert_array_equal(other.inputs, plain.inputs)


# ------------------------------------------------------------------------------- texts


def test_texts_with_tabs_have_no_quotes(write):
    table = '\tid\tTitle\tlabel\n0\t7\t"Ọjọ́ – a, b\tx\n1\t8\t say "no" \ty\n'
    file = read_csv(write(table, "titles.TSV"), text="Title")
    texts = ('"Ọjọ́ – a, b', ' say "no" ')
    assert file == (("Title",), texts, ("x", "y"), "label", (2, 3))


def test_texts_with_commas_have_quotes(write, tmp_path):
    texts = ['say "no"', "a, b", "two\nlines", " blanks "]
    with (tmp_path / "quoted.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text", "y"], *([t, "l"] for t in texts)])
    assert read_csv(tmp_path / "quoted.csv", text="text").inputs == tuple(texts)


def test_texts_without_a_header(write):
    assert read_csv(write("a b,x\n", "a.csv"), text="column 1").inputs == ("a b",)


# ------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", {}, "has no rows of samples: add some"),
        ("\n\n", {}, "has no rows of samples"),
        ("text,label\n", {"text": "text"}, "has no rows of samples"),
        ("a,b,kind\n", {}, "has no rows of samples"),
        ("a,b,kind\n", {"label": "kind"}, "has no rows of samples"),
        ("a;b;label\n1;2;x\n", {}, "has semicolons in its first row, and no commas:"),
        ("a;b\n1,5;x\n", {"text": "a"}, "has semicolons in its first row, and no com"),
        ("a\tb\n1\tx\n", {}, "has tabs in its first row, and no commas: save it"),
        ("a,label,Label\n1,0,x\n", {}, r"2 columns of labels, \['label', 'Label'\]"),
        ("1\n2\n", {}, "no column beside its labels 'column 1': .* suffix .csv"),
        (FLOWERS, {"label": "kind"}, r"no column 'kind': choose label among \['len"),
        (FLOWERS, {"text": "words"}, "no column 'words': choose text among"),
        (  # nothing but the right name tells that this is a header
            "headline,topic\nA goal,sport\n",
            {"text": "headlin"},
            r"choose text among \['headline', 'topic'\] if line 1 is the header, or e",
        ),
        ("a,a,b\n1,2,3\n", {"label": "a"}, "has 2 columns 'a': choose label"),
        (FLOWERS, {"text": "class"}, "'class' cannot be both text and label"),
        (FLOWERS + "1,2\n", {}, "line 4 has 2 cells, but line 1 has 3"),
        ('x,y\n"1\n",p\n\n1,2,3\n', {}, "line 5 has 3 cells, but line 1 has 2"),
        (
            FLOWERS + "1,2;5,lily\n",
            {},
            "line 4, column 'width': '2;5' is not a number: correct it",
        ),
        (FLOWERS + "1_0,2,lily\n", {}, "line 4, column 'length': '1_0' is not a num"),
        (
            FLOWERS + "1, ,lily\n",
            {},
            "line 4, column 'width': ' ' is empty: fill",
        ),
        (FLOWERS + "NaN,1,lily\n", {}, "line 4, column 'length': 'NaN' is not finite"),
        (FLOWERS + "-inf,1,lily\n", {}, "'-inf' is not finite"),
        (FLOWERS + "1e39,1,lily\n", {}, "'1e39' is not finite in float32"),
        (FLOWERS + "1,2,' '\n", {}, "line 4, column 'class': .* is no label: give"),
        ("nan,1,x\n2,3,y\n", {}, "line 1, column 'column 1': 'nan' is not finite"),
        ("a,y\n1,p\n,q\n", {}, "line 3, column 'a': '' is empty"),
        (
            "t,y\n \t,l\n",
            {"text": "t"},
            r"line 2, column 't': ' \\t' is no text",
        ),
        (
            b"t,y\na,b\nf\xe9e,l\n",
            {"text": "t"},
            "line 3: byte 0xe9 is not UTF-8",
        ),
        ('t,y\na,b\n"c,l\n', {"text": "t"}, "line 3: unexpected end of data: check"),
        ("1,y\n" + "x" * 99 + ",l\n", {}, r"'x+\.\.\.x+' is not a number"),
    ],
)
def test_bad_content_is_named(write, content, options, message):
    path = write(content)
    with pytest.raises(ValueError, match=f"^data: {re.escape(str(path))}.*{message}"):
        read_csv(path, **options)


def test_bad_paths_are_named(tmp_path, write):
    with pytest.raises(ValueError, match=r"there is no file .*none.csv: put it there"):
        read_csv(tmp_path / "none.csv")
    with pytest.raises(ValueError, match=r"samples.txt is neither a .csv file"):
        read_csv(write(FLOWERS, "samples.txt"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match=r"folder.csv cannot be read \("):
        read_csv(tmp_path / "folder.csv")


# ----------------------------------------------------------------------- class numbers


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["b", "a", "B", "b"], ("B", "a", "b")),
        (["10", "-1", "9"], ("-1", "9", "10")),
        (["1", "0.1e2", "0.5"], ("0.5", "1", "0.1e2")),
        (["10", "9", "x"], ("10", "9", "x")),
        (["nan", "x", "inf"], ("inf", "nan", "x")),
        ([], ()),
    ],
)
def test_classes_are_numbered_in_order(labels, names):
    numbers, found = class_numbers(labels)
    assert found == names
    assert numbers.dtype == np.int32 and numbers.shape == (len(labels),)
    assert [names[number] for number in numbers] == labels


def test_classes_of_given_names():
    numbers, names = class_numbers(["b", "a", "b"], ["c", "b", "a"])
    assert numbers.tolist() == [1, 2, 1] and names == ("c", "b", "a")
    with pytest.raises(ValueError, match=r"'d' at position 1 is none of .*'c', 'b'"):
        class_numbers(["a", "d"], ["c", "b", "a"])


@pytest.mark.parametrize("one", ["1.0", "01", "+1", "1e0"])
@pytest.mark.parametrize("other", ["2", "cat"])
def test_one_class_written_in_two_ways_is_refused(write, one, other):
    message = rf"'{re.escape(one)}' in line 4 is the number '1' in line 2, and would"
    with pytest.raises(ValueError, match=message):
        file = read_csv(write(f"a,label\n1,1\n2,{other}\n3,{one}\n4,1\n"))
        class_numbers(file.labels, lines=file.lines)


@pytest.mark.parametrize("label", ["nan", "NaN", "-inf", "1e999"])
def test_a_class_among_numbers_is_finite(label):
    with pytest.raises(ValueError, match=f"'{label}' at position 1 is no finite num"):
        class_numbers(["1", label, "2"])


@pytest.mark.parametrize("place", ["1,2,x\0\n", "1,2\0,x\n", "\0\n", "1,2,x\n\0"])
def test_a_nul_is_refused_with_its_line(write, place):
    table = "a,b,label\n1,2,y\n" + place
    line = 1 + table[: table.index("\0")].count("\n")
    with pytest.raises(ValueError, match=f"samples.csv, line {line} has a NUL charact"):
        read_csv(write(table))


def test_numbers_that_are_large_keep_what_they_differ_by(write):
    cells = [1_700_000_000 + i for i in range(9)]
    file = read_csv(write("".join(f"{cell},x\n" for cell in cells)))
    np.testing.assert_array_equal(np.diff(file.inputs[:, 0]), 1)


@pytest.mark.parametrize(("first", "warned"), [(2**53, True), (2**53 - 40, False)])
def test_whole_numbers_that_are_rounded_are_named(write, caplog, first, warned):
    logging.getLogger("absl").propagate = True
    table = "id,y\n" + "".join(f"{first + i},{i % 2}\n" for i in range(9))
    with caplog.at_level(logging.WARNING):
        read_csv(write(table))
    found = [r.getMessage() for r in caplog.records if "rounded" in r.getMessage()]
    assert len(found) == warned
    assert not warned or f"column 'id': {first + 1} is rounded" in found[0]


def test_several_files_are_one(tmp_path, caplog):
    rows = [f"{i},{i % 2},{'ab'[i % 3 > 0]}" for i in range(30)]
    whole = tmp_path / "whole.csv"
    whole.write_text("\n".join(["x,y,label", *rows]))
    for part, start in {"1": 0, "10": 7, "2": 22}.items():  # as their names follow
        stop = {0: 7, 7: 22, 22: 30}[start]
        lines = ["x,y,label", *rows[start:stop]]
        (tmp_path / f"part-{part}.csv").write_text("\n".join(lines))
    found, expected = read_csv(tmp_path / "part-*.csv"), read_csv(whole)
    np.testing.assert_array_equal(found.inputs, expected.inputs)
    assert found.labels == expected.labels and found.names == expected.names
    assert found.lines[0] == "2 of part-1.csv" and found.lines[29] == "9 of part-2.csv"
    assert "constant" not in caplog.text

    dataset = csv_sets.load(tmp_path / "part-*.csv", test_share=0)
    same = csv_sets.load(whole, test_share=0)
    np.testing.assert_array_equal(dataset.train_inputs, same.train_inputs)
    np.testing.assert_array_equal(dataset.train_labels, same.train_labels)

    texts = read_csv(tmp_path / "part-*.csv", text="x")
    assert texts.inputs == read_csv(whole, text="x").inputs
    with open(tmp_path / "part-10.csv", "a") as file:
        file.write("\n7,8,B")
    with pytest.raises(ValueError, match="'B' in line 17 of part-10.csv"):
        csv_sets.load(tmp_path / "part-*.csv", classes=("a", "b"), test_share=0)
    (tmp_path / "part-3.csv").write_text("x,z,label\n1,2,a\n")
    with pytest.raises(ValueError, match="part-3.csv has the columns .*'z'"):
        read_csv(tmp_path / "part-*.csv")
    with pytest.raises(ValueError, match="there is no file .*/other-"):
        read_csv(tmp_path / "other-*.csv")
    odd = tmp_path / "odd[1].csv"  # a name that looks like a pattern
    odd.write_text(whole.read_text())
    assert read_csv(odd).labels == expected.labels
