"""Wrong uses of every door: one line that says what, where and what to do, and no file.

Each line names the field, argument or file, and the value; what to do comes after what
is wrong.
"""

import csv
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import KFold, LeaveOneOut

from cmwjax import CMWClassifier, compare, find_label_errors, load_classifier, train
from cmwjax.report.page import write_reports
from configs import own_data
from runs import some

# It follows what is wrong, or says what would be right.
REMEDY = re.compile(r"([:;.] +\w|must be |needs ).{8,}$")
SLOW = pytest.mark.slow  # they import others
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 3)).astype(np.float32), np.arange(40) % 2
PIXELS = RNG.integers(0, 256, (40, 8, 8), np.uint8)
FAST = {"method": "erm", "epochs": 1, "random_state": 0}
OWN = "data=rows.csv,methods=erm,epochs=1"


def write_csv(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def write_tables(folder):
    rows = [[*x, ["no", "yes"][y]] for x, y in zip(X[:, :2].tolist(), Y, strict=True)]
    header = ["a", "b", "label"]
    write_csv(folder / "rows.csv", header, rows)
    write_csv(folder / "one.csv", header, [[*row[:2], "no"] for row in rows])
    write_csv(folder / "nan.csv", header, [["nan", 1, "no"], *rows])
    write_csv(folder / "word.csv", header, [["red", 1, "no"], *rows])
    write_csv(folder / "maybe.csv", header, [[1, 1, "maybe"], *rows])
    write_csv(folder / "others.csv", ["c", "d", "label"], rows)
    write_csv(folder / "header.csv", header, [])
    (folder / "short.csv").write_text("a,b,label\n1,2,no\n3,yes\n")
    (folder / "bytes.csv").write_bytes(bytes(range(256)))
    texts = [[f"word {i % 2}", "ab"[i % 2]] for i in range(40)]
    write_csv(folder / "texts.csv", ["text", "label"], texts)
    write_csv(folder / "gone.csv", ["file", "label"], [["x.png", "a"], ["y.png", "b"]])


def write_archives(folder):
    def write(name, **arrays):
        np.savez(folder / name, **{"x_train": PIXELS, "y_train": Y} | arrays)

    write("images.npz")
    write("rows.npz", x_train=X)
    write("fewer.npz", y_train=Y[:30])
    write("nan.npz", x_train=X * np.nan)
    write("first.npz", x_train=np.zeros((40, 3, 8, 8), np.uint8))
    write("far.npz", y_train=Y + 5)
    write("negative.npz", y_train=Y - 1)
    write("shares.npz", y_train=Y + 0.5)
    np.savez(folder / "inputs.npz", x_train=X)
    (folder / "text.npz").write_text("no archive")


def write_folders(folder):
    for number in range(24):
        path = folder / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[number]).save(path)
    shutil.copytree(folder / "photos", folder / "other")
    (folder / "other" / "a").rename(folder / "other" / "c")
    shutil.copytree(folder / "photos" / "a", folder / "single" / "a")
    for name in ("empty", "words/a", "mine", "half"):
        (folder / name).mkdir(parents=True)
    (folder / "words" / "a" / "note.txt").write_text("no image")
    (folder / "mine" / "thesis.tex").write_text("years of work")
    (folder / "file").write_text("no folder")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of all kinds, a finished run, one that is not, and two comparisons."""
    folder = tmp_path_factory.mktemp("owner")
    write_tables(folder), write_archives(folder), write_folders(folder)
    before = Path.cwd()
    os.chdir(folder)  # so that the data have the name that they have in the tests
    try:
        train.run(own_data.get_config(OWN), "run", devices=some(1), report=False)
    finally:
        os.chdir(before)
    shutil.copy(folder / "run" / "config.json", folder / "half")
    for name, summary in (("runs", '{"methods": {}}'), ("torn", '{"meth')):
        (folder / name / "erm").mkdir(parents=True)
        shutil.copytree(folder / "run", folder / name / "erm" / "seed_0")
        (folder / name / "summary.json").write_text(summary)
    return folder


@pytest.fixture
def owner(folder, monkeypatch):
    """The same as the working directory; whoever writes anything there is found out."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CMWJAX_CACHE_DIR", str(folder / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(folder / "mine"))
    before = listing(folder)
    yield folder
    assert listing(folder) == before


def listing(folder):
    """What is in a folder, and when files changed."""
    return {
        path: path.is_file() and path.stat().st_mtime_ns for path in folder.rglob("*")
    }


