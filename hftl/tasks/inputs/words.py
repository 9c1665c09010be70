"""Words: a list of them for a row, each answered at its first piece; long rows are read in overlapping windows."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, List, Value

from hftl.config import ModelConfig
from hftl.data.columns import (
    TEXT_NAMES,
    WORD_NAMES,
    column_named,
    columns_line,
    is_list,
    is_string,
    kind_of,
)
from hftl.data.splits import Splits
from hftl.data.words import answered, split_words, starts_of
from hftl.errors import DataError, ModelError
from hftl.tasks.inputs import text
from hftl.tasks.task import Faults, Finish, Fitted, Ragged, Read


_CHUNK = 2048  # rows per tokenizer call
_OVERLAP = 4  # windows share a quarter of their tokens
_FEATURES = Features({"words": List(Value("string")), "starts": List(Value("int64"))})


def find(table: Dataset, label: str | None, named: Sequence[str | None] = (None,)) -> tuple[str, ...] | None:
    """Return the column that was named, else one of lists of texts by name, else a text column by name."""
    others = [name for name in table.column_names if name != label]
    lists = [name for name in others if is_list(table.features[name])]
    texts = [name for name in others if is_string(table.features[name])]
    column = named[0] or column_named(table.select_columns(lists), WORD_NAMES)
    column = column or column_named(table.select_columns(texts), (*WORD_NAMES, *TEXT_NAMES))
    return None if column is None else (column,)


def read(table: Dataset, columns: Sequence[str], base: Path, where: str, faults: Faults, refuse_numbers: bool) -> Read:
    """Return "words" and where each of them "starts", the numbers of their rows, and why others are left out.

    Texts are split by `split_words`. Raises `DataError` for other values.
    """
    column, holes = columns[0], set[int]()
    feature, values = table.features[column], table[column][:]
    if is_string(feature):
        pairs = [split_words(value or "") for value in values]
    elif is_list(feature) and is_string(getattr(feature, "feature", None) or feature[0]):
        holes = {row for row, value in enumerate(values) if None in (value or ())}
        pairs = [
            (words, starts_of(words))
            for words in ([] if row in holes else [*(value or ())] for row, value in enumerate(values))
        ]
        if "starts" in table.column_names:  # of the characters, where spans were read
            pairs = [(words, list(at)) for (words, _), at in zip(pairs, table["starts"][:], strict=True)]
    else:
        raise DataError(
            f"the column {column!r} holds {kind_of(feature)} values, not lists of words; {columns_line(table)}. "
            "Name the right one with text_column (--text-column)"
        )
    empty = [
        row for row, (words, _) in enumerate(pairs) if faults != "keep" and not any(word.strip() for word in words)
    ]
    rows = np.setdiff1d(np.arange(len(table)), empty)
    why = {row: "with a word that is missing (null)" if row in holes else "without words" for row in empty}
    return _table([pairs[row] for row in rows]), rows, why


def _table(pairs: Sequence[tuple[list[str], list[int]]]) -> Dataset:
    """Return words and starts of every row as a table."""
    columns = {"words": [words for words, _ in pairs], "starts": [starts for _, starts in pairs]}
    return Dataset.from_dict(columns, features=_FEATURES)


def as_table(inputs: list[Any]) -> Dataset:
    """Return a table of texts, which are split into words, or of lists of words. Raises `DataError` for others."""
    pairs = []
    for row in inputs:
        if isinstance(row, str):
            text.as_table([row])  # says what no tokenizer can read
            pairs.append(split_words(row))
        elif isinstance(row, list | tuple) and all(isinstance(word, str) for word in row):
            pairs.append((list(row), starts_of(row)))
        else:
            raise DataError(f"A model of words predicts texts or lists of words, not {type(row).__name__}.")
    return _table(pairs)


def check(model: Any, tokenizer: Any, name: str) -> None:
    """Check that the tokenizer goes with the model, and let it read words as they stand inside a text.

    Byte-level tokenizers (RoBERTa, GPT-2, ModernBERT) have other pieces after a space: `add_prefix_space` is switched
    on, in the tokenizer that is saved too, so that the first word is read like the others. Raises `ModelError`.
    """
    text.check(model, tokenizer, name)
    if not tokenizer.is_fast:
        advice = "save it as a fast one (tokenizer.json), or choose another model"
        raise ModelError(f"{name} has a slow tokenizer, which does not say which word a piece is of: {advice}.")
    tokenizer.truncation_side = "right"  # windows are counted from the left
    backend = tokenizer.backend_tokenizer
    splitter = backend.pre_tokenizer
    if getattr(splitter, "add_prefix_space", None) is False:
        splitter.add_prefix_space = True
        backend.pre_tokenizer = splitter
        tokenizer.add_prefix_space = True
        tokenizer.init_kwargs["add_prefix_space"] = True


def fit_processor(model: Any, tokenizer: Any, datasets: list[Dataset], config: ModelConfig) -> Finish:
    """Set the window, of which no word is lost, by `text.set_length`."""
    text.set_length(model, tokenizer, config)
    rows, limit = sum(map(len, datasets)), tokenizer.model_max_length

    def finish(encoded: list[np.ndarray]) -> Fitted:
        more = sum(map(len, encoded)) - rows
        note = f"Rows beyond {limit} tokens are read in overlapping windows ({more} more than rows)."
        return Fitted([note] if more else [], 0)

    return finish


def overlap_of(tokenizer: Any) -> int:
    """Return how many tokens neighbouring windows share."""
    limit = int(tokenizer.model_max_length)
    return min(limit // _OVERLAP, limit - tokenizer.num_special_tokens_to_add() - 1)


def encode(dataset: Dataset, tokenizer: Any) -> dict[str, Any]:
    """Return "input_ids" by window, "units" (places of the words that a window answers) and "rows" (of each window).

    A row that is longer than `tokenizer.model_max_length` is cut into windows that share a quarter of their tokens.
    Every word is answered once, in order, in the window that shows most on its narrower side. A word of which the
    tokenizer leaves nothing has the place -1.
    """
    ids: list[list[int]] = []
    places: list[list[int]] = []
    rows: list[int] = []
    limit, stride = int(tokenizer.model_max_length), overlap_of(tokenizer)
    values = list(dataset["words"][:])
    for start in range(0, len(values), _CHUNK):
        chunk = values[start : start + _CHUNK]
        windows = tokenizer(
            chunk, is_split_into_words=True, truncation=True, max_length=limit, stride=stride,
            return_overflowing_tokens=True, return_attention_mask=False, return_token_type_ids=False,
        )  # fmt: skip
        owners = windows["overflow_to_sample_mapping"]
        for row, run in groupby(range(len(owners)), key=lambda i: owners[i]):
            mine = list(run)
            ids += [windows["input_ids"][i] for i in mine]
            places += answered([windows.encodings[i].word_ids for i in mine], len(chunk[row]), stride)
            rows += [start + row] * len(mine)
    return {"input_ids": Ragged.of(ids), "units": Ragged.of(places), "rows": np.array(rows, dtype=np.int64)}


def smallest_batch(model: Any, tokenizer: Any) -> dict[str, torch.Tensor]:
    """One row of two words."""
    return dict(tokenizer([["a", "b"]], is_split_into_words=True, return_tensors="pt"))


def describe(splits: Splits, tokenizer: Any, encoded: list[np.ndarray], cut: int) -> dict[str, Any]:
    """Lengths of the windows, and how many rows there are."""
    rows = len(splits.train) + len(splits.validation)
    return {"tokens": text.length_facts(np.concatenate(encoded), rows, int(tokenizer.model_max_length))}


WORDS = replace(
    text.TEXT,
    kind="sentence",
    noun="a sentence",
    columns=("words",),
    find=find,
    read=read,
    table=as_table,
    check=check,
    fit=fit_processor,
    encode=encode,
    smallest=smallest_batch,
    describe=describe,
    poolings=("native",),
    key=lambda words: text.text_digest(" ".join(words)),
    groups=lambda table: [("sentence length", [len(words) for words in table["words"][:]], "words")],
    row=list,
    show=" ".join,
    features=("word_tags",),
    example="Ada Lovelace lived in London.",
    overlap=overlap_of,
    derived=("starts",),
)
