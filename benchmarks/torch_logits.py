"""Do our large models compute what PyTorch's do? Same random weights, same images.

    pip install -e ".[benchmark]"
    python benchmarks/torch_logits.py

Fills torchvision's ResNet-50 and VGG-19 and timm's Inception-ResNet-v2 with random
weights, scales and running statistics, converts them (`cmwjax.models.torch_names`) and
prints how far the logits are apart, and after a training step's forward pass the
running statistics, both relative to the largest of their kind. Fails if that is more
than rounding. In float32 two right programs differ by their order of summation; float64
shows that it is no more.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import timm
import torch
import torchvision

from cmwjax.models.catalogue import build
from cmwjax.models.torch_names import from_torch

TOLERANCE = {"float32": 1e-4, "float64": 1e-10}


class Pair(NamedTuple):
    """One architecture in both worlds."""

    theirs: Callable[..., torch.nn.Module]
    size: int  # pixels
    options: dict[str, Any] = {}  # of ours


PAIRS = {
    "resnet50": Pair(torchvision.models.resnet50, 224),
    # Without dropout, which draws other numbers.
    "vgg19_bn": Pair(
        partial(torchvision.models.vgg19_bn, dropout=0.0), 64, {"dropout": 0.0}
    ),
    "inception_resnet_v2": Pair(
        lambda **options: timm.create_model("inception_resnet_v2", **options), 299
    ),
}


def randomise(model: torch.nn.Module) -> None:
    """Nothing stays at zero or one, where a mistake would not be seen."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
            torch.nn.init.normal_(module.running_mean, std=0.1)


def arrays(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """The state dict in NumPy."""
    return {name: x.numpy().copy() for name, x in model.state_dict().items()}


def compare(name: str, dtype: str, *, batch_size: int, num_classes: int) -> bool:
    """Prints one line per mode; says whether all is rounding."""
    torch.manual_seed(0)
    theirs, size = PAIRS[name].theirs(num_classes=num_classes), PAIRS[name].size
    theirs.to(getattr(torch, dtype))
    randomise(theirs)
    shape = batch_size, size, size, 3
    images = np.random.default_rng(0).normal(size=shape).astype(dtype)
    channels_first = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())

    ours = build(name, num_classes=num_classes, **PAIRS[name].options)
    like = jax.eval_shape(lambda: ours.init(jax.random.key(0), images, False))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), like)
    variables = from_torch(arrays(theirs), like)
    size_of_params = sum(x.size for x in jax.tree.leaves(variables["params"]))
    assert size_of_params == sum(p.numel() for p in theirs.parameters())

    good = True
    for train in (False, True):

        def apply(variables, images, train=train):
            return ours.apply(variables, images, train, mutable=["batch_stats"])

        start = time.perf_counter()
        compiled = jax.jit(apply).lower(variables, images).compile()
        middle = time.perf_counter()
        logits, state = jax.block_until_ready(compiled(variables, images))
        end = time.perf_counter()
        with torch.no_grad():
            wanted = theirs.train(train)(channels_first).numpy()
        differences = {"logits": largest_difference(logits, wanted)}
        if train:
            after = from_torch(arrays(theirs), like)["batch_stats"]
            statistics = map(
                largest_difference,
                jax.tree.leaves(state["batch_stats"]),
                jax.tree.leaves(after),
            )
            differences["running statistics"] = max(statistics)
        text = ", ".join(f"{k} {v:.1e}" for k, v in differences.items())
        print(
            f"{name} {dtype} {'train' if train else 'eval'}: {text}; largest logit "
            f"{np.abs(wanted).max():.3g}; compiled in {middle - start:.1f} s, ran in "
            f"{end - middle:.2f} s",
            flush=True,
        )
        good &= max(differences.values()) < TOLERANCE[dtype]
    return good


def largest_difference(x: Any, wanted: Any) -> float:
    """Largest absolute difference over the largest absolute value."""
    assert x.shape == wanted.shape and x.dtype == wanted.dtype
    return float(jnp.max(jnp.abs(x - wanted)) / np.max(np.abs(wanted)))


def main() -> None:
    """Compares all models in both types."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(PAIRS), help="comma-separated")
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--num_classes", type=int, default=1000)
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    print(
        f"jax {jax.__version__}, torch {torch.__version__}, torchvision "
        f"{torchvision.__version__}, timm {timm.__version__}; batches of "
        f"{args.batch_size}"
    )
    options = {"batch_size": args.batch_size, "num_classes": args.num_classes}
    good = [
        compare(name, dtype, **options)
        for name in args.models.split(",")
        for dtype in TOLERANCE
    ]
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
