"""What somebody gives the front for arrays, checked, on its way to a data set."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from cmwjax.data import arrays
from cmwjax.data.dataset import Dataset


class Samples(NamedTuple):
    """What somebody gave, as a data set.

    Attributes:
      dataset: all samples, those of X first.
      count: N, how many these are.
      classes: as they were given, `[C]`.
      kind: what inputs are, see `arrays.kind_of`.
    """

    dataset: Dataset
    count: int
    classes: NDArray[Any]
    kind: str

    def validating(self, index: NDArray[np.int32]) -> "Samples":
        """The same with other samples to validate with, by their positions `[M]`."""
        return self._replace(dataset=self.dataset._replace(validation_index=index))


def gather(
    estimator: BaseEstimator,
    X: Any,
    y: Any,
    trusted: Any = None,
    validation: Any = None,
) -> Samples:
    """All samples, as `CMWClassifier.fit` takes them.

    Args:
      estimator: is told number and names of the columns, as scikit-learn wants it; its
        `inputs` say what X is.
      X: inputs, N.
      y: their labels, `[N]`.
      trusted: a pair of inputs and labels, or None.
      validation: likewise; a share changes nothing here.

    Raises:
      ValueError: for what does not fit, naming it.
    """
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but "
            "the target y is None: give the labels."
        )
    kind = arrays.kind_of(X, estimator.get_params()["inputs"])
    inputs, codes = {"X": check_inputs(estimator, X, kind, "X", reset=True)}, {}
    labels = arrays.as_labels(y, name="y")
    _check_lengths(inputs["X"], labels, "X", "y")
    classes, codes["X"] = arrays.number_classes(labels, name="y")
    for part, pair in (("trusted", trusted), ("validation", validation)):
        if pair is None or _is_share(part, pair):
            continue
        some_inputs, some_labels = _pair(part, pair)
        name = f"{part}[0]"
        inputs[part] = check_inputs(estimator, some_inputs, kind, name, reset=False)
        labels = arrays.as_labels(some_labels, name=f"{part}[1]")
        _check_lengths(inputs[part], labels, name, f"{part}[1]")
        codes[part] = arrays.numbered(labels, classes, name=f"{part}[1]")
    columns = getattr(estimator, "feature_names_in_", None)
    dataset = arrays.to_dataset(
        inputs, codes, kind=kind, classes=classes, columns=columns
    )
    return Samples(dataset, len(codes["X"]), classes, kind)


def check_inputs(
    estimator: BaseEstimator, inputs: Any, kind: str, name: str, *, reset: bool
) -> Any:
    """Inputs as an array or, of texts, a list.

    Args:
      estimator: as for `gather`.
      inputs: N samples.
      kind: what they are, see `arrays.kind_of`.
      name: what an error calls them.
      reset: whether the estimator is to learn of their columns, or to check them.

    Raises:
      ValueError: if they are something else.
    """
    if np.ma.is_masked(inputs):
        raise ValueError(
            f"{name} has masked values: fill them in, or remove their rows."
        )
    if kind == "rows":
        return _rows(estimator, inputs, name, reset=reset)
    if kind == "images":
        return arrays.as_images(inputs, name=name)
    if kind == "tokens" or getattr(inputs, "ndim", 1) == 2:
        return arrays.as_tokens(inputs, name=name)
    return arrays.as_texts(inputs, name=name)


def _rows(
    estimator: BaseEstimator, inputs: Any, name: str, *, reset: bool
) -> NDArray[np.floating]:
    """Rows of numbers `[N, D]`; what scikit-learn says of others, in one line."""
    arrays.check_columns(inputs, name=name)
    try:
        rows = validate_data(
            estimator,
            inputs,
            reset=reset,
            dtype=[np.float64, np.float32],
            ensure_all_finite=False,
        )
    except (TypeError, ValueError) as error:
        text = str(error)
        if text.startswith("The feature names"):  # and lists them, a line each
            raise
        first, *others = text.splitlines()
        others = [line for line in others if line.startswith("Reshape")]
        text = ". ".join([first.removesuffix(" instead:"), *others]).rstrip(".")
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"{name}: {text}: give rows of numbers [N, D], or say by inputs= what "
            "they are."
        ) from None
    bad = np.argwhere(~np.isfinite(rows))
    if bad.size:
        row, column = bad[0]
        raise ValueError(
            f"{name} has {rows[row, column]} (NaN or infinity) in row {row}, column "
            f"{column}: fill in a number, or remove the row."
        )
    return rows


def _check_lengths(inputs: Any, labels: Any, name: str, of_labels: str) -> None:
    if len(inputs) != len(labels):
        raise ValueError(
            f"{name} has {len(inputs)} samples, but {of_labels} has {len(labels)} "
            "labels: give every sample one."
        )


def _is_share(part: str, value: Any) -> bool:
    return part == "validation" and isinstance(value, float) and 0 < value < 1


def _pair(part: str, value: Any) -> tuple[Any, Any]:
    """Inputs and labels of the argument `part` of `fit`."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        share = ", or a share in (0, 1)" if part == "validation" else ""
        given = f" is a {type(value).__name__} and"
        if isinstance(value, int | float | str):
            given = f"={value!r}"
        raise ValueError(
            f"{part}{given} must be a pair (X, y) of samples and their labels{share}."
        )
    return value[0], value[1]
