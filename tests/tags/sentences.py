"""Made-up sentences whose entities can be learnt: the words of each class of `tests.tiny` are entities of one type."""

import json
from pathlib import Path
from typing import Any

from tests.tiny import _CLASS_WORDS, tiny_text_rows


TYPES = {word: f"T{kind}" for kind, words in enumerate(_CLASS_WORDS[:3]) for word in words.split()}


def tags_of(words: list[str]) -> list[str]:
    """B- for the first of the words of one type in a row, I- for the others."""
    tags, before = [], ""
    for word in words:
        kind = TYPES.get(word, "")
        tags.append("O" if not kind else f"{'I' if kind == before else 'B'}-{kind}")
        before = kind
    return tags


def sentences(n: int, seed: int = 0, long: int = 0) -> list[dict[str, Any]]:
    """Rows of tokens and tags; the first `long` of them are longer than a tiny model reads."""
    rows = [text.split() * (15 if i < long else 1) for i, (text, _) in enumerate(tiny_text_rows(n, 3, seed))]
    return [{"tokens": words, "tags": tags_of(words)} for words in rows]


def split_folder(folder: Path, train: int, other: int) -> Path:
    """A folder with train.jsonl, validation.jsonl and test.jsonl."""
    folder.mkdir(parents=True)
    rows = sentences(train + 2 * other, long=2)
    parts = {"train": rows[:train], "validation": rows[train : train + other], "test": rows[train + other :]}
    for name, part in parts.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder
