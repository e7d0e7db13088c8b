"""Whose row is it: `samples.csv` against what the owner gave, found by its content.

No two inputs are equal, so the loss of a line, computed anew from the owner's own data
by the classifier that the run leaves, tells whether it is about that row.
"""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.metrics import roc_auc_score

import runs
from cmwjax import CMWClassifier, compare
from cmwjax.bias.problem import prepare
from cmwjax.classifier import load_classifier
from cmwjax.data import datasets
from cmwjax.data.dataset import Dataset
from cmwjax.report import plots
from image_files import SIZE, break_file, encoded, files, random_pixels, write_folder
from test_encoded import TinyWeb

SLOW = pytest.mark.slow  # others show it as well
NAMES = ["1.0", 'a "b", c', "two\nlines", "é$x$"]  # of classes
HELD_OUT = {"meta_set.per_class": 3, "meta_set.batch_size": 8}
HELD_OUT |= {"noise.kind": "none", "noise.rate": 0.0}
ERM = {"method": "erm", "epochs": 1, "warmup_epochs": 0, **HELD_OUT}  # compiles soon
COLUMNS = ["row", "file", "given_label", "suggested_label", "true_label"]
COLUMNS += ["family", "quality", "weight", "loss", "rank"]
ON_DISK = {
    "data.train_size": 0,
    "data.batch_size": 16,
    "data.stream.image_size": SIZE,
    "data.stream.resize": 0,
    "data.stream.workers": 0,
    "weighting.num_families": 2,
}


def lines_of(workdir):
    """The samples as another reader finds them, and the order of their columns."""
    text = (workdir / "samples.csv").read_bytes().decode()
    table = csv.DictReader(io.StringIO(text, newline=""))
    lines = list(table)
    assert table.fieldnames == COLUMNS
    return lines


def finished(tmp_path, **fields):
    """A run of one epoch, unless told otherwise, and its lines."""
    config = runs.tiny(**ERM | fields)
    runs.run(config, tmp_path / "run")
    lines = lines_of(tmp_path / "run")
    # As many as were trained on, each once.
    assert len({line["row"] for line in lines}) == len(lines)
    summary = json.loads((tmp_path / "run" / "problem.json").read_text())
    assert len(lines) == summary["samples"]["train"]
    return config, tmp_path / "run", lines


def parts(workdir):
    """Rows of each part, `set_aside.csv` by its reasons; no row is in two of them."""
    found = {}
    names = ("samples", "validation", "set_aside", "unreadable")
    for name in filter(lambda name: (workdir / f"{name}.csv").is_file(), names):
        with (workdir / f"{name}.csv").open(newline="") as file:
            for line in csv.DictReader(file):
                if line.get("set", "train") == "train":  # not those to test with
                    part = found.setdefault(line.get("reason", name), [])
                    part.append(int(line["row"]))
    assert len(set().union(*found.values())) == sum(map(len, found.values()))
    return {name: sorted(rows) for name, rows in found.items()}


def sizes(workdir, total):
    """How many rows are in each part, which together are all of them."""
    found = parts(workdir)
    assert sorted(sum(found.values(), [])) == list(range(total))
    return {name: len(rows) for name, rows in found.items()}


def check(workdir, lines, inputs, words):
    """Lines are about these rows of `inputs`, whose labels are `words`."""
    rows = [int(line["row"]) for line in lines]
    one = load_classifier(workdir, which="last")
    chances = one.predict_proba([inputs[row] for row in rows])
    names = one.classes.astype(str).tolist()
    assert len(set(rows)) > 20
    for line, row, chance in zip(lines, rows, chances, strict=True):
        assert line["given_label"] == line["true_label"] == words[row]
        assert line["suggested_label"] == names[chance.argmax()]
        loss = -np.log(chance[names.index(words[row])])
        np.testing.assert_allclose(float(line["loss"]), loss, rtol=2e-3, atol=1e-5)


# ---------------------------------------------------------------------- embedded sets


