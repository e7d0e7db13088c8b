"""Learn how much to trust each training label: CMW-Net in JAX and Flax.

What is named here needs no more than JAX, Flax, Optax, NumPy and safetensors; the
trainer is `cmwjax.train.run`, its data, files and figures in the modules beside it.
"""

from cmwjax.core.families import Families, group_classes
from cmwjax.core.forward import all_mean
from cmwjax.core.losses import cross_entropy, soft_cross_entropy
from cmwjax.core.meta import MetaState, meta_step, weighted_step
from cmwjax.core.micro_batches import micro_batches
from cmwjax.core.reweighting import Reweighting, reweight
from cmwjax.core.weighting import CMWNet
from cmwjax.core.weighting_file import (
    WeightingFunction,
    import_weighting,
    load_weighting,
    save_weighting,
)
from cmwjax.core.zoo import weighting_zoo

__version__ = "0.1.0"


# With models, data or the trainer, which the rest does without: loaded when asked for.
_LATER = {
    "CMWClassifier": "cmwjax.estimator",
    "find_label_errors": "cmwjax.label_errors",
    "load_classifier": "cmwjax.classifier",
    "plot_weighting": "cmwjax.report.weighting_plot",
}


def __getattr__(name):
    if name in _LATER:
        import importlib

        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "CMWClassifier",
    "CMWNet",
    "Families",
    "MetaState",
    "Reweighting",
    "WeightingFunction",
    "all_mean",
    "cross_entropy",
    "find_label_errors",
    "group_classes",
    "import_weighting",
    "load_classifier",
    "load_weighting",
    "meta_step",
    "micro_batches",
    "plot_weighting",
    "reweight",
    "save_weighting",
    "soft_cross_entropy",
    "weighted_step",
    "weighting_zoo",
]
