import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline, make_union

from hftl.errors import DataError
from hftl.evaluation import linear_baselines
from hftl.evaluation.baselines import CLASS, Baseline, best_baseline, constant_baseline
from hftl.evaluation.linear_baselines import linear_baseline
from tests.small_data import load


MAJORITY, TFIDF = "majority class", "TF-IDF + logistic regression"
HISTOGRAM, RAW_PIXELS = "colour histogram + logistic regression", "raw pixels + logistic regression"
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


def majority_class(labels, n_test):
    return constant_baseline(CLASS, labels, range(n_test))


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
    baseline = linear_baseline("tfidf", texts, labels, test_texts)
    assert baseline.name == TFIDF
    assert baseline.seconds > 0
    assert np.mean(baseline.predictions == test_labels) > 0.97
    vectorizer = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2),
    )
    c = baseline.model.settings["C"]
    # by L-BFGS to the optimum; the rows of both halves together have length root 2, so half of C is the same penalty
    model = LogisticRegression(C=c / 2, max_iter=2000).fit(vectorizer.fit_transform(texts), labels)
    assert np.mean(baseline.predictions == model.predict(vectorizer.transform(test_texts))) > 0.98


def test_cv_accuracy_is_about_that_of_a_full_cross_validation():
    texts, labels = topic_texts(300, 0)
    labels = np.where(np.random.default_rng(5).random(300) < 0.3, (labels + 1) % 3, labels)  # some wrong labels
    baseline = linear_baseline("tfidf", texts, labels, texts[:1])
    recipe = make_pipeline(
        make_union(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
        ),
        LogisticRegression(C=baseline.model.settings["C"] / 2, max_iter=500),
    )
    hits = 0
    for fit, held in StratifiedKFold(3, shuffle=True, random_state=0).split(texts, labels):
        recipe.fit([texts[i] for i in fit], labels[fit])
        hits += (recipe.predict([texts[i] for i in held]) == labels[held]).sum()
    assert baseline.cv_accuracy == pytest.approx(hits / 300, abs=0.04)


def named(name, cv_accuracy):
    return Baseline(name, np.array([0]), 0.0, cv_accuracy, majority_class(np.array([0]), 1).model)


def test_the_best_is_chosen_in_cross_validation():
    rungs = [named(MAJORITY, 0.3), named(HISTOGRAM, 0.5), named(RAW_PIXELS, 0.4)]
    assert best_baseline(rungs).name == HISTOGRAM
    assert best_baseline([named(MAJORITY, 0.6), *rungs[1:]]).name == MAJORITY
    assert best_baseline([named(MAJORITY, 0.4), named(TFIDF, 0.4)]).name == TFIDF
    assert best_baseline([named(MAJORITY, None), named(TFIDF, None)]).name == TFIDF
    assert best_baseline([named(MAJORITY, 0.0), named(TFIDF, 0.0)]).name == TFIDF
    with pytest.raises(DataError):
        best_baseline([])


def test_folds_leave_no_row_out_and_never_meet():
    labels = np.array([0] * 50 + [1] * 9 + [2])
    rows, folds = CLASS.folds(labels)
    assert rows.tolist() == list(range(60))
    assert sorted(np.concatenate([held for _, held in folds]).tolist()) == list(range(60))
    assert all(not set(fit) & set(held) for fit, held in folds)
    assert len(CLASS.folds(np.arange(8000) % 7)[0]) == 3000
    assert CLASS.folds(np.arange(5))[1] == []


def test_majority_cv_accuracy():
    assert majority_class(np.array([0] * 30 + [1] * 10), 1).cv_accuracy == pytest.approx(0.75)
    assert majority_class(np.array([0, 1, 2]), 1).cv_accuracy is None


def test_tfidf_sees_word_pairs():
    texts, labels = ["not good", "good not"] * 20, np.array([0, 1] * 20)
    assert linear_baseline("tfidf", texts, labels, ["good not", "not good"]).predictions.tolist() == [1, 0]


def test_tfidf_of_one_letter_words_uses_characters():
    texts, labels = ["a b", "x y"] * 10, np.array([0, 1] * 10)
    assert linear_baseline("tfidf", texts, labels, ["a", "y"]).predictions.tolist() == [0, 1]


