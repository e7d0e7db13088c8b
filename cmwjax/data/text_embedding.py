"""What the words of a text mean on average, in its place: a row for a small head.

The vectors are those of a large language model's tokens, trained further to tell texts
apart, and come with their tokenizer in a package of their own. No net runs.
"""

import importlib.util
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

# Name -> the package with vectors and tokenizer.
VECTORS = {"wordllama": "wordllama"}
TEXT_FEATURES = 256  # numbers in a row
BATCH = 1000  # texts that are split at once


def embed_texts(texts: Sequence[str], name: str) -> NDArray[np.float32]:
    """Mean of the vectors of each text's tokens; zeros where it has none.

    Args:
      texts: N of them.
      name: one of `VECTORS`.

    Returns:
      Rows float32 `[N, 256]`.

    Raises:
      ValueError: without the package.
    """
    vectors, split = _vectors(name)
    rows = np.zeros((len(texts), vectors.shape[1]), np.float32)
    for start in range(0, len(texts), BATCH):
        some = list(texts[start : start + BATCH])
        for row, tokens in enumerate(split(some), start):
            if tokens:
                rows[row] = vectors[tokens].mean(axis=0)
    return rows


@lru_cache
def _vectors(
    name: str,
) -> tuple[NDArray[np.float32], Callable[[list[str]], list[list[int]]]]:
    """Vectors of all tokens `[V, D]`, and what splits texts into tokens."""
    package = importlib.util.find_spec(VECTORS[name])
    if package is None or not package.submodule_search_locations:
        raise ValueError(
            f"config.data.embed={name!r} needs its vectors: pip install "
            "'cmwjax[texts]', or set it to ''."
        )
    from tokenizers import Tokenizer  # comes with them

    folder = Path(package.submodule_search_locations[0])
    (path,) = folder.glob(f"weights/*_{TEXT_FEATURES}.safetensors")
    (vectors,) = safetensors.numpy.load_file(path).values()
    (path,) = folder.glob("tokenizers/*_tokenizer_config.json")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()

    def split(texts: list[str]) -> list[list[int]]:
        found = tokenizer.encode_batch(texts, add_special_tokens=False)
        return [one.ids for one in found]

    return vectors.astype(np.float32), split
