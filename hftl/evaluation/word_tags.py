"""The baseline of tags that knows no pretraining: each word has its most frequent tag, whatever stands beside it."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.model_selection import KFold

from hftl.errors import DataError
from hftl.evaluation import CV_FOLDS
from hftl.evaluation.baselines import Baseline, finish


ONE_TAG = "most frequent tag"  # of most data "O", everywhere
WORD_TAGS = "each word's most frequent tag"


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
    """Count the tags [words] of the words in each row; of equally frequent tags of a word the smallest id.

    Raises `DataError` unless there is a tag for every word, of one word at least.
    """
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
    pairs = [([*map(str, row)], np.asarray(ids).tolist()) for row, ids in zip(rows, tags, strict=False)]
    if len(rows) != len(tags) or any(len(row) != len(ids) for row, ids in pairs) or not any(row for row, _ in pairs):
        raise DataError("A baseline of tags needs a tag for every word of every row, and one word at least.")
    return pairs


def outside_everywhere(tags: Sequence[Sequence[int]], test: Sequence[Sequence[str]]) -> Baseline:
    """Give every word of the `test` rows the tag that is the most frequent in the training rows: of most data "O"."""
    return _baseline(ONE_TAG, [["" for _ in ids] for ids in tags], tags, test, _without_words)


def most_frequent_tags(
    rows: Sequence[Sequence[str]], tags: Sequence[Sequence[int]], test: Sequence[Sequence[str]]
) -> Baseline:
    """Give every word of the `test` rows its own most frequent tag in the training rows.

    Answers are tag ids [words] per row; what is scored in cross-validation over rows is the share of right words.
    """
    return _baseline(WORD_TAGS, rows, tags, test, lambda model: model)


def _baseline(name: str, rows: Any, tags: Any, test: Any, make: Any) -> Baseline:
    started = time.perf_counter()
    return finish(name, started, make(fit_word_tags(rows, tags)), _cv_accuracy(rows, tags, make), test)


def _without_words(model: WordTags) -> WordTags:
    return WordTags("majority", {**model.settings, "words": {}, "lower": {}})


def _cv_accuracy(rows: Sequence[Sequence[str]], tags: Sequence[Sequence[int]], make: Any) -> float | None:
    """Return the share of right words in three folds of the rows; None of one row."""
    pairs = [pair for pair in _pairs(rows, tags) if pair[0]]
    if len(pairs) < 2:
        return None
    right = total = 0
    for fit, held in KFold(min(CV_FOLDS, len(pairs)), shuffle=True, random_state=0).split(pairs):
        model = make(fit_word_tags(*zip(*(pairs[i] for i in fit), strict=True)))
        for i in held:
            answers = model.predict([pairs[i][0]])[0]
            right, total = right + int((answers == pairs[i][1]).sum()), total + len(answers)
    return right / total
