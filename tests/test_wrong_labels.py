"""The benchmark of who finds wrong labels: its metrics, its cells, its rankings."""

import json

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks import label_scores, wrong_labels
from benchmarks.wrong_labels import Given, Ranking
from cmwjax import CMWClassifier, find_label_errors
from cmwjax.config_check import check_config
from results.biases import read_config


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def ranked(rng, *, unknown=0):
    """Labels of 60 samples, their true ones, and a ranking that is right at times."""
    true = rng.integers(0, 4, 60)
    labels = np.where(rng.random(60) < 0.4, (true + 1) % 4, true)
    quality = rng.permutation(60) / 60 - 0.29 * (labels != true)  # no ties
    suggested = np.where(rng.random(60) < 0.7, true, 0)
    true[:unknown] = -1
    return Ranking(quality, suggested), labels, true


@pytest.mark.parametrize("unknown", [0, 20])
def test_metrics_are_those_of_a_walk_down_the_ranking(rng, unknown):
    ranking, labels, true = ranked(rng, unknown=unknown)
    found = wrong_labels.scores(ranking, labels, true)
    order = [i for i in np.argsort(ranking.quality) if true[i] >= 0]
    wrong = [i for i in order if labels[i] != true[i]]
    right = [i for i in order if labels[i] == true[i]]
    place = {i: n for n, i in enumerate(order)}
    pairs = [place[w] < place[r] for w in wrong for r in right]
    assert found["auroc"] == pytest.approx(np.mean(pairs), abs=1e-5)
    precisions = [(n + 1) / (place[w] + 1) for n, w in enumerate(wrong)]
    assert found["average_precision"] == pytest.approx(np.mean(precisions), abs=1e-5)
    hits = [i in wrong for i in order[: len(wrong)]]
    assert found["precision"] == pytest.approx(np.mean(hits), abs=1e-5)
    suggestions = [ranking.suggested[i] == true[i] for i in wrong]
    assert found["right_suggestions"] == pytest.approx(np.mean(suggestions), abs=1e-5)
    assert (found["samples"], found["wrong"]) == (60 - unknown, len(wrong))


def test_no_more_labels_are_inspected_than_somebody_can(rng, monkeypatch):
    monkeypatch.setattr(wrong_labels, "INSPECTED", 5)
    ranking, labels, true = ranked(rng)
    found = wrong_labels.scores(ranking, labels, true)
    first = np.argsort(ranking.quality)[:5]
    assert found["at"] == 5
    assert found["precision"] == np.mean(labels[first] != true[first])


def test_metrics_of_equal_qualities_are_scikit_learns(rng):
    ranking, labels, true = ranked(rng)
    ranking = ranking._replace(quality=np.round(ranking.quality, 1))
    found = wrong_labels.scores(ranking, labels, true)
    wrong = labels != true
    auroc = roc_auc_score(wrong, -ranking.quality)
    precision = average_precision_score(wrong, -ranking.quality)
    assert found["auroc"] == pytest.approx(auroc, abs=1e-5)
    assert found["average_precision"] == pytest.approx(precision, abs=1e-5)


@pytest.fixture(scope="module")
def given():
    """Three groups of points, some with the label of the next one."""
    inputs, true = make_blobs(120, centers=3, cluster_std=0.6, random_state=1)
    labels = true.copy()
    labels[::10] = (true[::10] + 1) % 3
    fields = {"data.batch_size": 20, "optim.learning_rate": 0.05}
    settings = dict(model="mlp", epochs=6, config=fields, random_state=0)
    return Given(inputs, labels, true, settings)


@pytest.mark.slow
@pytest.mark.parametrize("judge", wrong_labels.JUDGES, ids=lambda j: j.__name__)
def test_everybody_finds_wrong_labels_of_groups_far_apart(given, judge):
    if judge in (wrong_labels.cleanlab, wrong_labels.clean_learning):
        pytest.importorskip("cleanlab")
    found = judge(given)
    assert set(found) == set(wrong_labels.JUDGES[judge])
    for ranking in found.values():
        row = wrong_labels.scores(ranking, given.labels, given.true_labels)
        assert row["wrong"] == 12
        assert row["auroc"] > 0.95
        assert row["right_suggestions"] > 0.9


