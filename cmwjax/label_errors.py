"""A ranked list of the labels that look wrong, from arrays."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold, check_cv

from cmwjax import fitting
from cmwjax.data.arrays import as_labels
from cmwjax.estimator import CMWClassifier
from cmwjax.gathering import gather


class LabelErrors(np.ndarray):
    """The structured array of `find_label_errors`; `to_frame()` for pandas."""

    def to_frame(self) -> Any:
        """The same as a pandas DataFrame, a column per field.

        Raises:
          ImportError: if pandas, which the package does without, is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "to_frame() needs pandas: pip install pandas, or take the fields of "
                "this array as they are."
            ) from error

        return pd.DataFrame(np.asarray(self))


def find_label_errors(
    X: Any, y: Any, *, cv: Any = None, trusted: Any = None, **parameters: Any
) -> LabelErrors:
    """Ranks samples by how wrong their labels look.

    Args:
      X: inputs, N, as `CMWClassifier` takes them.
      y: their labels as they were given, `[N]`.
      cv: None judges every label by a classifier that was trained on all of them: it
        ranks best, and of few samples it learns wrong labels by heart, and calls few of
        them an issue. A
        number k trains k classifiers, each on all rows but one part in k, which it
        judges; so does a splitter of scikit-learn. That takes k times as long.
      trusted: as for `CMWClassifier.fit`.
      **parameters: of `CMWClassifier`.

    Returns:
      A structured array of all N rows, lowest quality first: `row`, its position in X;
      `is_label_issue`, whether its quality is below 0.5 and the classifier has another
      label for it in the end; `label_quality` in [0, 1]; `given_label`; and
      `predicted_label`. `to_frame()` makes a DataFrame of it.

    Raises:
      ValueError: for unfit arguments, naming them.
    """
    estimator = CMWClassifier(**parameters)
    if cv is None:
        estimator.fit(X, y, trusted)
        quality, predicted = estimator.label_quality_, estimator.suggested_label_
    else:
        quality, predicted = _out_of_fold(estimator, X, y, trusted, cv)
    given = as_labels(y, name="y")
    fields = [
        ("row", np.int64),
        ("is_label_issue", bool),
        ("label_quality", np.float64),
        ("given_label", given.dtype),
        ("predicted_label", predicted.dtype),
    ]
    issues = np.empty(len(given), fields)
    issues["row"] = np.arange(len(given))
    issues["is_label_issue"] = (quality < 0.5) & (predicted != given)
    issues["label_quality"] = quality
    issues["given_label"], issues["predicted_label"] = given, predicted
    return issues[np.argsort(quality, kind="stable")].view(LabelErrors)


def _out_of_fold(
    estimator: CMWClassifier, X: Any, y: Any, trusted: Any, cv: Any
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Quality and suggested label of each row, by who was not trained on it.

    The only sample of a class is never set aside: who has not seen the class cannot
    judge it. It is judged by all.
    """
    settings = fitting.Settings(**estimator.get_params(deep=False))
    samples = gather(estimator, X, y, trusted)
    dataset, rows = samples.dataset, samples.count
    parts = _parts(dataset.train_labels[:rows], cv, settings.seed)
    judges = np.zeros((len(parts), rows), bool)  # which classifier judges which row
    for judge, part in zip(judges, parts, strict=True):
        judge[part] = True
    judges |= ~judges.any(axis=0)
    total, suggested = np.zeros(rows), np.zeros(rows, np.int32)
    # One configuration for all, so that nothing is compiled twice.
    fewest = samples.validating(max(parts, key=len))
    epochs = fitting.configure(settings, dataset).epochs  # as if all were trained on
    config = fitting.configure(settings, fewest.dataset, epochs=epochs)
    with fitting.folder_of(settings) as workdir:
        for number, (part, mine) in enumerate(zip(parts, judges, strict=True)):
            folder = workdir / f"part_{number}"
            found = fitting.fit(settings, config, samples.validating(part), folder)
            total[mine] += found.quality[mine]
            suggested[mine] = found.suggested[mine]
    return total / judges.sum(axis=0), samples.classes[suggested]


def _parts(labels: NDArray[np.int32], cv: Any, seed: int) -> list[NDArray[np.int32]]:
    """Positions `[M]` of each part of the rows."""
    counts, splitter = np.bincount(labels), cv
    alone = counts[labels] == 1
    if isinstance(cv, int | np.integer):
        if isinstance(cv, bool) or not 2 <= cv <= counts.max():
            raise ValueError(
                f"cv={cv!r} must be a number of parts from 2 to {counts.max()}, the "
                "samples of the largest class, None, or a splitter of scikit-learn."
            )
        splitter = StratifiedKFold(int(cv), shuffle=True, random_state=seed)
    try:
        splitter = check_cv(splitter, labels, classifier=True)
        with warnings.catch_warnings():  # of classes with fewer samples than parts
            warnings.simplefilter("ignore", UserWarning)
            splits = list(splitter.split(np.zeros(len(labels)), labels))
        every = [np.asarray(part, np.int32)[~alone[part]] for _, part in splits]
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"cv={cv!r} does not split {len(labels)} rows ({error}): give a number of "
            "parts, or a splitter of scikit-learn."
        ) from None
    parts = [part for part in every if part.size]
    if not parts:
        raise ValueError(
            f"cv={cv!r} leaves no row to judge: every label occurs once, or there are "
            "no parts. Give several samples of a class, or cv=None."
        )
    for part in parts:
        lost = np.setdiff1d(labels, np.delete(labels, part))
        if lost.size:
            raise ValueError(
                f"cv={cv!r} has a part with all samples of class number {lost[0]}, and "
                "leaves none to learn from: give a number of parts, or a splitter that "
                "is stratified or shuffles."
            )
    return parts