def test_a_part_of_the_digits(tmp_path):
    pixels, labels = load_digits(return_X_y=True)
    meta = {"method": "cmw_net", "epochs": 2, "warmup_epochs": 1}
    config, workdir, lines = finished(tmp_path, **meta, **{"data.validation": 40})
    assert len(lines) == 240 - 30 - 40
    images = np.rint(pixels * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    assert len(np.unique(images, axis=0)) == len(images) == 1797
    check(workdir, lines, images, [str(label) for label in labels])
    held_out = {"held out for the meta set": 30, "test": 360, "data.train_size": 1197}
    assert sizes(workdir, 1797) == {"samples": 170, "validation": 40} | held_out
    with np.load(workdir / "labels.npz") as file:
        np.testing.assert_array_equal(file["observed"], labels[file["row"]])
        trained = file["row"][file["train_index"]]
        assert sorted(trained) == sorted(int(line["row"]) for line in lines)
        parts = [file[f"{part}_index"] for part in ("train", "meta", "validation")]
        assert sorted(np.concatenate(parts)) == list(range(240))

    # What a comparison draws of the part is what the owner has in these rows.
    (tmp_path / "runs" / "cmw_net").mkdir(parents=True)
    workdir.rename(tmp_path / "runs" / "cmw_net" / "seed_0")
    drawn = {}

    def suspects(run_dir, shown, *, rows):
        drawn.update(zip(rows.tolist(), shown, strict=True))
        return original(run_dir, shown, rows=rows)

    original, plots.suspects = plots.suspects, suspects
    with config.unlocked():
        config.compare.methods, config.compare.seeds = ("cmw_net",), (0,)
    try:
        compare.draw_figures(config, tmp_path / "runs", prepare(config).dataset)
    finally:
        plots.suspects = original
    assert len(drawn) == 240
    for row, image in drawn.items():
        np.testing.assert_array_equal(image, images[row])


def test_rows_of_a_table_by_the_names_of_their_classes(tmp_path):
    bunch = load_breast_cancer()
    _, workdir, lines = finished(
        tmp_path, **{"data.name": "breast_cancer", "weighting.num_families": 2}
    )
    words = [str(bunch.target_names[label]) for label in bunch.target]
    check(workdir, lines, bunch.data, words)
    assert sizes(workdir, 569)["test"] == 143


def test_targets_are_those_of_their_rows(tmp_path):
    target = load_diabetes().target
    fields = {"data.name": "diabetes", "task": "regression", "loss": "squared_error"}
    _, workdir, lines = finished(tmp_path, **fields, **{"data.validation": 0.2})
    for line in lines:
        whole = str(int(target[int(line["row"])]))
        assert line["given_label"] == line["true_label"] == whole
    one = load_classifier(workdir, which="last")
    found = one.predict(load_diabetes().data[[int(line["row"]) for line in lines]])
    suggested = [float(line["suggested_label"]) for line in lines]
    np.testing.assert_allclose(suggested, found, rtol=1e-4)


# ---------------------------------------------------------------- files of one's own


def test_a_long_tail_of_an_archive(tmp_path):
    """Of 300 images 240 are taken, 12 held out, 10 % validate, and most drop out."""
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=300)
    images = rng.integers(0, 256, (300, 4, 4, 3), np.uint8)
    np.savez(
        tmp_path / "set.npz",
        x_train=images,
        y_train=labels,
        x_test=images[:20],
        y_test=labels[:20],
    )
    fields = {"data.name": str(tmp_path / "set.npz"), "data.imbalance_factor": 4.0}
    batch = {"data.batch_size": 20, "data.validation": 0.1}
    _, workdir, lines = finished(tmp_path, **fields, **batch)
    assert 60 < len(lines) < 200
    found = sizes(workdir, 300)
    assert found["long tail"] + found["validation"] + len(lines) == 240 - 12
    assert found["data.train_size"] == 60
    check(workdir, lines, images, [str(label) for label in labels])


