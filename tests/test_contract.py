"""A third output, known to nothing but this file, goes through what reads the contract: a number for a text."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.metrics import r2_score, root_mean_squared_error

from hftl.config import DataConfig, ModelConfig
from hftl.data.load import load_rows, load_splits
from hftl.errors import DataError, ModelError
from hftl.evaluation.logistic import Probe
from hftl.evaluation.metrics import bootstrap_intervals, compare_paired, compute_metrics, log_loss
from hftl.evaluation.verdict import accuracy_difference
from hftl.models.load import load_model
from hftl.predict import Predictor
from hftl.tasks import CLASSES, INPUTS, TASKS, scores
from hftl.tasks.task import Answer, Encoded, Output, Ragged
from hftl.training.losses import make_loss
from tests.runs import checkpoint
from tests.tiny import tiny_text_rows


def _read(table, column, where, known):
    return [None if value is None else float(value) for value in table[column][:]]


def _squared(outputs, targets, weights=None, smoothing=0.0):
    return ((outputs[:, 0].float() - targets) ** 2).sum(), len(targets)


def _any_regressor(config, name):
    if config.problem_type != "regression":
        raise ModelError(f"{name} answers with no number.")


def _sums(answers, targets, names):
    """Rows, targets, their squares, and squared errors: all that RMSE and R2 are made of."""
    y = np.asarray(targets, dtype=np.float64)
    return sparse.csr_array(np.stack([np.ones(len(y)), y, y**2, (np.asarray(answers) - y) ** 2], axis=1))


def _r2(sums):
    n, y, squares, errors = np.asarray(sums).T
    return 1 - errors / (squares - y**2 / n)


def _least_squares(features, targets, width, pooling, seed, weights=None, no_bias=()):
    x = np.asarray(features["native"], dtype=np.float64)
    mean = x.mean(0)
    solution = np.linalg.solve(
        (x - mean).T @ (x - mean) + np.eye(x.shape[1]), (x - mean).T @ (targets - targets.mean())
    )
    bias = np.array([targets.mean() - mean @ solution], dtype=np.float32)
    return Probe(solution[None].astype(np.float32), bias, 1.0, "native", {"native": {}}, 0.0)


def _nearest(train, targets, test):
    return targets[np.asarray([np.abs(train - row).sum(1).argmin() for row in test])]


NUMBER = Output(
    kind="number",
    link="none",
    usual=("score", *CLASSES.usual),
    read=_read,
    names=lambda values, feature, column: ((), [f"{column} holds numbers"]),
    encode=lambda values, names: np.asarray(values, dtype=np.float32),
    recognise=lambda values, names, where, column: np.asarray(values, dtype=np.float32),
    strata=None,
    width=lambda names: 1,
    collate=lambda targets: torch.as_tensor(np.asarray(targets, dtype=np.float32)),
    loss=_squared,
    decode=lambda outputs: outputs[..., 0],
    answers=lambda outputs, names: [Answer(float(row[0]), 1.0, None) for row in outputs],
    check=_any_regressor,
    chance=lambda names: 1.0,
    statistics=_sums,
    scores={"r2": _r2, "rmse": lambda sums: np.sqrt(sums[:, 3] / sums[:, 0])},
    compared=("r2", "rmse"),
    best="r2",
    right={},
    made_up=None,
    table=None,
    judge=None,
    probe=_least_squares,
    neighbours=_nearest,
    plain=lambda kinds, train, targets, test: [np.full(len(test), np.mean(targets))],
    parts=("forgetting", "slices", "doctor"),
    ask=lambda names: {},
    flatten=lambda answer, names: [answer[0]["score"]],
    widget="Number",
    draw=lambda answer: answer.value,
    words={"does": "a number for {row}"},
)
SCORES = replace(TASKS["text-classification"], name="text-regression", output=NUMBER)


def scored_texts(n: int = 48) -> pd.DataFrame:
    texts = [text for text, _ in tiny_text_rows(n, 3)]
    return pd.DataFrame({"text": texts, "score": [len(text) / 10 + 0.25 for text in texts]})


def test_rows_are_read_and_cut():
    table = scored_texts()
    splits = load_splits(SCORES.inputs, DataConfig(data=table), None, SCORES.output)
    assert splits.labels == ()
    assert "score holds numbers" in splits.warnings
    assert splits.train.features["label"].dtype == "float32"
    for part in (splits.train, splits.validation, splits.test):
        expected = table["score"].to_numpy()[part["row"][:]]
        assert np.allclose(part["label"][:], expected)
    sizes = len(splits.train), len(splits.validation), len(splits.test)
    assert sum(sizes) == len(table)
    assert min(sizes) > 0
    rows = load_rows(SCORES.inputs, DataConfig(data=table, max_eval_samples=9), (), SCORES.output)
    assert len(rows.labels) == len(rows.table) == 9


def test_shots_need_classes():
    with pytest.raises(DataError, match="shots are rows of every class, and a number has none"):
        load_splits(SCORES.inputs, DataConfig(data=scored_texts(), shots=2), None, SCORES.output)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_model_learns_and_answers(family, tmp_path: Path):
    splits = load_splits(SCORES.inputs, DataConfig(data=scored_texts()), None, SCORES.output)
    torch.manual_seed(0)
    loaded = load_model(SCORES, ModelConfig(model=str(checkpoint(family, tmp_path))), splits.labels)
    assert loaded.model.config.num_labels == 1
    assert loaded.model.config.problem_type == "regression"
    encoded = SCORES.encode(splits.train, loaded.processor)
    batch = SCORES.collator(loaded.processor)([encoded[i] for i in range(len(encoded))])
    labels = batch.pop("labels")
    assert labels.dtype == torch.float32
    assert len(labels) == len(encoded)
    loss = make_loss(0.0, None, SCORES.output.loss)
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=5e-3)
    losses = []
    for _ in range(12):
        value = loss(loaded.model(**batch), labels)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(value.item())
    assert losses[-1] < losses[0] / 2
    predictor = Predictor(loaded.model.eval(), loaded.processor, SCORES, splits.labels)
    answers = predictor.predict(splits.test["text"][:])
    plain = NUMBER.decode(predictor.logits(splits.test))
    assert [answer.value for answer in answers] == plain.tolist()
    SCORES.output.check(loaded.model.config, "it")
    with pytest.raises(ModelError, match="regression"):
        CLASSES.check(loaded.model.config, "it")


def test_classes_forget_what_the_base_was_for(tmp_path: Path):
    task = TASKS["text-classification"]
    loaded = load_model(task, ModelConfig(model=str(checkpoint("bert", tmp_path))), ("a", "b"))
    assert loaded.model.config.problem_type is None
    assert loaded.model.config.num_labels == 2


def test_ragged_rows_are_taken_in_any_order():
    rows = [[1, 2, 3], [], [4], [5, 6]]
    ragged = Ragged.of(rows)
    assert [row.tolist() for row in ragged] == rows
    assert ragged.lengths.tolist() == [3, 0, 1, 2]
    index = np.array([3, 0, 3, 1])
    assert [row.tolist() for row in ragged[index]] == [rows[i] for i in index]
    assert len(Ragged.of([])) == 0
    assert len(ragged[np.array([], dtype=int)]) == 0


def test_encoded_rows_know_their_values():
    texts = Encoded({"input_ids": Ragged.of([[1, 2], [3], [4, 5, 6]])}, np.arange(3), augment=True)
    some = texts.take([2, 0])
    assert some[0]["input_ids"].tolist() == [4, 5, 6]
    assert some.targets.tolist() == [2, 0]
    assert some.augment
    assert texts.lengths.tolist() == [2, 1, 3]
    assert texts.starts.tolist() == [0, 2, 3, 6]
    assert texts.fingerprint() == replace(texts, targets=np.zeros(3)).fingerprint() != some.fingerprint()
    moved = Encoded({"input_ids": Ragged.of([[1], [2, 3], [4, 5, 6]])}, np.arange(3))
    assert moved.fingerprint() != texts.fingerprint()  # the same tokens in other rows
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
    images = Encoded({"pixels": pixels}, np.arange(2))
    assert images.starts is None
    assert images.lengths.tolist() == [1, 1]
    assert images.fingerprint() != Encoded({"pixels": pixels[::-1]}, np.arange(2)).fingerprint()
    assert images.take(range(2)).arrays["pixels"].dtype == np.uint8


def test_every_kind_of_input_is_told_once():
    assert {task.inputs.kind for task in TASKS.values()} == set(INPUTS)
    for inputs in INPUTS.values():
        assert inputs.columns[0] == inputs.kind  # what `--text_column` and its like are named for


def test_scores_follow_from_sums():
    """Figures, intervals and the verdict of an output that none of that code knows, beside scikit-learn's."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=300)
    near, far = true + rng.normal(size=300) / 3, true + rng.normal(size=300)
    figures = scores.measure(NUMBER, near, true, ())
    assert figures["r2"] == pytest.approx(r2_score(true, near))
    assert figures["rmse"] == pytest.approx(root_mean_squared_error(true, near))
    interval = scores.score_answers(NUMBER, near, true, ())["r2"]
    assert interval["low"] < figures["r2"] < interval["high"]
    verdict = scores.compare(NUMBER, near, far, true, ())
    assert verdict.label == "POSITIVE"
    assert verdict.gap == pytest.approx(r2_score(true, near) - r2_score(true, far))
    assert verdict.beside["rmse"].label == "NEGATIVE"  # a smaller error
    assert scores.compare(NUMBER, near, near, true, ()).label == "NEUTRAL"
    assert scores.gap(NUMBER, near, far, true, ()).label == "POSITIVE"
    document = verdict.document()
    assert "beside" not in document
    assert document["rmse"]["p"] == verdict.beside["rmse"].p


def test_the_scores_of_classes_are_those_of_the_functions_on_ids():
    """`Output`'s general way gives what the functions on class ids give, which are checked by themselves."""
    rng = np.random.default_rng(1)
    true, first, second = rng.integers(0, 4, size=(3, 200))
    names = ("a", "b", "c", "d")
    logits = np.eye(4)[first] * 3
    report = scores.score(CLASSES, logits, true, names)
    plain = compute_metrics(first, true)
    assert {k: v["value"] if isinstance(v, dict) else v for k, v in report.items()} == pytest.approx(
        {**plain, "log_loss": log_loss(logits, true)}
    )
    for name, interval in bootstrap_intervals(first, true).items():
        assert report[name] == pytest.approx(vars(interval))
    verdict, known = scores.compare(CLASSES, first, second, true, names), compare_paired(first, second, true)
    assert verdict.document() == known.document()
    assert scores.gap(CLASSES, first, second, true, names) == accuracy_difference(first == true, second == true)
