from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from hftl.config import build_config
from hftl.evaluation.suspects import out_of_fold_logits, rank_suspects, suspect_labels
from hftl.models.packaged import MINILM, is_installed
from hftl.prepare import prepare
from hftl.probing import frozen_features
from tests.certainty.cases import plain


SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def clusters(rows, classes, d=20, seed=0, spread=0.6):
    """Features of overlapping classes, and their labels; every class has rows."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(rows) % classes)
    centres = rng.normal(size=(classes, d))
    return (centres[labels] + spread * rng.normal(size=(rows, d))).astype(np.float32), labels


def flip(labels, classes, share, seed=0):
    """The labels with `share` of them changed to any other class, and the changed rows."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(labels), round(share * len(labels)), replace=False)
    flipped = labels.copy()
    flipped[rows] = (labels[rows] + rng.integers(1, classes, len(rows))) % classes
    return flipped, rows


def found_in_top(suspects, rows, share, total):
    top = {s.row for s in suspects[: round(share * total)]}
    return np.mean([row in top for row in rows])


@pytest.mark.parametrize("classes", [2, 6, 40])
def test_flipped_labels_come_first_and_the_true_one_is_suggested(classes):
    features, truth = clusters(1200, classes)
    labels, rows = flip(truth, classes, 0.05)
    suspects = suspect_labels(features, labels, classes)
    assert found_in_top(suspects, rows, 0.05, 1200) > 0.8
    first = suspects[:40]
    assert all(labels[s.row] == s.given != s.suggested for s in first)
    assert np.mean([truth[s.row] == s.suggested for s in first]) > 0.9


def test_clean_and_separate_classes_have_no_suspects():
    assert suspect_labels(*clusters(600, 5, spread=0.1), 5) == []


def slow_suspects(logits, labels):
    """The definitions, row by row."""
    probabilities = softmax(logits, axis=1)
    thresholds = [probabilities[labels == j, j].mean() if (labels == j).any() else 0 for j in range(logits.shape[1])]
    found = []
    for row, (p, given) in enumerate(zip(probabilities, labels, strict=True)):
        guess = p.argmax()
        if guess != given:
            found.append((np.log(p[guess]) - np.log(p[given]), row, guess, p[guess] >= thresholds[guess]))
    return sorted(found, key=lambda item: (-item[0], item[1]))


def test_ranking_equals_a_loop_over_the_definition():
    rng = np.random.default_rng(3)
    logits, labels = rng.normal(size=(300, 5)) * 2, rng.integers(0, 4, 300)  # no label of class 4
    found, slow = rank_suspects(logits, labels), slow_suspects(logits, labels)
    assert [s.row for s in found] == [row for _, row, _, _ in slow]
    for s, (score, row, guess, confident) in zip(found, slow, strict=True):
        assert (s.given, s.suggested, s.confident) == (labels[row], guess, confident)
        assert s.score == pytest.approx(score)
        assert s.score == pytest.approx(np.log(s.suggested_probability / s.given_probability))
    assert rank_suspects(logits, labels, 7) == found[:7]
    assert plain([asdict(s) for s in found])[0]["row"] == found[0].row


def test_certain_probes_are_still_ranked():
    logits = np.array([[0, 3000], [0, 5000], [0, 4000], [9, 0]], dtype=np.float32)
    found = rank_suspects(logits, np.zeros(4, dtype=int))
    assert [s.row for s in found] == [1, 2, 0]
    assert [s.given_probability for s in found] == [0.0] * 3


def test_no_row_is_judged_by_a_probe_that_has_seen_it():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(120, 200)), np.arange(120) % 2  # more features than rows, and nothing to learn
    right = out_of_fold_logits(features, labels, c=100.0).argmax(axis=1) == labels
    assert right.mean() < 0.7  # a probe that had seen them would have all right


def test_seed_decides_the_folds():
    features, labels = clusters(200, 4, spread=1.5)
    first = suspect_labels(features, labels, 4, seed=1)
    assert first
    assert first == suspect_labels(features, labels, 4, seed=1)
    assert first != suspect_labels(features, labels, 4, seed=2)


