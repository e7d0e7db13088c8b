"""Tests of the list of suspicious samples against hand computations."""

import csv

import numpy as np
import pytest

from cmwjax.core.labels import UNKNOWN
from cmwjax.files import replacing
from cmwjax.report.samples import (
    COLUMNS,
    is_wrong,
    read_samples,
    write_samples,
    wrong_label_auroc,
)

SAMPLES = dict(
    row=[7, 3, 9, 4, 0],
    given_label=["b", "a", "c", "c", "b"],
    suggested_label=["b", "c", "c", "a", "b"],
    true_label=["b", "c", "", "a", "b"],
    family=[0, 1, 1, 2, 0],
    quality=np.array([0.9, 0.2, 0.6, 0.2, 0.6], np.float32),
    weights=np.array([0.1, 0.3, 0.5, 0.7, 0.9], np.float32),
    losses=np.array([0.1, 2.5, 0.3, 4.0, 1 / 3], np.float32),
)
# What a class or a file may be called.
NAMES = ["a,b", 'say "x"', "'", "\\", "$x$", "1", "1.0", "nan", " spaces ", "x" * 300]
NAMES += ["two\nlines", "a\rb", "c\r\nd", "tab\t", "\u2028", "\u4e2d", "\udcff", "a\0b"]


def test_lowest_quality_ranks_first_and_ties_go_by_loss(tmp_path):
    path = tmp_path / "samples.csv"
    write_samples(path, **SAMPLES)
    with path.open() as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["row", "file", "given_label", "suggested_label", "true_label"]
        + ["family", "quality", "weight", "loss", "rank"],
        ["4", "", "c", "a", "a", "2", "0.2", "0.7", "4.0", "1"],
        ["3", "", "a", "c", "c", "1", "0.2", "0.3", "2.5", "2"],
        ["0", "", "b", "b", "b", "0", "0.6", "0.9", "0.33333334", "3"],
        ["9", "", "c", "c", "", "1", "0.6", "0.5", "0.3", "4"],
        ["7", "", "b", "b", "b", "0", "0.9", "0.1", "0.1", "5"],
    ]


def test_equal_qualities_and_losses_rank_by_row(tmp_path):
    equal = SAMPLES | dict(quality=np.ones(5), losses=np.ones(5))
    write_samples(tmp_path / "samples.csv", **equal)
    samples = read_samples(tmp_path / "samples.csv")
    assert samples["row"].tolist() == [0, 3, 4, 7, 9]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_written_is_read_back_exactly(tmp_path, dtype):
    rng, texts = np.random.default_rng(0), np.array(NAMES, object)
    written = dict(
        row=rng.permutation(500),
        file=rng.choice(texts, 500),
        given_label=rng.choice(texts, 500),
        suggested_label=rng.choice(texts, 500),
        true_label=rng.choice([*texts, ""], 500),
        family=rng.integers(3, size=500),
        quality=rng.random(500).astype(dtype),
        weights=rng.random(500).astype(dtype),
        losses=np.exp(8 * rng.standard_normal(500)).astype(dtype),
    )
    write_samples(tmp_path / "samples.csv", **written)
    read = read_samples(tmp_path / "samples.csv")
    assert list(read) == list(COLUMNS)
    assert read["rank"].tolist() == list(range(1, 501))
    back = np.argsort(read["row"])  # both sorted by row
    there = np.argsort(written["row"])
    names = {"losses": "loss", "weights": "weight"}
    for name, values in written.items():
        column = read[names.get(name, name)]
        np.testing.assert_array_equal(column[back].astype(values.dtype), values[there])


def test_a_run_without_truth_or_families(tmp_path):
    plain = SAMPLES | dict(true_label=None, family=None, quality=np.ones(5))
    write_samples(tmp_path / "samples.csv", **plain)
    assert (
        "4,,c,a,,,1.0,0.7,4.0,1" in (tmp_path / "samples.csv").read_text().splitlines()
    )
    samples = read_samples(tmp_path / "samples.csv")
    assert (samples["true_label"] == "").all()
    assert (samples["family"] == UNKNOWN).all()
    assert samples["row"].tolist() == [4, 3, 0, 9, 7]  # by loss


