"""`python -m tests.faults.evaluation_memory`: score 100,000 rows of 1,000 classes, and print what that took.

JSON of GiB above the imports: the peak after the forward pass, and the peak after all scores.
"""

import json
import resource
import sys
from types import SimpleNamespace

import numpy as np
import torch

from hftl.tasks import CLASSES as ONE_CLASS
from hftl.tasks.scores import lines, score
from hftl.training.features import predict_logits
from tests.small_data import encoded_texts


ROWS, CLASSES = 100_000, 1_000


class Model(torch.nn.Module):
    """One vector of logits per token id."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(CLASSES, CLASSES)

    def forward(self, input_ids: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.table(input_ids[:, 0]))


def collate(items: list[dict]) -> dict[str, torch.Tensor]:
    return {key: torch.tensor([item[key] for item in items]) for key in ("input_ids", "labels")}


def peak() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def main() -> None:
    rng = np.random.default_rng(0)
    rows = encoded_texts([[int(i)] for i in rng.integers(0, CLASSES, ROWS)], rng.integers(0, CLASSES, ROWS))
    model = Model()
    model(torch.tensor([[0]]))
    before = peak()
    logits = predict_logits(model, rows, collate, use_cpu=True)
    forward = peak() - before
    assert logits.shape == (ROWS, CLASSES)
    names = [f"class {i}" for i in range(CLASSES)]
    scores = score(ONE_CLASS, logits, rows.labels, names)
    classes = lines(ONE_CLASS, logits.argmax(-1), rows.labels, names)
    assert len(classes) == CLASSES
    print(json.dumps({"forward": forward, "all": peak() - before, "accuracy": scores["accuracy"]["value"]}))


if __name__ == "__main__":
    main()
