"""The cells of the tables: every bias that methods are compared under."""

import importlib
from pathlib import Path
from typing import NamedTuple

# What stands in a configuration for files that results/make.py finds or makes: the
# archive of results/make_pmd.py, the weighting function that a run of another cell
# learned, and the one that the authors published.
PMD, LEARNED, AUTHORS = "{pmd}", "{{learned:{}}}", "{authors}"
LEARNER = "cmw_net_sl"  # the method whose function is meant, with the first seed


class Cell(NamedTuple):
    """One bias, and the methods compared under it."""

    title: str
    config: str  # as after --config=configs/, with PMD and so on where it needs files
    paper: dict[str, float] = {}  # method -> accuracy in the paper, its own schedule


def read_config(text):
    """The configuration that `--config=configs/TEXT` means."""
    file, _, argument = text.partition(":")
    module = importlib.import_module(f"configs.{Path(file).stem}")
    return module.get_config(argument or None)


def fashion(biases):
    """Cells of all methods on Fashion-MNIST, by the arguments that say the bias."""
    return {
        f"fashion-{name}": Cell(
            title, f"fashion_mnist.py:{bias},fast,{FASHION_METHODS}"
        )
        for name, (title, bias) in biases.items()
    }


FASHION_METHODS = "validation=0.1,methods=every+soft"
INDEPENDENT = {
    f"{noise}-{rate}": (f"{noise} {rate}", f"noise={noise},rate={rate}")
    for noise in ("asym", "sym")
    for rate in (0.2, 0.4, 0.6, 0.8)
}
PMD_1 = f"labels={PMD}:type1_035"
FEATURE_DEPENDENT = {
    "pmd-1-35": ("PMD I 35 %", PMD_1),
    "pmd-2-35": ("PMD II 35 %", f"labels={PMD}:type2_035"),
    "pmd-3-35": ("PMD III 35 %", f"labels={PMD}:type3_035"),
    "pmd-1-70": ("PMD I 70 %", f"labels={PMD}:type1_070"),
    "hybrid-sym": ("PMD I 35 % + sym 0.3", f"{PMD_1},noise=hybrid_sym,rate=0.3"),
    "hybrid-asym": ("PMD I 35 % + asym 0.3", f"{PMD_1},noise=hybrid_asym,rate=0.3"),
}
LONG_TAILS = {
    **{
        f"lt-{factor}": (f"LT {factor}", f"imbalance={factor},meta=balanced")
        for factor in (10, 50, 100, 200)
    },
    "lt-50-sym-0.2": ("LT 50 + sym 0.2", "imbalance=50,noise=sym,rate=0.2"),
    "lt-50-asym-0.4": ("LT 50 + asym 0.4", "imbalance=50,noise=asym,rate=0.4"),
}

