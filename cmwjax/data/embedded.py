"""Small data sets that need no file: from scikit-learn, or made up.

Rows are those of the set as scikit-learn loads it.
"""

import numpy as np

from cmwjax.data import csv_sets, synthetic
from cmwjax.data.csv_sets import Rows
from cmwjax.data.dataset import TEST, Dataset


def digits() -> Dataset:
    """1437 training and 360 test images of handwritten digits, 8 x 8 pixels."""
    # Here, because scikit-learn takes a second to import.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
    images = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = labels.astype(np.int32)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=360, stratify=labels, random_state=0
    )
    names = tuple(str(label) for label in range(10))
    return Dataset(
        images[train],
        labels[train],
        images[test],
        labels[test],
        num_classes=10,
        class_names=names,
        rows=train,
        unused=((TEST, np.sort(test)),),
    )


def breast_cancer() -> Dataset:
    """426 training and 143 test rows of 30 numbers; malignant or benign."""
    from sklearn.datasets import load_breast_cancer

    return _rows(load_breast_cancer())


def diabetes() -> Dataset:
    """331 training and 111 test rows of 10 numbers; a measure of progression."""
    from sklearn.datasets import load_diabetes

    return _rows(load_diabetes())


def _rows(bunch) -> Dataset:
    from sklearn.model_selection import train_test_split

    is_class = hasattr(bunch, "target_names")
    inputs = bunch.data.astype(np.float64)
    labels = bunch.target.astype(np.int32 if is_class else np.float64)
    train, test = train_test_split(
        np.arange(len(labels)),
        test_size=0.25,
        stratify=labels if is_class else None,
        random_state=0,
    )
    names = tuple(map(str, bunch.target_names)) if is_class else ()
    return Dataset(
        inputs[train],
        labels[train],
        inputs[test],
        labels[test],
        num_classes=len(names),
        class_names=names,
        kind="rows",
        shown=Rows(tuple(bunch.feature_names), inputs[train]),
        rows=train,
        unused=((TEST, np.sort(test)),),
    )


def headlines() -> Dataset:
    """400 training and 400 test texts of four topics, made up."""
    files = {"train": synthetic.headlines(0), "test": synthetic.headlines(1)}
    return csv_sets.assemble(files, is_text=True)


EMBEDDED = {
    "digits": digits,
    "breast_cancer": breast_cancer,
    "diabetes": diabetes,
    "headlines": headlines,
}
