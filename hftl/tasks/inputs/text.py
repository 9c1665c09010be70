"""Texts: a string for a row, or a pair of them, tokenized once and padded batch by batch."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, Features, Value

from hftl.config import ModelConfig
from hftl.data.columns import (
    IMAGE_NAMES,
    TEXT_NAMES,
    arrow_table,
    column_named,
    columns_line,
    is_image,
    is_string,
    kind_of,
)
from hftl.data.splits import Splits
from hftl.errors import ConfigError, DataError, ModelError
from hftl.tasks.task import Faults, Finish, Fitted, Inputs, Ragged, Read


_NUMBER = re.compile(r"\s*[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?\s*")
_CHUNK = 2048  # texts per tokenizer call
_LONG = 32  # characters per token that is kept, above which only the beginning of a text is tokenized
_MARGIN = 16  # tokens
_PROBE = "words stand on their own"
_NO_LIMIT = 100_000  # tokenizers that know no limit report a number beyond any model's
SHORTEST = 4  # tokens: less holds no word beside the special ones
_SHORT, _LONGER = "a b", "a b c d e f g h i j k l"
# Relative to the largest logit. fp32 leaves 1e-6 between batches of other shapes; what reads padding leaves percents.
_TOLERANCE = 1e-3
_BINS = 8  # of the histogram of lengths
_TYPED = 1000  # texts that tell how long those of a column are

Row = str | tuple[str, str]  # a text, or two that the tokenizer takes together


def find(table: Dataset, label: str | None, named: Sequence[str | None] = (None,)) -> tuple[str, ...] | None:
    """Return the column that was named, else the text column by name, else the string column with the longest values."""
    column = named[0] or _by_name_or_type(table, label)
    return None if column is None else (column,)


def _by_name_or_type(table: Dataset, label: str | None) -> str | None:
    strings = [name for name, feature in table.features.items() if is_string(feature) and name != label]
    named = column_named(table.select_columns(strings), TEXT_NAMES) or column_named(table, TEXT_NAMES, label)
    if named is not None or any(is_image(feature) for feature in table.features.values()):
        return named
    head = table.select_columns(strings).select(range(min(_TYPED, len(table)))).to_dict() if strings else {}
    lengths = {}
    for name in strings:
        values = [value for value in head[name] if value]
        if name.lower() not in IMAGE_NAMES and not all(_NUMBER.fullmatch(value) for value in values):
            lengths[name] = sum(map(len, values)) / len(values)
    return max(lengths, key=lambda name: lengths[name], default=None)


def read(table: Dataset, columns: Sequence[str], base: Path, where: str, faults: Faults, refuse_numbers: bool) -> Read:
    """Return the column as "text", verbatim, the numbers of its rows, and why others are left out.

    Raises `DataError` for a column without strings.
    """
    texts = read_texts(table, columns[0], refuse_numbers)
    return with_text({"text": texts}, blanks(texts), faults)


def with_text(columns: dict[str, list[str | None]], blank: dict[int, str], faults: Faults) -> Read:
    """Return the columns as a table, without the `blank` rows unless `faults` is "keep"."""
    count = len(next(iter(columns.values())))
    rows = np.array([row for row in range(count) if faults == "keep" or row not in blank], dtype=np.int64)
    kept = {name: pa.array([texts[row] for row in rows], type=pa.string()) for name, texts in columns.items()}
    return arrow_table(kept, dict.fromkeys(kept, Value("string"))), rows, {} if faults == "keep" else blank


def blanks(texts: Sequence[str | None]) -> dict[int, str]:
    """Return the rows without a text, and which of both they are: missing or empty."""
    blank = {row: text for row, text in enumerate(texts) if text is None or not text.strip()}
    return {row: "without text" if text is None else "empty" for row, text in blank.items()}


def read_texts(table: Dataset, column: str, refuse_numbers: bool) -> list[str | None]:
    """Return a column of texts, verbatim. Raises `DataError` as `read` does."""
    feature, texts = table.features[column], table[column][:]
    if not is_string(feature):
        raise _other_column(table, column, f"holds {kind_of(feature)} values, not text")
    present = [text for text in texts if text and text.strip()] if refuse_numbers else []
    if present and all(_NUMBER.fullmatch(text) for text in present):
        raise _other_column(table, column, "holds numbers, not text")
    return list(texts)


def _other_column(table: Dataset, column: str, holds: str) -> DataError:
    advice = "Name the right one with text_column (--text-column)"
    return DataError(f"the text column {column!r} {holds}; {columns_line(table)}. {advice}")


def as_table(inputs: list[Any]) -> Dataset:
    """Return a table of these texts. Raises `DataError` for anything else."""
    for text in inputs:
        if not isinstance(text, str):
            held = "pairs (--text_pair)" if isinstance(text, dict) else type(text).__name__
            raise DataError(f"This model reads single texts, not {held}.")
    for text in inputs:
        if not text.isascii() and text != text.encode("utf-8", "replace").decode():
            raise DataError(f"A text holds half a character pair: {text[:60]!a}. Leave such characters out.")
    return Dataset.from_dict({"text": inputs}, features=Features({"text": Value("string")}))


def text_digest(text: str | None) -> bytes | None:
    """Return what is equal for texts that differ in case, in the spaces around or in kinds of space only.

    Tabs, line breaks and no-break spaces count as spaces. Two spaces in a row inside a text are not made one: such
    texts are near duplicates. None for a text with nothing in it.
    """
    folded = re.sub(r"[^\S ]+", " ", text or "").casefold().strip()
    if not folded:
        return None
    return hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def check(model: Any, tokenizer: Any, name: str) -> None:
    """Check that a tokenizer goes with its model, and give it a padding token where it has none.

    Raises `ModelError` when it does not, which would show only at the first text that it matters for.
    """
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # transformers makes one without tokens, and says nothing
        raise ModelError(f"{name} has no tokenizer files, such as tokenizer.json: every word would be unknown to it.")
    length, needed = tokenizer.model_max_length, f"a number of at least {SHORTEST} is needed"
    if not isinstance(length, int | float) or length < SHORTEST:
        raise ModelError(f"{name} has a tokenizer whose model_max_length is {length!r}: {needed}.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise ModelError(f"{name} has a tokenizer with neither a padding nor an end token: texts cannot be padded.")
    if getattr(model.config, "pad_token_id", 0) is None:  # a mean-pooled head has no such field, and needs none
        model.config.pad_token_id = tokenizer.pad_token_id
    embeddings = model.get_input_embeddings()
    highest = max(tokenizer.get_vocab().values())
    if isinstance(embeddings, torch.nn.Embedding) and highest >= embeddings.num_embeddings:
        raise ModelError(
            f"{name} has a tokenizer with token numbers up to {highest}, but embeddings for {embeddings.num_embeddings} "
            "tokens alone. If tokens were added, save the model again after "
            "model.resize_token_embeddings(len(tokenizer))."
        )


def settle_padding(model: Any, tokenizer: Any, name: str) -> list[str]:
    """Compare a short text alone with the same text beside a long one, and return notes of what had to be changed.

    A batch must answer as its rows alone do, or no figure of a run can be trusted. Where they differ, the tokenizer's
    padding token and then the right side are tried; both are saved with the model. Raises `ModelError` for a model
    whose answers depend on padding whatever is done: `pipeline`, evaluation and training pad differently.
    """
    if not _depends(model, tokenizer):
        return []
    config = model.config.get_text_config()
    if config.pad_token_id != tokenizer.pad_token_id:
        config.pad_token_id = tokenizer.pad_token_id
        if not _depends(model, tokenizer):
            return [f"The config's padding token is now the tokenizer's ({tokenizer.pad_token_id}): they differed."]
    if tokenizer.padding_side == "left":
        tokenizer.padding_side = "right"
        if not _depends(model, tokenizer):
            return ["The saved tokenizer pads on the right: padded on the left, this model answers differently."]
    raise ModelError(
        f"{name} answers a text differently when it is padded beside a longer one (a property of {config.model_type}, "
        "or of its tokenizer): no batch could be trusted. Choose another model."
    )


def _depends(model: Any, tokenizer: Any) -> bool:
    """Does the answer to a short text, or to one of its tokens, change beyond rounding when it is padded?"""
    with torch.no_grad():
        alone = _first_logits(model, tokenizer, [_SHORT])
        beside = _first_logits(model, tokenizer, [_SHORT, _LONGER])
    gap, size = float((alone - beside).abs().max()), float(alone.abs().max())
    return gap > _TOLERANCE * size  # not so where they are no numbers: the features say that better


def _first_logits(model: Any, tokenizer: Any, texts: list[str]) -> torch.Tensor:
    """Return the logits of the first text, [k], or of its tokens, [t, k]."""
    ids = tokenizer(texts, truncation=True)["input_ids"]
    batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt")
    logits: torch.Tensor = model(**{k: v.to(model.device) for k, v in batch.items()}).logits
    return logits[0] if logits.dim() == 2 else logits[0][batch["attention_mask"][0].bool()]


def fit_processor(model: Any, tokenizer: Any, datasets: list[Dataset], config: ModelConfig) -> Finish:
    """Set `tokenizer.model_max_length` to `--max_seq_length`, else to what the model can read.

    Without that flag, the function that this returns lowers it to the longest of the texts, once they are encoded, so
    that they are tokenized once. Raises what `set_length` raises.
    """
    limit = set_length(model, tokenizer, config)
    used = tokenizer.model_max_length

    def finish(encoded: list[np.ndarray]) -> Fitted:
        lengths = np.concatenate(encoded)
        reach = np.flatnonzero(lengths >= used)
        cut = len(reach)
        if config.max_seq_length is None:
            tokenizer.model_max_length = max(SHORTEST, int(lengths.max()))
        elif used < limit:  # a text may end right there
            rows = [row for dataset in datasets for row in rows_of(dataset)]
            tokenizer.model_max_length = limit
            cut = sum(len(ids) > used for ids in _tokenize([rows[i] for i in reach], tokenizer)["input_ids"])
            tokenizer.model_max_length = used
        share = f"{cut} of {len(lengths)} texts ({cut / len(lengths):.1%})"
        return Fitted([f"{share} reach or pass {used} tokens and are cut there."] if cut else [], cut)

    return finish


def set_length(model: Any, tokenizer: Any, config: ModelConfig) -> int:
    """Set `tokenizer.model_max_length` to `--max_seq_length`, else to how many tokens the model can read; return those.

    Raises `ConfigError` for a length that the model cannot read.
    """
    limit, asked = _model_limit(model, tokenizer), config.max_seq_length
    if asked is not None and not SHORTEST <= asked <= limit:
        raise ConfigError(f"--max_seq_length {asked} is not between {SHORTEST} and {limit}, the model's limit.")
    tokenizer.model_max_length = asked or limit
    return limit


def _model_limit(model: Any, tokenizer: Any) -> int:
    limits = [tokenizer.model_max_length]
    positions = getattr(model.config, "max_position_embeddings", None)  # many configs have no such field
    if positions and positions > 0:
        offset = 0
        for module in model.modules():
            # RoBERTa counts positions from padding_idx + 1, so that many of its positions are not usable.
            if isinstance(module, torch.nn.Embedding) and module.num_embeddings == positions:
                offset = (module.padding_idx or -1) + 1
                break
        limits.append(positions - offset)
    limit = min(limits)
    return 512 if limit > _NO_LIMIT else int(limit)


def rows_of(dataset: Dataset) -> list[Row]:
    """Return what the tokenizer takes of each row: its text, or both texts of a pair."""
    texts: list[Row] = list(dataset["text"][:])
    return list(zip(texts, dataset["text_pair"][:], strict=True)) if "text_pair" in dataset.column_names else texts  # type: ignore[arg-type]


def _sides(rows: Sequence[Row]) -> Iterator[list[list[str]]]:
    """Yield what the tokenizer takes of some rows at a time: the texts, of pairs the first ones and the second ones."""
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        yield [list(chunk)] if isinstance(chunk[0], str) else list(map(list, zip(*chunk, strict=True)))  # type: ignore[arg-type]


def _tokenize(rows: Sequence[Row], tokenizer: Any) -> dict[str, list[list[int]]]:
    """Return the token ids of each row, and of pairs which text a token is of, where the tokenizer tells."""
    encoded: dict[str, list[list[int]]] = {"input_ids": []}
    for texts in _sides(rows):
        options: dict[str, bool] = {}
        if len(texts) == 1:
            texts, options = [[_beginning(text, tokenizer) for text in texts[0]]], {"return_token_type_ids": False}
        for name, ids in tokenizer(*texts, truncation=True, return_attention_mask=False, **options).items():
            encoded.setdefault(name, []).extend(ids)
    return encoded


def _beginning(text: str, tokenizer: Any) -> str:
    """Return as much of a very long text as decides its first `model_max_length` tokens; else the text itself.

    Where the tokenizer splits at spaces before it looks at words, what follows a space changes no word before it. The
    beginning must give more tokens than are kept, so that the last few, next to the cut, do not count.
    """
    size = _LONG * tokenizer.model_max_length
    if len(text) <= size or not _splits_at_spaces(tokenizer):
        return text
    while size < len(text):
        end = text.find(" ", size)
        if end < 0:
            return text
        ids = tokenizer(text[:end], truncation=False, return_attention_mask=False, verbose=False)["input_ids"]
        if len(ids) > tokenizer.model_max_length + _MARGIN:
            return text[:end]
        size *= 2
    return text


def _splits_at_spaces(tokenizer: Any) -> bool:
    """Tell whether words are turned into tokens one by one, and the end of a long text is what is cut off."""
    backend = getattr(tokenizer, "backend_tokenizer", None)  # tokenizers in Python have none
    if backend is None or backend.pre_tokenizer is None or tokenizer.truncation_side != "right":
        return False
    return len(backend.pre_tokenizer.pre_tokenize_str(_PROBE)) >= len(_PROBE.split())


def encode(dataset: Dataset, tokenizer: Any) -> dict[str, Ragged]:
    """Tokenize the texts, cut at `tokenizer.model_max_length`."""
    return {name: Ragged.of(ids) for name, ids in _tokenize(rows_of(dataset), tokenizer).items()}


def collator(tokenizer: Any, flip: bool = True, augment: str = "light") -> Any:
    """Return a function that pads a list of items to the longest of them.

    Raises `ConfigError` for a preset that was asked for: texts are not augmented (`light` is every run's default).
    """
    if augment not in ("light", "none"):
        raise ConfigError(f"--augment {augment} is for images: texts are not augmented.")

    def collate(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        names = [name for name in ("input_ids", "token_type_ids") if name in items[0]]
        columns = {name: [np.asarray(item[name]).tolist() for item in items] for name in names}
        return dict(tokenizer.pad(columns, return_tensors="pt"))

    return collate


def smallest_batch(model: Any, tokenizer: Any) -> dict[str, torch.Tensor]:
    """One text of a few tokens, enough to see which module runs when."""
    return dict(tokenizer([_SHORT], return_tensors="pt"))


def describe_tokens(splits: Splits, tokenizer: Any, encoded: list[np.ndarray], cut: int) -> dict[str, Any]:
    """Lengths of the train and validation texts before any cut, and what is cut at the tokenizer's length.

    `encoded` are the lengths of both after the cut. When there are any that are `cut`, texts of the full length are
    tokenized once more.
    """
    rows = [*rows_of(splits.train), *rows_of(splits.validation)]
    used = int(tokenizer.model_max_length)
    lengths = np.concatenate(encoded)
    reach = np.flatnonzero((lengths >= used) & bool(cut))
    options = {"truncation": False, "return_attention_mask": False, "verbose": False}
    cut_rows = (tokenizer(*texts, **options)["input_ids"] for texts in _sides([rows[i] for i in reach]))
    lengths[reach] = [len(ids) for chunk in cut_rows for ids in chunk]
    return length_facts(lengths, len(rows), used)


def length_facts(lengths: np.ndarray, rows: int, used: int) -> dict[str, Any]:
    """Return what `hftl plan` says of the lengths in tokens of so many rows, of which `used` tokens are read."""
    low, high = int(lengths.min()), int(lengths.max())
    edges = np.unique(np.linspace(low, high + 1, min(_BINS, high - low + 1) + 1).astype(int))
    bins = zip(edges[:-1], edges[1:], np.histogram(lengths, edges)[0], strict=True)
    longer = int((lengths > used).sum())
    return {
        "texts": rows,
        "min": low,
        "median": float(np.median(lengths)),
        "p95": float(np.percentile(lengths, 95)),
        "max": high,
        "histogram": [{"from": int(a), "to": int(b) - 1, "texts": int(n)} for a, b, n in bins],
        "max_seq_length": used,
        "truncated": longer,
        "truncated_share": longer / rows,
    }


def groups(table: Dataset) -> list[tuple[str, list[Any], str | None]]:
    """Return the slices by which texts are scored apart: their length."""
    lengths = [len(row) if isinstance(row, str) else sum(map(len, row)) for row in rows_of(table)]
    return [("text length", lengths, "characters")]


TEXT = Inputs(
    kind="text",
    noun="a text",
    columns=("text",),
    flags=("text_column",),
    processor="AutoTokenizer",
    argument="tokenizer",
    find=find,
    read=read,
    table=as_table,
    check=check,
    settle=settle_padding,
    fit=fit_processor,
    encode=encode,
    collate=collator,
    smallest=smallest_batch,
    describe=lambda *known: {"tokens": describe_tokens(*known)},
    poolings=("native", "mean"),
    key=text_digest,
    groups=groups,
    row=str,
    show=str,
    raw=None,
    features=("tfidf",),
    example="a text",
    sample="sample:wikipedia-topics",
    box="Textbox",
    padded=True,
    caveat="The languages of the texts were not recorded: expect nothing of others than those in the data.",
)
