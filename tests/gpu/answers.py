"""What a finished run answers: by hftl, and by a plain pipeline."""

from pathlib import Path
from typing import Any

import numpy as np
import transformers

import hftl
from tests.runs import task_of, text_frame, tiny_data


def rows_of(family: str, folder: Path) -> list[str]:
    """Texts, or files of images."""
    if task_of(family) == "text-classification":
        return list(text_frame(60)["text"])
    return [str(path) for path in sorted(tiny_data(family, folder).rglob("*.png"))[:40]]


def by_hftl(run: Path, rows: list[str]) -> tuple[np.ndarray, Any]:
    """Probabilities [n, labels], and the model as it answered them."""
    predictor = hftl.load(run)
    found = [[p.probabilities[name] for name in predictor.labels] for p in predictor.predict(rows)]
    return np.array(found), predictor.model


def by_pipeline(run: Path, family: str, rows: list[str], device: str) -> np.ndarray:
    """The same by transformers alone."""
    pipe = transformers.pipeline(task_of(family), model=str(run / "final"), device=device)
    names = [pipe.model.config.id2label[i] for i in range(pipe.model.config.num_labels)]
    found = [{one["label"]: one["score"] for one in pipe(row, top_k=len(names))} for row in rows]
    return np.array([[scores[name] for name in names] for scores in found])
