"""More classes than cross-validation looks at rows, and the fit in chunks against Newton's steps."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hftl.adapt import adapt
from hftl.evaluation import logistic, suspects
from hftl.evaluation.logistic import CV_ROWS, cv_rows, fit_logistic, fit_probe
from hftl.evaluation.suspects import suspect_labels
from hftl.methods import METHODS
from tests.runs import checkpoint
from tests.tiny import WORDS


def _spread(counts: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts)


@pytest.mark.parametrize(
    ("labels", "rows"),
    [
        (_spread([4] * 3001), CV_ROWS),  # more classes than rows that are looked at
        (np.arange(3500) % 1000, CV_ROWS),  # the rest is too small to hold a row of each class
        (np.arange(3001) % 1000, CV_ROWS),
        (_spread([2] * 2999), CV_ROWS),
        (_spread([10] * 10 + [1] * 4000), 100),  # classes of one row are no use
        (np.arange(5000), 1),
    ],
)
def test_rows_of_cross_validation_are_distinct_and_can_be_held_out(labels: np.ndarray, rows: int) -> None:
    chosen = cv_rows(labels, 0)
    assert len(chosen) == rows == len(np.unique(chosen))
    counts = np.bincount(labels[chosen])
    single = (counts == 1) & (np.bincount(labels, minlength=len(counts))[: len(counts)] > 1)
    assert single.sum() <= 1, "at most the last class is cut"


def test_a_stratified_draw_stays_what_it_was() -> None:
    from sklearn.model_selection import train_test_split

    labels = np.concatenate([np.arange(6000) % 20, [20]])
    rows, _ = train_test_split(np.arange(6000), train_size=CV_ROWS, stratify=labels[:6000], random_state=3)
    assert np.array_equal(cv_rows(labels, 3), rows)


@pytest.mark.parametrize("labels", [_spread([4] * 31), _spread([9, 1, 1]), np.r_[np.zeros(40, int), 1, 2]])
def test_a_probe_is_fitted_whatever_the_classes(labels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "CV_ROWS", 30)
    features = np.random.default_rng(0).normal(size=(len(labels), 2)).astype(np.float32)
    probe = fit_probe({"native": features}, labels, int(labels.max()) + 1, "auto", 0)
    assert probe.weight.shape == (labels.max() + 1, 2)
    assert np.isfinite(probe.weight).all()


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 24)) * 0.5
    labels = rng.choice(40, 3000, p=rng.dirichlet(np.full(40, 2.0)))
    held = rng.choice(40, 4000)
    x, new = (centres[y] + rng.normal(size=(len(y), 24)) for y in (labels, held))
    width = rng.uniform(0.1, 10, 24)
    return (x * width + 3).astype(np.float32), labels, (new * width + 3).astype(np.float32)


def _objective(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, bias: np.ndarray, c: float, factor: np.ndarray
) -> float:
    x, weight, bias = (v.astype(np.float64) for v in (x, weight, bias))
    logits = x @ weight.T + bias
    top = logits.max(1)
    losses = np.log(np.exp(logits - top[:, None]).sum(1)) + top - logits[np.arange(len(y)), y]
    return float((losses * factor).sum() + ((weight * x.std(0)) ** 2).sum() / (2 * c))


@pytest.mark.parametrize(
    ("c", "weighted", "intercept"), [(0.01, False, True), (1.0, True, True), (10.0, False, False)]
)
def test_the_fit_in_chunks_agrees_with_newton(
    data: tuple[np.ndarray, np.ndarray, np.ndarray],
    c: float,
    weighted: bool,
    intercept: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y, new = data
    weights = 1 / np.maximum(np.bincount(y, minlength=40), 1) * 75 if weighted else None
    exact = fit_logistic(x, y, 40, c, weights, intercept=intercept)
    monkeypatch.setattr(logistic, "LARGE", 0)
    monkeypatch.setattr(logistic, "_CHUNK", 40 * 700)  # five chunks, the last one shorter
    chunk = fit_logistic(x, y, 40, c, weights, intercept=intercept)
    assert not np.array_equal(exact[0], chunk[0]), "another solver was meant"
    factor = np.ones(len(y)) if weights is None else weights[y]
    first, second = (_objective(x, y, *solution, c, factor) for solution in (exact, chunk))
    assert second == pytest.approx(first, rel=1e-4)
    answers = [(new @ weight.T + bias).argmax(1) for weight, bias in (exact, chunk)]
    assert (answers[0] == answers[1]).mean() >= 0.999


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_the_fit_in_chunks_writes_every_number_of_classes(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five classes some have rows: the others are never predicted, and two are two opposite halves."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % classes + 1
    x = (rng.normal(size=(60, 3)) + 4 * y[:, None] * np.array([1, -1, 0.5])).astype(np.float32)
    monkeypatch.setattr(logistic, "LARGE", 0)
    weight, bias = fit_logistic(x, y, 5, 1.0)
    assert ((x @ weight.T + bias).argmax(1) == y).mean() > 0.9
    if classes == 2:
        assert weight[1] == pytest.approx(-weight[2], abs=1e-3)


def test_moments_are_those_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    x = (np.random.default_rng(0).normal(size=(101, 3)) * 5 + 100).astype(np.float32)
    monkeypatch.setattr(logistic, "_CHUNK", 30)
    mean, scale = logistic.moments(x, centre=True)
    assert mean == pytest.approx(x.astype(float).mean(0))
    assert scale == pytest.approx(x.astype(float).std(0))


def _with_flips(classes: int, each: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(classes), each)
    x = (rng.normal(size=(classes, 16))[y] * 4 + rng.normal(size=(len(y), 16))).astype(np.float32)
    flipped = rng.permutation(len(y))[: len(y) // 10]
    y[flipped] = (y[flipped] + 1) % classes
    return x, y, flipped


def test_suspects_of_very_many_rows_are_found_in_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, flipped = _with_flips(20, 60)
    monkeypatch.setattr(suspects, "LOOKED_AT", 8000)
    rows = [s.row for s in suspect_labels(x, y, 20, limit=20)]
    assert len(rows) == len(set(rows)) == 20
    assert np.isin(rows, flipped).mean() > 0.8, "row numbers are those of the data, not of the sample"


@pytest.mark.parametrize(("classes", "each", "room"), [(300, 4, 8000), (300, 4, 20), (3, 3, 8)])
def test_suspects_of_very_many_classes_are_looked_for_among_some(
    classes: int, each: int, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y, _ = _with_flips(classes, each)
    monkeypatch.setattr(suspects, "LOOKED_AT", room)
    found = suspect_labels(x, y, classes)
    assert all(s.given == y[s.row] and s.suggested != s.given for s in found)
    assert (room < 100) == (not found)


def test_c_is_chosen_by_the_accuracy_that_the_fit_weighs() -> None:
    rng = np.random.default_rng(1)
    y = (rng.random(600) < 0.06).astype(int)
    x = (rng.normal(size=(600, 30)) + 0.9 * y[:, None] * (np.arange(30) < 3)).astype(np.float32)
    weights = len(y) / (2 * np.bincount(y))
    plain = fit_probe({"native": x}, y, 2, "auto", 0)
    weighed = fit_probe({"native": x}, y, 2, "auto", 0, weights)
    most = (y == 0).mean()
    assert max(plain.cv_accuracy["native"].values()) >= most - 0.02, "of rows: the frequent class decides"
    assert 0.5 < max(weighed.cv_accuracy["native"].values()) < most - 0.02, "balanced: both classes count alike"


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_run_with_more_classes_than_cross_validation_has_rows(method: str, tmp_path: Path) -> None:
    """Three rows of each of 3,200 classes, one for each split: every part of the evidence goes through."""
    names = [f"{first} {second}" for first in WORDS[:64] for second in WORDS[64:114]]
    for split, word in (("train", "day"), ("validation", "night"), ("test", "home")):
        copies = 2 if split == "train" else 1
        texts = [f"{name} {word} {i}" for i in range(copies) for name in names]
        pd.DataFrame({"text": texts, "label": names * copies}).to_csv(tmp_path / f"{split}.csv", index=False)
    run = adapt(
        "text-classification",
        data=str(tmp_path),
        model=str(checkpoint("bert", tmp_path)),
        method=method,
        output_dir=tmp_path / "run",
        use_cpu=True,
        bf16=False,
        max_steps=3,
    )
    assert len(run.report["data"]["labels"]) == len(names) == 3200
    assert run.evidence is not None
    assert run.report["parity"]["final"]["labels_equal"] is True
    (answer,) = run.predict(["day night"])
    assert len(answer.probabilities) == 3200