def refused(call, message):
    """The call is refused with one line that matches, and ends with a remedy."""
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        call()
    said = str(error.value)
    assert "\n" not in said and re.search(message, said), said
    assert REMEDY.search(said), said


def run(arguments, workdir="new", **fields):
    """As `run.py` does, by arguments of configs/own_data.py and fields."""
    config = own_data.get_config(arguments)
    with config.unlocked():
        config.update_from_flattened_dict(fields)
    if config.compare.methods:
        return compare.run(config, workdir)
    return train.run(config, workdir)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("data=", "data='' .* names no data"),
        ("data=folder:", "data 'folder:' names nothing"),
        ("data=tfds:", "data 'tfds:' names nothing"),
        pytest.param("data=tfds:new", "no data set 'new'", marks=SLOW),
        ("data=nowhere.csv", "there is no file nowhere.csv"),
        ("data=nowhere.npz", "there is no file nowhere.npz"),
        ("data=no/where", "data 'no/where' is unknown"),
        ("data=file", "data 'file' is unknown"),
        ("data=empty", "empty has no images"),
        ("data=words", "words has no images"),
        ("data=single", r"single: every label is that of one class, \('a',\)"),
        ("data=header.csv", "header.csv has no rows"),
        ("data=one.csv", r"one.csv: every label is that of one class, \('no',\)"),
        ("data=nan.csv", "nan.csv, line 2, column 'a': 'nan' is not finite"),
        ("data=word.csv", "word.csv, line 2, column 'a': 'red' is not a number"),
        ("data=short.csv", "short.csv, line 3 has 2 cells"),
        ("data=bytes.csv", "bytes.csv, line 1 has a NUL"),
        ("data=rows.csv,label=kind", "rows.csv has no column 'kind'"),
        ("data=texts.csv,text=body", "texts.csv has no column 'body'"),
        ("data=texts.csv,text=label", "column 'label' cannot be both"),
        ("data=gone.csv,image=file", "no file that gone.csv lists .* as x.png"),
        ("data=text.npz", "text.npz cannot be read"),
        ("data=inputs.npz", "inputs.npz has no y_train: an archive"),
        ("data=fewer.npz", "fewer.npz: 40 train_inputs, but 30 train_labels"),
        ("data=nan.npz", "nan.npz: train_inputs has nan in row 0"),
        ("data=first.npz", r"first.npz: x_train have shape \[40, 3, 8, 8\]"),
        ("data=negative.npz", "negative.npz: y_train must .* got -1 at position 0"),
        ("data=shares.npz", "shares.npz: y_train must be integers .* float64"),
        ("data=rows.csv,trusted=maybe.csv", "to trust, column 'label': 'maybe' in li"),
        ("data=rows.csv,trusted=others.csv", r"others.csv has the columns \['c', 'd"),
        ("data=images.npz,trusted=far.npz", "far.npz: y_train must .* got 5"),
        ("data=images.npz,trusted=rows.npz", "rows.npz: x_train are rows"),
        ("data=photos,trusted=other", "other has images of 'c'"),
        ("data=photos,trusted=rows.csv", "csv.trusted='rows.csv' is no folder"),
        ("data=digits,trusted=rows.npz", "csv.trusted='rows.npz' is read only"),
        ("data=rows.csv,test=maybe.csv", "to test with, column 'label': 'maybe'"),
        ("data=photos,test=rows.csv", "test='rows.csv' .* data='photos' is none"),
        ("data=rows.csv,methods=cmwnet", "config.method='cmwnet' is unknown"),
        ("data=rows.csv,methods=erm+gc", "config.compare.methods='gc' is unknown"),
        ("data=rows.csv,seeds=0", "argument seeds=0"),
        ("data=rows.csv,epochs=-1", "config.epochs=-1 is out of range"),
        ("data=rows.csv,epochs=ten", "argument 'epochs=ten'"),
        ("data=rows.csv,epoch=10", "unknown argument 'epoch'"),
        ("data=rows.csv,validation=0", "config.data.validation=0"),
        ("data=rows.csv,validation=1", "argument validation=1.0"),
        ("data=rows.csv,validation=nan", "argument validation=nan"),
        ("data=photos,embed=resnet", "config.data.embed='resnet' is unknown"),
        ("data=rows.csv,embed=wordllama", "embed='wordllama' is for texts"),
    ],
)
def test_arguments_of_own_data(owner, arguments, message):
    refused(lambda: run(arguments), message)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("noise.rate", -0.1, "config.noise.rate=-0.1 is out of range"),
        ("noise.rate", 0.2, "config.noise.rate=0.2 has no effect with .*kind='none'"),
        ("noise.kind", "symmetric", "noise.kind='symmetric' would make"),
        ("optim.learning_rate", -1.0, "config.optim.learning_rate=-1.0 is out of"),
        ("data.batch_size", 1000, "config.data.batch_size=1000"),
        ("data.train_size", 1000, "config.data.train_size=1000"),
        ("data.labels", "gone.npz", "labels 'gone.npz'"),
        ("model.name", "resnet99", "model='resnet99' is unknown"),
        ("model.weights", "gone.pth", "config.model.weights='gone.pth' is not a"),
        ("weighting.load", "gone.npz", "weighting.load.*gone.npz"),
        ("data.csv.test_share", 1.5, "config.data.csv.test_share=1.5 is out of"),
    ],
)
def test_fields_of_a_run(owner, field, value, message):
    method = "cmw_net" if field == "weighting.load" else "erm"
    arguments = f"data=rows.csv,methods={method}"
    refused(lambda: run(arguments, **{field: value}), message)


