"""Named tensors as a model's variables, whether PyTorch named them or we did.

`resnet50`, `vgg19_bn` and `inception_resnet_v2` name their parts as torchvision, timm
and Cadene do, so that one rule maps every tensor, for example

    layer1.0.downsample.0.weight        params/layer1_0/downsample_0/kernel
    layer1.0.downsample.1.weight        params/layer1_0/downsample_1/scale
    layer1.0.downsample.1.running_var   batch_stats/layer1_0/downsample_1/var
    repeat_1.7.branch1.2.conv.weight    params/repeat_1_7/branch1_2/conv/kernel
    fc.bias                             params/head/bias

* The number of a part in a sequence is set off by a dot there, by an underscore here.
* Kernels are `weight`, `[out, in, height, width]` or `[out, in]`, there; here `kernel`,
  `[height, width, in, out]` or `[in, out]`. Of batch norm, `weight` is `scale`,
  `running_mean` is `mean`, `running_var` is `var`; `num_batches_tracked` is not used.
* The head is `fc` in torchvision's and timm's ResNets, `_fc` in EfficientNet-Lite,
  whose parts keep the underscore before their names, `classifier.6` in torchvision's
  VGG, `classif` in timm's Inception-ResNet and `last_linear` in Cadene's, which has
  1001 classes: the first is the background. `bcnn_vgg16` takes the convolutions of
  torchvision's `vgg16` and leaves its `classifier` out.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict

TORCH_HEADS = ("fc", "_fc", "classif", "last_linear", "classifier.6")
OUR_HEAD = "params/head/"
_TORCH_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
_TO_OURS = {4: (2, 3, 1, 0), 2: (1, 0)}  # axes of kernels, by their number
_TO_TORCH = {4: (3, 2, 0, 1), 2: (1, 0)}
_SHOWN = 3  # names in an error, of perhaps hundreds


def torch_name(path: str, head: str = TORCH_HEADS[0]) -> str:
    """PyTorch's name of our `path`, `'params/layer1_0/bn1/scale'` for one.

    Args:
      path: collection, parts and leaf, with slashes.
      head: what the last linear layer is called there.
    """
    _, *parts, leaf = path.split("/")
    parts = [re.sub(r"_(\d+)$", r".\1", part) for part in parts]
    parts = [head if part == "head" else part for part in parts]
    return ".".join([*parts, _TORCH_LEAVES.get(leaf, leaf)])


def from_torch(
    state: Mapping[str, np.ndarray], like: Mapping[str, Any]
) -> dict[str, Any]:
    """A state dict as variables of the model that `like` belongs to.

    Args:
      state: name -> array, of a model with the same architecture.
      like: initial variables, `{'params': ..., 'batch_stats': ...}`. Its head is kept,
        and that logged, if the state dict has none or one for another number of
        classes.

    Returns:
      A tree like `like`, with NumPy arrays in its types.

    Raises:
      ValueError: tensors are missing, unexpected, of another shape or not finite.
    """
    if not any("/classifier_" in path for path in flatten_dict(like, sep="/")):
        # The linear layers of a VGG, of which only the convolutions are wanted.
        state = {k: v for k, v in state.items() if not k.startswith("classifier.")}
    heads = [head for head in TORCH_HEADS if f"{head}.weight" in state]
    names = {path: torch_name(path, *heads[:1]) for path in flatten_dict(like, sep="/")}
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    return _fit(state, like, names, _TO_OURS, _TO_TORCH)


def from_ours(
    tensors: Mapping[str, np.ndarray], like: Mapping[str, Any]
) -> dict[str, Any]:
    """As `from_torch`, of tensors that are named as `'params/head/kernel'`."""
    names = {path: path for path in flatten_dict(like, sep="/")}
    return _fit(tensors, like, names, {}, {})


def _fit(tensors, like, names, to_ours, to_theirs):
    """Checks all tensors against `like` and puts them into its tree."""
    wanted: dict[str, Any] = flatten_dict(like, sep="/")
    given = {
        path: _reordered(np.asarray(tensors[name]), to_ours)
        for path, name in names.items()
        if name in tensors
    }
    head = [path for path in wanted if path.startswith(OUR_HEAD)]
    other_head = _other_head(head, given, wanted)
    if other_head:
        given |= {path: np.asarray(wanted[path]) for path in head}
    _check_names(tensors, names, missing=names.keys() - given.keys())
    for path, value in given.items():
        _check_value(names[path], value, wanted[path].shape, to_theirs)
    if other_head:
        logging.info("the weights have %s: it starts anew.", other_head)
    fitted = {path: given[path].astype(x.dtype) for path, x in wanted.items()}
    return unflatten_dict(fitted, sep="/")


def _check_names(tensors, names, missing):
    """That the model knows all tensors, and that none of its own is missing."""
    lacks = sorted(names[path] for path in missing)
    unknown = sorted(tensors.keys() - set(names.values()))
    if lacks or unknown:
        wrong = [f"{_some(lacks)} missing"] if lacks else []
        wrong += [f"{_some(unknown)} not known to the model"] if unknown else []
        raise ValueError(
            f"{', '.join(wrong)}; give weights of the same architecture (model.name "
            "and model.options) with the names of cmwjax.models.torch_names, no prefix "
            "before them."
        )


def _check_value(name, value, shape, to_theirs):
    """That a tensor, in our layout, has the model's shape and holds numbers."""
    if value.shape != shape:
        theirs, ours = (
            [x[axis] for axis in to_theirs.get(len(x), range(len(x)))]
            for x in (value.shape, shape)
        )
        raise ValueError(
            f"{name} has shape {theirs}, not {ours}; give weights of the same "
            "architecture (model.name and model.options)."
        )
    is_number = jnp.issubdtype(value.dtype, np.floating)  # bfloat16 is one, too
    if not is_number or not np.isfinite(value).all():
        raise ValueError(
            f"{name}, of type {value.dtype}, holds something else than finite "
            "floating-point numbers; give weights of a model that works."
        )


def _reordered(array, axes):
    return array.transpose(axes[array.ndim]) if array.ndim in axes else array


def _other_head(head, given, wanted):
    """Says which head there is if it cannot be the model's, and does not matter."""
    present = [path for path in head if path in given]
    if not present:
        return "no head" if head else None
    fits = all(
        path in present
        and given[path].ndim == wanted[path].ndim
        and given[path].shape[:-1] == wanted[path].shape[:-1]
        for path in head
    )
    classes = {given[path].shape[-1] for path in present} if fits else set()
    if len(classes) == 1 and classes != {wanted[head[0]].shape[-1]}:
        return f"a head for {classes.pop()} classes"
    return None


def _some(names):
    """The first few names, and how many there are, with their verb."""
    more = len(names) - _SHOWN
    listed = ", ".join(names[:_SHOWN]) + (f" and {more} others" if more > 0 else "")
    return f"{listed} {'is' if len(names) == 1 else 'are'}"