@pytest.mark.parametrize("kind", [np.float32, pytest.param(np.float64, marks=SLOW)])
def test_targets_of_an_archive_have_the_digits_of_their_type(tmp_path, kind):
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(120, 3)), rng.normal(50, 9, 120).astype(kind)
    arrays = dict(x_train=inputs, y_train=targets, x_test=inputs, y_test=targets)
    np.savez(tmp_path / "set.npz", **arrays)
    fields = {"data.name": str(tmp_path / "set.npz"), "task": "regression"}
    sizes = {"data.train_size": 100, "data.batch_size": 20, "loss": "squared_error"}
    _, _, lines = finished(tmp_path, **fields, **sizes)
    for line in lines:
        assert line["given_label"] == str(targets[int(line["row"])])


def write_table(path, rows, newline):
    with path.open("w", newline="", encoding="utf-8") as file:
        for row in [["text", "label"], *rows]:
            csv.writer(file, lineterminator=newline).writerow(row)
            file.write(newline * (len(row[0]) % 3))  # blank lines, here and there


@pytest.mark.parametrize("newline", ["\n", pytest.param("\r\n", marks=SLOW)])
def test_texts_of_a_file_with_blank_lines_and_texts_of_several(tmp_path, newline):
    """A share is tested with, and what is trusted stands in another file."""
    rng = np.random.default_rng(1)
    words = np.array(
        ["ox", "yak", "emu", "gnu", "cat", "a,b", 'say "moo"', "new\nline"]
    )
    texts = [" ".join([f"no{i}", *rng.choice(words, 5)]) for i in range(200)]
    labels = rng.choice(np.array(NAMES, object), 200)
    write_table(tmp_path / "a.csv", zip(texts, labels, strict=True), newline)
    trusted = [(f"known {i} {word}", NAMES[i % 4]) for i, word in enumerate(words)]
    kept = datasets.load(str(tmp_path / "a.csv"), csv={"text": "text"}).rows[:3]
    trusted += [(texts[row], NAMES[0]) for row in kept]
    write_table(tmp_path / "b.csv", trusted, newline)
    fields = {
        "data.name": str(tmp_path / "a.csv"),
        "data.csv.text": "text",
        "data.csv.trusted": str(tmp_path / "b.csv"),
        "data.train_size": 0,
        "data.batch_size": 20,
        "data.validation": 30,
        "meta_set.policy": "external",
        "model.name": "text",
        "model.options": {"embedding": 8, "hidden": ()},
    }
    config, workdir, lines = finished(tmp_path, **fields)
    assert len(lines) == 200 - 50 - 30 - 3
    check(workdir, lines, texts, labels)
    # Rows of what is trusted go on from the last one of the first file.
    with np.load(workdir / "labels.npz") as file:
        assert file["row"][file["meta_index"]].tolist() == list(range(200, 211))
    found = parts(workdir)
    assert found["trusted"] == list(range(200, 211)) and len(found["test"]) == 50
    assert found["repeats a trusted sample"] == kept.tolist()
    assert sizes(workdir, 211)["validation"] == 30
    # Figures say the same.
    figure = plots.transition_matrix(workdir)
    shown = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert shown == [" ".join(name.split()) for name in sorted(NAMES)]
    data = prepare(config).dataset
    drawn = plots.text_suspects(workdir, data.shown, rows=data.rows).axes[0].texts
    for line, row, text in zip(lines, drawn[1::3], drawn[2::3], strict=False):
        assert row.get_text() == f"row {line['row']}"
        first = texts[int(line["row"])].split()[0]
        assert text.get_text().split()[0] == first


# ------------------------------------------------------------------- images on disk


@pytest.fixture
def broken(tmp_path):
    """A folder with a broken image in each of its parts, and where they are."""
    folder = tmp_path / "images"
    write_folder(folder)
    for path in (files(folder)[7], files(folder, "test")[2]):
        break_file(path, "empty")
    odd = files(folder)[20]
    return folder, odd.rename(odd.with_name('a, "b".png'))


