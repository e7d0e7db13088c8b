"""Data of one's own, in any form: nothing is put on top, and nothing called a test."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from cmwjax import compare, defaults, train
from cmwjax.bias.problem import prepare
from cmwjax.config_check import check_config
from cmwjax.data import datasets, on_disk
from cmwjax.data.encoded import are_copies
from cmwjax.report.result import sentence, summarise
from configs import (
    cifar,
    cifar_lt,
    common,
    embeddings,
    fashion_mnist,
    own_data,
    partial,
    quickstart,
    regression,
    selective,
    semi,
    tabular,
    text,
    transfer,
    webvision,
)

FILES = [
    cifar,
    cifar_lt,
    embeddings,
    fashion_mnist,
    own_data,
    partial,
    quickstart,
    regression,
    selective,
    semi,
    tabular,
    text,
    transfer,
    webvision,
]
PIXELS, DIGITS = load_digits(n_class=3, return_X_y=True)
IMAGES = np.rint(PIXELS[:120] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
LABELS = DIGITS[:120].astype(np.int32)


def own(**arguments):
    """The configuration that arguments after the colon make."""
    text = ",".join(f"{name}={value}" for name, value in arguments.items())
    config = own_data.get_config(text)
    check_config(config)
    return config


@pytest.fixture
def archive(tmp_path):
    def write(name="own.npz", **arrays):
        np.savez(tmp_path / name, **{"x_train": IMAGES, "y_train": LABELS} | arrays)
        return tmp_path / name

    return write


@pytest.fixture
def folder(tmp_path):
    """Images of 28 pixels in a folder for each class, and a list of them."""
    rows = []
    for number in range(24):
        name = f"photos/{'abc'[LABELS[number]]}/{number}.png"
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[number]).resize((28, 30)).save(tmp_path / name)
        rows.append([name, "abc"[LABELS[number]]])
    with (tmp_path / "list.csv").open("w") as file:
        csv.writer(file).writerows([["file", "class"], *rows])
    return tmp_path


def test_an_archive_without_a_test_set(archive):
    config = own(data=archive())
    assert (config.noise.kind, config.data.labels) == ("none", "given")
    assert config.meta_set.policy == "lowest_loss" and config.warmup_epochs >= 1
    assert config.method == "cmw_net" and not config.compare.methods
    problem = prepare(config)
    np.testing.assert_array_equal(problem.labels, LABELS)
    assert len(problem.validation_index) == 12 and not problem.dataset.has_test
    assert not set(problem.validation_index) & set(problem.train_index)


def test_an_archive_with_trusted_samples_a_test_set_and_names(archive):
    words = np.array(["zero", "one", "two"])
    trusted = archive("trusted.npz", x_train=IMAGES[:9], y_train=LABELS[:9])
    tested = archive(x_test=IMAGES[100:], y_test=LABELS[100:])
    config = own(data=tested, trusted=trusted)
    assert config.meta_set.policy == "external" and config.data.validation == 0
    problem = prepare(config)
    np.testing.assert_array_equal(problem.meta_index, np.arange(120, 129))
    np.testing.assert_array_equal(problem.train_index, np.arange(9, 120))
    assert problem.dataset.has_test
    named = datasets.load(archive(y_train=words[LABELS]))
    assert named.class_names == ("one", "two", "zero")
    np.testing.assert_array_equal(
        np.array(named.class_names)[named.train_labels], words[LABELS]
    )


def test_a_table_keeps_all_rows(tmp_path):
    rows = np.random.default_rng(0).normal(size=(90, 2)).round(3)
    cells = [[*row, ["no", "yes"][i % 3 > 1]] for i, row in enumerate(rows)]
    with (tmp_path / "own.csv").open("w") as file:
        csv.writer(file).writerows([["a", "b", "class"], *cells])
    problem = prepare(own(data=tmp_path / "own.csv"))
    assert len(problem.labels) == 90 and len(problem.validation_index) == 9
    tested = own(data=tmp_path / "own.csv", test=tmp_path / "own.csv")
    assert len(prepare(tested).dataset.test_labels) == 90
    assert tested.data.validation == 0
    with (tmp_path / "right.csv").open("w") as file:
        csv.writer(file).writerows([["a", "b", "class"], *cells[10:20]])
    trusted = own(data=tmp_path / "own.csv", trusted=tmp_path / "right.csv")
    problem = prepare(trusted)
    assert problem.repeats.tolist() == list(range(10, 20))
    assert problem.meta_index.tolist() == list(range(90, 100))


@pytest.mark.parametrize("form", ["folder", "list"])
def test_a_folder_of_photos_as_it_is(folder, form):
    arguments = {"data": folder / "photos"}
    if form == "list":
        arguments = {"data": folder / "list.csv", "image": "file"}
    config = own(**arguments)
    assert config.data.stream.image_size == config.data.stream.resize == 28
    assert config.model.name == "small_conv" and config.data.stream.tests == ()
    dataset = prepare(config).dataset
    assert dataset.class_names == ("a", "b", "c") and not dataset.has_test
    for name, label in zip(dataset.file_names, dataset.train_labels, strict=True):
        assert name.split("/")[-2] == "abc"[label]
    assert len(dataset.file_names) == 24


def test_photos_that_are_trusted(folder):
    trusted = folder / "right" / "c" / "below.png"
    trusted.parent.mkdir(parents=True)
    source = next((folder / "photos" / "c").iterdir())
    trusted.write_bytes(source.read_bytes())
    config = own(data=folder / "photos", trusted=folder / "right")
    problem = prepare(config)
    assert config.meta_set.policy == "external" and config.data.shards == 1
    assert problem.meta_index.tolist() == [24] and 24 not in problem.train_index
    (repeated,) = problem.repeats  # the same bytes in another place are one photo
    assert Path(problem.dataset.file_names[repeated]).name == source.name
    assert sorted([*problem.train_index, *problem.validation_index, repeated]) == list(
        range(24)
    )
    assert problem.labels[24] == 2
    files = problem.dataset.files.train
    assert files.read(24) == source.read_bytes()
    assert files.names[24].endswith("right/c/below.png")
    trusted.parent.rename(trusted.parent.with_name("d"))
    with pytest.raises(ValueError, match="right has images of 'd', which is none of"):
        own(data=folder / "photos", trusted=folder / "right")


def test_a_photo_is_itself_by_its_bytes_and_by_nothing_else(folder, caplog):
    """Of the same folder, in a list, of the same size but other bytes, and gone."""
    paths = sorted((folder / "photos").rglob("*.png"))
    listed = on_disk.load(f"folder:{folder / 'list.csv'}", tests=(), text="file")
    more = on_disk.load(f"folder:{folder / 'photos'}", tests=())
    read = listed.with_more(more, "right").train.read
    size = len(paths)
    every, theirs = np.arange(size), np.arange(size, 2 * size)
    assert are_copies(read, every, theirs).all()
    some = are_copies(read, every, theirs[:5])
    assert [listed.train.names[i] for i in np.flatnonzero(some)] == sorted(
        (str(path.relative_to(folder)) for path in paths[:5]),
        key=listed.train.names.index,
    )
    other = bytearray(paths[0].read_bytes())
    other[-1] ^= 1
    (folder / "photos" / "a" / "other.png").write_bytes(other)
    alone = on_disk.load(f"folder:{folder / 'photos'}", tests=()).train
    place = alone.names.index("a/other.png")
    others = np.delete(np.arange(size + 1), place)
    assert not are_copies(alone.read, np.array([place]), others).any()
    (folder / "photos" / "a" / "other.png").unlink()
    assert not are_copies(alone.read, np.array([place]), others).any()
    trusted = own(data=folder / "list.csv", image="file", trusted=folder / "photos")
    with pytest.raises(ValueError, match="every training sample of class 'a' has the"):
        prepare(trusted)


def test_a_folder_with_a_test_set(folder):
    (folder / "photos").rename(folder / "train")
    (folder / "test" / "a").mkdir(parents=True)
    source = next((folder / "train" / "a").iterdir())
    source.rename(folder / "test" / "a" / source.name)
    config = own(data=folder)
    assert config.data.stream.tests == ("test",) and config.data.validation == 0
    assert prepare(config).dataset.test_labels.tolist() == [0]


@pytest.mark.parametrize(
    ("size", "model"),
    [
        (defaults.Size("images", (28, 28, 1), [100] * 10), "small_conv"),
        (defaults.Size("images", (8, 8, 1), [100] * 10), "mlp"),
        (defaults.Size("rows", (30,), [100, 50]), "mlp"),
        (defaults.Size("tokens", (256,), [100, 50]), "text"),
    ],
)
def test_the_network_is_chosen_by_the_data(size, model):
    config = own()
    defaults.fit_to(config, size)
    assert config.model.name == model


@pytest.mark.parametrize("samples", [300, 5000])
def test_long_rows_are_learned_from_in_small_steps(samples):
    """Gradient descent with momentum m is stable for rate x curvature < 2 (1 + m).

    The curvature of cross entropy in a layer's weights is at most half the squared
    length of its input, which is D for standardised rows.
    """
    config = own()
    for length in (256, 1280):
        defaults.fit_to(config, defaults.Size("rows", (length,), [samples // 4] * 4))
        stable = 2 * (1 + config.optim.momentum)
        assert config.optim.learning_rate * length / 2 < stable


def test_nothing_is_called_a_test_without_one(archive, tmp_path):
    config = own(data=archive(), epochs=2, methods="erm")
    result = train.run(config, tmp_path / "run")
    assert np.isnan(result.test_score) and 0 <= result.validation_score <= 1
    said = sentence(result)
    assert "test" not in said and "validation accuracy (given labels)" in said
    assert "test_" not in (tmp_path / "run" / "metrics.jsonl").read_text()
    scores = [
        json.loads(line)["validation_accuracy"]
        for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert result.validation_score == scores[-1]
    assert result.best_validation_score == max(scores)
    with (tmp_path / "run" / "validation.csv").open() as file:
        rows = {int(row["row"]) for row in csv.DictReader(file)}
    np.testing.assert_array_equal(sorted(rows), prepare(config).validation_index)


@pytest.mark.slow
def test_a_comparison_has_a_table_without_a_test(archive, tmp_path):
    config = own(data=archive(), epochs=2, methods="erm+mw_net", seeds=2)
    assert config.compare.methods == ("erm", "mw_net")
    table = compare.run(config, tmp_path / "runs")
    heading = "validation accuracy (given labels), last epoch | validation accuracy "
    assert heading + "(given labels), best epoch" in table
    assert not re.search("test (accuracy|set)", table)
    summary = json.loads((tmp_path / "runs" / "summary.json").read_text())
    assert summary["scored_on"] == "validation" and summary["test_labels"] == "given"
    assert (tmp_path / "runs" / "training_curves.png").is_file()
    for folder in (tmp_path / "runs", tmp_path / "runs" / "mw_net" / "seed_1"):
        page = (folder / "report.html").read_text(encoding="utf-8")
        page = re.sub("<style.*?</style>|data:[^\"']*", "", page, flags=re.DOTALL)
        assert "validation accuracy" in page.lower()
        assert not re.search(r"\btest\b", page, re.IGNORECASE)
    result = summarise(tmp_path / "runs" / "erm" / "seed_0")
    assert summary["methods"]["erm"]["last_epoch"][0] == 100 * result.validation_score


def test_something_must_be_scored(archive):
    config = own(data=archive())
    config.data.validation = 0.0
    with pytest.raises(ValueError, match="no samples to test with, and config.data.va"):
        prepare(config)


def test_one_sample_of_each_class_is_always_learned_from(tmp_path):
    rows = [(i, "ab"[i % 2]) for i in range(100)] + [(i, f"rare{i}") for i in range(30)]
    path = tmp_path / "rare.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("a", "label"), *rows])
    problem = prepare(own_data.get_config(f"data={path}"))
    learned = problem.labels[problem.train_index]
    assert len(set(learned.tolist())) == 32
    names = np.array(problem.dataset.class_names)
    apart = names[problem.labels[problem.validation_index]]
    assert len(apart) and not any(name.startswith("rare") for name in apart)
    size = defaults.size_of(problem.dataset, 0.1)
    assert sorted(size.counts) == 30 * [1] + 2 * [45]


@pytest.mark.parametrize("count", [2, 30])
def test_labels_that_occur_once_are_no_classes(tmp_path, count):
    path = tmp_path / "targets.csv"
    lines = [f"{i},{i}.5" for i in range(count)]
    path.write_text("\n".join(["a,target", *lines]))
    match = "occur once.*label=COLUMN|must be a share below 1"
    with pytest.raises(ValueError, match=match):
        prepare(own_data.get_config(f"data={path},label=target"))


def test_noise_on_given_labels_has_to_be_meant():
    config = quickstart.get_config()
    config.data.labels, config.meta_set.policy = "given", "lowest_loss"
    with pytest.raises(ValueError, match="noise.kind='asymmetric' would make"):
        check_config(config)
    config.noise.on_given = True
    check_config(config)


@pytest.mark.parametrize("file", FILES)
def test_method_and_methods_are_one(file):
    one, other = (
        file.get_config(f"{word}=mw_net+erm") for word in ("method", "methods")
    )
    assert one.to_dict() == other.to_dict()
    assert one.compare.methods == ("mw_net", "erm")


def test_a_method_is_not_chosen_twice():
    with pytest.raises(ValueError, match="'methods' is given twice"):
        common.parse_arg("method=erm,methods=mw_net", methods="erm")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": "nothing.npz"}, "there is no file nothing.npz"),
        ({"data": "nothing"}, "data 'nothing' is unknown"),
        ({"data": "{folder}/own.npz", "test": "x.csv"}, "test='x.csv' are for a .csv"),
        ({"data": "{folder}/photos", "text": "a"}, "text='a' and .* are for a .csv"),
        ({"data": "{folder}/list.csv", "image": "photo"}, "no column 'photo'"),
        ({"data": "{folder}/own.npz", "trusted": "{folder}/flat.npz"}, "same form"),
        ({"data": "{folder}/own.npz", "trusted": "{folder}/far.npz"}, "these classes"),
    ],
)
def test_bad_arguments_are_one_error(archive, folder, arguments, message):
    archive(), archive("flat.npz", x_train=IMAGES.reshape(-1, 64))
    archive("far.npz", y_train=LABELS + 5)
    given = {k: v.format(folder=folder) for k, v in arguments.items()}
    with pytest.raises(ValueError, match=message):
        own(**given)
