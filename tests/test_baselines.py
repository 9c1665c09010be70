import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from hftl.errors import DataError
from hftl.evaluation import baselines
from hftl.evaluation.baselines import (
    MAJORITY,
    RAW_PIXELS,
    TFIDF,
    majority_class,
    raw_pixel_logistic_regression,
    tfidf_logistic_regression,
)


TOPICS = [
    "goal match team player league striker coach",
    "court judge law trial appeal verdict lawyer",
    "planet star orbit galaxy comet telescope moon",
]


def topic_texts(rows, seed):
    """Sentences of ten words, four from the topic and six that any topic may have."""
    rng = np.random.default_rng(seed)
    common = [f"word{i}" for i in range(60)]
    labels = rng.integers(0, len(TOPICS), rows)
    texts = [
        " ".join(rng.permutation([*rng.choice(TOPICS[label].split(), 4), *rng.choice(common, 6)])) for label in labels
    ]
    return texts, labels


def test_names():
    assert (MAJORITY, TFIDF, RAW_PIXELS) == (
        "majority class",
        "TF-IDF + logistic regression",
        "raw pixels + logistic regression",
    )


def test_majority_class():
    baseline = majority_class(np.array([2, 0, 2, 1]), 3)
    assert baseline.name == MAJORITY
    assert baseline.predictions.tolist() == [2, 2, 2]
    assert baseline.seconds >= 0
    assert majority_class(np.array([5, 3, 5, 3]), 1).predictions.tolist() == [3]
    assert majority_class(np.array([1]), 0).predictions.shape == (0,)


def test_tfidf_learns_topics_and_equals_the_plain_recipe():
    texts, labels = topic_texts(300, 0)
    test_texts, test_labels = topic_texts(200, 1)
    baseline = tfidf_logistic_regression(texts, labels, test_texts)
    assert baseline.name == TFIDF
    assert baseline.seconds > 0
    assert np.mean(baseline.predictions == test_labels) > 0.97
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    model = LogisticRegression(C=10, max_iter=1000).fit(vectorizer.fit_transform(texts), labels)
    assert np.mean(baseline.predictions == model.predict(vectorizer.transform(test_texts))) > 0.99


def test_tfidf_sees_word_pairs():
    texts, labels = ["not good", "good not"] * 20, np.array([0, 1] * 20)
    assert tfidf_logistic_regression(texts, labels, ["good not", "not good"]).predictions.tolist() == [1, 0]


def test_tfidf_of_one_letter_words_uses_characters():
    texts, labels = ["a b", "x y"] * 10, np.array([0, 1] * 10)
    assert tfidf_logistic_regression(texts, labels, ["a", "y"]).predictions.tolist() == [0, 1]


def test_tfidf_of_a_script_without_spaces_uses_characters():
    # No two sentences are equal as whole words; what they share is inside.
    texts = [f"我的卡{chr(0x5200 + i)}丢了" for i in range(20)] + [f"今天天{chr(0x5300 + i)}气好" for i in range(20)]
    test_texts = ["卡丢了吗", "天气好吗"]
    baseline = tfidf_logistic_regression(texts, np.repeat([0, 1], 20), test_texts)
    assert baseline.predictions.tolist() == [0, 1]


def test_tfidf_of_empty_texts_is_the_majority():
    baseline = tfidf_logistic_regression(["", " ", ""], np.array([1, 0, 1]), ["", "something new"])
    assert baseline.predictions.tolist() == [1, 1]


def test_tfidf_edge_cases():
    assert tfidf_logistic_regression(["some", "words"], np.array([4, 4]), ["more"]).predictions.tolist() == [4]
    assert tfidf_logistic_regression(["some", "words"], np.array([0, 1]), []).predictions.shape == (0,)
    rare = tfidf_logistic_regression(["red apple"] * 9 + ["blue sky"], np.array([0] * 9 + [7]), ["blue sky"])
    assert rare.predictions.tolist() == [7]


