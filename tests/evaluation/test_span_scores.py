"""Spans of tags against seqeval, on random rows that keep to a scheme and on rows that break it."""

import time
import warnings

import numpy as np
import pytest

from hftl.errors import DataError
from hftl.evaluation.bootstrap import intervals
from hftl.evaluation.span_scores import (
    COMPARED,
    SCORES,
    entities,
    read_tags,
    span_statistics,
    type_confusion,
)
from hftl.tasks import TASKS
from hftl.tasks.scores import lines


TAGS = TASKS["token-classification"].output
LETTERS = {"IOB2": "BI", "IOB1": "BI", "IOE2": "IE", "IOBES": "BIES"}


def tag_names(scheme, types=("PER", "LOC", "A-B")):
    return ["O", *(f"{letter}-{kind}" for kind in types for letter in LETTERS[scheme])]


def random_rows(names, rows, rng, sticky=0.5):
    """Rows of 0 to 12 tags; each repeats the one before, or is anything."""
    made = []
    for length in rng.integers(0, 13, rows):
        row = [int(rng.integers(len(names)))]
        while len(row) < length:
            row.append(row[-1] if rng.random() < sticky else int(rng.integers(len(names))))
        made.append(row[:length])
    return made


def disturbed(rows, names, rng):
    return [[int(rng.integers(len(names))) if rng.random() < 0.2 else tag for tag in row] for row in rows]


def scores_of(answers, targets, names):
    sums = np.asarray(span_statistics(answers, targets, names).sum(axis=0))[None]
    return {name: float(score(sums)[0]) for name, score in SCORES.items()}


@pytest.mark.parametrize("scheme", ["IOB2", "IOBES", "IOE2", "IOB1"])
@pytest.mark.parametrize("seed", range(4))
def test_spans_equal_seqeval(scheme, seed):
    labeling = pytest.importorskip("seqeval.metrics.sequence_labeling", reason="seqeval is in the extra dev")
    rng, names = np.random.default_rng(seed), tag_names(scheme)
    for row in random_rows(names, 300, rng):
        tags = [names[i] for i in row]
        assert entities(tags) == labeling.get_entities(tags)


@pytest.mark.parametrize("scheme", ["IOB2", "IOBES", "IOE2"])
@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_seqeval(scheme, seed):
    seqeval = pytest.importorskip("seqeval.metrics", reason="seqeval is in the extra dev")
    schemes = pytest.importorskip("seqeval.scheme")
    rng, names = np.random.default_rng(seed), tag_names(scheme)
    targets = random_rows(names, 60, rng)
    answers = disturbed(targets, names, rng)
    as_names = [[[names[i] for i in row] for row in rows] for rows in (targets, answers)]
    found = scores_of(answers, targets, names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if scheme == "IOB2":  # the one that is learnt
            options = {"mode": "strict", "scheme": schemes.IOB2}
            assert found["strict_f1"] == pytest.approx(seqeval.f1_score(*as_names, **options))
        assert found["f1"] == pytest.approx(seqeval.f1_score(*as_names))
        assert found["precision"] == pytest.approx(seqeval.precision_score(*as_names))
        assert found["recall"] == pytest.approx(seqeval.recall_score(*as_names))
        assert found["macro_f1"] == pytest.approx(seqeval.f1_score(*as_names, average="macro"))
        report = seqeval.classification_report(*as_names, output_dict=True)
    for line in lines(TAGS, answers, targets, names):
        theirs = report[line["label"]]
        assert line["f1"] == pytest.approx(theirs["f1-score"])
        assert line["support"] == theirs["support"]


def test_names_of_tags():
    tags = read_tags(["O", "B-PER", "I-PER", "B-a-b"])
    assert tags.types == ("PER", "a-b")
    assert tags.kinds.tolist() == [-1, 0, 0, 1]
    assert read_tags(["O", "PER-B", "PER-I"]).types == ("PER",)
    assert read_tags(["O", "B", "I"]).types == ("_",)
    assert read_tags(["NOUN", "VERB", "O"]).types == ("NOUN", "VERB")
    assert entities(["NOUN", "NOUN", "O", "VERB", "BAR"]) == [("NOUN", 0, 1), ("VERB", 3, 3), ("BAR", 4, 4)]
    assert entities(["U-X", "B-X", "L-X", "U-X"]) == [("X", 0, 0), ("X", 1, 2), ("X", 3, 3)]
    assert entities([]) == []


def test_plain_tags_have_no_scheme_to_break():
    names = ["O", "NOUN", "VERB"]
    targets, answers = [[1, 1, 2, 0], [2]], [[1, 2, 2, 0], [2]]
    scores = scores_of(answers, targets, names)
    assert scores["strict_f1"] == scores["f1"] == pytest.approx(1 / 3)


def test_rows_add_up():
    rng, names = np.random.default_rng(0), tag_names("IOB2")
    targets = random_rows(names, 40, rng)
    answers = disturbed(targets, names, rng)
    statistics = span_statistics(answers, targets, names)
    alone = [span_statistics(answers[i : i + 1], targets[i : i + 1], names).toarray()[0] for i in range(40)]
    lenient = statistics.shape[1] // 2
    np.testing.assert_array_equal(statistics.toarray()[:, :lenient], np.array(alone)[:, :lenient])
    arrays = span_statistics([np.array(row, dtype=int) for row in answers], targets, names)
    np.testing.assert_array_equal(arrays.toarray(), statistics.toarray())
    bounds = intervals(statistics, {name: SCORES[name] for name in COMPARED}, resamples=200)
    assert all(b.low < b.value < b.high for b in bounds.values())


def test_types_that_are_taken_for_others():
    names = ["O", "B-X", "I-X", "B-Y", "I-Y"]
    targets = [[1, 2, 2, 0, 3, 0], [1, 0, 3, 4], [0, 0, 1]]
    answers = [[1, 3, 4, 0, 3, 0], [0, 0, 1, 2], [3, 0, 0]]
    assert type_confusion(answers, targets, names) == [
        (0, 1, 1),  # the three words of X are one of X and two of Y
        (0, 2, 2),  # missed
        (1, 0, 1),
        (1, 1, 1),
        (2, 1, 1),  # made up
    ]
    assert type_confusion(targets, targets, names) == [(0, 0, 3), (1, 1, 2)]
    assert type_confusion([[0]], [[0]], names) == []


def test_refuses_what_does_not_pair_up():
    names = ["O", "B-X"]
    for answers, targets, known in (
        ([[0]], [[0, 0]], names), ([[0], [0]], [[0, 0]], names), ([[2]], [[0]], names), ([[0]], [[0]], ["O"]),
    ):  # fmt: skip
        with pytest.raises(DataError):
            span_statistics(answers, targets, known)


def test_50_000_words_take_a_fraction_of_a_second():
    rng, names = np.random.default_rng(0), tag_names("IOB2")
    targets = [row + row for row in random_rows(names, 4200, rng)]
    answers = disturbed(targets, names, rng)
    start = time.perf_counter()
    span_statistics(answers, targets, names)
    assert time.perf_counter() - start < 1