LT_METHODS = "erm+class_balanced+ldam_drw+mw_net+cmw_net"
CIFAR_METHODS = "main+constant_sl+cmw_net_sl"
CIFAR10 = {
    "cifar10-asym-0.6": Cell(
        "asym 0.6",
        f"cifar.py:noise=asym,rate=0.6,fast,methods={CIFAR_METHODS}",
        {
            "erm": 69.69,
            "gce": 67.21,
            "forward": 87.24,
            "l2rw": 88.22,
            "mw_net": 68.55,
            "cmw_net": 91.28,
            "cmw_net_sl": 94.18,
        },
    ),
    "cifar10-asym-0.8": Cell(
        "asym 0.8",
        f"cifar.py:noise=asym,rate=0.8,fast,methods={CIFAR_METHODS}",
        {
            "erm": 55.20,
            "gce": 57.46,
            "forward": 81.07,
            "l2rw": 85.17,
            "mw_net": 58.29,
            "cmw_net": 87.50,
            "cmw_net_sl": 93.07,
        },
    ),
    "cifar10-sym-0.4": Cell(
        "sym 0.4",
        f"cifar.py:noise=sym,rate=0.4,fast,methods={CIFAR_METHODS}",
        {"erm": 77.52, "mw_net": 86.53, "cmw_net": 86.91, "cmw_net_sl": 95.29},
    ),
    "cifar10-human-worse": Cell(
        "human labels (worse)",
        f"cifar.py:labels=human_worse,fast,methods={CIFAR_METHODS}",
    ),
    "cifar10-pmd-1-35": Cell(
        "PMD I 35 %",
        f"cifar.py:labels=pmd_type1_035,fast,methods={CIFAR_METHODS}",
        {
            "erm": 78.11,
            "gce": 80.65,
            "plc": 82.80,
            "mw_net": 82.20,
            "cmw_net": 82.27,
            "cmw_net_sl": 84.23,
        },
    ),
    "cifar10-hybrid-asym": Cell(
        "PMD I 35 % + asym 0.3",
        "cifar.py:labels=pmd_type1_035,noise=hybrid_asym,rate=0.3,fast,"
        "methods=erm+cmw_net+cmw_net_sl",
        {"erm": 75.21, "cmw_net": 77.14, "cmw_net_sl": 80.69},
    ),
    "cifar10-lt-100": Cell(
        "LT 100",
        f"cifar_lt.py:fast,methods={LT_METHODS}",
        {
            "erm": 70.36,
            "focal": 70.38,
            "class_balanced": 72.37,
            "l2rw": 74.16,
            "mcw": 76.41,
            "mw_net": 73.57,
            "cmw_net": 78.85,
        },
    ),
    "cifar10-lt-100-ldam": Cell(
        "LT 100, LDAM's loss",
        "cifar_lt.py:loss=ldam,fast,methods=erm+mw_net+cmw_net",
        {"cmw_net": 80.05},
    ),
    "cifar10-lt-100-sym-0.2": Cell(
        "LT 100 + sym 0.2",
        f"cifar_lt.py:noise=sym,rate=0.2,fast,methods={LT_METHODS}",
    ),
}
CIFAR10_MEDIUM = {
    "cifar10-medium-asym-0.8": Cell(
        "asym 0.8",
        "cifar.py:noise=asym,rate=0.8,medium,"
        "methods=erm+erm_mixup_ema+constant_sl+cmw_net_mixup+cmw_net_sl",
        {"erm": 55.20, "cmw_net_mixup": 87.50, "cmw_net_sl": 93.07},
    ),
}
TEACHER = {
    "cifar10-asym-0.8-teacher": Cell(
        "asym 0.8",
        "cifar.py:noise=asym,rate=0.8,fast,"
        "methods=cmw_net_sl+cmw_net_sl@teacher_with_its_own_statistics",
    ),
}
TRANSFER = {
    "transfer-cifar10-human-worse": Cell(
        "CIFAR-10, human labels (worse)",
        f"transfer.py:target=cifar10_human,learned={LEARNED.format('fashion-asym-0.8')},"
        f"authors={AUTHORS}",
    ),
    "transfer-cifar10-lt-50-sym-0.2": Cell(
        "CIFAR-10, LT 50 + sym 0.2",
        "transfer.py:target=cifar10,"
        f"learned={LEARNED.format('fashion-asym-0.8')},authors={AUTHORS}",
    ),
    "transfer-fashion-lt-50-sym-0.2": Cell(
        "Fashion-MNIST, LT 50 + sym 0.2",
        "transfer.py:target=fashion_mnist,"
        f"learned={LEARNED.format('cifar10-hybrid-asym')},authors={AUTHORS}",
    ),
}

SECTIONS = {
    "Digits, MLP, 60 epochs": {
        "digits-asym-0.6": Cell(
            "asym 0.6, 100 trusted samples", "quickstart.py:seeds=10"
        ),
        "digits-asym-0.8": Cell(
            "asym 0.8", "quickstart.py:rate=0.8,meta=lowest_loss,seeds=10"
        ),
    },
    "Fashion-MNIST, MLP, 20,000 images, 30 epochs": {
        "fashion-20k-asym-0.8": Cell(
            "asym 0.8",
            "fashion_mnist.py:methods=erm+erm_mixup_ema+mw_net+cmw_net+cmw_net_mixup",
        ),
    },
    "CIFAR-10, small conv net, 10,000 images, 15 epochs": CIFAR10,
    "CIFAR-10, small conv net, all images, 10 epochs": CIFAR10_MEDIUM,
    "The teacher's batch statistics, 10,000 images of CIFAR-10": TEACHER,
    "Weighting functions learned elsewhere, without meta steps": TRANSFER,
    "Fashion-MNIST, MLP, 10,000 images, 15 epochs: independent noise": fashion(
        INDEPENDENT
    ),
    "Fashion-MNIST, MLP, 10,000 images, 15 epochs: feature-dependent noise": fashion(
        FEATURE_DEPENDENT
    ),
    "Fashion-MNIST, MLP, 15 epochs: long tails": fashion(LONG_TAILS),
}
CELLS = {name: cell for section in SECTIONS.values() for name, cell in section.items()}
