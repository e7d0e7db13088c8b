"""What a run keeps for its page: some samples over the epochs, and the suspects."""

import shutil

import numpy as np
import pytest

import runs
from cmwjax import train
from cmwjax.bias.problem import prepare
from cmwjax.report import page
from cmwjax.report.page import write_missing_report
from cmwjax.report.shown import read_suspects
from fake_runs import rows


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of three epochs, and one of two that goes the same way."""
    folder = tmp_path_factory.mktemp("finished")
    runs.run(runs.tiny(), folder / "three")
    runs.run(runs.tiny(epochs=2), folder / "two", report=True)
    return folder


def test_the_record_has_what_samples_csv_had_at_the_time(finished):
    history = np.load(finished / "three" / "history.npz")
    assert history["epoch"].tolist() == [1, 2, 3] and history["row"].size == 100
    for name, moment in (("two", 1), ("three", 2)):
        table = {int(r["row"]): r for r in rows(finished / name)}
        for kind in ("loss", "weight"):
            want = [float(table[row][kind]) for row in history["row"].tolist()]
            np.testing.assert_allclose(history[kind][moment], want, rtol=1e-6)
    assert np.unique(history["loss"], axis=0).shape[0] == 3


def test_suspects_are_the_first_of_the_ranking_as_they_look(finished):
    kept = read_suspects(finished / "three")
    assert kept.row.tolist() == [int(r["row"]) for r in rows(finished / "three")[:48]]
    dataset = prepare(runs.tiny()).dataset
    at = {row: i for i, row in enumerate(dataset.row_numbers.tolist())}
    want = dataset.train_inputs[[at[row] for row in kept.row.tolist()]]
    np.testing.assert_array_equal(kept.images, want)


def test_accuracies_of_classes_add_up_to_that_of_the_test_set(finished):
    *others, last = runs.lines(finished / "three")
    sizes = np.bincount(prepare(runs.tiny()).dataset.test_labels)
    shares = np.array(last["test_class_accuracy"])
    total = np.sum(shares * sizes) / sizes.sum()
    assert total == pytest.approx(last["test_accuracy"], rel=1e-6)
    assert not any("test_class_accuracy" in line for line in others)


def test_a_stopped_run_leaves_the_same_record(finished, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        runs.stop_after(patch, 7, 12)
        for _ in range(2):
            with pytest.raises(runs.Interrupted):
                runs.run(runs.tiny(), tmp_path / "run")
    runs.run(runs.tiny(), tmp_path / "run")
    for name in ("history.npz", "suspects.npz", "samples.csv"):
        content = (tmp_path / "run" / name).read_bytes()
        assert content == (finished / "three" / name).read_bytes(), name
    runs.assert_same(tmp_path / "run", finished / "three")


def test_without_looks_the_record_has_the_end_alone(tmp_path):
    config = runs.tiny(audit_every=0, method="erm", epochs=2, warmup_epochs=0)
    runs.run(config, tmp_path / "run", report=True)
    history = np.load(tmp_path / "run" / "history.npz")
    assert history["epoch"].tolist() == [2] and history["loss"].shape == (1, 100)
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "config.audit_every was 0" in text


def test_a_finished_run_gets_the_page_it_lacks(finished, tmp_path, monkeypatch, caplog):
    run = shutil.copytree(finished / "two", tmp_path / "run")
    page_before = (run / "report.html").read_bytes()
    (run / "report.html").unlink()

    def broken(*_):
        raise RuntimeError("no pencil")

    with monkeypatch.context() as patch:  # the run is worth more than its page
        patch.setattr(page, "run_page", broken)
        write_missing_report(run)
    assert "RuntimeError: no pencil" in caplog.text and "--mode=report" in caplog.text
    assert not (run / "report.html").exists()
    trained = []
    monkeypatch.setattr(train, "train", lambda *_: trained.append(True))
    runs.run(runs.tiny(epochs=2), run, report=True)
    assert (run / "report.html").read_bytes() == page_before and not trained
    monkeypatch.setattr(page, "run_page", broken)  # what is there is not made again
    runs.run(runs.tiny(epochs=2), run, report=True)
