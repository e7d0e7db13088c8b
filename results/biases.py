"""The cells of the tables: every bias that methods are compared under."""

import importlib
import re
from pathlib import Path
from typing import NamedTuple

# What stands in a configuration for files that results/make.py is given or makes: the
# archive of results/make_pmd.py, embeddings of CIFAR-10 and the human labels of these,
# the weighting function that the authors published, and the one that a run of another
# cell learned.
PMD, EMBEDDINGS, HUMAN, AUTHORS = "{pmd}", "{embeddings}", "{human}", "{authors}"
LEARNED = "{{learned:{}}}"
LEARNER = "cmw_net_sl"  # the method whose function is meant, with the first seed


class Cell(NamedTuple):
    """One bias, and the methods compared under it."""

    title: str
    config: str  # as after --config=configs/, with PMD and so on where it needs files
    paper: dict[str, float] = {}  # method -> accuracy in the paper, its own schedule


def read_config(text):
    """The configuration that `--config=configs/TEXT` means.

    After the file and its argument may come ` --config.FIELD=NUMBER`.
    """
    text, *fields = text.split(" --config.")
    file, _, argument = text.partition(":")
    module = importlib.import_module(f"configs.{Path(file).stem}")
    config = module.get_config(argument or None)
    pairs = (field.split("=") for field in fields)
    config.update_from_flattened_dict({name: float(value) for name, value in pairs})
    return config


def with_files(text, given, learned):
    """A cell's configuration with paths in place of what stands for them.

    `given(name)` is the path of a file, `learned(cell)` that of a weighting function.
    """
    text = re.sub(LEARNED.format("([^}]*)"), lambda match: str(learned(match[1])), text)
    return re.sub(r"\{(\w+)\}", lambda match: str(given(match[1])), text)


def in_words(text):
    """A cell's configuration with a word for each file, as tables have it."""
    return with_files(text, lambda name: f"{name.upper()}.npz", lambda _: "LEARNED")


def told(wrong):
    """RRM is told the share of wrong labels, as Forward is told who is called what."""
    return f" --config.baseline.rrm.noise_rate={wrong:g}"


def fashion(biases):
    """Cells of all methods on Fashion-MNIST.

    By their names: title, arguments that say the bias, and share of wrong labels.
    """
    return {
        f"fashion-{name}": Cell(
            title,
            f"fashion_mnist.py:{bias},fast,validation=0.1,methods={METHODS}"
            + told(wrong),
        )
        for name, (title, bias, wrong) in biases.items()
    }


METHODS = "every+soft+rrm"
LEARNING = "mw_net+cmw_net+per_class+soft"
PMD_1 = f"labels={PMD}:type1_035"
INDEPENDENT = {
    **{
        f"asym-{rate}": (f"asym {rate}", f"noise=asym,rate={rate}", 0.4 * rate)
        for rate in (0.4, 0.6, 0.8)
    },
    **{
        f"sym-{rate}": (f"sym {rate}", f"noise=sym,rate={rate}", 0.9 * rate)
        for rate in (0.2, 0.4, 0.8)
    },
}
FEATURE_DEPENDENT = {
    "pmd-1-35": ("PMD I 35 %", PMD_1, 0.35),
    "pmd-1-70": ("PMD I 70 %", f"labels={PMD}:type1_070", 0.7),
    "hybrid-asym": (
        "PMD I 35 % + asym 0.3",
        f"{PMD_1},noise=hybrid_asym,rate=0.3",
        0.45,
    ),
}
LONG_TAILS = {
    "lt-50": ("LT 50", "imbalance=50,meta=balanced", 0.0),
    "lt-100": ("LT 100", "imbalance=100,meta=balanced", 0.0),
    "lt-50-sym-0.2": ("LT 50 + sym 0.2", "imbalance=50,noise=sym,rate=0.2", 0.18),
    "lt-50-asym-0.4": ("LT 50 + asym 0.4", "imbalance=50,noise=asym,rate=0.4", 0.16),
}


def embedded(name, title, bias, wrong):
    """A cell on embeddings of CIFAR-10, of methods that are for wrong labels."""
    text = f"embeddings.py:data={EMBEDDINGS},{bias},validation=0.1"
    methods = f"methods=erm+trusted_only+gce+forward+elr+plc+rrm+l2rw+{LEARNING}"
    return {f"embeddings-{name}": Cell(title, f"{text},{methods}{told(wrong)}")}


ON_EMBEDDINGS = {
    **embedded("asym-0.6", "asym 0.6", "noise=asym,rate=0.6", 0.24),
    **embedded("sym-0.4", "sym 0.4", "noise=sym,rate=0.4", 0.36),
    **embedded(
        "human-worse", "human labels (worse)", f"labels={HUMAN}:worse_label", 0.4
    ),
    **embedded(
        "human-aggre", "human labels (aggregate)", f"labels={HUMAN}:aggre_label", 0.09
    ),
}

CIFAR_METHODS = "erm+erm_mixup_ema+mw_net+cmw_net+constant_sl+cmw_net_sl"
CIFAR10 = {
    "cifar10-asym-0.6": Cell(
        "asym 0.6",
        f"cifar.py:noise=asym,rate=0.6,fast,methods={CIFAR_METHODS}",
        {"erm": 69.69, "mw_net": 68.55, "cmw_net": 91.28, "cmw_net_sl": 94.18},
    ),
    "cifar10-human-worse": Cell(
        "human labels (worse)",
        f"cifar.py:labels=human_worse,fast,methods={CIFAR_METHODS}",
    ),
    "cifar10-hybrid-asym": Cell(
        "PMD I 35 % + asym 0.3",
        "cifar.py:labels=pmd_type1_035,noise=hybrid_asym,rate=0.3,fast,"
        "methods=erm+constant_sl+cmw_net_sl",
        {"erm": 75.21, "cmw_net_sl": 80.69},
    ),
    "cifar10-lt-100": Cell(
        "LT 100",
        "cifar_lt.py:fast,methods=erm+class_balanced+ldam_drw+mw_net+cmw_net",
        {"erm": 70.36, "class_balanced": 72.37, "mw_net": 73.57, "cmw_net": 78.85},
    ),
}
TRANSFER = {
    "transfer-embeddings-human-worse": Cell(
        "CIFAR-10 as embeddings, human labels (worse)",
        f"transfer.py:target={EMBEDDINGS},labels={HUMAN}:worse_label,"
        f"learned={LEARNED.format('cifar10-hybrid-asym')},authors={AUTHORS}",
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
            "asym 0.6, 100 trusted samples",
            "quickstart.py:seeds=10,methods=erm+trusted_only+mw_net+cmw_net",
        ),
        "digits-asym-0.8": Cell(
            "asym 0.8", "quickstart.py:rate=0.8,meta=lowest_loss,seeds=10"
        ),
    },
    "CIFAR-10 as embeddings, MLP, 1,000 trusted samples": ON_EMBEDDINGS,
    "Fashion-MNIST, MLP, 10,000 images: independent noise": fashion(INDEPENDENT),
    "Fashion-MNIST, MLP, 10,000 images: feature-dependent noise": fashion(
        FEATURE_DEPENDENT
    ),
    "Fashion-MNIST, MLP: long tails": fashion(LONG_TAILS),
    "CIFAR-10, small conv net, 10,000 images, 15 epochs": CIFAR10,
    "Weighting functions learned elsewhere, without meta steps": TRANSFER,
}
CELLS = {name: cell for section in SECTIONS.values() for name, cell in section.items()}
