"""Small tables and images, written as files of any kind, and the splits that hftl makes of them."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image as PILImage

from hftl.config import DataConfig
from hftl.data.load import load_splits
from hftl.tasks.task import Encoded, Ragged


def frame(rows: int = 40, classes: int = 2) -> pd.DataFrame:
    return pd.DataFrame(
        {"text": [f"the text number {i}" for i in range(rows)], "label": [f"c{i % classes}" for i in range(rows)]}
    )


def load(data, column="text", **options):
    return load_splits(column, DataConfig(data=data, **options))


def encoded_texts(token_ids, targets) -> Encoded:
    return Encoded({"input_ids": Ragged.of(token_ids)}, targets)


def write(table: pd.DataFrame, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".csv", ".tsv"):
        table.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    elif path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_json(path, orient="records", lines=path.suffix == ".jsonl")
    return path


def picture(seed: int = 0, size: int = 8) -> PILImage.Image:
    return PILImage.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


def image_folder(root: Path, classes=("cat", "dog"), count: int = 6) -> Path:
    for position, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            picture(position * 100 + i).save(root / name / f"{i}.png")
    return root


def all_rows(splits) -> list[int]:
    return sorted(splits.train["row"][:] + splits.validation["row"][:] + splits.test["row"][:])
