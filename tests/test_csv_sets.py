"""Data sets from one's own files, against the rows that were written into them."""

import csv
import statistics

import numpy as np
import pytest

from cmwjax.config import base_config
from cmwjax.data import csv_sets, datasets
from cmwjax.data.text import PAD, UNKNOWN

NAMES = ("cat", "dog", "eel")
# Every row has a number of its own, by which tests recognise it.
ROWS = [[i, (i * i) % 7, NAMES[i % 3 if i % 2 else 0]] for i in range(60)]
WORDS = ["alpha", "beta", "gamma", "delta"]
TEXTS = [[f"{WORDS[i % 4]} {WORDS[i % 3]}, no. {i}", NAMES[i % 3]] for i in range(36)]


@pytest.fixture
def write(tmp_path):
    """Writes rows under a header, and returns the path."""

    def write(name, rows, header=("number", "square", "label")):
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            delimiter = "\t" if name.endswith(".tsv") else ","
            csv.writer(file, delimiter=delimiter).writerows([header, *rows])
        return str(path)

    return write


def relabelled(rows, changes):
    """The rows with other labels at some positions."""
    return [[*row[:-1], changes.get(i, row[-1])] for i, row in enumerate(rows)]


def numbers(inputs):
    """The numbers by which rows are recognised."""
    return inputs[:, 0].astype(int).tolist()


# ------------------------------------------------------------------------------ tables


def test_a_share_is_taken_for_the_test_with_every_class_in_proportion(write):
    path = write("all.csv", ROWS)
    data = csv_sets.load(path, test_share=0.2)
    train, test = numbers(data.train_inputs), numbers(data.test_inputs)
    assert sorted(train + test) == list(range(60)) and len(test) == 12
    assert train == sorted(train) and test == sorted(test)
    for part, labels in ((train, data.train_labels), (test, data.test_labels)):
        assert [NAMES[label] for label in labels] == [ROWS[i][2] for i in part]
    whole = np.bincount([NAMES.index(row[2]) for row in ROWS])
    shares = np.bincount(data.test_labels, minlength=3) / whole
    np.testing.assert_allclose(shares, 0.2, atol=0.5 / whole.min())
    assert numbers(csv_sets.load(path, test_share=0.2).test_inputs) == test
    assert len(csv_sets.load(path).test_labels) == 15


def test_a_file_to_test_with_leaves_all_rows_to_train_on(write):
    test = [[100, 1, "eel"], [101, 2, "cat"]]
    data = csv_sets.load(write("all.csv", ROWS), test=write("test.csv", test))
    assert numbers(data.train_inputs) == list(range(60))
    assert numbers(data.test_inputs) == [100, 101]
    assert data.test_labels.tolist() == [2, 0]  # numbered as in the first file
    assert data.class_names == NAMES and data.trusted_index is None
    assert data.kind == "rows" and data.train_inputs.dtype == np.float64


@pytest.mark.parametrize("with_test", [True, False])
def test_trusted_rows_come_last_and_every_position_shows_its_own(write, with_test):
    trusted = [[200 + i, 0, name] for i, name in enumerate(reversed(NAMES))]
    files = {"trusted": write("trusted.csv", trusted)}
    if with_test:
        files["test"] = write("test.csv", ROWS[:5])
    data = csv_sets.load(write("all.csv", ROWS), **files)
    size = len(data.train_labels)
    assert data.trusted_index.tolist() == [size - 3, size - 2, size - 1]
    assert numbers(data.train_inputs[data.trusted_index]) == [200, 201, 202]
    assert data.train_labels[data.trusted_index].tolist() == [2, 1, 0]
    assert not set(numbers(data.test_inputs)) & {200, 201, 202}
    assert len(data.shown) == size
    for inputs, shown in zip(data.train_inputs, data.shown, strict=True):
        assert shown == f"number = {inputs[0]:.4g}, square = {inputs[1]:.4g}"