def test_rare_classes_sit_out():
    features, labels = clusters(300, 3)
    labels = labels * 2  # 0, 2, 4 of 7 classes
    labels[[7, 70]], labels[100] = 5, 6  # two rows and one
    suspects = suspect_labels(features, labels, 7)
    assert {7, 70, 100}.isdisjoint(s.row for s in suspects)
    assert {s.given for s in suspects} | {s.suggested for s in suspects} <= {0, 2, 4}
    labels[[8, 80, 180]] = 1  # three rows are enough
    shown = suspect_labels(features, labels, 7)
    assert {8, 80, 180} <= {s.row for s in shown if s.given == 1}


@pytest.mark.parametrize(
    "labels", [[0], [0, 1], [0, 0, 0, 0], [0, 0, 0, 1, 1], list(range(20)), [*range(20), *range(20)]]
)
def test_nothing_to_compare(labels):
    features = np.random.default_rng(0).normal(size=(len(labels), 3))
    assert suspect_labels(features, np.array(labels), 20) == []


def test_few_rows_of_two_classes():
    features = np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2], [5.3]])
    suspects = suspect_labels(features, np.array([0, 0, 0, 1, 1, 1, 0]), 2, c=1.0)
    assert [(s.row, s.given, s.suggested) for s in suspects] == [(6, 0, 1)]


def test_a_thousand_classes():
    features, truth = clusters(4000, 1000, d=16, spread=0.1)
    labels, rows = flip(truth, 1000, 0.01)
    suspects = suspect_labels(features, labels, 1000, folds=2, c=0.1)
    assert found_in_top(suspects, rows, 0.05, 4000) > 0.8


def test_features_that_do_not_vary_and_scales_do_not_matter():
    features, labels = clusters(300, 4)
    dull = np.concatenate(
        [features, np.full((300, 1), 7.0), np.random.default_rng(0).normal(size=(300, 1)) * 1e-33], 1
    )
    expected = [s.row for s in suspect_labels(features, labels, 4)]
    assert [s.row for s in suspect_labels(dull, labels, 4)] == expected
    scaled = features.astype(np.float64) * np.geomspace(1e-3, 1e6, 20) + 1e3
    assert [s.row for s in suspect_labels(scaled, labels, 4)][:5] == expected[:5]


def minilm_features(data, **flags):
    """Mean-pooled features and labels of the training rows, as a run extracts them."""
    flags = {"use_cpu": True, "method": "probe", "model": MINILM.name, "data": data, **flags}
    ready = prepare(build_config("text-classification", flags))
    parts = {"train": ready.train, "validation": ready.validation}
    features, _ = frozen_features(ready, parts)
    stacked = np.concatenate([features[part]["mean"] for part in parts])
    return stacked, np.concatenate([encoded.targets for encoded in parts.values()])


@pytest.mark.slow
@pytest.mark.skipif(not is_installed(MINILM.name), reason='needs pip install "hftl[offline]"')
@pytest.mark.parametrize("seed", [0, 1])
def test_flipped_labels_of_banking77(seed):
    if not (SHARED / "banking77").is_dir():
        pytest.skip("banking77 is not in ../shared/data")
    features, truth = minilm_features(str(SHARED / "banking77"))
    assert len(truth) == 10_003
    labels, rows = flip(truth, 77, 0.05, seed)
    suspects = suspect_labels(features, labels, 77)
    assert found_in_top(suspects, rows, 0.05, 10_003) > 0.85  # .93 here; issue 4 asks for .6


@pytest.mark.slow
@pytest.mark.skipif(not is_installed(MINILM.name), reason='needs pip install "hftl[offline]"')
def test_flipped_labels_of_wikipedia_topics():
    features, truth = minilm_features("sample:wikipedia-topics", max_train_samples=2000, max_seq_length=64)
    classes = int(truth.max()) + 1
    labels, rows = flip(truth, classes, 0.05)
    suspects = suspect_labels(features, labels, classes)
    assert found_in_top(suspects, rows, 0.05, len(truth)) > 0.65
