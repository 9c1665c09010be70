"""Very long texts: only the beginning is tokenized, and the tokens are those of the whole text."""

import pytest
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hftl.config import ModelConfig
from hftl.tasks.inputs import text as text_classification
from hftl.tasks.inputs.text import _beginning, _tokenize
from tests.tiny import build, tiny_text_rows


WORDS = " ".join(text for text, _ in tiny_text_rows(60, 3))
TEXTS = {
    "words": WORDS * 40,
    "spaces": WORDS.replace(" ", "      ") * 20,
    "lines": WORDS.replace(" ", "\n") * 40,
    "one word": "x" * 40_000,
    "words after one": "y" * 20_000 + " " + WORDS * 20,
    "odd": "Ünïcode ✓ [SEP] don't  ... 3,50 " * 2_000,
    "no spaces": "日本語の文章です。" * 4_000,
    "short": "i feel happy today",
}


@pytest.fixture(scope="module", params=["bert", "roberta", "deberta-v2"])  # word pieces, byte pairs, unigrams
def tokenizer(request, tmp_path_factory):
    return AutoTokenizer.from_pretrained(build(request.param, tmp_path_factory.mktemp("t") / request.param))


@pytest.mark.parametrize("length", [8, 64])
def test_tokens_are_the_same(tokenizer, length, monkeypatch):
    tokenizer.model_max_length = length
    texts = list(TEXTS.values())
    short = _tokenize(texts, tokenizer)
    monkeypatch.setattr(text_classification, "_beginning", lambda text, tokenizer: text)
    assert short == _tokenize(texts, tokenizer)


def test_a_long_text_is_cut(tokenizer):
    tokenizer.model_max_length = 64
    assert len(_beginning(TEXTS["words"] * 20, tokenizer)) < 10_000
    tokenizer.truncation_side = "left"
    assert _beginning(TEXTS["words"], tokenizer) == TEXTS["words"]
    tokenizer.truncation_side = "right"


@pytest.mark.parametrize(
    ("asked", "longest", "length", "cut"),
    [(None, 9, 11, 0), (None, 500, 64, 2), (8, 9, 8, 2), (8, 6, 8, 0), (64, 62, 64, 2), (12, 9, 12, 0)],
)
def test_the_length_of_a_run(tmp_path, asked, longest, length, cut):
    """Texts of 3, `longest` and `longest` words, and two special tokens, for a model of 64 positions."""
    folder = build("bert", tmp_path / "m")
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    tokenizer.model_max_length = 64
    tables = [Dataset.from_dict({"text": ["happy " * n for n in counts]}) for counts in ((3, longest), (longest,))]
    finish = text_classification.fit_processor(model, tokenizer, tables, ModelConfig(max_seq_length=asked))
    encoded = [text_classification.encode(table, tokenizer)["input_ids"] for table in tables]
    fitted = finish([rows.lengths for rows in encoded])

    assert tokenizer.model_max_length == length
    assert fitted.cut == cut
    note = f"{cut} of 3 texts ({cut / 3:.1%}) reach or pass {length} tokens and are cut there."
    assert fitted.notes == ([note] if cut else [])
    for table, rows in zip(tables, encoded, strict=True):  # encoded before the length was settled, and the same after
        again = text_classification.encode(table, tokenizer)["input_ids"]
        assert [ids.tolist() for ids in rows] == [ids.tolist() for ids in again]