def test_tfidf_limits_its_weights(monkeypatch):
    texts, labels = topic_texts(200, 0)
    test_texts, test_labels = topic_texts(100, 1)
    monkeypatch.setattr(baselines, "_MAX_TEXT_WEIGHTS", 3 * 80)
    train, _ = baselines._text_features(texts, test_texts, classes=3)
    assert train.shape[1] == 80
    assert np.mean(tfidf_logistic_regression(texts, labels, test_texts).predictions == test_labels) > 0.9


def test_labels_must_pair_up():
    with pytest.raises(DataError, match="one label per training row"):
        tfidf_logistic_regression(["a text"], np.array([0, 1]), ["b"])
    with pytest.raises(DataError, match="one label per training row"):
        majority_class(np.array([], dtype=int), 3)


def digits():
    images, labels = load_digits(return_X_y=True)
    pixels = np.round(images * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    return train_test_split(pixels, labels, test_size=540, random_state=0, stratify=labels)


def test_raw_pixels_on_digits():
    train, test, train_labels, test_labels = digits()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        baseline = raw_pixel_logistic_regression(train, train_labels, test)
    assert baseline.name == RAW_PIXELS
    assert np.mean(baseline.predictions == test_labels) == pytest.approx(0.970, abs=0.01)


def test_raw_pixels_do_not_depend_on_the_stored_range():
    train, test, train_labels, test_labels = digits()
    dark = raw_pixel_logistic_regression(train // 16, train_labels, test // 16)
    assert np.mean(dark.predictions == test_labels) > 0.955


def test_pixel_features_are_the_area_average():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (300, 64, 96, 3), dtype=np.uint8)  # more images than one chunk
    expected = images.reshape(300, 32, 2, 32, 3, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(baselines._pixel_features(images), expected.reshape(300, -1), atol=1e-3)
    small = images[:2, :8, :8]
    np.testing.assert_allclose(baselines._pixel_features(small), small.reshape(2, -1))


def test_area_weights_share_pixels_that_straddle_an_edge():
    np.testing.assert_allclose(baselines._area_weights(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], atol=1e-7)
    weights = baselines._area_weights(100, 32)
    np.testing.assert_allclose(weights.sum(axis=0), 32 / 100, atol=1e-6)


def test_pixel_features_keep_an_even_image_even():
    even = np.full((1, 45, 50, 1), 200, dtype=np.uint8)
    np.testing.assert_allclose(baselines._pixel_features(even), np.full((1, 1024), 200.0), rtol=1e-5)


def bright_and_dark(rows, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    pixels = rng.integers(0, 100, (rows, 6, 6, 3)) + 150 * labels[:, None, None, None]
    return pixels.astype(np.uint8), labels


@pytest.mark.parametrize("rare_rows", [1, 2])
def test_a_class_with_fewer_rows_than_folds(rare_rows):
    pixels, labels = bright_and_dark(40)
    labels[:rare_rows] = 9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predictions = raw_pixel_logistic_regression(pixels, labels, pixels[10:]).predictions
    assert np.mean(predictions == labels[10:]) > 0.9


def test_too_few_rows_for_any_fold():
    pixels, labels = bright_and_dark(4)
    assert raw_pixel_logistic_regression(pixels, labels, pixels).predictions.tolist() == [0, 1, 0, 1]


def test_raw_pixel_edge_cases():
    pixels, labels = bright_and_dark(10)
    assert raw_pixel_logistic_regression(pixels, np.full(10, 3), pixels).predictions.tolist() == [3] * 10
    assert raw_pixel_logistic_regression(pixels, labels, pixels[:0]).predictions.shape == (0,)
    black = np.zeros_like(pixels)
    assert len(set(raw_pixel_logistic_regression(black, labels, black).predictions)) == 1
    with pytest.raises(DataError, match="one size"):
        raw_pixel_logistic_regression(pixels, labels, pixels[:, :5])
    with pytest.raises(DataError, match="one size"):
        raw_pixel_logistic_regression(pixels[..., 0], labels, pixels[..., 0])
