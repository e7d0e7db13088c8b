"""Files with the weights a classifier starts from, in the safetensors format.

Such a file holds what `save_weights` wrote, or the state dict of a torchvision, timm or
Cadene model; `torch_names` lists the names. A `.pth` file, where PyTorch is installed,
becomes one by

    state = torch.load("resnet50.pth", map_location="cpu", weights_only=True)
    safetensors.torch.save_file(state, "resnet50.safetensors")
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
from flax.traverse_util import flatten_dict

from cmwjax.files import write_tensors
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
      path: a `.safetensors` file with our names or PyTorch's.
      like: the model's initial variables, `{'params': ..., 'batch_stats': ...}`. Its
        head is kept, and that logged, if the file has none or one for another number
        of classes.

    Returns:
      A tree like `like`, with NumPy arrays in its types.

    Raises:
      ValueError: no such file, no safetensors file, or tensors that are missing,
        unexpected or of another shape.
    """
    where = f"config.model.weights={str(path)!r}"
    if not Path(path).is_file():
        raise ValueError(f"{where} is not a file; give the path of one.")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(
            f"{where} is not a whole safetensors file ({error}); write it anew, a .pth "
            "file as cmwjax.models.pretrained shows."
        ) from None
    except (AttributeError, TypeError) as error:  # of NumPy, which lacks such a type
        raise ValueError(
            f"{where} has a tensor whose type NumPy does not have ({error}); save it "
            "as float32."
        ) from None
    is_ours = any(name.startswith("params/") for name in tensors)
    try:
        return (from_ours if is_ours else from_torch)(tensors, like)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
