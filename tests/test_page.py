"""The page about a run: what it says is what the files say, and it loads nothing."""

import base64
import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import fake_runs
import runs
from cmwjax import compare
from cmwjax.report import page
from cmwjax.report.page import write_report, write_reports
from cmwjax.report.panels import root_ticks
from cmwjax.report.shown import read_suspects, write_suspects
from fake_runs import epochs_of, rows

VOID = {"meta", "br", "img", "link", "input", "hr"}
SECTIONS = ["summary", "suspects", "quality", "classes", "confusion", "weights"]
SECTIONS += ["training", "history", "details"]
HOSTILE = [
    "<script>alert(1)</script>",
    'a & "b"',
    "it's <img src=http://x.example/y.png>",
    "${title} $$",
    "\x07bell\u202e",
    "&lt;",
    "6",
    "\u4e2d\u6587",
    "]]>",
    "{}%s",
]


class Page(HTMLParser):
    """A page taken apart: its tags, its texts by section, its tables."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.open = [], [], []
        self.section, self.texts, self.tables, self.items = "", {}, {}, {}
        self.styles = []
        self.feed(text)
        self.close()
        assert not self.open, self.open  # whatever was opened was closed

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag == "section":
            self.section = attrs["id"]
        if tag == "table":
            self.tables.setdefault(self.section, []).append([])
        if tag == "tr":
            self.tables[self.section][-1].append([])
        if tag in ("td", "th"):
            self.tables[self.section][-1][-1].append("")
        if tag == "li":
            self.items.setdefault(self.section, []).append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            self.styles.append(data)
            return
        self.texts[self.section] = self.texts.get(self.section, "") + data
        if {"td", "th"} & set(self.open):
            self.tables[self.section][-1][-1][-1] += data
        if "li" in self.open:
            self.items[self.section][-1] += data

    def text(self, section):
        return " ".join(self.texts[section].split())


def read(path):
    return Page(path.read_text(encoding="utf-8"))


def assert_loads_nothing(parsed, links=()):
    """No address of anything, but places in the page and `links`."""
    assert not {"script", "link", "iframe", "object", "base"} & {
        t for t, _ in parsed.tags
    }
    for tag, attrs in parsed.tags:
        for name, value in attrs.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "srcset", "action", "data", "xlink:href"):
                inside = value.startswith(("#", "data:image/png;", "data:image/jpeg;"))
                assert inside or value in links, (tag, value)
            for place in re.findall(r"url\(([^)]*)\)", value or ""):
                assert place.startswith("#") and place[1:] in parsed.ids
    styles = "".join(parsed.styles)
    assert styles and not re.search(r"url\(|@import|//", styles)
    assert len(set(parsed.ids)) == len(parsed.ids)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = fake_runs.write_comparison(
        tmp_path_factory.mktemp("page") / "runs", seeds=2, epochs=5
    )
    numbers = {"erm": [72.0, 70.0], "mw_net": [73.0, None], "cmw_net": [97.0, 96.0]}
    methods = {
        method: {
            "last_epoch": scores,
            "selected_epoch": [80.0, 81.5],
            "average_precision": [None, None],
            "wrong_label_auroc": [0.5, 0.75],
            "seconds": [1.0, 2.0],
        }
        for method, scores in numbers.items()
    }
    summary = {"criterion": "accuracy", "labels": "labels", "test_labels": "right"}
    summary |= {"seeds": [0, 1], "seconds": 9.0, "methods": methods}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "mw_net" / "seed_1" / "diverged.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def run(comparison):
    """A run that kept everything."""
    folder = comparison / "cmw_net" / "seed_0"
    first = [int(r["row"]) for r in rows(folder)[:30]]
    rng = np.random.default_rng(0)
    write_suspects(folder, first, rng.integers(0, 256, (30, 6, 5, 3), np.uint8))
    followed = np.sort(rng.choice(1400, 20, replace=False))
    np.savez(
        folder / "history.npz",
        row=followed,
        epoch=np.arange(1, 6, dtype=np.int32),
        loss=rng.random((5, 20), np.float32),
        weight=rng.random((5, 20), np.float32),
    )
    lines = epochs_of(folder)
    lines[-1]["test_class_accuracy"] = [k / 10 for k in range(9)] + [None]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    return folder


def test_the_page_is_whole_and_loads_nothing(run):
    path = write_report(run)
    assert path == run / "report.html"
    parsed = read(path)
    assert_loads_nothing(parsed)
    assert [a["id"] for t, a in parsed.tags if t == "section"] == SECTIONS
    targets = [a["href"] for t, a in parsed.tags if t == "a"]
    assert targets == [f"#{name}" for name in SECTIONS]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in [
        attrs for tag, attrs in parsed.tags if tag == "meta"
    ]
    styles = "".join(parsed.styles)
    assert "prefers-color-scheme: dark" in styles
    # Colours of drawings are names, which a dark page has others for.
    drawn = [a["style"] for _, a in parsed.tags if "style" in a]
    assert not [
        style for style in drawn if re.search(r"#(?!000|fff)[0-9a-f]{6}", style)
    ]
    used = set(re.findall(r"var\((--\w+)[,)]", " ".join([styles, *drawn])))
    assert used <= set(re.findall(r"(--\w+):", styles)) | {"--part"}
    assert sum(tag == "svg" for tag, _ in parsed.tags) > 8


def test_the_same_files_give_the_same_page_anywhere(run, tmp_path):
    first = write_report(run).read_bytes()
    elsewhere = write_report(run, tmp_path / "to a colleague.html")
    assert elsewhere.read_bytes() == first == write_report(str(run)).read_bytes()
    assert not list(run.glob(".*")) and len(list(tmp_path.iterdir())) == 1


def test_the_table_of_classes_is_what_the_samples_say(run):
    (head, *lines), *_ = read(write_report(run)).tables["classes"]
    assert head == [
        *("class", "samples", "family", "mean weight"),
        *("estimated noise", "wrong labels", "test accuracy"),
    ]
    assert len(lines) == 10
    for k, line in enumerate(lines):
        mine = [r for r in rows(run) if r["given_label"] == str(k)]
        doubted = sum(float(r["quality"]) < 0.5 for r in mine) / len(mine)
        wrong = sum(r["true_label"] != r["given_label"] for r in mine) / len(mine)
        weight = sum(float(r["weight"]) for r in mine) / len(mine)
        assert line == [
            str(k),
            f"{len(mine):,}",
            ["small", "moderate", "large"][fake_runs.FAMILY[k]],
            f"{weight:.3f}",
            f"{100 * doubted:.1f}\xa0%",
            f"{100 * wrong:.1f}\xa0%",
            f"{10 * k:.1f}\xa0%" if k < 9 else "–",
        ]
        assert doubted > 0 and doubted != wrong


def test_confusion_counts_suggestions(run):
    parsed = read(write_report(run))
    assert "Confusion of given and suggested labels" in parsed.text("confusion")
    matrix, pairs = parsed.tables["confusion"]
    counts = np.zeros((10, 10), int)
    for r in rows(run):
        counts[int(r["given_label"]), int(r["suggested_label"])] += 1
    assert matrix[0] == ["given", *map(str, range(10)), "samples"]
    for k, (name, *cells, size) in enumerate(matrix[1:]):
        assert (name, size) == (str(k), f"{counts[k].sum():,}")
        for share, cell in zip(counts[k] / counts[k].sum(), cells, strict=True):
            whole = f"{100 * share:.0f}" if share >= 0.005 else "<1"
            assert cell == (whole if share else "")
    changes = {
        f"{i} → {j}": f"{counts[i, j]:,}" for i, j in np.argwhere(counts) if i != j
    }
    assert dict(pairs[1:]).items() <= changes.items()
    shown = [int(number) for _, number in pairs[1:]]
    assert shown == sorted(map(int, changes.values()), reverse=True)[:10]
    moved = counts.sum() - np.trace(counts)
    assert f"for {moved:,} of {counts.sum():,} samples" in parsed.text("confusion")


def test_suspects_have_row_labels_and_their_own_picture(run):
    parsed = read(write_report(run))
    ranked = sorted(rows(run), key=lambda r: int(r["rank"]))[:48]
    assert len(parsed.items["suspects"]) == 48
    for item, r in zip(parsed.items["suspects"], ranked, strict=True):
        given, suggested = r["given_label"], r["suggested_label"]
        words = f"{given} → {suggested}" if given != suggested else given
        assert item.startswith(f"row {r['row']}{words}")
        assert ("also suggested" in item) == (given == suggested)
        assert ("wrong" in item) == (given != r["true_label"])
        quality = float(r["quality"])
        assert item.endswith(f"{quality:.3f}" if quality >= 0.001 else "<0.001")
    kept = read_suspects(run)
    pictures = [a["src"] for t, a in parsed.tags if t == "img"]
    assert len(pictures) == 30
    for source, pixels in zip(pictures, kept.images, strict=True):
        content = base64.b64decode(source.removeprefix("data:image/png;base64,"))
        np.testing.assert_array_equal(
            np.asarray(Image.open(io.BytesIO(content))), pixels
        )
    wrong = sum(r["true_label"] != r["given_label"] for r in ranked)
    assert f"{wrong} are indeed wrong" in parsed.text("suspects")


def test_the_numbers_that_stand_out_are_those_of_the_files(run):
    text = read(write_report(run)).text("summary")
    samples, last = rows(run), epochs_of(run)[-1]
    wrong = np.array([r["true_label"] != r["given_label"] for r in samples])
    quality = np.array([float(r["quality"]) for r in samples])
    pairs = quality[wrong][:, None] - quality[~wrong]
    auroc = np.mean(pairs < 0) + np.mean(pairs == 0) / 2
    assert f"{100 * last['test_accuracy']:.1f} %test accuracy, last epoch" in text
    assert f"{auroc:.3f}AUROC of wrong labels" in text
    assert f"{(quality < 0.5).sum()}labels look wrong" in text
    assert f"{300 / 11:.3g} msper training step" in text  # 0.3 s, 11 steps
    assert f"{100 * wrong.mean():.1f} % are known to be wrong" in text
    first = wrong[np.argsort(quality)[:100]].sum()
    assert f"of the first 100, {first} are wrong" in text


@pytest.mark.parametrize("kind", ["images", "texts", None])
def test_names_of_classes_files_and_texts_are_text(tmp_path, kind):
    run = fake_runs.write_run(tmp_path / "run", epochs=3, names=HOSTILE, size=300)
    lines = rows(run)
    for r in lines:
        r["file"] = f"{r['given_label']}/{r['row']} \udcff.png"
    with open(
        run / "samples.csv", "w", newline="", encoding="utf-8", errors="surrogateescape"
    ) as file:
        writer = csv.DictWriter(file, lines[0].keys())
        writer.writeheader()
        writer.writerows(lines)
    config = {"seed": 0, "method": HOSTILE[0], "data": {"name": HOSTILE[2]}}
    (run / "config.json").write_text(json.dumps(config))
    first = [int(r["row"]) for r in lines[:48]]
    shown = {
        "images": np.zeros((48, 60, 70, 1), np.uint8),
        "texts": [f"</q><script>{row} {HOSTILE[2]}" for row in first],
    }.get(kind)
    write_suspects(run, first, shown)
    parsed = read(write_report(run))
    assert_loads_nothing(parsed)
    items = parsed.items["suspects"]
    assert len(items) == 48
    for r, item in zip(lines, items, strict=False):
        given = r["given_label"].replace("\x07", "\ufffd")
        assert item.startswith(f"{given}/{r['row']} ?.png{given}")
        if kind == "texts":
            assert item.endswith(f"</q><script>{r['row']} {HOSTILE[2]}")
    pictures = [a for t, a in parsed.tags if t == "img"]
    assert len(pictures) == (48 if kind == "images" else 0)
    assert [line[0] for line in parsed.tables["classes"][0][1:]] == [
        name.replace("\x07", "\ufffd") for name in HOSTILE
    ]


def test_the_page_stays_small_whatever_the_data(tmp_path):
    names = [f"class {k} " + "x" * 80 for k in range(700)]
    run = fake_runs.write_run(tmp_path / "run", epochs=400, names=names[:10], size=9000)
    lines = rows(run)
    rng = np.random.default_rng(0)
    for r in lines:
        r["given_label"], r["suggested_label"] = (
            names[k] for k in rng.integers(0, 700, 2)
        )
        r["true_label"] = ""
    with open(run / "samples.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, lines[0].keys())
        writer.writeheader()
        writer.writerows(lines)
    (run / "problem.json").write_text(json.dumps({"classes": names}))
    write_suspects(run, [int(r["row"]) for r in lines], ["word " * 1000] * 48)
    path = write_report(run)
    assert path.stat().st_size < 300_000
    parsed = read(path)
    (table,) = parsed.tables["classes"]
    assert len(table) == 1 + page.CLASSES and "of 700 classes" in parsed.text("classes")
    noise = [float(line[4].removesuffix("\xa0%")) for line in table[1:]]
    assert noise == sorted(noise, reverse=True) and noise[0] > noise[-1]
    (pairs,) = parsed.tables["confusion"]  # and no matrix
    assert len(pairs) == 1 + page.PAIRS
    assert "Nobody knows which training labels are right" in parsed.text("summary")


def test_a_run_of_an_earlier_version_has_a_page(comparison, tmp_path):
    run = shutil.copytree(comparison / "erm" / "seed_1", tmp_path / "run")
    (run / "problem.json").unlink()
    parsed = read(write_report(run))
    assert_loads_nothing(parsed)
    assert "no record of samples over the epochs" in parsed.text("history")
    assert "All samples have the weight 1" in parsed.text("weights")
    assert "test accuracy" not in parsed.tables["classes"][0][0]
    assert not [t for t, _ in parsed.tags if t == "img"]


def test_without_a_margin_suggestions_tell_which_labels_look_wrong(
    comparison, tmp_path
):
    """Classes in an order: a quality below 0.5 says nothing of another class."""
    run = shutil.copytree(comparison / "cmw_net" / "seed_1", tmp_path / "run")
    config = json.dumps({"seed": 1, "task": "ordinal"})
    (run / "config.json").write_text(config)
    parsed = read(write_report(run))
    lines = rows(run)
    for line in parsed.tables["classes"][0][1:]:
        mine = [r for r in lines if r["given_label"] == line[0]]
        other = sum(r["suggested_label"] != r["given_label"] for r in mine)
        assert line[4] == f"{100 * other / len(mine):.1f}\xa0%"
    other = sum(r["suggested_label"] != r["given_label"] for r in lines)
    assert f"{other}labels look wrong" in parsed.text("summary")
    assert "below 0.5" not in " ".join(parsed.texts.values())


def test_a_regression_has_ranges_of_targets(tmp_path):
    config = runs.tiny(
        **{
            "task": "regression",
            "data.name": "diabetes",
            "loss": "squared_error",
            "method": "erm",
            "epochs": 2,
            "warmup_epochs": 0,
            "optim.learning_rate": 0.01,
        }
    )
    runs.run(config, tmp_path / "run")
    parsed = read(write_report(tmp_path / "run"))
    assert_loads_nothing(parsed)
    ranges, lines = parsed.tables["families"][0], rows(tmp_path / "run")
    assert sum(int(line[1]) for line in ranges[1:]) == len(lines) > 200
    assert {"families", "targets"} <= parsed.texts.keys()
    assert "labels" not in parsed.text("summary") + parsed.text("suspects")
    first = lines[0]
    shown = parsed.items["suspects"][0]
    given, suggested = (float(first[f"{k}_label"]) for k in ("given", "suggested"))
    assert shown.startswith(f"row {first['row']}{given:.6g} → {suggested:.6g}")
    assert "age = " in shown and "bmi = " in shown  # its row of the table


def test_a_comparison_has_the_table_and_leads_to_its_runs(comparison, run, tmp_path):
    del run
    paths = write_reports(comparison)
    names = [p.relative_to(comparison).as_posix() for p in paths]
    own = [
        f"{m}/seed_{s}/report.html"
        for m in ("cmw_net", "erm", "mw_net")
        for s in (0, 1)
    ]
    assert sorted(names) == sorted([*own, "report.html"]) and names[-1] == "report.html"
    parsed = read(paths[-1])
    links = [a["href"] for t, a in parsed.tags if t == "a" and a["href"][0] != "#"]
    assert sorted(links) == sorted(own)
    assert_loads_nothing(parsed, links)
    summary = json.loads((comparison / "summary.json").read_text())
    markdown = compare.table(summary).splitlines()
    table, every = parsed.tables["summary"][0], parsed.tables["runs"][0]
    for line, cells in zip([markdown[0], *markdown[2:]], table, strict=True):
        assert [c.strip() for c in line.strip("|").split("|")] == cells[:4]
    assert table[0][4:] == ["per step", "× ERM"]
    assert [line[5] for line in table[1:]] == ["1.00"] * 3  # all made up alike
    assert every[1] == ["ERM", "0", "72.0", "80.0", "0.500"]
    assert every[4][:3] == ["MW-Net", "1", "diverged"]
    assert "CMW-Net has the highest test accuracy, 96.5 %" in parsed.text("summary")
    alone = read(write_report(comparison, tmp_path / "alone.html"))
    assert_loads_nothing(alone)  # where a link would lead nowhere


def test_folders_that_have_no_page_are_named(comparison, tmp_path):
    with pytest.raises(FileNotFoundError, match="samples.csv is missing.*finish"):
        write_report(tmp_path)
    left_out = shutil.ignore_patterns("report.html")
    run = shutil.copytree(
        comparison / "erm" / "seed_0", tmp_path / "run", ignore=left_out
    )
    for name in ("suspects.npz", "history.npz"):
        (run / name).write_bytes(b"PK\x03\x04 no archive")
        with pytest.raises(ValueError, match=f"{name} is damaged.*remove it"):
            write_report(run)
        (run / name).unlink()
    (run / "problem.json").write_text("[")
    with pytest.raises(ValueError, match="problem.json is damaged"):
        write_report(run)
    assert not list(tmp_path.rglob("report.html"))


@pytest.mark.parametrize(
    ("top", "want"),
    [(1, [0, 1]), (9, [0, 2, 5]), (1000, [0, 50, 200, 500, 1000]), (0, [0])],
)
def test_ticks_of_a_root_scale_stand_apart(top, want):
    ticks = root_ticks(top)
    assert ticks == want
    gaps = np.diff(np.sqrt(ticks)) / np.sqrt(max(top, 1))
    assert np.all(gaps > 0.17)
