"""Runs to show: tiny classifiers with the report of a run, made without training."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from tests.report_page.example import evidence, report, text_rows
from tests.tiny import build, tiny_image, tiny_images, tiny_text_rows


LABELS = ("Arts", "History", "Science")
THRESHOLD = 0.9  # an untrained model is never so sure
SECRET = "zebra"  # a word of every row of the run's own data


def _with_head(folder: Path, family: str) -> Path:
    names = dict(enumerate(LABELS))
    return build(family, folder, num_labels=3, id2label=names, label2id={v: k for k, v in names.items()})


def _report(task: str, data: str, **more: Any) -> dict[str, Any]:
    rows = text_rows(60, LABELS)
    found = evidence(rows)
    found["abstain"] = {**found["abstain"], "threshold": THRESHOLD}
    counts = np.zeros((3, 3), dtype=int)
    np.add.at(counts, (rows.references, rows.predictions), 1)
    found["confusion"] = [[i, j, int(counts[i, j])] for i in range(3) for j in range(3) if counts[i, j]]
    made = report(rows, task=task, evidence=found, **more)
    made["data"]["name"] = data
    return made


def text_run(folder: Path, **more: Any) -> Path:
    """A run on `rows.csv`, with all evidence."""
    _with_head(folder / "final", "bert")
    data = folder / "rows.csv"
    with data.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows((f"{SECRET} {text}", LABELS[label]) for text, label in tiny_text_rows(60, 3))
    _write(
        folder, {"task": "text-classification", "data": str(data)}, _report("text-classification", data.name, **more)
    )
    return folder


def image_run(folder: Path) -> Path:
    """A run on a folder of images, with all evidence."""
    _with_head(folder / "final", "resnet")
    data = tiny_images(folder / "pictures", per_class=8, classes=LABELS, size=48)
    _write(folder, {"task": "image-classification", "data": str(data)}, _report("image-classification", data.name))
    return folder


def _write(folder: Path, config: dict[str, Any], made: dict[str, Any]) -> None:
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "report.json").write_text(json.dumps(made), encoding="utf-8")


def picture(path: Path, label: int = 0, size: int = 80) -> Path:
    tiny_image(label, 3, size, np.random.default_rng(label)).save(path)
    return path


def bomb(path: Path) -> Path:
    """A PNG of a few kilobytes with 144 million pixels."""
    Image.new("1", (12_000, 12_000)).save(path)
    return path
