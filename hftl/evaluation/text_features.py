"""What a baseline counts in texts, and in pairs of them: TF-IDF of words and word pairs, and of groups of characters."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import sparse


# Weights of the regression (classes x features). Beyond that the most frequent features stay.
_MAX_WEIGHTS = 6_000_000
_MAX_FEATURES = 200_000  # of words, and of characters
# Characters of a text that are looked at, several times what fits into the usual 512 tokens.
_MAX_CHARACTERS = 10_000
_MANY_ROWS = 100  # from here on, terms of one single text are left out
# Scripts that put no spaces between words (Thai, Lao, Burmese, Khmer, kana, Han), where a "word" is a whole sentence.
_UNSPACED = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x9FFF))
_UNSPACED_SAMPLE = 200
Pairs = Sequence[tuple[str, str]]
_BLOCKS = 3  # of the terms of a pair: of the first text, of the second, of both


def _vectorizer(analyzer: str, lengths: Sequence[int], **options: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        analyzer=analyzer, ngram_range=tuple(lengths), sublinear_tf=True, dtype=np.float32, **options
    )


def learn_texts(texts: Sequence[str], classes: int) -> tuple[dict[str, np.ndarray], dict[str, Any], Any] | None:
    """Return the inverse document frequency, the terms in blocks, and the rows of `texts` (sparse); None when the
    texts hold nothing to count.
    """
    analyzers = [("char_wb", (1, 4))] if _unspaced(texts) else [("word", (1, 2)), ("char_wb", (2, 5))]
    # Two classes share one row of weights.
    budget = _MAX_WEIGHTS // (classes if classes > 2 else 1) // len(analyzers)
    most, least = max(1, min(budget, _MAX_FEATURES)), 2 if len(texts) >= _MANY_ROWS else 1
    blocks, idf, rows = [], [], []
    for analyzer, lengths in analyzers:
        vectorizer = _vectorizer(analyzer, lengths, min_df=least, max_features=most)
        try:
            rows.append(vectorizer.fit_transform(_starts(texts)))
        except ValueError:  # nothing to count: one-letter words, symbols, empty texts
            continue
        terms = [str(term) for term in vectorizer.get_feature_names_out()]
        blocks.append({"analyzer": analyzer, "lengths": list(lengths), "terms": terms})
        idf.append(vectorizer.idf_.astype(np.float32))
    return ({"idf": np.concatenate(idf)}, {"blocks": blocks}, _beside(rows)) if blocks else None


def _starts(texts: Sequence[str]) -> list[str]:
    return [text[:_MAX_CHARACTERS] for text in texts]


def _beside(rows: list[Any]) -> Any:
    """Put the blocks beside each other; rows keep length one, so that a penalty means the same for one block or two."""
    return (sparse.hstack(rows, format="csr") * np.float32(len(rows) ** -0.5)).astype(np.float32)


def text_features(arrays: dict[str, np.ndarray], settings: dict[str, Any]) -> Callable[[Sequence[str]], Any]:
    """Return the function texts → sparse [n, d], from the terms in `settings` and their weights in `arrays`."""
    vectorizers, start = [], 0
    for block in settings["blocks"]:
        places = {term: i for i, term in enumerate(block["terms"])}
        vectorizer = _vectorizer(block["analyzer"], block["lengths"], vocabulary=places)
        vectorizer.idf_ = arrays["idf"][start : start + len(places)]
        vectorizers.append(vectorizer)
        start += len(places)

    def features(texts: Sequence[str]) -> Any:
        return _beside([v.transform(_starts(texts)) for v in vectorizers])

    return features


def _unspaced(texts: Sequence[str]) -> bool:
    """Tell whether most letters of the first texts belong to scripts that put no spaces between words."""
    starts = (text[:_MAX_CHARACTERS] for text in texts[:_UNSPACED_SAMPLE])
    letters = [ord(char) for text in starts for char in text if char.isalpha()]
    inside = sum(any(low <= code <= high for low, high in _UNSPACED) for code in letters)
    return 2 * inside > len(letters)


def learn_pairs(pairs: Pairs, classes: int) -> tuple[dict[str, np.ndarray], dict[str, Any], Any] | None:
    """Return the arrays and settings of `text_features` for all texts of the pairs, and the rows; None for nothing to
    count.
    """
    learned = learn_texts([text for pair in pairs for text in pair], classes * _BLOCKS)
    if learned is None:
        return None
    arrays, settings, _ = learned
    return arrays, settings, pair_features(arrays, settings)(pairs)


def pair_features(arrays: dict[str, np.ndarray], settings: dict[str, Any]) -> Callable[[Pairs], Any]:
    """Return the function pairs -> sparse [n, d]: the terms by weight, then cosine, shared words and lengths.

    The last three are what tells a paraphrase from another text whatever its words are (as in the overlap baselines of
    Dagan, Glickman and Magnini 2005 for entailment).
    """
    of_texts = text_features(arrays, settings)

    def features(pairs: Pairs) -> Any:
        first, second = (of_texts([pair[side] for pair in pairs]) for side in (0, 1))
        both = first.multiply(second)
        alike = [_alike(*pair) for pair in pairs]
        numbers = np.column_stack([np.asarray(both.sum(axis=1)).ravel(), np.array(alike).reshape(len(pairs), 2)])
        scale = np.float32(_BLOCKS**-0.5)
        return sparse.hstack([first * scale, second * scale, both * scale, numbers], format="csr").astype(np.float32)

    return features


def _alike(first: str, second: str) -> tuple[float, float]:
    """Return the share of words that are in both (Jaccard), and how alike the lengths are, 0 to 1 each."""
    a, b = set(first.lower().split()), set(second.lower().split())
    shared = len(a & b) / max(1, len(a | b))
    return shared, min(len(first), len(second)) / max(1, len(first), len(second))
