"""What reads the contract, by outputs and inputs of several kinds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import r2_score, root_mean_squared_error

from hftl.config import OWN_FLAGS, DataConfig, ModelConfig
from hftl.data.load import load_rows, load_splits, load_task
from hftl.errors import DataError, ModelError
from hftl.evaluation.verdict import accuracy_difference
from hftl.models.load import load_model
from hftl.predict import Predictor
from hftl.tasks import CLASSES, INPUTS, NUMBER, TASKS, combinations, get_task, scores
from hftl.tasks.task import Encoded, Ragged
from hftl.training.losses import make_loss
from tests.paired import bootstrap_intervals, compare_paired, log_loss
from tests.runs import checkpoint
from tests.tiny import tiny_text_rows


NUMBERS = get_task("text-classification", "regression")


def scored_texts(n: int = 48) -> pd.DataFrame:
    texts = [text for text, _ in tiny_text_rows(n, 3)]
    return pd.DataFrame({"text": texts, "score": [len(text) / 10 + 0.25 for text in texts]})


def test_rows_are_read_and_cut():
    table = scored_texts()
    task, splits = load_task("text-classification", DataConfig(data=table))
    assert task.output is NUMBER
    assert splits.labels == ("score",)
    assert any("regression" in note for note in splits.warnings)
    assert splits.train.features["label"].dtype == "float64"
    for part in (splits.train, splits.validation, splits.test):
        expected = table["score"].to_numpy()[part["row"][:]]
        assert np.allclose(part["label"][:], expected)
    sizes = len(splits.train), len(splits.validation), len(splits.test)
    assert sum(sizes) == len(table)
    assert min(sizes) > 0
    rows = load_rows(NUMBERS.inputs, DataConfig(data=table, max_eval_samples=9), splits.labels, NUMBERS.output)
    assert len(rows.labels) == len(rows.inputs) == 9


def test_shots_need_classes():
    with pytest.raises(DataError, match="shots are so many rows of every class"):
        load_splits(NUMBERS.inputs, DataConfig(data=scored_texts(), shots=2), None, NUMBERS.output)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_model_learns_and_answers(family, tmp_path: Path):
    splits = load_splits(NUMBERS.inputs, DataConfig(data=scored_texts()), None, NUMBERS.output)
    torch.manual_seed(0)
    loaded = load_model(NUMBERS, ModelConfig(model=str(checkpoint(family, tmp_path))), splits.labels)
    assert loaded.model.config.num_labels == 1
    assert loaded.model.config.problem_type == "regression"
    assert loaded.model.config.id2label == {0: "score"}
    encoded = NUMBERS.encode(splits.train, loaded.processor)
    batch = NUMBERS.collator(loaded.processor)([encoded[i] for i in range(len(encoded))])
    labels = batch.pop("labels")
    assert labels.dtype == torch.float32
    assert len(labels) == len(encoded)
    loss = make_loss(0.0, None, NUMBERS.output.loss)
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=5e-3)
    losses = []
    for _ in range(12):
        value = loss(loaded.model(**batch), labels)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(value.item())
    assert losses[-1] < losses[0] / 2
    predictor = Predictor(loaded.model.eval(), loaded.processor, NUMBERS, splits.labels)
    answers = predictor.predict(splits.test["text"][:])
    plain = NUMBER.decode(predictor.logits(splits.test))
    assert [answer.value for answer in answers] == plain.tolist()
    NUMBERS.output.check(loaded.model.config, "it")
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
    assert {task.inputs.kind for name in TASKS for task in combinations(name)} == set(INPUTS)
    for inputs in INPUTS.values():
        assert all(flag in OWN_FLAGS for flag in inputs.flags)


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
    assert verdict.beside["rmse"].label == "POSITIVE"  # a smaller error
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
    assert report["log_loss"] == pytest.approx(log_loss(logits, true))
    for name, interval in bootstrap_intervals(first, true).items():
        assert report[name] == pytest.approx(vars(interval))
    verdict, known = scores.compare(CLASSES, first, second, true, names), compare_paired(first, second, true)
    assert verdict.document() == known.document()
    assert scores.gap(CLASSES, first, second, true, names) == accuracy_difference(first == true, second == true)