@pytest.mark.parametrize("unknown", ["some", "all"])
def test_targets_and_those_that_nobody_knows_are_read_back_exactly(tmp_path, unknown):
    """Of a regression: 91.0 stays 91.0 beside 0.1, and NaN is an unknown truth.

    What was suggested is read back as the same float32.
    """
    rng = np.random.default_rng(1)
    true = np.round(rng.normal(0, 1e3, 200), 1)  # also negative ones, which are known
    if unknown == "some":
        true[::3] = np.nan
    written = dict(
        row=rng.permutation(200),
        given_label=np.r_[91.0, -1.0, 0.1, 1e16, rng.integers(9, size=196)],
        suggested_label=rng.normal(size=200),
        true_label=true if unknown == "some" else None,
        quality=rng.random(200),
        weights=rng.random(200),
        losses=rng.random(200),
    )
    write_samples(tmp_path / "samples.csv", **written)
    with (tmp_path / "samples.csv").open() as file:
        cells = {int(row["row"]): row for row in csv.DictReader(file)}
    assert cells[written["row"][0]]["given_label"] == "91.0"
    read = read_samples(tmp_path / "samples.csv", targets=True)
    if unknown == "all":
        written["true_label"] = np.full(200, np.nan)
    back, there = np.argsort(read["row"]), np.argsort(written["row"])
    for name in ("given_label", "suggested_label", "true_label"):
        assert read[name].dtype == np.float64
        as_type = np.float32 if name == "suggested_label" else np.float64
        np.testing.assert_array_equal(
            read[name][back].astype(as_type), written[name][there].astype(as_type)
        )
    for i, row in cells.items():
        known = bool(row["true_label"])
        assert known == np.isfinite(written["true_label"][written["row"] == i][0])
    wrong = is_wrong(read)[back]
    want = [
        t == t and t != g
        for t, g in zip(
            written["true_label"][there], written["given_label"][there], strict=True
        )
    ]
    assert wrong.tolist() == want and (sum(want) > 100 or unknown == "all")


def test_whole_targets_are_written_as_such(tmp_path):
    given = np.array([91, -3, 0, 2**40], float)
    others = SAMPLES | dict(true_label=np.array([91, np.nan, 1, 5.0]))
    some = {k: v if v is None else v[:4] for k, v in others.items()}
    some |= {"given_label": given, "suggested_label": np.array([90.5, 3, -0.0, 1.0])}
    write_samples(tmp_path / "samples.csv", **some)
    with (tmp_path / "samples.csv").open() as file:
        cells = {int(row["row"]): row for row in csv.DictReader(file)}
    by_row = [cells[int(row)] for row in some["row"]]
    written = [cell["given_label"] for cell in by_row]
    assert written == ["91", "-3", "0", str(2**40)]
    assert [cell["true_label"] for cell in by_row] == ["91", "", "1", "5"]
    suggested = [cell["suggested_label"] for cell in by_row]
    assert suggested == ["90.5", "3.0", "0.0", "1.0"]


