"""What a person sees of the most suspicious samples, kept in the folder of a run.

The data themselves are not; with this file, a report can be made of the folder alone.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmwjax.files import SUSPECTS, write_arrays

COUNT = 48  # samples
SIDE = 96  # pixels, of the longer side of an image; larger ones are reduced
LETTERS = 600  # of a text; more are cut off


class Shown(NamedTuple):
    """Some samples as a person reads or sees them; at most one of the two is there."""

    row: NDArray[np.int64]  # [n], in what its owner gave
    images: NDArray[np.uint8] | None = None  # [n, h, w, 1 or 3]
    texts: tuple[str, ...] | None = None  # n


def write_suspects(
    run_dir: Path, row: NDArray[np.int64], shown: Sequence[Any] | NDArray[Any] | None
) -> None:
    """Writes `suspects.npz`: `row` int64 `[n]` and `images` or `texts`.

    Args:
      run_dir: folder of the run.
      row: of the samples, `[n]`, the most suspicious first.
      shown: images uint8 `[H, W, 1 or 3]` or texts, n; None, or images with another
        number of channels: rows alone.
    """
    columns: dict[str, Any] = {"row": np.asarray(row, np.int64)}
    if shown is not None and len(shown):
        if isinstance(shown[0], str):
            texts = [" ".join(str(text).split())[: LETTERS + 1] for text in shown]
            cut = [t if len(t) <= LETTERS else t[: LETTERS - 1] + "…" for t in texts]
            # As bytes: an array of text would lose what is no text.
            columns["texts"] = np.array(
                [text.encode("utf-8", "replace") for text in cut]
            )
        elif np.ndim(shown[0]) == 3 and np.shape(shown[0])[-1] in (1, 3):
            columns["images"] = np.stack([_reduced(image) for image in shown])
    write_arrays(run_dir / SUSPECTS, **columns)


def read_suspects(run_dir: str | os.PathLike) -> Shown | None:
    """What `write_suspects` wrote; None in the folder of a run that did not.

    Raises:
      ValueError: if the file is damaged.
    """
    path = Path(run_dir) / SUSPECTS
    if not path.is_file():
        return None
    columns = read_arrays(path, ["row"])
    texts = columns.get("texts")
    if texts is not None:
        texts = tuple(text.decode("utf-8", "replace") for text in texts.tolist())
    return Shown(columns["row"], columns.get("images"), texts)


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name.

    Raises:
      ValueError: if it is damaged, or lacks one of `names`.
    """
    try:
        with open(path, "rb") as content, np.load(content) as file:
            arrays = {name: file[name] for name in file.files}
        missing = [name for name in names if name not in arrays]
        if not missing:
            return arrays
        reason: Any = f"it lacks {missing}"
    except Exception as error:  # zipfile, zlib and numpy have many of their own
        reason = error
    raise ValueError(
        f"{path} is damaged ({reason}): remove it, and the report does without"
    ) from None


def _reduced(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image of at most `SIDE` pixels per side, uint8 `[h, w, C]`."""
    from PIL import Image

    image = np.asarray(image, np.uint8)
    if max(image.shape[:2]) <= SIDE:
        return image
    pixels = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    pixels.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(pixels).reshape(pixels.height, pixels.width, image.shape[-1])
