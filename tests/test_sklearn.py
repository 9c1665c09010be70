"""The scikit-learn estimators: what scikit-learn itself expects of an estimator, and what people do with one."""

import pickle
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_array

from hftl.sklearn import TransferClassifier, TransferRegressor
from tests.runs import checkpoint, text_frame


@cache
def model(family: str = "bert") -> str:
    return str(checkpoint(family, Path(mkdtemp())))


def spelt(X: Any) -> list[str]:  # noqa: N803
    """Rows of numbers as texts, so that scikit-learn's checks, which are made of such, can run."""
    rows = check_array(X, dtype="numeric", ensure_min_samples=0)
    return [" ".join("abcdefghijklmnopqrstuvwxyz"[int(np.clip(v * 3 + 13, 0, 25))] for v in row) for row in rows]


class _Spelling:
    """Only for scikit-learn's checks."""

    def _fit(self, X, y, **more):  # noqa: N803
        return super()._fit(X, y, **{"model": model(), **more})

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = True, False
        return tags

    def fit(self, X, y):  # noqa: N803
        return super().fit(spelt(X), y)

    def predict(self, X):  # noqa: N803
        return super().predict(spelt(X))


class SpellingClassifier(_Spelling, TransferClassifier):
    def predict_proba(self, X):  # noqa: N803
        return super().predict_proba(X if isinstance(X, list) else spelt(X))


class SpellingRegressor(_Spelling, TransferRegressor):
    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # random weights on spelt numbers
        return tags


_WORDS = "texts and images have no number of features that predict could compare"
_ROUNDING = "fp32 rounds otherwise by a few 1e-7 in another batch, or where the weights lie elsewhere in memory"
FEATURES = dict.fromkeys(("check_n_features_in", "check_n_features_in_after_fitting"), _WORDS)
EXPECTED = {
    "SpellingClassifier": {**FEATURES, "check_classifiers_train": _WORDS},
    "SpellingRegressor": {
        **FEATURES,
        "check_regressors_train": _WORDS,
        **dict.fromkeys(("check_estimators_pickle", "check_methods_subset_invariance"), _ROUNDING),
    },
}


@pytest.mark.slow
@parametrize_with_checks(
    [SpellingClassifier(), SpellingRegressor()], expected_failed_checks=lambda one: EXPECTED[type(one).__name__]
)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


TEXTS, LABELS = (text_frame(60)[column].to_numpy(dtype=object) for column in ("text", "label"))


def test_cross_validation_search_and_pipeline():
    steps = Pipeline([("lower", FunctionTransformer(np.char.lower)), ("model", TransferClassifier(model(), seed=1))])
    scores = cross_val_score(steps, TEXTS.astype(str), LABELS, cv=2)
    assert scores.shape == (2,)
    assert np.isfinite(scores).all()
    search = GridSearchCV(TransferClassifier(model()), {"pooling": ["native", "mean"]}, cv=2).fit(TEXTS, LABELS)
    assert search.best_params_["pooling"] in ("native", "mean")
    assert set(search.predict(TEXTS[:5])) <= {*LABELS}


def test_classes_keep_their_kind_and_order(capfd):
    numbers = np.array([{"class_0": 2.0, "class_1": 1.0, "class_2": 8.0}[label] for label in LABELS])
    fitted = TransferClassifier(model(), evidence=False).fit(pd.Series(TEXTS), numbers)
    assert fitted.classes_.tolist() == [1.0, 2.0, 8.0]
    shares = fitted.predict_proba(TEXTS)
    assert np.allclose(shares.sum(axis=1), 1)
    assert (fitted.predict(TEXTS) == fitted.classes_[shares.argmax(axis=1)]).all()
    assert capfd.readouterr() == ("", "")
    again = pickle.loads(pickle.dumps(fitted))
    assert np.allclose(again.predict_proba(TEXTS), shares, atol=1e-5)


def test_rows_that_are_dicts_are_answered_as_they_were_learnt():
    rows = [{"body": text, "row": i} for i, text in enumerate(TEXTS)]
    fitted = TransferClassifier(model(), evidence=False).fit(rows, LABELS)
    assert np.allclose(fitted.predict_proba(rows[:4]), fitted.predict_proba(TEXTS[:4]), atol=1e-5)


def test_a_missing_label_is_no_class():
    with pytest.raises(ValueError, match="NaN"):
        TransferClassifier(model()).fit(TEXTS, [float("nan"), float("nan"), *LABELS[2:]])


def test_pairs_and_images_and_numbers():
    pairs = pd.DataFrame({"question1": TEXTS, "question2": TEXTS[::-1]})
    assert len(TransferClassifier(model()).fit(pairs, LABELS).predict(pairs[:4])) == 4
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
    assert len(TransferClassifier(model("vit")).fit(pixels, np.arange(24) % 2).predict(pixels[:3])) == 3
    values = np.array([float(len(text)) for text in TEXTS])
    assert TransferRegressor(model()).fit(TEXTS, values).predict(TEXTS[:2]).shape == (2,)


def test_parameters():
    one = TransferClassifier("all-MiniLM-L6-v2", "lora", learning_rate=1e-3)
    assert clone(one).get_params() == one.get_params()
    assert "learning_rate=0.001" in repr(one)
    assert one.set_params(num_train_epochs=2).num_train_epochs == 2
    with pytest.raises(ValueError, match="Did you mean 'learning_rate'"):
        one.set_params(learning_rat=1)
    with pytest.raises(ValueError, match="There is no flag --methd"):
        TransferClassifier(model(), methd="probe").fit(TEXTS, LABELS)
    with pytest.raises(ValueError, match="texts, images"):
        TransferClassifier(model()).fit([1.5] * 60, LABELS)
