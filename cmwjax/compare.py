"""Several methods side by side over several seeds, and one table."""

import time
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from cmwjax import plots, record, train
from cmwjax.config import check_config

NAMES = {"erm": "ERM", "mw_net": "MW-Net", "cmw_net": "CMW-Net"}


def run(config: ConfigDict, workdir: str | Path) -> str:
    """Makes the runs of `config.compare`, each in `workdir/METHOD/seed_K`.

    Finished runs are not repeated. Prints progress while it works and writes
    `summary.json` and figures at the end.

    Args:
      config: see `cmwjax.config.base_config`; methods and seeds to compare.
      workdir: a new or empty folder, or that of a comparison of this configuration.

    Returns:
      The table: accuracy on the test set in percent, mean and standard deviation
      over seeds, and AUROC of "this label is wrong" by weight.

    Raises:
      ValueError: if configuration, data or workdir are unfit.
    """
    check_config(config)
    methods, seeds = config.compare.methods, config.compare.seeds
    workdir = record.claim_folder(workdir, config)
    start = time.perf_counter()
    results: dict[str, list[train.Result]] = {method: [] for method in methods}
    total = len(methods) * len(seeds) * config.epochs
    with tqdm(total=total, unit="epoch", mininterval=1) as bar:
        for method in methods:
            for seed in seeds:
                bar.set_description(f"{NAMES[method]}, seed {seed}")
                done = bar.n
                single = one_run(config, method, seed)
                folder = workdir / method / f"seed_{seed}"
                results[method].append(
                    train.run(single, folder, on_epoch=lambda _: bar.update())
                )
                bar.update(done + config.epochs - bar.n)  # of a finished run
    summary = {
        "accuracy": "percent on the test set, per seed",
        "seeds": list(seeds),
        "seconds": time.perf_counter() - start,
        "methods": {
            method: {
                "last_epoch": [100 * r.test_accuracy for r in runs],
                "selected_epoch": [
                    None if r.selected_accuracy is None else 100 * r.selected_accuracy
                    for r in runs
                ],
                "wrong_label_auroc": [r.auroc for r in runs],
            }
            for method, runs in results.items()
        },
    }
    record.write_json(workdir / "summary.json", summary)
    plots.comparison_figures(workdir)
    for method in methods:
        plots.run_figures(workdir / method / f"seed_{seeds[0]}")
    return table(summary)


def one_run(config: ConfigDict, method: str, seed: int) -> ConfigDict:
    """The configuration of one run of a comparison."""
    single = config.copy_and_resolve_references()
    single.unlock()
    single.method, single.seed = method, seed
    single.compare = ConfigDict({"methods": (), "seeds": ()})
    return single.lock()


def table(summary: dict) -> str:
    """Markdown table of a comparison's `summary.json`."""
    lines = [
        "| method | test accuracy, last epoch | test accuracy, epoch selected on the "
        "meta set | AUROC of wrong labels |",
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
