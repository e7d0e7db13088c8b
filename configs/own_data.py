"""Your own data, labels as they are: a classifier, and which labels look wrong.

    python run.py --config=configs/own_data.py:data=FILE.csv
    ... --config=configs/own_data.py:data=FILE.tsv,text=COLUMN
    ... --config=configs/own_data.py:data=FILE.npz,trusted=FILE.npz
    ... --config=configs/own_data.py:data=FOLDER
    ... --config=configs/own_data.py:data=FOLDER,embed=efficientnet_lite0
    ... --config=configs/own_data.py:data=FILE.csv,image=COLUMN
    ... --config=configs/own_data.py:data=tfds:NAME

A csv file has numbers in each row, or a text in the column `text`, and a class in the
column `label` or a column named label, class or target, or else in the last one. An
archive has x_train, rows [N, D] or images [N, H, W, C], and y_train. A folder has a
folder of images for each class, or train/ and test/ with these; with `image`, a csv
file says which images there are, by their paths from its own folder on.

With `embed`, a frozen net turns images into rows once, at 96 pixels per side, and a
small head learns from these: photographs without a GPU, after `pip install
'cmwjax[photos]'`; texts likewise with `embed=wordllama` and `cmwjax[texts]`.

No label is changed. `trusted` is a file, an archive or a folder of classes, of samples
whose labels are right; without it, the meta set is what the classifier finds easiest.
A sample of `data` with the same numbers, text or bytes of its file as a trusted one is
that one, and is not trained on.
Beside a csv file `test` is one to test with; so are x_test and y_test in an archive,
test/ in a folder, or that split of TFDS. Where there is none,
the share `validation` is set aside, and the scores are those of its given labels.
Network, size of images, batches, epochs and learning rates are chosen by the data, see
cmwjax/defaults.py; `methods` and `seeds` in the plural make a comparison. Without
`data`, scikit-learn's digits show what comes out.
"""

from pathlib import Path

from cmwjax import defaults
from cmwjax.config import base_config
from cmwjax.data import datasets, embedding, on_disk
from configs.common import methods_of, parse_arg, set_methods


def get_config(arg=None):
    arg = parse_arg(
        arg,
        data="digits",
        text="",
        image="",
        label="",
        test="",
        trusted="",
        embed="",
        validation=0.1,
        methods="cmw_net",
        seeds=1,
        epochs=0,
    )
    if not arg["data"]:
        raise ValueError(
            "argument data='' after the colon of --config names no data: give a file, "
            "a folder or tfds:NAME."
        )
    if not 0 <= arg["validation"] < 1:
        raise ValueError(
            f"argument validation={arg['validation']} after the colon of --config is "
            "no share: choose one in [0, 1)."
        )
    config = base_config()
    config.data.name = name_of(arg)
    if (arg["text"] or arg["test"]) and not is_table(config.data.name):
        raise ValueError(
            f"arguments text={arg['text']!r} and test={arg['test']!r} are for a .csv "
            f"or .tsv file, and data={arg['data']!r} is none: leave them out."
        )
    config.data.labels = "given"
    csv = config.data.csv
    csv.text = arg["image"] or arg["text"]
    if arg["text"]:
        csv.length = 256
    csv.label, csv.test, csv.trusted = arg["label"], arg["test"], arg["trusted"]
    csv.test_share = base_config().data.csv.test_share
    if not arg["test"] and is_table(config.data.name):
        csv.test_share = 0.0
    config.data.stream.tests = tests_of(config.data.name)
    dataset = datasets.load(
        config.data.name,
        labels="given",
        tests=config.data.stream.tests,
        image_size=config.data.stream.image_size,
        csv=csv,
    )
    if arg["embed"]:
        config.data.embed = arg["embed"]
        dataset = embedding.embed(dataset, arg["embed"], config.data.embed_size)
    if not dataset.has_test:
        config.data.validation = arg["validation"]
    size = defaults.size_of(dataset, config.data.validation)
    defaults.fit_to(config, size)
    if dataset.files is not None:
        side = size.shape[0]
        config.data.stream.resize = config.data.stream.image_size = side
    if arg["epochs"]:
        config.epochs = arg["epochs"]
        config.warmup_epochs = min(config.warmup_epochs, arg["epochs"])
    set_methods(config, methods_of(arg["methods"]), arg["seeds"])
    return config


def name_of(arg):
    """The data set, as `config.data.name` has it."""
    data = arg["data"]
    if arg["image"]:
        return f"folder:{data}"
    if not on_disk.is_name(data) and Path(data).expanduser().is_dir():
        return f"folder:{data}"
    return data


def is_table(name):
    """Whether the data are the rows of a csv file."""
    return Path(name).suffix.lower() in (".csv", ".tsv") and not on_disk.is_name(name)


def tests_of(name):
    """The sets to test with that there are on disk."""
    folder = Path(name.removeprefix("folder:")).expanduser()
    if name.startswith("folder:") and Path(folder, "test").is_dir():
        return ("test",)
    if name.startswith("tfds:") and "test" in on_disk.splits(name):
        return ("test",)
    return ()