@pytest.mark.parametrize("with_test", [True, False])
def test_truth_is_beside_what_was_observed(write, with_test):
    changes = {1: "eel", 2: "dog", 30: "eel"}
    files = {"truth": write("truth.csv", ROWS)}
    files["trusted"] = write("trusted.csv", [[300, 0, "dog"]])
    if with_test:
        files["test"] = write("test.csv", ROWS[40:])
    data = csv_sets.load(write("noisy.csv", relabelled(ROWS, changes)), **files)
    assert data.knows_true_labels and data.class_names == NAMES
    for i, number in enumerate(numbers(data.train_inputs)):
        true = "dog" if number == 300 else ROWS[number][2]
        assert NAMES[data.train_labels[i]] == true
        assert NAMES[data.observed_labels[i]] == changes.get(number, true)
    for number, label in zip(numbers(data.test_inputs), data.test_labels, strict=True):
        assert NAMES[label] == ROWS[number][2]  # tested by the truth


def test_a_class_may_be_in_the_truth_alone(write):
    noisy = relabelled(ROWS, {i: "cat" for i in range(60) if ROWS[i][2] == "dog"})
    data = csv_sets.load(write("noisy.csv", noisy), truth=write("truth.csv", ROWS))
    assert data.class_names == NAMES and set(data.observed_labels) == {0, 2}


@pytest.mark.parametrize("change", ["order", "rows"])
def test_the_truth_of_other_rows_is_refused(write, change):
    other = ROWS[::-1] if change == "order" else ROWS[:-1]
    with pytest.raises(ValueError, match="truth.csv has other samples than .*all.csv"):
        csv_sets.load(write("all.csv", ROWS), truth=write("truth.csv", other))


@pytest.mark.parametrize("part", ["test", "trusted"])
def test_a_class_that_the_first_file_lacks_is_refused(write, part):
    other = write("other.csv", [[1, 2, "cat"], [3, 4, "fox"]])
    purpose = {"test": "test with", "trusted": "trust"}[part]
    message = rf"{purpose}, column 'label': 'fox' in line 3 is none of .*'dog', 'e"
    with pytest.raises(ValueError, match=message):
        csv_sets.load(write("all.csv", ROWS), **{part: other})


@pytest.mark.parametrize("part", ["test", "trusted", "truth"])
def test_columns_that_differ_are_refused_with_both(write, part):
    other = write("other.csv", ROWS, header=("number", "cube", "label"))
    message = r"other.csv has the columns \['number', 'cube'\], and .*'square'"
    with pytest.raises(ValueError, match=message):
        csv_sets.load(write("all.csv", ROWS), **{part: other})


def test_a_share_that_cannot_be_taken_is_refused(write):
    path = write("all.csv", [*ROWS, [99, 1, "fox"]])
    message = "1 of 4 classes in column 'label' have one sample, as 'fox', but a share"
    with pytest.raises(ValueError, match=message):
        csv_sets.load(path)
    few = write("few.csv", [[i, i, "ab"[i % 2]] for i in range(4)])
    message = "test_share=0.25 cannot be taken of 4 samples .*config.data.csv.test a f"
    with pytest.raises(ValueError, match=message):
        csv_sets.load(few)


def test_commas_and_tabs_give_the_same(write):
    comma, tab = (csv_sets.load(write(f"all{s}", ROWS)) for s in (".csv", ".tsv"))
    np.testing.assert_array_equal(comma.train_inputs, tab.train_inputs)
    np.testing.assert_array_equal(comma.train_labels, tab.train_labels)
    assert csv_sets.is_name("a/B.TSV") and not csv_sets.is_name("csv.npz")


# ------------------------------------------------------------------------------- texts


def decoded(data, row):
    """Tokens of a row, as pieces."""
    pieces = {i + 2: piece for i, piece in enumerate(data.vocabulary.pieces)}
    return [pieces.get(t, t) for t in row if t != PAD]


