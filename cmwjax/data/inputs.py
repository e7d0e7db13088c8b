"""What inputs of each kind must be."""

import numpy as np

LARGEST = 1e38  # in rows of a table; the difference of two such numbers is finite


def check_inputs(kind: str, inputs: np.ndarray, *, name: str) -> None:
    """Says what is wrong with inputs.

    Args:
      kind: kind of the inputs, one of `view.KINDS`.
      inputs: as `Dataset` says, `[N, ...]`.
      name: what the error calls them.

    Raises:
      ValueError: for another shape or type, or a value that training cannot do with.
    """
    _CHECKS[kind](inputs, name=name)


def _check_rows(rows: np.ndarray, *, name: str) -> None:
    if rows.ndim != 2 or not rows.size or rows.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"{name} must be float32 or float64 of shape [N, D], both at least 1, got "
            f"{rows.dtype} of shape {list(rows.shape)}: convert, reshape or add rows."
        )
    bad = np.argwhere(~(np.abs(rows) < LARGEST))
    if bad.size:
        row, column = bad[0]
        raise ValueError(
            f"{name} has {rows[row, column]} in row {row}, column {column}, which must "
            f"be finite and below {LARGEST:g}: fill in a number, or remove the row."
        )


def _check_tokens(tokens: np.ndarray, *, name: str) -> None:
    if tokens.ndim != 2 or not tokens.size or tokens.dtype != np.int32:
        raise ValueError(
            f"{name} must be int32 of shape [N, L], both at least 1, got "
            f"{tokens.dtype} of shape {list(tokens.shape)}: convert, reshape or add "
            "texts."
        )
    empty = np.flatnonzero(~(tokens > 0).any(axis=1) | (tokens < 0).any(axis=1))
    if empty.size:
        raise ValueError(
            f"{name} has no tokens, or a negative one, in row {empty[0]}: tokens are "
            "numbers from 1 on, and 0 behind them; correct or remove the row."
        )


def check_images(images: np.ndarray, *, name: str) -> None:
    """Raises `ValueError` unless images are uint8 `[N, H, W, C]`."""
    if images.ndim != 4 or not images.size:
        raise ValueError(
            f"{name} must have shape [N, H, W, C], all at least 1, got "
            f"{list(images.shape)}: reshape or add images."
        )
    if images.shape[1] in (1, 3) and images.shape[3] > 4:
        raise ValueError(
            f"{name} have shape {list(images.shape)}, where channels seem to come "
            "first: bring them to [N, H, W, C], as images.transpose(0, 2, 3, 1)."
        )
    if np.issubdtype(images.dtype, np.floating) and np.isnan(images).any():
        bad = np.flatnonzero(np.isnan(images).any(axis=(1, 2, 3)))
        raise ValueError(
            f"{name} contain NaN in {len(bad)} images, the first at position {bad[0]}: "
            "repair or remove them."
        )
    if images.dtype != np.uint8:
        numeric = images.dtype.kind in "iuf"
        extent = f" from {images.min()} to {images.max()}" if numeric else ""
        raise ValueError(
            f"{name} must be uint8, or in memory floats in [0, 1], got "
            f"{images.dtype}{extent}: convert them."
        )


_CHECKS = {"images": check_images, "rows": _check_rows, "tokens": _check_tokens}
