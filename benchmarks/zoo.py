"""What weighting functions do where they were not learned: the zoo's table.

    CMWJAX_DATA_DIR=FOLDER python benchmarks/zoo.py --functions=runs/zoo \
        --jsonl=results/zoo.jsonl --seeds=3 --files embeddings=FILE.npz \
        human=FILE.npz mammography=FILE.csv yoruba=FOLDER
    ... --names fashion_sym_mw --targets digits-asym-0.8 embeddings-sym-0.4
    python benchmarks/zoo.py --jsonl=results/zoo.jsonl --table

Learns each candidate that is neither in the zoo nor in `--functions`, by a run with
seed 0, and applies each as it is, with the weights of given labels and without a meta
step, on every target of another data set with the seeds 0, 1, 2; CIFAR-10 and its
embeddings are the same one. A line of the file is a run: its score on the test set in
percent (accuracy, or average precision of two classes); lines that are there are not
made again. `--files authors=FILE` adds the function that the CMW-Net
authors published, which is not in the zoo. `--table` prints the gain over ordinary
training (ERM) with the same seeds, in points.
"""

import argparse
import collections
import csv
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging

from cmwjax import compilation, load_weighting, save_weighting, train
from cmwjax.core.weighting_file import read_weighting
from cmwjax.core.zoo import PREFIX, weighting_zoo
from cmwjax.files import SAMPLES, WEIGHTING
from results.biases import read_config

FASHION = "fashion_mnist.py:fast,"
EMBEDDINGS = "embeddings.py:data={embeddings},"
DIGITS = "embeddings.py:data=digits,"
YORUBA = (
    "text.py:data={yoruba}/train_clean_noisy_labels.tsv,text=news_title,"
    "truth={yoruba}/train_clean.tsv,test={yoruba}/test.tsv"
)
# Data set, method and configuration by which it is learned.
CANDIDATES = {
    "digits_asym_cmw": ("digits", "cmw_net", "quickstart.py"),
    "fashion_asym_cmw": ("fashion", "cmw_net", f"{FASHION}noise=asym,rate=0.6"),
    "fashion_sym_mw": ("fashion", "mw_net", f"{FASHION}noise=sym,rate=0.4"),
    "fashion_tail_cmw": (
        "fashion",
        "cmw_net",
        f"{FASHION}imbalance=50,noise=sym,rate=0.2",
    ),
    "embeddings_asym_cmw": ("cifar10", "cmw_net", f"{EMBEDDINGS}noise=asym,rate=0.6"),
}
KNOWN = {"cifar10_hybrid_asym": "cifar10", "authors": "cifar10"}
TARGETS = {
    "digits-asym-0.6": ("digits", "quickstart.py"),
    "digits-sym-0.4": ("digits", f"{DIGITS}noise=sym,rate=0.4"),
    "embeddings-asym-0.6": ("cifar10", f"{EMBEDDINGS}noise=asym,rate=0.6"),
    "embeddings-sym-0.4": ("cifar10", f"{EMBEDDINGS}noise=sym,rate=0.4"),
    "embeddings-human-worse": ("cifar10", f"{EMBEDDINGS}labels={{human}}:worse_label"),
    "fashion-asym-0.6": ("fashion", f"{FASHION}noise=asym,rate=0.6"),
    "fashion-sym-0.4": ("fashion", f"{FASHION}noise=sym,rate=0.4"),
    "fashion-lt-50-sym-0.2": ("fashion", f"{FASHION}imbalance=50,noise=sym,rate=0.2"),
    "digits-asym-0.8": ("digits", "quickstart.py:rate=0.8"),
    "mammography": ("mammography", "tabular.py:data={mammography},rate=0.2"),
    "yoruba": ("yoruba", YORUBA),
}
DATA = {name: data for name, (data, *_) in CANDIDATES.items()} | KNOWN
ERM = ""  # in the place of a function


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line; runs what is missing, or prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--functions", default="runs/zoo", help="what is learned")
    parser.add_argument("--jsonl", default="results/zoo.jsonl", help="is added to")
    parser.add_argument("--files", nargs="*", default=[], help="NAME=PATH of data")
    parser.add_argument("--names", nargs="*", default=[*CANDIDATES, *KNOWN])
    parser.add_argument("--targets", nargs="*", default=list(TARGETS))
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--table", action="store_true", help="prints the tables")
    options = parser.parse_args(argv)
    logging.set_verbosity(logging.ERROR)
    path = Path(options.jsonl)
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    if options.table:
        print(table(rows), "", summary(rows), sep="\n")
        return
    compilation.keep_programs()
    done = {(row["target"], row["function"], row["seed"]) for row in rows}
    files = dict(text.split("=", 1) for text in options.files)
    functions = {ERM: ""} | {
        name: function_file(name, files, Path(options.functions))
        for name in options.names
        if name != "authors" or "authors" in files
    }
    for target in options.targets:
        text = TARGETS[target][1].format(**files)
        for name, file in functions.items():
            if name != ERM and not (is_new(name, target) and is_fit(file, text)):
                continue
            for seed in range(options.seeds):
                row = {"target": target, "function": name, "seed": seed}
                if tuple(row.values()) in done:
                    continue
                row |= measured(text, seed, file)
                print(row, flush=True)
                with path.open("a") as lines:
                    lines.write(json.dumps(row) + "\n")


