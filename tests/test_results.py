"""The scripts that make the tables of results/."""

import numpy as np
import pytest

from cmwjax import compare, data, label_sets, train
from cmwjax.audit import read_samples
from cmwjax.config_check import check_config
from results import make, make_pmd, tables
from results.biases import CELLS, LEARNER, Cell, read_config


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_can_be_run(name):
    text = make.with_files(CELLS[name].config, "a/b.npz", "c.npz", lambda cell: cell)
    config = read_config(text)
    assert "{" not in text
    check_config(config)
    for method in config.compare.methods:
        check_config(compare.one_run(config, method, 0))
    # The bias is the one that the name says, and no other.
    assert (config.noise.kind == "asymmetric") == ("asym" in name)
    assert (config.noise.kind.startswith("symmetric")) == ("-sym" in name)
    assert (config.data.imbalance_factor > 1) == ("-lt-" in name)
    labelled = any(word in name for word in ("pmd", "human", "hybrid"))
    assert (config.data.labels != "true") == labelled
    if name.startswith("fashion") and labelled:
        assert config.data.labels.startswith("a/b.npz:type")
    assert (config.meta_set.policy == "balanced") == (
        "-lt-" in name and config.noise.kind == "none"
    )


def test_functions_applied_elsewhere_are_learned_under_another_bias():
    sources = []
    for cell in CELLS.values():
        make.with_files(cell.config, "", "", sources.append)
    assert sources
    for name in sources:
        assert LEARNER in read_config(CELLS[name].config).compare.methods


def method(*accuracies):
    numbers = {"selected_epoch": [None] * 2, "wrong_label_auroc": [0.5] * 2}
    return {"last_epoch": list(accuracies), "seconds": [1.0, 3.0], **numbers}


def test_matrix_shows_the_best_and_what_diverged():
    first = {"erm": method(80.0, 82.0), "elr": method(90.0, None)}
    second = {"cmw_net": method(70.0, 70.02), "erm": method(70.0, 70.04)}
    cells = [
        (Cell("one", "x.py", {"erm": 77.123}), {"methods": first}),
        (Cell("two", "x.py"), {"methods": second}),
    ]
    assert tables.matrix(cells).splitlines() == [
        "| method | one | two |",
        "|---|---|---|",
        "| ERM | **81.0 ± 1.0** (77.1) | **70.0 ± 0.0** |",
        "| ELR | diverged (1 of 2) |  |",
        "| CMW-Net |  | **70.0 ± 0.0** |",
    ]
    facts = {"config": "x.py", "hardware": "h", "jax": "j", "date": "d", "seeds": [4]}
    cell, summary = cells[0]
    lines = tables.table(cell, {**summary, **facts}).splitlines()
    assert "| ERM | 81.0 ± 1.0 | – | 0.500 ± 0.000 | 2 ± 1 | 77.1 |" in lines
    assert "| ELR | diverged (1 of 2) | – | 0.500 ± 0.000 | 2 ± 1 |  |" in lines


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Digits as an archive, and the configuration of a classifier of them."""
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    digits = data.load("digits")
    np.savez(
        path,
        x_train=digits.train_images,
        y_train=digits.train_labels,
        x_test=digits.test_images,
        y_test=digits.test_labels,
    )
    return make_pmd.classifier(str(path)), digits.train_labels


def test_pmd_labels_belong_to_the_images(digits, tmp_path):
    config, true_labels = digits
    path = tmp_path / "new" / "pmd.npz"
    make_pmd.write(path, config=config)
    common = dict(archive=None, true_labels=true_labels, num_classes=10)
    for kind in ("type1", "type2", "type3"):
        for rate in (35, 70):
            labels = label_sets.read(f"{path}:{kind}_{rate:03}", **common)
            wrong = np.mean(labels != true_labels)
            assert wrong == pytest.approx(rate / 100, abs=0.04)
    common["true_labels"] = np.roll(true_labels, 1)
    with pytest.raises(ValueError, match="clean labels that differ"):
        label_sets.read(f"{path}:type1_035", **common)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="exists"):
        make_pmd.write(path, config=config)
    assert path.read_bytes() == before


def test_class_probabilities_are_those_of_the_run(digits, tmp_path):
    config, true_labels = digits
    train.run(config, tmp_path / "run")
    eta = make_pmd.class_probabilities(config, tmp_path / "run")
    samples = read_samples(tmp_path / "run" / "samples.csv")
    index = samples["index"]
    assert sorted(index) == list(range(len(true_labels)))
    assert np.mean(eta[index].argmax(axis=1) == samples["suggested_label"]) > 0.995
    loss = -np.log(np.take_along_axis(eta, true_labels[:, None], axis=1)[index, 0])
    np.testing.assert_allclose(loss, samples["loss"], rtol=1e-3, atol=1e-4)
