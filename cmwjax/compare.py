"""Several methods side by side over several seeds, and one table."""

import time
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from cmwjax import plots, record, train
from cmwjax.config import METHODS as NAMES
from cmwjax.config import base_config, check_config
from cmwjax.data import Dataset
from cmwjax.problem import prepare
from cmwjax.sets import Pictures


def run(config: ConfigDict, workdir: str | Path) -> str:
    """Makes the runs of `config.compare`, each in `workdir/METHOD/seed_K`.

    Finished runs are not repeated. Prints progress while it works and writes
    `summary.json` and figures at the end.

    Args:
      config: see `cmwjax.config.base_config`; methods and seeds to compare.
      workdir: a new or empty folder, or that of a comparison of this configuration.

    Returns:
      The table: accuracy on the test set in percent, mean and standard deviation
      over seeds, after the last epoch and after the one that is best on the validation
      set (or else the held-out meta set); and AUROC of "this label is wrong" by weight.

    Raises:
      ValueError: if configuration, data or workdir are unfit.
    """
    check_config(config)
    methods, seeds = config.compare.methods, config.compare.seeds
    for method in methods:
        check_config(one_run(config, method, seeds[0]))
    dataset = prepare(one_run(config, methods[0], seeds[0])).dataset
    workdir = record.claim_folder(workdir, config)
    if all(
        record.is_finished(workdir / method / f"seed_{seed}")
        for method in methods
        for seed in seeds
    ):
        print(f"All runs in {workdir} are finished; there is nothing to train.")
    start = time.perf_counter()
    results: dict[str, list[train.Result]] = {method: [] for method in methods}
    total = len(methods) * len(seeds) * config.epochs
    with tqdm(total=total, unit="epoch", mininterval=1) as bar:

        def advance(_):
            bar.update()

        for method in methods:
            for seed in seeds:
                bar.set_description(f"{NAMES[method]}, seed {seed}")
                done = bar.n
                single = one_run(config, method, seed)
                folder = workdir / method / f"seed_{seed}"
                results[method].append(train.run(single, folder, on_epoch=advance))
                bar.update(done + config.epochs - bar.n)  # of a finished run
    summary = {
        "accuracy": "percent on the test set, per seed",
        "seeds": list(seeds),
        "seconds": time.perf_counter() - start,
        "checkpoint_seconds": sum(
            r.checkpoint_seconds for runs in results.values() for r in runs
        ),
        "methods": {
            method: {
                "last_epoch": [100 * r.test_accuracy for r in runs],
                "selected_epoch": [
                    None if r.selected_accuracy is None else 100 * r.selected_accuracy
                    for r in runs
                ],
                "wrong_label_auroc": [r.auroc for r in runs],
                "seconds": [r.seconds for r in runs],
            }
            for method, runs in results.items()
        },
    }
    record.write_json(workdir / "summary.json", summary)
    draw_figures(config, workdir, dataset)
    return table(summary)


def draw_figures(config: ConfigDict, workdir: Path, dataset: Dataset) -> None:
    """Draws the comparison, and of every method the run with the first seed."""
    plots.comparison_figures(workdir)
    images = dataset.train_images
    if dataset.files is not None:
        images = Pictures(config, dataset.files)
    for method in config.compare.methods:
        plots.run_figures(
            workdir / method / f"seed_{config.compare.seeds[0]}",
            images=images,
            class_names=dataset.class_names,
        )


def one_run(config: ConfigDict, method: str, seed: int) -> ConfigDict:
    """The configuration of one run of a comparison."""
    single = ConfigDict(config.to_dict())
    single.update(config.compare.tuned.get(method, {}))
    single.update(method=method, seed=seed, compare=base_config().compare)
    return single.lock()


def table(summary: dict) -> str:
    """Markdown table of a comparison's `summary.json`."""
    lines = [
        "| method | test accuracy, last epoch | test accuracy, selected epoch "
        "| AUROC of wrong labels |",
        "|---|---|---|---|",
    ]
    for method, values in summary["methods"].items():
        cells = [
            mean_and_std(values["last_epoch"], 1),
            mean_and_std(values["selected_epoch"], 1),
            mean_and_std(values["wrong_label_auroc"], 3),
        ]
        lines.append(f"| {NAMES[method]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def mean_and_std(values: list[float | None], digits: int) -> str:
    """`mean ± standard deviation` (ddof 0), or a dash where a value is missing."""
    numbers = np.array([np.nan if v is None else v for v in values], float)
    if np.isnan(numbers).any():
        return "–"
    return f"{numbers.mean():.{digits}f} ± {numbers.std():.{digits}f}"
