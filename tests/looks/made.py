"""Small runs of every output for texts and pairs, as people meet them: made without training, their figures by chance."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import transformers
import yaml

from hftl.config import build_config
from hftl.data.load import load_task
from hftl.evaluation.number_scores import coverage
from hftl.evidence.page import write_page_of
from hftl.report.views import statements_of
from hftl.tasks.scores import compare, lines, score, score_answers, worst_rows
from hftl.tasks.task import Ragged
from tests.tags.sentences import sentences
from tests.tiny import build, tiny_text_rows


PROBLEMS = {
    "class": "single_label_classification",
    "labels": "multi_label_classification",
    "number": "regression",
    "tags": "token_classification",
}
NAMES = {"class": ("blue", "green", "red"), "labels": ("blue", "green", "red"), "number": ("warmth",)}
TAGS = ("O", "B-T0", "I-T0", "B-T1", "I-T1", "B-T2", "I-T2")
WIDTH = 0.75  # half that of the interval of a number
_ROWS = 150


def task_name(kind: str) -> str:
    return "token-classification" if kind == "tags" else "text-classification"


def data_file(folder: Path, kind: str, inputs: str) -> Path:
    """A file whose columns say what the task is; its first row holds what must be escaped."""
    colours, rng = ("blue", "green", "red"), np.random.default_rng(0)
    rows, others = tiny_text_rows(_ROWS, 3, 1), tiny_text_rows(_ROWS, 3, 2)
    values: list[Any] = [
        {
            "class": colours[a],
            "labels": [] if i % 9 == 0 else sorted({colours[a], colours[b]}),
            "number": a * 1.7 + float(rng.normal(0, 0.3)),
            "tags": None,
        }[kind]
        for i, ((_, a), (_, b)) in enumerate(zip(rows, others, strict=True))
    ]
    texts = [f"{text}, zebra" for text, _ in rows]
    columns: dict[str, Any] = {"text": texts, "label" if kind != "number" else "warmth": values}
    if inputs == "pair":
        columns = {"sentence1": texts, "sentence2": [text for text, _ in others], **dict([*columns.items()][1:])}
    path = folder / "data.jsonl"
    columns = pd.DataFrame(sentences(_ROWS)) if kind == "tags" else columns
    pd.DataFrame(columns).to_json(path, orient="records", lines=True)
    return path


def outputs_for(kind: str, targets: Any, noise: float, seed: int = 0) -> Any:
    """What a model might put out for rows of which this is true: the truth, more or less."""
    rng = np.random.default_rng(seed)
    if kind == "number":
        return (targets + rng.normal(0, noise, len(targets)))[:, None]
    if kind == "tags":
        words = 4 * np.eye(len(TAGS))[targets.values]
        return Ragged(words + rng.normal(0, 2 * noise, words.shape), targets.starts)
    one_hot = np.eye(3)[targets] if kind == "class" else targets
    return 4 * (one_hot - 0.5) + rng.normal(0, 2 * noise, one_hot.shape)


def model_folder(folder: Path, kind: str, inputs: str) -> Path:
    """A tiny random model as a run saves it."""
    if kind == "tags":
        build("bert", folder)
        names = dict(enumerate(TAGS))
        auto = transformers.AutoModelForTokenClassification
        model = auto.from_pretrained(
            folder, num_labels=len(TAGS), id2label=names, label2id={v: k for k, v in names.items()}
        )
        model.save_pretrained(folder)
        return folder
    names = NAMES[kind]
    fields: dict[str, Any] = {
        "labels": {"thresholds": [0.3, 0.5, 0.7]},
        "number": {"conformal_width": WIDTH, "conformal_level": 0.9},
    }
    columns = {"input_columns": ["text", "text_pair"]} if inputs == "pair" else {}
    options = {"num_labels": len(names), "id2label": dict(enumerate(names)), "problem_type": PROBLEMS[kind]}
    return build("bert", folder, **options, **fields.get(kind, {}), **columns)


def made_run(folder: Path, kind: str, inputs: str = "text") -> Path:
    """Write a run: final/, config.yaml, report.json and report.html."""
    folder.mkdir(parents=True)
    data = data_file(folder, kind, inputs)
    model_folder(folder / "final", kind, inputs)
    values = {"data": str(data), "model": "org/tiny", "method": "full"}
    (folder / "config.yaml").write_text(yaml.safe_dump({"task": task_name(kind), **values}))
    config = build_config(task_name(kind), values)
    task, splits = load_task(config.task, config.data, 42)
    assert (task.output.problem_type, task.inputs.kind) == (PROBLEMS[kind], inputs)
    output, names = task.output, splits.labels
    targets = output.gather(splits.test["label"][:])
    ours, plain = (outputs_for(kind, targets, noise, seed) for noise, seed in ((0.6, 0), (1.2, 1)))
    if kind == "tags":
        guess: Any = Ragged(np.full(len(targets.values), TAGS.index("O")), targets.starts)
    else:
        guess = np.repeat(targets.mean() if kind == "number" else targets[:1], len(targets), axis=0)
    answers = {"majority": guess, "no-pretraining": output.decode(plain), "method": output.decode(ours)}
    called = {"majority": f"always {output.words['guess']}", "no-pretraining": "TF-IDF", "method": "full (org/tiny)"}
    rungs = [
        {"name": called[rung], "kind": rung, **score_answers(output, given, targets, names), "seconds": 1.0}
        for rung, given in answers.items()
    ]
    verdict = compare(output, answers["method"], answers["no-pretraining"], targets, names).document()
    worst = [{**row, "source_row": row["row"]} for row in worst_rows(output, ours, targets, 20)]
    evidence: dict[str, Any] = {
        "ladder": rungs,
        "verdict": {**verdict, "against": "TF-IDF", "cross_validation": None, "advice": []},
        "forgetting": None,
        "worst_rows": worst,
        "doctor": [],
        "seconds": 1.0,
    }
    if kind == "number":
        share = asdict(coverage(answers["method"], targets, WIDTH))
        evidence["conformal"] = {"level": 0.9, "width": WIDTH, "test_coverage": share}
    if output.mistaken is not None:
        types, cells = output.mistaken(answers["method"], targets, names)
        evidence["type_confusion"] = {"names": types, "cells": [list(cell) for cell in cells]}
    stages = [{"name": "full", "trainable_parameters": 9, "learning_rates": {"head": 1e-4}, "seconds": 1.0, "steps": 4,
               "epochs": 1.0, "reads": "rows", "weights": "", "history": _history(output)}]  # fmt: skip
    report = {
        "schema_version": 1, "task": task.name, "problem_type": output.problem_type, "inputs": inputs, "method": "full",
        "pooling": "native",
        "model": {"name": "org/tiny", "source": "hub", "revision": "abc123", "architecture": "Bert", "parameters": 12},
        "data": {"name": "data.jsonl", "labels": list(names), "origins": {}, "skipped": [], "cut": None,
                 "rows": {k: len(getattr(splits, k)) for k in ("train", "validation", "test")}},
        "metrics": {part: score(output, ours, targets, names) for part in ("test", "validation")},
        "baselines": [], "per_class": lines(output, answers["method"], targets, names),
        "probe": {"C": 1.0, "pooling": "native", "cv_accuracy": {}, "features": "computed"}, "stages": stages,
        "timing": {"train_seconds": 1.0, "total_seconds": 4.0},
        "environment": {"versions": {"hftl": "0.1.0"}, "device": "cpu", "processes": 1, "threads": 1},
        "seed": 42, "warnings": [], "evidence": evidence, "parity": {},
    }  # fmt: skip
    report = {**report, "statements": statements_of(report)}
    write_page_of(folder / "report.html", report, splits, task, ours)
    return folder


def _history(output: Any) -> list[dict[str, float]]:
    scores = {f"eval_{name}": 0.5 for name in output.scores}
    return [{"loss": 1.0 / i, "step": float(i), **{k: v + i / 10 for k, v in scores.items()}} for i in range(1, 5)]