def test_tfidf_of_a_script_without_spaces_uses_characters():
    # No two sentences are equal as whole words; what they share is inside.
    texts = [f"我的卡{chr(0x5200 + i)}丢了" for i in range(20)] + [f"今天天{chr(0x5300 + i)}气好" for i in range(20)]
    test_texts = ["卡丢了吗", "天气好吗"]
    baseline = linear_baseline("tfidf", texts, np.repeat([0, 1], 20), test_texts)
    assert baseline.predictions.tolist() == [0, 1]


def test_tfidf_of_empty_texts_is_the_majority():
    baseline = linear_baseline("tfidf", ["", " ", ""], np.array([1, 0, 1]), ["", "something new"])
    assert baseline.predictions.tolist() == [1, 1]


def test_tfidf_edge_cases():
    assert linear_baseline("tfidf", ["some", "words"], np.array([4, 4]), ["more"]).predictions.tolist() == [4]
    assert linear_baseline("tfidf", ["some", "words"], np.array([0, 1]), []).predictions.shape == (0,)
    rare = linear_baseline("tfidf", ["red apple"] * 9 + ["blue sky"], np.array([0] * 9 + [7]), ["blue sky"])
    assert rare.predictions.tolist() == [7]


def test_tfidf_limits_its_weights(monkeypatch):
    texts, labels = topic_texts(200, 0)
    test_texts, test_labels = topic_texts(100, 1)
    monkeypatch.setattr("hftl.evaluation.text_features._MAX_WEIGHTS", 3 * 160)
    baseline = linear_baseline("tfidf", texts, labels, test_texts)
    assert baseline.model.arrays["weight"].shape == (3, 160)
    assert np.mean(baseline.predictions == test_labels) > 0.85


def test_tfidf_of_megabytes_looks_at_the_start_only():
    texts = ["red apple " + "x" * 3_000_000, "blue sky " + "y" * 3_000_000] * 3
    baseline = linear_baseline("tfidf", texts, np.array([0, 1] * 3), ["red apple", "blue sky"])
    assert baseline.predictions.tolist() == [0, 1]


@pytest.mark.slow
def test_tfidf_on_wikipedia_topics():
    splits = load("sample:wikipedia-topics", max_train_samples=2000)
    train, test = (np.asarray(part["label"][:]) for part in (splits.train, splits.test))
    baseline = linear_baseline("tfidf", splits.train["text"][:], train, splits.test["text"][:])
    assert np.mean(baseline.predictions == test) > 0.86


@pytest.mark.slow
def test_tfidf_on_banking77():
    folder = Path(__file__).resolve().parents[2] / "shared" / "data" / "banking77"
    if not folder.is_dir():
        pytest.skip("banking77 is not in ../shared/data")
    train, test = (pd.read_parquet(folder / f"{part}.parquet") for part in ("train", "test"))
    labels = train["label"].astype("category").cat
    baseline = linear_baseline("tfidf", train["text"].tolist(), labels.codes.to_numpy(), test["text"].tolist())
    assert np.mean(labels.categories[baseline.predictions] == test["label"]) > 0.9


