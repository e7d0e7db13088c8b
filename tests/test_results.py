"""The scripts that make the tables of results/."""

import json

import numpy as np
import pytest
from absl import app, flags
from absl.testing import flagsaver

from cmwjax import compare, train
from cmwjax.bias.noise import CLASS_MAPS
from cmwjax.config_check import check_config
from cmwjax.data import datasets, label_sets
from cmwjax.report.samples import read_samples
from results import make, make_pmd, tables
from results.biases import CELLS, LEARNER, Cell, read_config, with_files


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_can_be_run(name):
    text = with_files(CELLS[name].config, "a/{}.npz".format, "{}.cell".format)
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
        assert config.data.labels.startswith("a/pmd.npz:type")
    if "rrm" in config.compare.methods:
        told = config.baseline.rrm.noise_rate
        assert told == pytest.approx(share_of_wrong_labels(config), abs=0.005)
    assert (config.meta_set.policy == "balanced") == (
        "-lt-" in name and config.noise.kind == "none"
    )


def share_of_wrong_labels(config):
    """What makes labels wrong, one after the other."""
    rate = config.noise.rate
    class_map = CLASS_MAPS.get(config.noise.class_map[0], {})
    affected = {"none": 0, "asymmetric": len(class_map) / 10, "symmetric": 0.9}
    labels = config.data.labels
    given = {"035": 0.35, "070": 0.7, "worse_label": 0.4, "aggre_label": 0.09}
    first = next((x for name, x in given.items() if labels.endswith(name)), 0)
    return first + rate * affected[config.noise.kind] * (1 - first)


def test_functions_applied_elsewhere_are_learned_under_another_bias():
    sources = []
    for cell in CELLS.values():
        with_files(cell.config, str, sources.append)
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
        (Cell("one", "x.py", {"erm": 77.123}), {"methods": first, "config": "x.py"}),
        (Cell("two", "{pmd}:a"), {"methods": second, "config": "PMD.npz:b"}),
    ]
    assert tables.matrix(cells).splitlines() == [
        "| method | one | two † |",
        "|---|---|---|",
        "| ERM | **81.0 ± 1.4** (77.1) | **70.0 ± 0.0** |",
        "| ELR | diverged (1 of 2) |  |",
        "| CMW-Net |  | **70.0 ± 0.0** |",
    ]
    facts = {"config": "x.py", "hardware": "h", "jax": "j", "date": "d", "seeds": [4]}
    cell, summary = cells[0]
    lines = tables.table(cell, {**summary, **facts}).splitlines()
    assert "| ERM | 81.0 ± 1.4 | – | 0.500 ± 0.000 | 2 ± 1 | 77.1 |" in lines
    assert "| ELR | diverged (1 of 2) | – | 0.500 ± 0.000 | 2 ± 1 |  |" in lines


@pytest.fixture
def make_cells(tmp_path, monkeypatch):
    """`make.py` with cells one, two and three, of which two is kept, in `tmp_path`.

    A function of its flags, which lists the cells that it ran; one that is in its
    `broken` fails.
    """
    cells = {name: Cell(f"Cell {name}", name) for name in ("one", "two", "three")}
    ran, broken = [], set()

    def run(config, workdir, on_run):
        if config in broken:
            raise KeyboardInterrupt
        ran.append(config)
        workdir.mkdir(parents=True, exist_ok=True)
        summary = json.dumps({"seeds": [0], "methods": {"erm": method(50.0)}})
        (workdir / "summary.json").write_text(summary)

    monkeypatch.setattr(compare, "run", run)
    monkeypatch.setattr(make, "CELLS", cells)
    monkeypatch.setattr(make, "read_config", lambda text: text)
    monkeypatch.setattr(make.logging, "set_verbosity", lambda level: None)
    monkeypatch.setattr(tables, "SECTIONS", {"All": cells})
    monkeypatch.setattr(tables, "HERE", tmp_path)
    (tmp_path / "introduction.md").write_text("# Results\n")
    (tmp_path / "cells").mkdir()
    facts = dict.fromkeys(("config", "hardware", "jax", "date"), "before")
    kept = {"seeds": [0], "methods": {"erm": method(60.0)}, **facts}
    tables.kept("two").write_text(json.dumps(kept))

    def main(*arguments):
        ran.clear()
        with flagsaver.flagsaver():
            flags.FLAGS(["make.py", f"--runs={tmp_path / 'runs'}", *arguments])
            make.main(None)
        return ran

    main.broken = broken
    return main


@pytest.mark.parametrize(
    ("arguments", "ran"),
    [
        ([], ["one", "three"]),
        (["--cells=two"], ["two"]),  # once more
        (["--cells=three,two"], ["three", "two"]),
        (["--tables_only"], []),
        (["--tables_only", "--cells=two"], []),
    ],
    ids=lambda names: "_".join(names) or "none",
)
def test_cells_that_are_kept_are_not_run_again_unless_named(make_cells, arguments, ran):
    assert make_cells(*arguments) == ran
    kept = {path.stem: tables.read(path.stem) for path in tables.HERE.glob("cells/*")}
    assert kept.keys() == {"two", *ran}
    readme = (tables.HERE / "README.md").read_text()
    for name, summary in kept.items():
        new = name in ran
        assert summary["methods"]["erm"]["last_epoch"] == [50.0 if new else 60.0]
        assert (summary["date"] == "before") != new
        assert summary["config"] == (name if new else "before")
        assert f"Cell {name}" in readme
    assert ("60.0" in readme) == ("two" not in ran)
    assert all(f"Cell {name}" not in readme for name in {"one", "three"} - set(ran))


def test_making_cells_goes_on_where_it_was_stopped(make_cells):
    make_cells.broken.add("three")
    with pytest.raises(KeyboardInterrupt):
        make_cells()
    assert "Cell one" in (tables.HERE / "README.md").read_text()
    make_cells.broken.clear()
    assert make_cells() == ["three"]
    assert make_cells() == []
    with pytest.raises(app.UsageError, match="unknown cells .'four'.; there are"):
        make_cells("--cells=one,four")
    assert make_cells("--tables_only") == []


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Digits as an archive, and the configuration of a classifier of them."""
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    digits = datasets.load("digits")
    np.savez(
        path,
        x_train=digits.train_inputs,
        y_train=digits.train_labels,
        x_test=digits.test_inputs,
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
    index = samples["row"]
    assert sorted(index) == list(range(len(true_labels)))
    suggested = samples["suggested_label"].astype(int)
    assert np.mean(eta[index].argmax(axis=1) == suggested) > 0.995
    loss = -np.log(np.take_along_axis(eta, true_labels[:, None], axis=1)[index, 0])
    np.testing.assert_allclose(loss, samples["loss"], rtol=1e-3, atol=1e-4)
