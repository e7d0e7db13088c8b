"""The portable weighting function: one small file, tensors and what they mean."""

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from jax.typing import ArrayLike

from cmwjax import pickled
from cmwjax.core import weighting_words
from cmwjax.core.families import ALIKE, Families, group_classes
from cmwjax.core.labels import check_labels, class_counts
from cmwjax.core.weighting import CMWNet, SizeBlind
from cmwjax.core.zoo import PREFIX, zoo_file
from cmwjax.files import expanded, write_tensors

FORMAT = "cmwjax weighting function 1"


class WeightingFunction(NamedTuple):
    """A learned weighting function and what one must know to use it again."""

    params: dict[str, Any]  # {'shared': ..., 'heads': ...}, a CMWNet's parameters
    # float64 [K], ascending: mean class size of each family, or target of each range.
    centres: np.ndarray | None
    loss: str = "cross_entropy"  # what was fed to it
    normalisation: str = "mean"
    provenance: Mapping[str, Any] = {}  # data, noise, seed, epochs: any JSON
    # Least and largest loss of the samples it was learned on, at the end; if known.
    seen: tuple[float, float] | None = None

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
        """Losses `[B]`, families int `[B]` in [0, K) -> weights `[B]`.

        Raises:
          ValueError: for other shapes, or another family. Under `jax.jit`, where its
            value is not known, the weight of another family is NaN.
        """
        losses, family = _one_each(losses, family, "family is")
        if not isinstance(family, jax.core.Tracer) and family.is_fully_addressable:
            outside = np.asarray((family < 0) | (family >= self.num_families))
            if outside.any():
                first = np.argmax(outside)
                raise ValueError(
                    f"family must lie in [0, {self.num_families}), got {family[first]} "
                    f"at position {first}: look up the family of the sample's class."
                )
        return self.net.apply({"params": self.params}, losses, family)

    def apply(
        self,
        losses: ArrayLike,
        labels: ArrayLike | None = None,
        *,
        class_sizes: ArrayLike | None = None,
    ) -> jax.Array:
        """Weights of samples of any data: by their losses and the sizes of classes.

        Classes are grouped by size, as many families as the function tells apart. Where
        the mean sizes of these are within a factor of two, small and large mean little:
        all classes then have the mean weight of the families, as in a run.

        Args:
          losses: `[B]`, of the kind that `loss` names.
          labels: classes int `[B]` in [0, C), as observed. None: the function has one
            family, or no class sizes are known, and families are not told apart.
          class_sizes: samples of each class in the training set, `[C]`, not traced;
            None: counted in `labels`, which are then those of the whole set.

        Returns:
          Weights `[B]` in (0, 1). Under `jax.jit` that of a label outside is NaN.

        Raises:
          ValueError: for other shapes, a label outside, or fewer different class sizes
            than families.

        Examples:
          >>> import numpy as np
          >>> function = load_weighting("zoo:cifar10_hybrid_asym")
          >>> labels = np.repeat([0, 1, 2], [500, 100, 20])
          >>> function.apply(np.full(620, 3.0), labels).shape
          (620,)
        """
        losses = jnp.asarray(losses)
        if labels is None:
            labels = jnp.zeros(losses.shape, jnp.int32)
            families = Families(np.zeros(1, np.int32), np.ones(1))
        else:
            sizes = class_counts(labels) if class_sizes is None else class_sizes
            families = self._families_of(np.asarray(sizes))
        losses, labels = _one_each(losses, labels, "labels are")
        if not isinstance(labels, jax.core.Tracer):
            check_labels(labels, len(families.family), remedy="correct it")
        family = jnp.take(families.family, labels, mode="fill", fill_value=-1)
        family = jnp.where(labels < 0, -1, family)
        net = net_for("this function", self, len(families.centres))
        return net.apply({"params": self.params}, losses, family)

    def _families_of(self, sizes):
        """The families of classes of these sizes `[C]`, or one where they are alike."""
        families = group_classes(sizes, min(self.num_families, len(np.unique(sizes))))
        if families.centres[-1] < ALIKE * families.centres[0]:
            families = group_classes(sizes, 1)
        return families

    def describe(self) -> str:
        """What it does with losses and what it was learned on, in a few lines of text.

        Examples:
          >>> function = load_weighting("zoo:cifar10_hybrid_asym")
          >>> print(function.describe().splitlines()[0])
          CMW-Net weighting function of cross_entropy, 3 families.
        """
        return weighting_words.describe(self)


def _one_each(losses, numbers, what):
    """Losses and whole numbers of samples as arrays; `what` is said of the latter."""
    losses, numbers = jnp.asarray(losses), jnp.asarray(numbers)
    if (
        losses.ndim != 1
        or losses.shape != numbers.shape
        or not jnp.issubdtype(numbers.dtype, jnp.integer)
    ):
        raise ValueError(
            f"losses are {losses.dtype} of shape {list(losses.shape)} and {what} "
            f"{numbers.dtype} of shape {list(numbers.shape)}: pass one loss and one "
            "whole number per sample, both of shape [B]."
        )
    return losses, numbers


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
    if function.seen is not None:
        metadata["seen"] = json.dumps(list(map(float, function.seen)))
    write_tensors(path, tensors, metadata)