def digits():
    images, labels = load_digits(return_X_y=True)
    pixels = np.round(images * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    return train_test_split(pixels, labels, test_size=540, random_state=0, stratify=labels)


def test_raw_pixels_on_digits():
    train, test, train_labels, test_labels = digits()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        baseline = linear_baseline("raw_pixels", train, train_labels, test)
    assert baseline.name == RAW_PIXELS
    assert np.mean(baseline.predictions == test_labels) == pytest.approx(0.970, abs=0.01)


def test_raw_pixels_do_not_depend_on_the_stored_range():
    train, test, train_labels, test_labels = digits()
    dark = linear_baseline("raw_pixels", train // 16, train_labels, test // 16)
    assert np.mean(dark.predictions == test_labels) > 0.955


def test_pixel_features_are_the_area_average():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (300, 64, 96, 3), dtype=np.uint8)  # more images than one chunk
    expected = images.reshape(300, 32, 2, 32, 3, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(linear_baselines.pixel_features(images), expected.reshape(300, -1), atol=1e-3)
    small = images[:2, :8, :8]
    np.testing.assert_allclose(linear_baselines.pixel_features(small), small.reshape(2, -1))


def test_area_weights_share_pixels_that_straddle_an_edge():
    np.testing.assert_allclose(linear_baselines.area_weights(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], atol=1e-7)
    weights = linear_baselines.area_weights(100, 32)
    np.testing.assert_allclose(weights.sum(axis=0), 32 / 100, atol=1e-6)


def test_pixel_features_keep_an_even_image_even():
    even = np.full((1, 45, 50, 1), 200, dtype=np.uint8)
    np.testing.assert_allclose(linear_baselines.pixel_features(even), np.full((1, 1024), 200.0), rtol=1e-5)


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
        predictions = linear_baseline("raw_pixels", pixels, labels, pixels[10:]).predictions
    assert np.mean(predictions == labels[10:]) > 0.9


def test_too_few_rows_for_any_fold():
    pixels, labels = bright_and_dark(4)
    assert linear_baseline("raw_pixels", pixels, labels, pixels).predictions.tolist() == [0, 1, 0, 1]


def test_raw_pixel_edge_cases():
    pixels, labels = bright_and_dark(10)
    assert linear_baseline("raw_pixels", pixels, np.full(10, 3), pixels).predictions.tolist() == [3] * 10
    assert linear_baseline("raw_pixels", pixels, labels, pixels[:0]).predictions.shape == (0,)
    black = np.zeros_like(pixels)
    assert len(set(linear_baseline("raw_pixels", black, labels, black).predictions)) == 1
    with pytest.raises(DataError, match="Resize them"):
        linear_baseline("raw_pixels", pixels, labels, pixels[:, :5])


def test_colour_shares_equal_numpy_histograms():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 9, 3), dtype=np.uint8)
    found = linear_baselines.colour_shares(pixels) ** 2
    for image, shares in zip(pixels, found, strict=True):
        flat = image.reshape(-1, 3)
        levels = [np.histogram(flat[:, i], bins=32, range=(0, 256))[0] for i in range(3)]
        joint = np.histogramdd(flat, bins=(8, 8, 8), range=[(0, 256)] * 3)[0]
        np.testing.assert_allclose(shares, np.concatenate([*levels, joint.ravel()]) / 63, atol=1e-6)
    assert linear_baselines.colour_shares(pixels[..., :1]).shape == (5, 32)
    assert linear_baselines.colour_shares(pixels[:0]).shape == (0, 608)


def test_colours_tell_what_pixels_cannot():
    """Red and cyan pixels against green and magenta ones: on average both are grey."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    pairs = np.array([[[250, 10, 10], [10, 250, 250]], [[10, 250, 10], [250, 10, 250]]], dtype=np.uint8)
    pixels = pairs[labels[:, None, None], rng.integers(0, 2, (200, 16, 16))]
    histogram = linear_baseline("colour_histogram", pixels[:140], labels[:140], pixels[140:])
    raw = linear_baseline("raw_pixels", pixels[:140], labels[:140], pixels[140:])
    assert histogram.name == HISTOGRAM
    assert np.mean(histogram.predictions == labels[140:]) > 0.95
    assert np.mean(raw.predictions == labels[140:]) < 0.8
    assert best_baseline([raw, histogram]) is histogram


def test_colour_histogram_edge_cases():
    pixels, labels = bright_and_dark(10)
    assert linear_baseline("colour_histogram", pixels, np.full(10, 3), pixels).predictions.tolist() == [3] * 10
    assert linear_baseline("colour_histogram", pixels, labels, pixels[:0]).predictions.shape == (0,)
    with pytest.raises(DataError, match="Resize them"):
        linear_baseline("colour_histogram", pixels, labels, pixels[:, :5])


def test_equal_channels_count_once():
    train, test, train_labels, _ = digits()
    train, test = 60 + train // 2, 60 + test // 2
    grey = linear_baseline("raw_pixels", train, train_labels, test)
    three = linear_baseline("raw_pixels", train.repeat(3, axis=3), train_labels, test.repeat(3, axis=3))
    assert three.model.arrays["weight"].shape == (10, 64)
    assert np.mean(three.predictions == grey.predictions) > 0.99  # rounding, along 300 iterations
    # a model of grey images looks at the brightness of coloured ones
    shifted = test.repeat(3, axis=3) + np.array([-9, 0, 9])
    np.testing.assert_array_equal(three.model.predict(shifted.astype(np.uint8)), three.predictions)