@pytest.mark.parametrize("train_size", [pytest.param(0, marks=SLOW), 50])
def test_files_of_a_folder(tmp_path, broken, train_size):
    folder, odd = broken
    fields = {"data.name": f"folder:{folder}", **ON_DISK, "data.train_size": train_size}
    _, workdir, lines = finished_without_broken(tmp_path, fields)
    paths = sorted(folder.glob("train/*/*.png"))
    assert odd in paths
    for line in lines:
        assert folder / line["file"] == paths[int(line["row"])]
    found = sizes(workdir, len(paths))
    assert found.get("data.train_size", 0) == (len(paths) - 50 if train_size else 0)
    assert train_size or found["empty"] == 1
    images = [read(path) for path in paths]
    check(workdir, lines, images, [path.parent.name for path in paths])
    with (workdir / "unreadable.csv").open() as file:
        for line in csv.DictReader(file):
            path = sorted((folder / line["set"]).glob("*/*.png"))[int(line["row"])]
            assert path == folder / line["file"] and not path.read_bytes()
    titles = [axes.get_title() for axes in plots.suspects(workdir, images).axes]
    shown = [title.split("\n")[0].removeprefix("…") for title in titles if title]
    for line, name in zip(lines, shown, strict=False):
        assert line["file"].endswith(name) and len(name) == 11


def finished_without_broken(tmp_path, fields):
    """As `finished`, but that an image trained on may have been left out."""
    config = runs.tiny(**ERM | fields)
    runs.run(config, tmp_path / "run")
    lines = lines_of(tmp_path / "run")
    with (tmp_path / "run" / "unreadable.csv").open() as file:
        lost = {line["set"] for line in csv.DictReader(file)}
    assert "test" in lost
    with np.load(tmp_path / "run" / "labels.npz") as file:
        trained = set(file["row"][file["train_index"]])
    assert {int(line["row"]) for line in lines} == trained - {7}
    return config, tmp_path / "run", lines


def read(path):
    """An image, black where there is none."""
    if not path.read_bytes():
        return np.zeros((SIZE, SIZE, 3), np.uint8)
    with Image.open(path) as image:
        return np.asarray(image)


def test_records_of_tfds(tmp_path):
    builder = TinyWeb(data_dir=tmp_path / "prepared")
    builder.download_and_prepare(file_format="array_record")
    fields = ON_DISK | {"data.stream.image_size": 4, "data.stream.tests": ("val",)}
    fields |= {"data.name": f"tfds:{builder.data_path}", "data.train_size": 120}
    _, workdir, lines = finished(tmp_path, **fields)
    known = {encoded(random_pixels(i, 4)): i for i in range(300)}
    source = builder.as_data_source("train", decoders={"image": skip_decoding()})
    numbers = [known[record["image"]] for record in source]
    names = ["cat", "dog", "cow"]
    images = [random_pixels(i, 4) for i in numbers]
    check(workdir, lines, images, [names[7 * i % 3] for i in numbers])
    for line in lines:
        shard, number = line["file"].split("__")
        assert (builder.data_path / shard).is_file()
        assert number == line["row"]  # there is one shard


def skip_decoding():
    import tensorflow_datasets as tfds

    return tfds.decode.SkipDecoding()


# ------------------------------------------------------------------------------ arrays


def test_rows_of_arrays_are_what_their_owner_says(tmp_path):
    rng = np.random.default_rng(3)
    inputs, labels = rng.normal(size=(80, 3)), rng.integers(2, size=80)
    kept = rng.permutation(80)[:60]
    arrays = Dataset(
        inputs[kept], labels[kept], inputs, labels, 2, ("no", "yes"), kind="rows"
    )
    fields = {"data.train_size": 50, "data.batch_size": 20, "data.shards": 1}
    fields["weighting.num_families"] = 2
    config = runs.tiny(**ERM | fields)
    for name, data, whole in (
        ("positions", arrays, kept),
        ("rows", arrays._replace(rows=kept), np.arange(80)),
    ):
        runs.run(config, tmp_path / name, arrays=data)
        words = [("no", "yes")[labels[row]] for row in whole]
        check(tmp_path / name, lines_of(tmp_path / name), inputs[whole], words)


