"""The portable weighting function: one small file, tensors and what they mean."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors

from cmwjax.core.weighting import CMWNet
from cmwjax.files import write_tensors

FORMAT = "cmwjax weighting function 1"


class WeightingFunction(NamedTuple):
    """A learned weighting function and what one must know to use it again."""

    params: dict[str, Any]  # {'shared': ..., 'heads': ...}, a CMWNet's parameters
    # float64 [K], ascending: mean class size of each family, or target of each range.
    centres: np.ndarray | None
    loss: str = "cross_entropy"  # what was fed to it
    normalisation: str = "mean"
    provenance: Mapping[str, Any] = {}  # data, noise, seed, epochs: any JSON

    @property
    def num_families(self) -> int:
        """K, one head each."""
        return self.params["heads"]["kernel"].shape[1]

    @property
    def kind(self) -> str:
        """`'mw_net'` where all classes are one family, else `'cmw_net'`."""
        return "mw_net" if self.num_families == 1 else "cmw_net"

    @property
    def net(self) -> CMWNet:
        """The module that `params` belong to."""
        return CMWNet(self.num_families, self.params["heads"]["kernel"].shape[0])

    def __call__(self, losses: jax.Array, family: jax.Array) -> jax.Array:
        """Losses `[B]`, families int `[B]` -> weights `[B]`."""
        return self.net.apply({"params": self.params}, losses, family)


def save_weighting(path: str | os.PathLike, function: WeightingFunction) -> None:
    """Writes `path` in the safetensors format, in one piece or not at all.

    Tensors are named as in the parameter tree (`shared.kernel` [1, H],
    `shared.bias` [H], `heads.kernel` [H, K], `heads.bias` [K]).
    """
    tensors = {
        f"{layer}.{name}": value
        for layer, leaves in function.params.items()
        for name, value in leaves.items()
    }
    centres = function.centres
    metadata = {
        "format": FORMAT,
        "kind": function.kind,
        "centres": json.dumps(None if centres is None else list(map(float, centres))),
        "loss": function.loss,
        "normalisation": function.normalisation,
        "provenance": json.dumps(dict(function.provenance)),
    }
    write_tensors(path, tensors, metadata)


def read_weighting(path: str | os.PathLike) -> WeightingFunction:
    """Reads a function of either kind: `.npz` and `.pth` are imported, others loaded.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: as `load_weighting` and `import_weighting`.
    """
    if Path(path).suffix not in (".npz", ".pth"):
        return load_weighting(path)
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weighting file at {path}.")
    return import_weighting(path)


def load_weighting(
    path: str | os.PathLike, num_families: int | None = None
) -> WeightingFunction:
    """Reads what `save_weighting` wrote.

    Args:
      path: the file.
      num_families: K of the run it is for, if that must agree.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is not a weighting function or has another K.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weighting file at {path}.")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path} is not a weighting file ({error}); give one written by "
            "cmwjax.save_weighting."
        ) from None
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {metadata.get('format')!r}, not {FORMAT!r}; give a "
            "file written by cmwjax.save_weighting."
        )
    params: dict[str, Any] = {}
    for name, value in tensors.items():
        layer, leaf = name.split(".")
        params.setdefault(layer, {})[leaf] = value
    centres = json.loads(metadata["centres"])
    function = WeightingFunction(
        params=params,
        centres=None if centres is None else np.array(centres),
        loss=metadata["loss"],
        normalisation=metadata["normalisation"],
        provenance=json.loads(metadata["provenance"]),
    )
    if num_families is not None:
        check_families(path, function, num_families)
    return function


def check_families(
    path: str | os.PathLike, function: WeightingFunction, num_families: int
) -> None:
    """Raises `ValueError` if a run with so many families cannot use the function."""
    if function.num_families != num_families:
        raise ValueError(
            f"{path} tells {function.num_families} class families apart, this run "
            f"{num_families}; set weighting.num_families={function.num_families}, for "
            "which there must be as many different class sizes, or give another file."
        )


def import_weighting(
    source: str | os.PathLike | Mapping[str, Any],
) -> WeightingFunction:
    """Imports a weighting net of the authors' PyTorch code.

    Args:
      source: their state dict, or the path of one as `.npz` or (with PyTorch
        installed) `.pth`. Keys `feature.layer.0.{weight,bias}` and, per branch b,
        `classfier.layers.{b}.0.{weight,bias}`, their spelling.

    Returns:
      The function with its heads ordered small, moderate, large. Their branches are
      0 large, 1 small, 2 moderate, as the curves of the paper's figure show.

    Raises:
      ValueError: if the keys or the number of branches are not those.
    """
    state = source if isinstance(source, Mapping) else _read_state_dict(Path(source))
    state = {key: np.asarray(value) for key, value in state.items()}
    small_moderate_large = (1, 2, 0)
    branch = "classfier.layers.{}.0.{}".format
    expected = {"feature.layer.0.weight", "feature.layer.0.bias"} | {
        branch(b, leaf) for b in small_moderate_large for leaf in ("weight", "bias")
    }
    if set(state) != expected:
        raise ValueError(
            f"the state dict has keys {sorted(state)}; the authors' three-family net "
            f"has {sorted(expected)}."
        )
    weights, biases = (
        [state[branch(b, leaf)] for b in small_moderate_large]
        for leaf in ("weight", "bias")
    )
    params = {
        "shared": {
            "kernel": state["feature.layer.0.weight"].T,
            "bias": state["feature.layer.0.bias"],
        },
        "heads": {"kernel": np.concatenate(weights).T, "bias": np.concatenate(biases)},
    }
    return WeightingFunction(params, None, provenance={"source": "authors' state dict"})


def _read_state_dict(path):
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    try:
        import torch
    except ImportError:
        raise ImportError(
            f"reading {path} needs PyTorch: pip install 'cmwjax[torch]', or convert "
            "the file to .npz where PyTorch is installed."
        ) from None
    return torch.load(path, map_location="cpu", weights_only=True)
