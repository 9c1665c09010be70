"""The cross-validation of the text baseline: held-out rows are read as new texts are."""

import numpy as np
import pytest
from scipy import sparse

from hftl.data.samples import load_sample
from hftl.errors import DataError
from hftl.evaluation.linear_baselines import _as_if_new, linear_baseline


def test_held_out_rows_have_only_the_words_of_the_others():
    rng = np.random.default_rng(0)
    fit = rng.random((6, 30)) * (rng.random((6, 30)) < 0.1)
    held = rng.random((5, 30)) * (rng.random((5, 30)) < 0.5)
    held[4] = np.where((fit > 0).any(axis=0), 0, 1)  # no word of it is known
    found = _as_if_new(sparse.csr_array(fit), sparse.csr_array(held)).toarray()
    for row, new in zip(held, found, strict=True):
        known = np.array([value if any(other[i] > 0 for other in fit) else 0 for i, value in enumerate(row)])
        length = np.sqrt((known**2).sum())
        np.testing.assert_allclose(new, known / length if length else known, atol=1e-6)


def test_cross_validation_foretells_the_test_rows():
    try:
        sample = load_sample("wikipedia-topics")
    except DataError as error:
        pytest.skip(str(error))
    names = sorted(set(sample["test"]["label"][:]))
    labels = {part: np.array([names.index(name) for name in sample[part]["label"][:]]) for part in ("train", "test")}
    rows = np.random.default_rng(11).permutation(len(labels["train"]))[:300]
    texts = [sample["train"]["text"][i] for i in rows.tolist()]
    baseline = linear_baseline("tfidf", texts, labels["train"][rows], sample["test"]["text"][:])
    accuracy = np.mean(baseline.predictions == labels["test"])
    assert accuracy > 0.70  # .67 with the words of single texts, and a penalty chosen on rows with unknown words
    assert baseline.cv_accuracy == pytest.approx(accuracy, abs=0.06)  # 300 rows: a standard error of .027
