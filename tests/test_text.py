"""Texts as tokens, against a slow enumeration and by hand."""

import json
import logging
import re
import unicodedata
from collections import Counter

import numpy as np
import pytest

from cmwjax.data.text import PAD, UNKNOWN, Vocabulary, build_vocabulary, words

TEXTS = ["the cat sat", "The CAT, the mat", "a mathematician sat", "cats"]


def pieces_of(text, few, many):
    """By looking at every pair of ends in words of ASCII."""
    for word in re.findall(r"[a-z0-9]+|[^a-z0-9\s]", text.lower()):
        whole = f"<{word}>"
        yield whole
        for size in range(few, many + 1):
            for end in range(1, len(whole) + 1):
                part = whole[max(end - size, 0) : end]
                if len(part) == size and part != whole:
                    yield part


@pytest.mark.parametrize("ngrams", [(0, 0), (1, 1), (2, 3), (3, 6), (4, 99)])
@pytest.mark.parametrize("min_count", [1, 2])
def test_tokens_are_those_of_an_enumeration(ngrams, min_count):
    bounds = ngrams if ngrams[0] else (1, 0)
    found = [list(pieces_of(text, *bounds)) for text in TEXTS]
    counts = Counter(sum(found, []))
    vocabulary = build_vocabulary(TEXTS, ngrams=ngrams, min_count=min_count)
    assert set(vocabulary.pieces) == {p for p in counts if counts[p] >= min_count}
    assert vocabulary.size == len(vocabulary.pieces) + 2

    number = {piece: 2 + i for i, piece in enumerate(vocabulary.pieces)}
    tokens = vocabulary.encode(TEXTS, 300)
    assert tokens.shape == (4, 300) and tokens.dtype == np.int32
    for row, pieces in zip(tokens, found, strict=True):
        expected = [
            number.get(p, UNKNOWN)
            for p in pieces
            if p in number or (p[0] == "<" and p[-1] == ">" and len(p) > 2)
        ]
        assert row[row > PAD].tolist() == row[: len(expected)].tolist() == expected


def test_the_order_of_pieces_is_by_count_and_then_by_code_point():
    vocabulary = build_vocabulary(["b a b", "c a b z"], ngrams=(0, 0), min_count=1)
    assert vocabulary.pieces == ("<b>", "<a>", "<c>", "<z>")
    assert build_vocabulary(["z b a", "b c a b"], ngrams=(0, 0), min_count=1) == (
        vocabulary
    )
    assert build_vocabulary(["b a b", "c a b z"], ngrams=(0, 0), max_size=1).pieces == (
        "<b>",
    )


def test_words_of_other_texts_are_unknown_but_for_their_known_parts():
    vocabulary = build_vocabulary(["cat cat"], ngrams=(3, 3))
    assert sorted(vocabulary.pieces) == ["<ca", "<cat>", "at>", "cat"]
    (row,) = vocabulary.encode(["dog cats"], 6)
    names = ["", "?", *vocabulary.pieces]
    assert [names[token] for token in row] == ["?", "?", "<ca", "cat", "", ""]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ọ̀jọ̀gbọ́n ṣiṣẹ́!", ["ọ̀jọ̀gbọ́n", "ṣiṣẹ́", "!"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("don't 3.5 a_b", ["don", "'", "t", "3", ".", "5", "a", "_", "b"]),
        ("新闻 标题", ["新闻", "标题"]),
        ("\t–😀\n", ["–", "😀"]),
        (" \u00a0\n", []),
    ],
)
def test_words(text, expected):
    expected = [unicodedata.normalize("NFC", word) for word in expected]
    for form in ("NFC", "NFD"):
        assert words(unicodedata.normalize(form, text)) == expected


def test_long_texts_are_cut_and_counted(caplog):
    vocabulary = build_vocabulary(["a b c d"], ngrams=(0, 0), min_count=1)
    with caplog.at_level(logging.WARNING):
        whole = vocabulary.encode(["a b c", "d"], 3)
    assert whole.tolist() == [[2, 3, 4], [5, PAD, PAD]] and not caplog.records
    with caplog.at_level(logging.WARNING):
        assert vocabulary.encode(["a b c", "d", "b c d a"], 2).tolist() == [
            [2, 3],
            [5, PAD],
            [3, 4],
        ]
    (record,) = caplog.records
    assert "2 of 3 texts are cut at 2 tokens" in record.getMessage()


def test_a_vocabulary_can_be_stored():
    vocabulary = build_vocabulary(["ọjọ́ tó dára", "ọjọ́"], ngrams=(2, 3))
    stored = Vocabulary(**json.loads(json.dumps(vocabulary._asdict())))
    texts = ["ọjọ́ tuntun"]
    np.testing.assert_array_equal(stored.encode(texts, 9), vocabulary.encode(texts, 9))


def test_bad_input_is_named():
    vocabulary = build_vocabulary(["a a"])
    for call in (build_vocabulary, lambda texts: vocabulary.encode(texts, 3)):
        with pytest.raises(ValueError, match=r"texts: ' \\n' at position 1 is empty"):
            call(["a", " \n"])
    with pytest.raises(ValueError, match="length=0 must be at least 1"):
        vocabulary.encode(["a"], 0)
    with pytest.raises(ValueError, match="no word of 2 texts occurs 2 times .*: add"):
        build_vocabulary(["a", "b"])
    for ngrams in [(0, 3), (4, 3), (-1, 2)]:
        with pytest.raises(ValueError, match=rf"ngrams=\({ngrams[0]}, {ngrams[1]}\)"):
            build_vocabulary(["a a"], ngrams=ngrams)