def test_texts_become_tokens_by_the_words_of_training_and_trusted_ones(write):
    header = ("text", "label")
    trusted = [["trustword trustword", "dog"]]
    test = [["testword testword alpha", "cat"]]
    data = csv_sets.load(
        write("all.csv", TEXTS, header),
        text="text",
        test=write("test.csv", test, header),
        trusted=write("trusted.csv", trusted, header),
        length=40,
    )
    assert data.kind == "tokens" and data.train_inputs.shape == (37, 40)
    assert data.spec.vocabulary_size == data.vocabulary.size
    pieces = data.vocabulary.pieces
    assert {"<alpha>", "<trustword>"} <= set(pieces) and "<testword>" not in pieces
    for text, row in zip(data.shown, data.train_inputs, strict=True):
        first = f"<{text.split()[0]}>"
        assert decoded(data, row)[0] == first
    assert data.shown == [text for text, _ in TEXTS] + ["trustword trustword"]
    seen = decoded(data, data.test_inputs[0])
    assert seen[0] == UNKNOWN and "<alpha>" in seen


def test_texts_that_are_split_off_are_shown_beside_their_own_tokens(write):
    path = write("all.tsv", TEXTS, ("text", "label"))
    data = csv_sets.load(path, text="text", length=64)
    assert len(data.shown) == len(data.train_inputs) == 27
    again = data.vocabulary.encode(data.shown, 64)
    np.testing.assert_array_equal(again, data.train_inputs)
    names = dict(TEXTS)
    assert [data.class_names[y] for y in data.train_labels] == [
        names[text] for text in data.shown
    ]


def test_words_of_texts_that_are_split_off_to_test_with_give_no_token(write):
    """Each text has a word twice that no other text has."""
    rows = [[f"word{i} word{i} shared", "ab"[i % 2]] for i in range(20)]
    data = csv_sets.load(write("all.csv", rows, ("text", "label")), text="text")
    pieces = set(data.vocabulary.pieces)
    words = {f"<{text.split()[1]}>" for text, _ in rows}
    trained = {f"<{text.split()[1]}>" for text in data.shown}
    assert len(trained) == 15 and words & pieces == trained


# -------------------------------------------------------------------------- regression


def test_targets_are_numbers_and_no_classes(write):
    rows = [[i, -i, i / 4] for i in range(40)]
    data = csv_sets.load(write("all.csv", rows), label_kind="targets")
    assert data.num_classes == 0 and data.class_names == ()
    assert data.train_labels.dtype == np.float64 and len(data.test_labels) == 10
    np.testing.assert_array_equal(data.train_labels, data.train_inputs[:, 0] / 4)
    np.testing.assert_array_equal(data.test_labels, data.test_inputs[:, 0] / 4)


def test_a_target_that_is_no_number_is_refused(write):
    message = "'cat' in line 2 is no finite number.*config.task='classification'"
    with pytest.raises(ValueError, match=message):
        csv_sets.load(write("all.csv", ROWS), label_kind="targets")


@pytest.mark.parametrize("target", ["nan", "inf", "1e39", "1_000"])
def test_a_target_that_is_not_finite_is_refused(write, target):
    path = write("all.csv", [[1, 2, 3], [1, 2, target], [3, 4, 5], [5, 6, 7]])
    message = f"to train on, column 'label': '{target}' in line 3 is no finite"
    with pytest.raises(ValueError, match=message):
        datasets.load(path, label_kind="targets", csv={"test_share": 0.5})


def test_targets_observed_are_those_of_the_first_file_and_not_the_truth(write):
    true = [[i, -i, i / 4] for i in range(40)]
    noisy = [[i, -i, 7.5 if i % 5 == 0 else i / 4] for i in range(40)]
    data = datasets.load(
        write("noisy.csv", noisy),
        label_kind="targets",
        csv={"truth": write("truth.csv", true), "test": write("test.csv", true)},
    )
    np.testing.assert_array_equal(data.train_labels, np.arange(40) / 4)
    want = [row[2] for row in noisy]
    np.testing.assert_array_equal(data.observed_labels, want)
    observed = statistics.fmean(want), statistics.pstdev(want)
    assert data.units == pytest.approx(observed)