@pytest.mark.parametrize("owned", [np.float32, np.float64])
def test_targets_are_the_shortest_decimals_of_what_was_given(tmp_path, owned):
    """Found digit by digit: as float32 or float64 has them; suggestions as float32."""
    held = np.float64(np.float32(0.1))
    given = np.array([held, 0.25, 123456.789012, -0.0], owned).astype(np.float64)
    suggested = np.array([1 / 3, 153.3, 2.0**-20, 1e300])
    write_samples(
        tmp_path / "samples.csv",
        row=np.arange(4),
        given_label=given,
        suggested_label=suggested,
        true_label=given[[0, 0, 2, 3]],
        quality=np.arange(4.0),
        weights=np.ones(4),
        losses=np.ones(4),
    )
    with (tmp_path / "samples.csv").open() as file:
        read = list(csv.DictReader(file))

    def shortest(value, kind):
        texts = (f"{kind(value):.{digits}g}" for digits in range(1, 18))
        return next(t for t in texts if kind(t) == kind(value))

    for row, value in zip(read, given, strict=True):
        assert float(row["given_label"]) == float(shortest(value, owned))
    same = [r["given_label"] == r["true_label"] for r in read]
    assert same == [True, False, True, True]
    for row, value in zip(read[:3], suggested, strict=False):
        assert float(row["suggested_label"]) == float(shortest(value, np.float32))
    assert float(read[3]["suggested_label"]) == 1e300


def test_rows_are_read_in_the_order_of_their_ranks(tmp_path):
    path = tmp_path / "samples.csv"
    write_samples(path, **SAMPLES)
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(rows)]))
    assert read_samples(path)["rank"].tolist() == [1, 2, 3, 4, 5]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "samples.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(weights=[0.5]), r"weight has shape \(1,\) beside 5 rows"),
        (dict(given_label=[list("bacca")]), r"given_label has shape \(1, 5\)"),
        (dict(losses=[0.1, np.nan, 1, 1, 1]), "loss of row 3 is nan"),
        (dict(weights=[0.1, 1, 1, 1, np.inf]), "weight of row 0 is inf"),
        (dict(quality=[np.nan, 1, 1, 1, 1]), "quality of row 7 is nan"),
        (dict(row=[7, 3, 9, 3, 0]), "row repeats"),
        ({name: [] for name in SAMPLES}, "at least one sample"),
    ],
)
def test_unfit_columns_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write_samples(tmp_path / "samples.csv", **SAMPLES | change)
    assert not list(tmp_path.iterdir())


def test_unfit_files_are_named(tmp_path):
    path = tmp_path / "samples.csv"
    with pytest.raises(FileNotFoundError, match="samples.csv is missing.*finish"):
        read_samples(path)
    header = ",".join(COLUMNS)
    for content, message in (
        ("index,loss\n1,2\n", r"lacks the columns \['row', 'file', 'given_label'"),
        (header, "lacks samples"),
        (f"{header}\n1,,2,3,,,1.0,1.0,often,1\n", "column 'loss'.*'often'"),
        (f"{header}\n1,,2,3,,,0.5,0.5\n", "a row of fewer cells than its header"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_samples(path)


def pair_count(scores, is_wrong):
    """Share of (wrong, right) pairs in which the wrong label scores higher."""
    wins = [
        1.0 if wrong > right else 0.5 if wrong == right else 0.0
        for wrong in scores[is_wrong]
        for right in scores[~is_wrong]
    ]
    return sum(wins) / len(wins)


def test_auroc_counts_pairs():
    rng = np.random.default_rng(0)
    is_wrong = rng.random(120) < 0.3
    weights = np.round(rng.random(120) - 0.4 * is_wrong, 1).astype(np.float32)  # ties
    auroc = wrong_label_auroc(weights, is_wrong)
    assert auroc == pytest.approx(pair_count(-weights, is_wrong), abs=1e-12)
    assert auroc > 0.7
    assert wrong_label_auroc(np.ones(120), is_wrong) == 0.5


@pytest.mark.parametrize("is_wrong", [[False] * 3, [True] * 3])
def test_auroc_is_nan_without_both_kinds(is_wrong):
    assert np.isnan(wrong_label_auroc([0.1, 0.2, 0.3], is_wrong))


def test_auroc_refuses_unfit_arrays():
    with pytest.raises(ValueError, match=r"quality has shape \(3,\)"):
        wrong_label_auroc([0.1, 0.2, 0.3], [True, False])
    with pytest.raises(ValueError, match="not finite"):
        wrong_label_auroc([0.1, np.nan], [True, False])