def test_rows_of_arrays_that_are_trusted_or_repeat_one(tmp_path):
    """Every fifth row is trusted, and the next one has the same inputs."""
    rng = np.random.default_rng(3)
    inputs, labels = rng.normal(size=(100, 3)), rng.integers(2, size=100)
    trusted = np.arange(0, 100, 5)
    inputs[trusted + 1] = inputs[trusted]
    data = Dataset(
        inputs,
        labels,
        inputs,
        labels,
        2,
        ("no", "yes"),
        kind="rows",
        trusted_index=trusted,
    )
    fields = {"data.train_size": 0, "data.batch_size": 20, "data.shards": 1}
    fields |= {"weighting.num_families": 2, "meta_set.policy": "external"}
    runs.run(runs.tiny(**ERM | fields), tmp_path / "run", arrays=data)
    found = parts(tmp_path / "run")
    assert found["trusted"] == trusted.tolist()
    assert found["repeats a trusted sample"] == (trusted + 1).tolist()
    assert sizes(tmp_path / "run", 100)["samples"] == 60


def test_every_row_given_to_the_front_is_judged_in_its_place(tmp_path):
    """Rows to train on, to validate with, trusted, and such as repeat a trusted one."""
    rng = np.random.default_rng(5)
    labels = rng.integers(3, size=160)
    inputs = np.float32(rng.normal(size=(160, 3)) + 9 * labels[:, None])
    given = np.where(np.arange(160) % 8, labels, (labels + 1) % 3)
    trusted = inputs[:12], labels[:12]
    clf = CMWClassifier(
        "erm",
        epochs=3,
        random_state=0,
        workdir=tmp_path / "run",
        config={"model.options": {"hidden": (8,)}, "data.batch_size": 20},
    ).fit(inputs, given, trusted=trusted, validation=0.25)
    counts = {"samples": 111, "validation": 37, "trusted": 12}
    counts["repeats a trusted sample"] = 12
    assert sizes(tmp_path / "run", 172) == counts
    assert clf.label_quality_.shape == (160,)
    np.testing.assert_array_equal(clf.label_quality_[:12], labels[:12] == given[:12])
    found = parts(tmp_path / "run")
    for name in ("samples", "validation"):
        with (tmp_path / "run" / f"{name}.csv").open() as file:
            for line in csv.DictReader(file):
                row = int(line["row"])
                assert clf.label_quality_[row] == float(line["quality"])
                assert str(clf.suggested_label_[row]) == line["suggested_label"]
                assert line["given_label"] == str(given[row])
    judged = np.array(found["validation"])
    assert not clf.sample_weight_[judged].any()
    suggested = clf.suggested_label_[judged] == clf.predict(inputs[judged])
    assert suggested.all()  # by the last epoch, and the selected one
    wrong = given[12:] != labels[12:]
    assert roc_auc_score(wrong, -clf.label_quality_[12:]) > 0.95


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.arange(5), r"rows are int64 of shape \[5\] and must be integers.*\[6\]"),
        (np.arange(6.0), "rows are float64"),
        ([0, 1, 2, 3, 3, 5], "rows have 3, which is twice"),
        ([0, 1, 2, -4, 3, 5], "rows have -4, which is negative"),
    ],
)
def test_unfit_rows_are_refused(rows, message):
    from cmwjax.data.dataset import validate

    inputs, labels = np.ones((6, 2)), [0, 1] * 3
    data = Dataset(inputs, labels, inputs, labels, 2, ("a", "b"), kind="rows")
    validate(data._replace(rows=np.arange(6)[::-1]), name="mine")
    with pytest.raises(ValueError, match=f"mine: {message}.*or None"):
        validate(data._replace(rows=rows), name="mine")
