"""Baselines of labels, numbers and tags without pretraining: chosen on training rows, saved and read again."""

import json

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score, r2_score

from hftl.errors import DataError, ModelError
from hftl.evaluation.baselines import LABEL_SET, NUMBER, best_baseline, constant_baseline
from hftl.evaluation.linear_baselines import plain_baselines
from hftl.evaluation.saved_baseline import load_baseline, save_baseline
from hftl.evaluation.word_tags import fit_word_tags, most_frequent_tags, outside_everywhere


TOPICS = ("goal match team", "court judge law", "planet star orbit")


def texts_of(rows, seed=0):
    """Texts with the words of each label that they have, and a number that is the sum of these."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((rows, 4)) < [0.5, 0.3, 0.2, 0.0]).astype(np.int64)
    common = [f"word{i}" for i in range(30)]
    texts = [
        " ".join(rng.permutation([*rng.choice(common, 6), *(w for i in range(3) if y[i] for w in TOPICS[i].split())]))
        for y in targets
    ]
    return texts, targets, 100 + targets @ [1.0, 2.0, 4.0, 0.0] + 0.1 * rng.normal(size=rows)


def images_of(rows, seed=0):
    rng = np.random.default_rng(seed)
    targets = (rng.random((rows, 2)) < 0.5).astype(np.int64)
    pixels = rng.integers(0, 100, (rows, 8, 8, 3))
    pixels[..., 0] += 100 * targets[:, :1, None]
    pixels[:, :4, :, 1] += 100 * targets[:, 1:, None]
    return pixels.astype(np.uint8), targets, 10.0 + targets @ [1.0, 3.0]


def test_labels_of_texts():
    texts, targets, _ = texts_of(300)
    new, wanted, _ = texts_of(100, 1)
    often, tfidf = plain_baselines(LABEL_SET, ("tfidf",), texts, targets, new)
    assert (often.name, tfidf.name) == ("most frequent labels", "TF-IDF + logistic regression, one per label")
    sets, counts = np.unique(targets, axis=0, return_counts=True)
    assert (often.predictions == sets[counts.argmax()]).all()
    assert f1_score(wanted, tfidf.predictions, average="micro") > 0.95
    assert best_baseline([often, tfidf]) is tfidf
    assert tfidf.cv_accuracy == pytest.approx(1, abs=0.05)
    assert 0 <= often.cv_accuracy < 0.7
    x, c = tfidf.model.features(texts), tfidf.model.settings["C"]
    for label in range(3):
        theirs = (
            LogisticRegression(C=c, max_iter=1000, tol=1e-6)
            .fit(x, targets[:, label])
            .predict(tfidf.model.features(new))
        )
        assert (theirs == tfidf.predictions[:, label]).mean() > 0.98
    probabilities = expit(tfidf.model.outputs(new))
    assert ((probabilities > 0.5) == tfidf.predictions).all()
    assert probabilities[:, 3].max() < 0.01


def test_numbers_of_texts():
    texts, _, numbers = texts_of(300)
    new, _, wanted = texts_of(100, 1)
    mean, tfidf = plain_baselines(NUMBER, ("tfidf",), texts, numbers, new)
    assert (mean.name, tfidf.name) == ("mean", "TF-IDF + ridge regression")
    np.testing.assert_allclose(mean.predictions, numbers.mean())
    assert mean.cv_accuracy == pytest.approx(0, abs=0.02)
    assert r2_score(wanted, tfidf.predictions) > 0.9
    assert tfidf.cv_accuracy == pytest.approx(r2_score(wanted, tfidf.predictions), abs=0.05)
    assert best_baseline([mean, tfidf]) is tfidf
    theirs = Ridge(1 / tfidf.model.settings["C"]).fit(tfidf.model.features(texts), numbers)
    np.testing.assert_allclose(theirs.predict(tfidf.model.features(new)), tfidf.predictions, rtol=1e-3)


def test_images():
    pixels, targets, numbers = images_of(200)
    new, wanted, values = images_of(80, 1)
    for baseline in plain_baselines(LABEL_SET, ("raw_pixels", "colour_histogram"), pixels, targets, new)[1:]:
        assert f1_score(wanted, baseline.predictions, average="micro") > 0.9
        assert baseline.name.endswith("logistic regression, one per label")
    for baseline in plain_baselines(NUMBER, ("raw_pixels", "colour_histogram"), pixels, numbers, new)[1:]:
        assert r2_score(values, baseline.predictions) > 0.8


def test_targets_that_are_all_alike_and_few():
    texts, targets, numbers = texts_of(30)
    alike = plain_baselines(LABEL_SET, ("tfidf",), texts, np.zeros_like(targets), texts)[1]
    assert alike.predictions.sum() == 0
    assert plain_baselines(NUMBER, ("tfidf",), texts, np.full(30, 7.0), texts)[1].predictions.tolist() == [7.0] * 30
    one = plain_baselines(LABEL_SET, ("tfidf",), texts[:1], targets[:1], texts[:2])
    assert [b.cv_accuracy for b in one] == [None, None]
    assert (one[1].predictions == targets[0]).all()
    two = plain_baselines(NUMBER, ("tfidf",), texts[:2], numbers[:2], texts)
    assert np.isfinite(two[1].predictions).all()
    assert constant_baseline(LABEL_SET, targets, []).predictions.shape == (0, 4)
    assert constant_baseline(NUMBER, numbers, []).predictions.shape == (0,)


@pytest.mark.parametrize("which", [0, 1])
def test_saved_and_read_again(which, tmp_path):
    texts, targets, numbers = texts_of(60)
    for goal, names, y in ((LABEL_SET, list("abcd"), targets), (NUMBER, ["value"], numbers)):
        baseline = plain_baselines(goal, ("tfidf",), texts, y, texts)[which]
        save_baseline(baseline, tmp_path / goal.name, names)
        loaded = load_baseline(tmp_path / goal.name)
        np.testing.assert_array_equal(loaded.predict(texts), baseline.predictions)
        assert loaded.link == baseline.model.link
    config = tmp_path / NUMBER.name / "config.json"
    config.write_text(config.read_text().replace('"none"', '"magic"'))
    with pytest.raises(ModelError, match="magic"):
        load_baseline(tmp_path / NUMBER.name)


ROWS = [["Paris", "is", "big"], ["paris", "Hilton", "is"], ["is", "Paris"], [], ["May", "may", "may"]]
TAGS = [[1, 0, 0], [2, 3, 0], [0, 1], [], [1, 0, 0]]


def test_each_word_has_its_most_frequent_tag():
    model = fit_word_tags(ROWS, [np.array(row, dtype=int) for row in TAGS])
    answers = model.predict([["Paris", "paris", "PARIS", "may", "May", "unknown"], []])
    assert answers[0].tolist() == [1, 2, 1, 0, 1, 0]
    assert answers[1].tolist() == []


def test_tag_baselines_saved_and_read_again(tmp_path):
    often, words = baselines = [
        outside_everywhere(TAGS * 5, ROWS),
        most_frequent_tags(ROWS * 5, TAGS * 5, ROWS),
    ]
    assert [b.name for b in baselines] == ["most frequent tag", "each word's most frequent tag"]
    assert [row.tolist() for row in often.predictions] == [[0] * len(row) for row in ROWS]
    assert often.cv_accuracy == pytest.approx(6 / 11, abs=0.1)
    assert best_baseline(baselines) is words
    for baseline in baselines:
        save_baseline(baseline, tmp_path, ["O", "B-LOC", "B-PER", "I-PER"])
        assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
        loaded = load_baseline(tmp_path)
        assert loaded.name == baseline.name
        assert [row.tolist() for row in loaded.predict(ROWS)] == [row.tolist() for row in baseline.predictions]
    with pytest.raises(DataError):
        save_baseline(words, tmp_path, ["O"])
    config = json.loads((tmp_path / "config.json").read_text())
    config["settings"]["default"] = 9
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError):
        load_baseline(tmp_path)