@pytest.mark.parametrize("field", ["text", "length", "classes"])
@pytest.mark.parametrize("data", ["digits", "images.npz", "photos"])
def test_fields_of_csv_files_are_not_for_others(owner, data, field):
    value = {"text": "body", "length": 7, "classes": ("a", "b")}[field]
    fields = {f"data.csv.{field}": value}
    refused(lambda: run(f"data={data}", **fields), f"config.data.csv.{field}=")


@pytest.mark.parametrize(
    ("workdir", "arguments", "message"),
    [
        ("file", OWN, "workdir file exists and is not"),
        ("file/run", OWN, "workdir 'file/run' cannot be a folder"),
        ("mine", OWN, "workdir mine exists and is not"),
        ("runs", OWN, "workdir runs exists and is not"),
        ("x" * 300, OWN, "workdir 'xxx.* cannot be a folder"),
        ("run", OWN.replace("epochs=1", "epochs=2"), "epochs is 1 there and 2 here"),
        ("run", OWN.replace("erm", "gce"), "method is 'erm' there and 'gce' here"),
        ("run", OWN.replace("erm", "erm+gce"), r"compare.methods is \[\] there"),
    ],
)
def test_folders_of_others(owner, workdir, arguments, message):
    refused(lambda: run(arguments, workdir), message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": None}, "X: Expected 2D array"),
        ({"X": "hello"}, "X: could not convert string to float: 'hello'"),
        ({"X": X[:, 0]}, "X: Expected 2D array, got 1D array"),
        ({"X": X[:0], "y": Y[:0]}, r"X: Found array with 0 sample\(s\)"),
        ({"X": X * np.inf}, r"X has -?inf \(NaN or infinity\) in row 0, column 0"),
        ({"X": X + 1j}, "X: Complex data"),
        ({"X": [["red", 1.0]] * 40}, "X: could not convert string to float: 'red'"),
        ({"X": [[1, 2], [3]] * 20}, "X: setting an array element"),
        ({"X": np.zeros((40, 2, 2, 2, 2))}, "X: Found array with dim 5"),
        ({"X": X.reshape(40, 3, 1) - 9}, r"X must be uint8, or .*from -"),
        ({"X": [""] * 40}, "texts: '' at position 0 is empty"),
        ({"y": Y[:9]}, "X has 40 samples, but y has 9 labels"),
        ({"y": np.zeros(40)}, r"y has one class, \[0.0\]"),
        ({"y": np.where(Y, np.nan, 0)}, "y has nan .* at position 1"),
        ({"y": np.eye(2)[Y]}, r"y: .*shape \(40, 2\)"),
        ({"y": X[:, 0]}, "y: Unknown label type: continuous"),
        ({"trusted": 3}, "trusted=3 must be a pair"),
        ({"trusted": (X[:4], Y[:4] + 5)}, r"trusted\[1\] has 5 at position 0"),
        ({"trusted": (X[:4], Y[:3])}, r"trusted\[0\] has 4 .* trusted\[1\] has 3"),
        ({"trusted": (X[:, :2], Y)}, r"trusted\[0\]: X has 2 features"),
        ({"trusted": (X, Y)}, "every training sample of class 0 has the inputs"),
        ({"validation": 0.001}, "config.data.validation=0.001"),
        ({"validation": (X[:4], Y[:4] + 5)}, r"validation\[1\] has 5"),
        ({"X": np.ma.masked_array(X, X > 1)}, "X has masked values"),
        (
            {"trusted": (X[[0, 3, 0]], Y[[0, 1, 1]])},
            "trusted samples 0 and 2 have the same inputs and labels",
        ),
    ],
)
def test_arrays(owner, change, message):
    arguments = {"X": X, "y": Y} | change
    refused(lambda: CMWClassifier(**FAST).fit(**arguments), message)
    if "validation" not in change:  # the other door says the same
        refused(lambda: find_label_errors(cv=2, **FAST, **arguments), message)


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("method", "cmwnet", "method='cmwnet' is unknown"),
        ("method", "trusted_only", "meta_set.policy='lowest_loss' has no samples"),
        ("epochs", 0, "config.epochs=0 is out of range"),
        ("epochs", "ten", "epochs='ten' must be a whole number"),
        ("model", "small_conv", "model.name='small_conv' .* does not work on rows"),
        ("random_state", "a", "random_state='a' is no seed"),
        ("random_state", -1, "config.seed=-1 is out of range"),
        ("workdir", 3, "workdir=3 is a int"),
        ("workdir", "mine", "workdir mine exists"),
        ("config", {"optim.lr": 1}, "config has 'optim.lr', which is no field"),
        ("config", {"optim.learning_rate": "x"}, "'optim.learning_rate'='x', a str"),
        ("config", {"optim": 1}, "config has 'optim'=1, a int"),
        ("config", {"data.train_size": 9}, "'data.train_size'=9, which leaves rows"),
    ],
)
def test_parameters_of_the_front(owner, parameter, value, message):
    parameters = FAST | {parameter: value}
    refused(lambda: CMWClassifier(**parameters).fit(X, Y), message)


