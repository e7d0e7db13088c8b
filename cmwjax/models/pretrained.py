"""Files with the weights a classifier starts from.

A safetensors file holds what `save_weights` wrote, or the state dict of a torchvision,
timm or Cadene model; `torch_names` lists the names. A `.pth` file holds such a state
dict, as `torch.save` writes it; see `cmwjax.pickled`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from flax.traverse_util import flatten_dict

from cmwjax import pickled
from cmwjax.files import expanded, write_tensors
from cmwjax.models.torch_names import from_ours, from_torch


def save_weights(path: str | os.PathLike, variables: Mapping[str, Any]) -> None:
    """Writes `path` in one piece or not at all.

    Args:
      path: the file, usually `*.safetensors`.
      variables: of a model, `{'params': ..., 'batch_stats': ...}`; a tensor is named
        after its place in the tree, as in `params/head/kernel`.
    """
    write_tensors(path, flatten_dict(variables, sep="/"), {})


def load_weights(path: str | os.PathLike, like: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the weights that a model starts from.

    Args:
      path: a `.safetensors` file with our names or PyTorch's, or a `.pth` file.
      like: the model's initial variables, `{'params': ..., 'batch_stats': ...}`. Its
        head is kept, and that logged, if the file has none or one for another number
        of classes.

    Returns:
      A tree like `like`, with NumPy arrays in its types.

    Raises:
      ValueError: no such file, none of these formats, or tensors that are missing,
        unexpected or of another shape.
    """
    where = f"config.model.weights={str(path)!r}"
    path = expanded(path)
    if not path.is_file():
        raise ValueError(f"{where} is not a file; give the path of one.")
    tensors = _read_tensors(path, where)
    is_ours = any(name.startswith("params/") for name in tensors)
    try:
        return (from_ours if is_ours else from_torch)(tensors, like)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _read_tensors(path: Path, where: str) -> dict[str, np.ndarray]:
    """Arrays by name."""
    if path.suffix in pickled.SUFFIXES:
        try:
            state = pickled.read(path)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        is_flat = isinstance(state, dict) and all(
            isinstance(value, np.ndarray) for value in state.values()
        )
        if not is_flat:
            raise ValueError(
                f"{where} holds something else than a state dict; write one, as "
                "torch.save(model.state_dict(), FILE)."
            )
        return state
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(
            f"{where} is not a whole safetensors file ({error}); write it anew, or "
            "give the .pth file that it was made of."
        ) from None
    except (AttributeError, TypeError) as error:  # of NumPy, which lacks such a type
        raise ValueError(
            f"{where} has a tensor whose type NumPy does not have ({error}); save it "
            "as float32."
        ) from None