def function_file(name, files, folder):
    """A path or name of the function, which is learned if need be."""
    if name == "authors":
        return files[name]
    if name in weighting_zoo():
        return PREFIX + name
    path = folder / f"{name}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        learn(name, path, files)
    return str(path)


def learn(name, path, files):
    """Writes a candidate, with words in place of where its data were."""
    _, method, text = CANDIDATES[name]
    config = one(text.format(**files), method, 0)
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "run"
        train.run(config, workdir, report=False)
        function = load_weighting(workdir / WEIGHTING)
        with open(workdir / SAMPLES, newline="") as file:
            samples = sum(1 for _ in csv.DictReader(file))
    words = {name: f"{name.upper()}.npz" for name in files}
    learned_on = {"config": f"configs/{text.format(**words)}", "method": method}
    kept = {k: v for k, v in function.provenance.items() if k not in ("data", "labels")}
    provenance = learned_on | {"samples": samples} | kept
    save_weighting(path, function._replace(provenance=provenance))


def one(text, method, seed):
    """The configuration of a single run."""
    config = read_config(text)
    config.method, config.seed = method, seed
    config.compare.methods = config.compare.seeds = ()
    return config


def is_fit(file, text):
    """Whether a function tells as many families apart as a target has, or none."""
    count = read_weighting(file).num_families
    return count in (1, one(text, "erm", 0).weighting.num_families)


def measured(text, seed, file):
    """The score of a run, in percent."""
    method = read_weighting(file).kind if file else "erm"
    config = one(text, method, seed)
    if file:
        config.weighting.load = file
    with tempfile.TemporaryDirectory() as folder:
        result = train.run(config, Path(folder) / "run", report=False)
    score = result.average_precision
    score = result.test_score if score is None else score
    return {"score": round(100 * score, 3)}


def gains(rows):
    """Gain over ERM of each pair of function and target, by seed."""
    scores = {(r["target"], r["function"], r["seed"]): r["score"] for r in rows}
    found = collections.defaultdict(list)
    for (target, function, seed), score in scores.items():
        if function != ERM and (target, ERM, seed) in scores:
            found[function, target].append(score - scores[target, ERM, seed])
    return found


def is_new(function, target):
    """Whether a function has not seen the data set of a target."""
    return DATA[function] != TARGETS[target][0]


def table(rows):
    """Targets x functions."""
    found = gains(rows)
    functions = [name for name in DATA if any(name == f for f, _ in found)]
    lines = ["| applied to | ERM | " + " | ".join(functions) + " |"]
    lines.append("|---" * (len(functions) + 2) + "|")
    for target in TARGETS:
        own = [r["score"] for r in rows if not r["function"] and r["target"] == target]
        if not any(target == t for _, t in found):
            continue
        cells = [f"{np.mean(own):.1f}"]
        for name in functions:
            values = found.get((name, target))
            cell = f"{np.mean(values):+.1f} ± {deviation(values)}" if values else ""
            cells.append(cell)
        lines.append(f"| {target} | {' | '.join(cells)} |")
    return "\n".join(lines)


def deviation(values):
    """Over seeds, ddof 1."""
    return f"{np.std(values, ddof=1):.1f}" if len(values) > 1 else "–"


def summary(rows):
    """Functions x mean and worst gain on new data sets."""
    found = gains(rows)
    lines = [
        "| function | new targets | mean gain | worst target | its gain | worst run |",
        "|---|---|---|---|---|---|",
    ]
    for name in DATA:
        new = {target: values for (f, target), values in found.items() if f == name}
        if not new:
            continue
        means = {target: np.mean(values) for target, values in new.items()}
        worst = min(means, key=means.__getitem__)
        run = min(min(values) for values in new.values())
        lines.append(
            f"| {name} | {len(new)} | {np.mean(list(means.values())):+.1f} | {worst} "
            f"| {means[worst]:+.1f} | {run:+.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
