"""A third output, known to nothing but this file, goes through what reads the contract: a number for a text."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hftl.config import DataConfig, ModelConfig
from hftl.data.load import load_rows, load_splits
from hftl.errors import DataError, ModelError
from hftl.models.load import load_model
from hftl.predict import Predictor
from hftl.tasks import CLASSES, INPUTS, TASKS
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
    headline="rmse",
    best="rmse",
    parts=("forgetting", "slices", "doctor"),
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
