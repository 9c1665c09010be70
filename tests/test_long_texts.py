"""Very long texts: only the beginning is tokenized, and the tokens are those of the whole text."""

import pytest
from transformers import AutoTokenizer

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