# ---------------------------------------------------------------- by name, and archives


def test_the_fields_of_a_configuration_are_the_arguments(write):
    fields = base_config().data.csv
    fields.test_share = 0.5
    data = datasets.load(write("all.csv", ROWS), csv=fields)
    assert len(data.test_labels) == 30


@pytest.mark.parametrize("dtype", [np.float64, np.int16, np.float32])
def test_rows_of_an_archive(tmp_path, dtype):
    x = np.arange(24).reshape(8, 3).astype(dtype)
    path = tmp_path / "rows.npz"
    y = np.arange(8) % 2
    np.savez(path, x_train=x, y_train=y, x_test=x[:3], y_test=y[:3])
    data = datasets.load(path)
    assert data.kind == "rows" and data.spec.shapes == [[3]]
    np.testing.assert_array_equal(data.train_inputs, x.astype(np.float32))
    assert data.shown[2] == "column 0 = 6, column 1 = 7, column 2 = 8"
    targets = datasets.load(path, label_kind="targets")
    assert targets.num_classes == 0
    np.testing.assert_array_equal(targets.train_labels, y)


@pytest.mark.parametrize("cell", [np.nan, -np.inf, 1e300, 3e38])
def test_rows_of_an_archive_that_are_no_numbers_are_refused(tmp_path, cell):
    x, y = np.ones((4, 2)), np.array([0, 1, 0, 1])
    x[2, 1] = cell
    path = tmp_path / "rows.npz"
    np.savez(path, x_train=x, y_train=y, x_test=x[:2], y_test=y[:2])
    message = "train_inputs has .* in row 2, column 1, which must be finite and below 1"
    with pytest.raises(ValueError, match=message):
        datasets.load(path)


X, Y = np.arange(12.0).reshape(6, 2), np.arange(6) % 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": X[:0]}, r"x_train has shape \[0, 2\], but rows .* or add samples"),
        ({"x_test": X[:0]}, r"x_test has shape \[0, 2\], but rows .* or add samples"),
        ({"x_train": X[:, 0]}, r"x_train has shape \[6\], but rows .* \[N, D\]"),
        ({"x_test": X[:, :1]}, r"train_inputs are \[2\], but test_inputs \[1\]: bring"),
        ({"x_train": X.astype(str)}, r"train_inputs must be float32 .* <U32 of shape"),
        ({"y_train": 0 * Y, "y_test": 0 * Y}, "every label is that of one class.*: a"),
    ],
)
def test_archives_of_rows_that_do_not_fit_are_refused(tmp_path, change, message):
    arrays = {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y}
    np.savez(tmp_path / "rows.npz", **arrays)
    assert datasets.load(tmp_path / "rows.npz").num_classes == 2
    np.savez(tmp_path / "rows.npz", **(arrays | change))
    with pytest.raises(ValueError, match=message):
        datasets.load(tmp_path / "rows.npz")


def test_one_class_is_none_to_tell_from_others(write):
    path = write("all.csv", [[i, i, "cat"] for i in range(20)])
    message = r"all.csv: every label is that of one class, \('cat',\): add samples of"
    with pytest.raises(ValueError, match=message):
        datasets.load(path)


def test_cells_may_be_true_or_false(tmp_path):
    arrays = {"x_train": X > 3, "y_train": Y, "x_test": X > 5, "y_test": Y}
    np.savez(tmp_path / "rows.npz", **arrays)
    data = datasets.load(tmp_path / "rows.npz")
    assert data.train_inputs.tolist() == (X > 3).astype(float).tolist()
