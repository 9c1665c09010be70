"""The baseline of tags that knows no pretraining: each word has its most frequent tag, whatever stands beside it."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hftl.evaluation.baselines import Baseline, finish
from hftl.evaluation.folds import held_out_folds


@dataclass(frozen=True, eq=False)
class WordTags:
    """The tag of every known word, of others that of the word in lower case, and of unknown ones the most frequent tag.

    `settings` hold "words" and "lower" (word → tag id) and "default", as JSON can; there are no `arrays`.
    """

    kind: str  # "word_tags", or "majority" with no words
    settings: dict[str, Any]
    name: str = ""
    labels: tuple[str, ...] = ()
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def predict(self, rows: Iterable[Sequence[str]]) -> list[np.ndarray]:
        """Return the tag ids [words] of every row of words."""
        words, lower, default = (self.settings[key] for key in ("words", "lower", "default"))
        return [
            np.array([words.get(w, lower.get(w.lower(), default)) for w in map(str, row)], dtype=np.int64)
            for row in rows
        ]


def fit_word_tags(rows: Sequence[Sequence[str]], tags: Sequence[Sequence[int]]) -> WordTags:
    """Count the tags [words] of the words in each row; of equally frequent tags of a word the smallest id."""
    words: dict[str, Counter[int]] = defaultdict(Counter)
    lower: dict[str, Counter[int]] = defaultdict(Counter)
    for row, ids in _pairs(rows, tags):
        for word, tag in zip(row, ids, strict=True):
            words[word][tag] += 1
            lower[word.lower()][tag] += 1
    default = _most(sum(lower.values(), Counter()))
    of_lower = {word: _most(counts) for word, counts in lower.items()}
    of_words = {word: _most(counts) for word, counts in words.items()}
    settings = {
        "words": {word: tag for word, tag in of_words.items() if tag != of_lower[word.lower()]},
        "lower": {word: tag for word, tag in of_lower.items() if tag != default},
        "default": default,
    }
    return WordTags("word_tags", settings)


def _most(counts: Counter[int]) -> int:
    return min(counts, key=lambda tag: (-counts[tag], tag))


def _pairs(rows: Sequence[Sequence[str]], tags: Sequence[Sequence[int]]) -> list[tuple[list[str], list[int]]]:
    return [([*map(str, row)], np.asarray(ids).tolist()) for row, ids in zip(rows, tags, strict=True)]


def outside_everywhere(tags: Sequence[Sequence[int]], test: Sequence[Sequence[str]]) -> Baseline:
    """Give every word of the `test` rows the tag that is the most frequent in the training rows: of most data "O"."""

    def fit(rows: Any, ids: Any) -> WordTags:
        return WordTags("majority", {**fit_word_tags(rows, ids).settings, "words": {}, "lower": {}})

    return _baseline("most frequent tag", [["" for _ in ids] for ids in tags], tags, test, fit)


def most_frequent_tags(
    rows: Sequence[Sequence[str]], tags: Sequence[Sequence[int]], test: Sequence[Sequence[str]]
) -> Baseline:
    """Give every word of the `test` rows its own most frequent tag in the training rows.

    Answers are tag ids [words] per row; what is scored in cross-validation over rows is the share of right words.
    """
    return _baseline("each word's most frequent tag", rows, tags, test, fit_word_tags)


def _baseline(name: str, rows: Any, tags: Any, test: Any, fit: Callable[[Any, Any], WordTags]) -> Baseline:
    started = time.perf_counter()
    pairs = [pair for pair in _pairs(rows, tags) if pair[0]]
    right = total = 0
    for known, held in held_out_folds(len(pairs)):
        model = fit(*zip(*(pairs[i] for i in known), strict=True))
        for row, ids in (pairs[i] for i in held):
            right, total = right + int((model.predict([row])[0] == ids).sum()), total + len(ids)
    return finish(name, started, fit(rows, tags), right / total if total else None, test)
