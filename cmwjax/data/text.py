"""Texts as rows of tokens: words and their character n-grams, as in fastText."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import logging
from numpy.typing import NDArray

PAD = 0  # behind the last token of a row
UNKNOWN = 1  # a word that the vocabulary does not have
FIRST = 2  # token of a vocabulary's first piece


class Vocabulary(NamedTuple):
    """The pieces of texts that have tokens of their own: pieces[i] has FIRST + i."""

    pieces: tuple[str, ...]  # words as '<word>', and parts of these
    ngrams: tuple[int, int]  # fewest and most characters of a part; (0, 0): no parts

    @property
    def size(self) -> int:
        """Number of tokens, PAD and UNKNOWN among them."""
        return FIRST + len(self.pieces)

    def encode(self, texts: Sequence[str], length: int) -> NDArray[np.int32]:
        """Translates texts.

        A word gives its token, or UNKNOWN, and then those of its parts that the
        vocabulary has. Rows longer than `length` are cut there, which is logged.

        Args:
          texts: N of them.
          length: L, tokens per row.

        Returns:
          Tokens in [0, size), int32 `[N, L]`, filled up with PAD: the mask of a batch
          is `tokens > PAD`.

        Raises:
          ValueError: for a text without a word, or a length below 1.
        """
        if length < 1:
            raise ValueError(f"length={length} must be at least 1 token per text.")
        number = {piece: FIRST + i for i, piece in enumerate(self.pieces)}
        tokens = np.full((len(texts), length), PAD, np.int32)
        cut = 0
        for row, text in enumerate(texts):
            found = []
            for word in _checked_words(text, row):
                whole, *parts = _pieces(word, self.ngrams)
                found.append(number.get(whole, UNKNOWN))
                found.extend(number[part] for part in parts if part in number)
            cut += len(found) > length
            tokens[row, : len(found)] = found[:length]
        if cut:
            logging.warning(
                "%d of %d texts are cut at %d tokens; a larger length keeps all.",
                cut,
                len(texts),
                length,
            )
        return tokens


def build_vocabulary(
    texts: Sequence[str],
    *,
    ngrams: tuple[int, int] = (3, 5),
    min_count: int = 2,
    max_size: int = 50_000,
) -> Vocabulary:
    """Collects the pieces of the training texts; others would tell of the test set.

    Args:
      texts: of the training set.
      ngrams: fewest and most characters of a word's parts, '<' and '>' at its ends
        among them; (0, 0): whole words alone.
      min_count: a piece must occur that often. From 2 on, rare words are UNKNOWN, so
        that there is something to learn for this token.
      max_size: keep that many pieces at most, the most frequent ones.

    Returns:
      The vocabulary, most frequent piece first, those of equal count by code point.

    Raises:
      ValueError: for a text without a word, bounds in the wrong order, or texts that
        share no piece.

    References:
      Joulin et al., `fastText <https://arxiv.org/abs/1607.01759>`_, 2017; Bojanowski et
      al., `Subwords <https://arxiv.org/abs/1607.04606>`_, 2017.
    """
    if tuple(ngrams) != (0, 0) and not 1 <= ngrams[0] <= ngrams[1]:
        raise ValueError(
            f"ngrams={tuple(ngrams)} must be a fewest and a most number of characters, "
            "from 1 on, or (0, 0) for words alone."
        )
    counts = Counter(
        piece
        for row, text in enumerate(texts)
        for word in _checked_words(text, row)
        for piece in _pieces(word, ngrams)
    )
    pieces = [piece for piece, count in counts.items() if count >= min_count]
    if not pieces:
        raise ValueError(
            f"no word of {len(texts)} texts occurs {min_count} times (min_count): add "
            "texts that share words, or check that these are the texts (of a file, "
            "config.data.csv.text names their column)."
        )
    pieces.sort(key=lambda piece: (-counts[piece], piece))
    return Vocabulary(tuple(pieces[:max_size]), (ngrams[0], ngrams[1]))


def words(text: str) -> list[str]:
    """Splits a text into words without case, and symbols, a word each.

    A word is a run of letters, digits and the marks upon them. Equal looking words are
    equal, however their accents were typed: NFC, after Unicode's case folding.
    """
    text = unicodedata.normalize("NFC", text.casefold())
    return "".join(
        c if unicodedata.category(c)[0] in "LMN" else f" {c} " for c in text
    ).split()


def _checked_words(text: str, row: int) -> list[str]:
    found = words(text)
    if not found:
        raise ValueError(
            f"texts: {text!r} at position {row} is empty: write a text, or remove it "
            "together with its label."
        )
    return found


def _pieces(word: str, ngrams: tuple[int, int]) -> list[str]:
    """The word, marked at its ends, and its parts, which are shorter."""
    word = f"<{word}>"
    few, many = ngrams
    return [word] + [
        word[start : start + n]
        for n in range(max(few, 1), min(many, len(word) - 1) + 1)
        for start in range(len(word) - n + 1)
    ]