def read_weighting(path: str | os.PathLike) -> WeightingFunction:
    """Reads a function of either kind: `.npz` and `.pth` are imported, others loaded.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: as `load_weighting` and `import_weighting`.
    """
    if Path(path).suffix not in (".npz", ".pth"):
        return load_weighting(path)
    path = expanded(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weighting file at {path}.")
    return import_weighting(path)


def load_weighting(
    path: str | os.PathLike, num_families: int | None = None
) -> WeightingFunction:
    """Reads what `save_weighting` wrote, or a function of the zoo.

    Args:
      path: the file, or `zoo:NAME` for one that comes with the package, see
        `weighting_zoo`.
      num_families: K of the run it is for, if that must agree.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is not a weighting function, one that is not finite, or has
        another K; or the zoo has none of that name.
    """
    path = zoo_file(str(path)) if str(path).startswith(PREFIX) else expanded(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weighting file at {path}.")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (safetensors.SafetensorError, TypeError) as error:  # NumPy has no bfloat16
        raise ValueError(
            f"{path} is not a weighting file ({error}); give one written by "
            "cmwjax.save_weighting."
        ) from None
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {metadata.get('format')!r}, not {FORMAT!r}; give a "
            "file written by cmwjax.save_weighting."
        )
    try:
        function = _from_tensors(tensors, metadata)
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(
            f"{path} holds no weighting function ({error}); give a file as it was "
            "written by cmwjax.save_weighting."
        ) from None
    if num_families is not None:
        check_families(path, function, num_families)
    return function


def _from_tensors(tensors, metadata):
    """The function in a file; any error if there is none."""
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
        seen=_range(json.loads(metadata.get("seen", "null"))),
    )
    _check_params(params)
    if centres is not None and len(centres) != function.num_families:
        raise ValueError(f"{len(centres)} centres of {function.num_families} families")
    return function


def _range(ends):
    """Two ends in their order, or None."""
    if ends is None:
        return None
    low, high = map(float, ends)
    if not low <= high:
        raise ValueError(f"losses seen from {low} to {high}")
    return low, high


def _check_params(params):
    """Raises `ValueError` unless they are those of a net, and finite."""
    shapes = {
        f"{layer}.{name}": np.shape(value)
        for layer, leaves in params.items()
        for name, value in leaves.items()
    }
    hidden, families = shapes.get("heads.kernel", (0, 0))
    expected = {
        "shared.kernel": (1, hidden),
        "shared.bias": (hidden,),
        "heads.kernel": (hidden, families),
        "heads.bias": (families,),
    }
    if shapes != expected or not hidden * families:
        raise ValueError(
            f"its tensors have shapes {shapes}, but those of a weighting net are "
            "shared.kernel [1, H], shared.bias [H], heads.kernel [H, K] and "
            "heads.bias [K]"
        )
    for layer, leaves in params.items():
        for name, value in leaves.items():
            if not np.issubdtype(value.dtype, np.floating):
                raise ValueError(f"{layer}.{name} is of type {value.dtype}")
            if not np.all(np.isfinite(value)):
                raise ValueError(f"{layer}.{name} is not finite")


def net_for(
    path: str | os.PathLike, function: WeightingFunction, num_families: int
) -> CMWNet:
    """The module that applies a function to data with `num_families` families.

    Where these have one only, that is the mean over all families of the function.

    Raises:
      ValueError: if there are several, and not as many as the function has.
    """
    if num_families == 1 < function.num_families:
        return SizeBlind(1, function.net.hidden)
    check_families(path, function, num_families)
    return function.net


def check_families(
    path: str | os.PathLike, function: WeightingFunction, num_families: int
) -> None:
    """Raises `ValueError` if a function does not have so many families."""
    if function.num_families != num_families:
        raise ValueError(
            f"{path} tells {function.num_families} class families apart, but "
            f"{num_families} are there: group classes into {function.num_families} "
            f"(config.weighting.num_families={function.num_families} of a run), for "
            "which there must be as many different class sizes, or take another one."
        )


def import_weighting(
    source: str | os.PathLike | Mapping[str, Any],
) -> WeightingFunction:
    """Imports a weighting net of the authors' PyTorch code.

    Args:
      source: their state dict, or the path of one as `.npz` or `.pth`. Keys
        `feature.layer.0.{weight,bias}` and, per branch b,
        `classfier.layers.{b}.0.{weight,bias}`, their spelling.

    Returns:
      The function with its heads ordered small, moderate, large. Their branches are
      0 large, 1 small, 2 moderate, as the curves of the paper's figure show.

    Raises:
      ValueError: if the file, its keys, shapes or the number of branches are not those,
        or a weight is not finite.
    """
    if isinstance(source, Mapping):
        name, state = "the state dict", source
    else:
        name, state = source, _read_state_dict(expanded(source))
    state = {key: np.asarray(value) for key, value in state.items()}
    small_moderate_large = (1, 2, 0)
    branch = "classfier.layers.{}.0.{}".format
    expected = {"feature.layer.0.weight", "feature.layer.0.bias"} | {
        branch(b, leaf) for b in small_moderate_large for leaf in ("weight", "bias")
    }
    if set(state) != expected:
        raise ValueError(
            f"{name} has keys {sorted(state)}; the authors' three-family net has "
            f"{sorted(expected)}."
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
    try:
        _check_params(params)
    except ValueError as error:
        raise ValueError(
            f"{name} holds no weighting net ({error}); export it again."
        ) from None
    return WeightingFunction(params, None, provenance={"source": "authors' state dict"})


def _read_state_dict(path):
    if path.suffix == ".npz":
        try:
            with open(path, "rb") as file, np.lib.npyio.NpzFile(file) as archive:
                return dict(archive)
        except (zipfile.BadZipFile, ValueError) as error:
            raise ValueError(
                f"{path} is not an archive of arrays ({error}); write the state dict "
                "with numpy.savez."
            ) from None
    state = pickled.read(path)
    if not isinstance(state, dict):
        raise ValueError(
            f"{path} holds a {type(state).__name__}, not a state dict: give that of a "
            "weighting net."
        )
    return state