@pytest.mark.parametrize("cv", [0, 1, 21, "five"])
def test_numbers_of_parts(owner, cv):
    refused(lambda: find_label_errors(X, Y, cv=cv, **FAST), f"cv={cv!r} ")


@pytest.mark.parametrize(
    ("cv", "labels", "message"),
    [
        (KFold(2), np.sort(Y), "has a part with all samples of class number 0"),
        (LeaveOneOut(), np.arange(40), "leaves no row to judge"),
        ([], Y, "leaves no row to judge"),
        ([([0, 1], [50])], Y, "does not split 40 rows"),
    ],
    ids=["sorted", "alone", "none", "outside"],
)
def test_splits_that_do_not_fit(owner, cv, labels, message):
    refused(lambda: find_label_errors(X, labels, cv=cv, **FAST), message)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "nowhere holds no classifier.safetensors"),
        ("half", "half holds no classifier.safetensors"),
        ("runs", "runs is a comparison .* runs/erm/seed_0"),
        ("runs/erm", "runs/erm holds no classifier"),
        ("rows.csv", "rows.csv is no classifier"),
        ("run/labels.npz", "labels.npz is no classifier"),
        (3, "path=3 is a int"),
    ],
)
def test_paths_of_classifiers(owner, path, message):
    refused(lambda: load_classifier(path), message)
    refused(lambda: load_classifier("run", which="best"), "which='best' is unknown")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (X, r"inputs has shape \[40, 3\].* rows of shape \[2\]"),
        (X[0], r"inputs has shape \[3\]"),
        (X[:, :2] * np.nan, "inputs has nan in row 0, column 0"),
        (np.full((1, 2), "red"), "inputs must be numbers: .*'red'"),
    ],
)
def test_inputs_to_predict(owner, inputs, message):
    classifier = load_classifier("run")
    refused(lambda: classifier.predict(inputs), message)


class Table(dict):
    """As much of a DataFrame as is looked at."""

    columns = property(list)

    def __getitem__(self, names):
        return np.stack([self.get(name) for name in names], axis=1)


def test_tables_to_predict(owner):
    """Columns are found by their names, whatever their order and what else is there."""
    classifier = load_classifier("run")
    table = Table(z=np.zeros(40), b=X[:, 1], a=X[:, 0])
    want = classifier.predict_proba(X[:, :2])
    np.testing.assert_array_equal(classifier.predict_proba(table), want)
    del table["a"]
    refused(lambda: classifier.predict(table), "inputs has no columns \\['a'\\]")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "nowhere/samples.csv is missing"),
        ("empty", "empty/samples.csv is missing"),
        ("half", "half/samples.csv is missing"),
        ("file", "file/samples.csv is missing"),
        ("runs", "runs/summary.json has no seeds, seconds"),
        ("torn", "torn/summary.json is damaged"),
    ],
)
def test_folders_for_the_mode_report(owner, path, message):
    refused(lambda: write_reports(path), message)