@pytest.mark.slow
def test_the_score_of_the_package_is_one_of_those_compared(given):
    """That of its own temperature and share, of one fit and of several."""
    settings = given.settings | {"epochs": 3}
    found = label_scores.average_precisions(given._replace(settings=settings), "erm")
    assert len(found) == 60
    estimator = CMWClassifier("erm", **settings).fit(given.inputs, given.labels)
    [fit] = label_scores.kept(lambda: estimator.fit(given.inputs, given.labels))
    quality = label_scores.quality(fit, given.labels, 0.5, 1)
    np.testing.assert_allclose(quality, estimator.label_quality_, rtol=1e-4)
    wrong = given.labels != given.true_labels
    want = average_precision_score(wrong, -estimator.label_quality_)
    assert found["one fit", "0.5", "1"] == pytest.approx(want)
    issues = find_label_errors(
        given.inputs, given.labels, cv=5, method="erm", **settings
    )
    wrong, quality = wrong[issues["row"]], issues["label_quality"]
    want = average_precision_score(wrong, -quality)
    assert found["without it", "0.5", "1"] == pytest.approx(want)


def test_rows_that_are_there_are_not_measured_again(given, tmp_path, monkeypatch):
    calls = []

    def judge(given):
        calls.append(given)
        return {name: Ranking(np.arange(120.0), given.labels) for name in names}

    names = ("ERM, loss", "ERM, margin")
    monkeypatch.setattr(wrong_labels, "JUDGES", {judge: names})
    monkeypatch.setattr(wrong_labels, "given_by", lambda text, seed: given)
    path = tmp_path / "rows.jsonl"
    for wanted in ({"ERM, loss"}, {"ERM, loss"}, set(names), set(names)):
        wrong_labels.add_rows(path, "digits-asym-0.6", 0, {}, wanted)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["ranking"] for row in rows] == list(names)
    assert len(calls) == 2
    assert rows[0]["fits"] == 1


def test_tables_have_means_over_seeds_and_mark_the_best(tmp_path):
    page, text = tmp_path / "page.md", "# What was found\n\nBefore.\n\n"
    page.write_text(f"{text}{wrong_labels.HERE}\nof old\n")
    scores = {"ERM, loss": (0.25, 0.75), "cmwjax": (0.5, 0.75), "CleanLearning": (0.5,)}
    rows = [
        dict.fromkeys(wrong_labels.TABLES, score)
        | {"cell": "yoruba", "ranking": name, "seed": seed}
        for name, values in scores.items()
        for seed, score in enumerate(values)
    ]
    wrong_labels.write_tables(page, rows)
    assert page.read_text().startswith(text + wrong_labels.HERE)
    assert "of old" not in page.read_text()
    assert "| cmwjax | 1 | **0.625** ± 0.177 | 0.625 |" in page.read_text()
    assert "| ERM, loss | 1 | 0.500 ± 0.354 | 0.500 |" in page.read_text()
    assert "| CleanLearning | 5 | 0.500 | 0.500 |" in page.read_text()


@pytest.mark.parametrize("cell", wrong_labels.CELLS)
def test_every_cell_is_a_configuration_without_trusted_samples(cell):
    names = ("pmd", "embeddings", "human")
    files = {name: f"{name}.npz" for name in names}
    files |= {"yoruba": "folder", "mammography": "mammography.csv"}
    config = read_config(wrong_labels.CELLS[cell].format(**files))
    check_config(config)
    assert config.data.validation == 0
    if cell != "mammography":  # where those set aside are not given to anybody
        assert config.meta_set.policy == "lowest_loss"


def test_digits_have_the_labels_of_their_configuration():
    given = wrong_labels.given_by(wrong_labels.CELLS["digits-asym-0.6"], seed=1)
    moved = {9: 1, 2: 0, 4: 7, 3: 5}
    for label, true in zip(given.labels, given.true_labels, strict=True):
        assert label in (true, moved.get(true, true))
    shares = [np.mean(given.labels[given.true_labels == c] != c) for c in moved]
    np.testing.assert_allclose(shares, 0.6, atol=0.12)  # three standard errors
    other = wrong_labels.given_by(wrong_labels.CELLS["digits-asym-0.6"], seed=2)
    assert not np.array_equal(given.labels, other.labels)
