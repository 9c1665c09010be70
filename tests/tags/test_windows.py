"""Long rows: every word is answered once, where most of what stands around it is seen."""

import numpy as np
import pytest
import transformers
from datasets import Dataset

from hftl.config import ModelConfig
from hftl.data.words import answered
from hftl.errors import ModelError
from hftl.models.load import load_model
from hftl.tasks import get_task
from hftl.tasks.inputs.words import WORDS, as_table, overlap_of
from tests.architectures.text_models import build_text
from tests.tags.sentences import sentences


TASK = get_task("token-classification")
LABELS = ("O", *(f"{a}-T{k}" for k in range(3) for a in "BI"))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    made = {}

    def load(family):
        if family not in made:
            made[family] = load_model(TASK, ModelConfig(model=str(build_text(family, folder / family))), LABELS)
        return made[family]

    return load


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "xlnet"])
@pytest.mark.parametrize("limit", [8, 13, 24])
def test_every_word_is_answered_once_where_most_is_seen(family, limit, loaded):
    tokenizer = loaded(family).processor
    rows = [row["tokens"] for row in sentences(6, long=2)] + [["a"], ["xyz" * 9, "day"]]
    before = tokenizer.model_max_length
    try:
        tokenizer.model_max_length = limit
        encoded = TASK.encode(as_table(rows), tokenizer)
        stride = overlap_of(tokenizer)
        whole = [tokenizer(row, is_split_into_words=True, truncation=False, verbose=False) for row in rows]
    finally:
        tokenizer.model_max_length = before
    assert encoded.targets.lengths.tolist() == [len(row) for row in rows]
    assert encoded.lengths.max() <= limit
    assert len(encoded) > len(rows)
    for number, (row, plain) in enumerate(zip(rows, whole, strict=True)):
        windows = np.flatnonzero(encoded.rows == number)
        ids = [encoded.arrays["input_ids"][i] for i in windows]
        found = [int(ids[w][place]) for w, i in enumerate(windows) for place in encoded.units[i]]
        words = plain.encodings[0].word_ids
        firsts = [plain["input_ids"][words.index(k)] for k in range(len(row))]
        assert found == firsts
        size = limit - tokenizer.num_special_tokens_to_add()
        content = [place for place, word in enumerate(words) if word is not None]
        starts = [w * (size - stride) for w in range(len(windows))]
        chosen = [w for w, i in enumerate(windows) for _ in encoded.units[i]]
        for k, w in enumerate(chosen):
            at = content.index(words.index(k))
            room = [
                min(at - s if j else np.inf, min(s + size, len(content)) - 1 - at if j < len(starts) - 1 else np.inf)
                for j, s in enumerate(starts)
                if s <= at < s + size
            ]
            inside = [j for j, s in enumerate(starts) if s <= at < s + size]
            assert room[inside.index(w)] == max(room)


def test_a_word_without_pieces_is_outside(loaded):
    model, tokenizer = loaded("bert").model, loaded("bert").processor
    encoded = TASK.encode(as_table([["happy", "\u200b", "", "day"]]), tokenizer)
    assert encoded.units[0].tolist() == [1, -1, -1, 2]
    batch = TASK.collator(tokenizer)([encoded[0]])
    assert (batch["labels"] != -100).sum() == 2
    from hftl.training.features import predict_logits

    logits = predict_logits(model, encoded, TASK.collator(tokenizer), use_cpu=True)
    (answer,) = TASK.output.answers(logits, LABELS)
    assert answer.tags[1:3] == ["O", "O"]
    assert answered([[None, None]], 2, 1) == [[-1, -1]]


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "modernbert"])
def test_words_have_the_pieces_that_they_have_in_a_text(family, loaded, tmp_path):
    tokenizer = loaded(family).processor
    tokenizer.save_pretrained(tmp_path)
    saved = transformers.AutoTokenizer.from_pretrained(tmp_path)
    words = ["happy", "day", "sunny", "xq"]
    encoded = WORDS.encode(as_table([words]), tokenizer)
    assert encoded["input_ids"][0].tolist() == saved(" ".join(words))["input_ids"]


def test_rows_can_be_taken(loaded):
    tokenizer = loaded("bert").processor
    rows = sentences(5, long=2)
    table = as_table([row["tokens"] for row in rows])
    table = table.add_column("label", [[LABELS.index(tag) for tag in row["tags"]] for row in rows])
    encoded = TASK.encode(table, tokenizer)
    for order in ([3, 0, 4], [1], [4, 3, 2, 1, 0]):
        some, direct = encoded.take(order), TASK.encode(table.select(order), tokenizer)
        assert some.fingerprint() == direct.fingerprint()
        assert np.array_equal(some.targets.values, direct.targets.values)
        for a, b in zip(some, direct, strict=True):
            assert np.array_equal(a["labels"], b["labels"])
    found = np.arange(len(encoded.targets.values))
    assert np.array_equal(encoded.by_window(encoded.by_row(found)).values, found)


def test_a_slow_tokenizer_is_refused(loaded):
    class Slow:
        def __getattr__(self, name):
            return getattr(loaded("bert").processor, name)

        def __len__(self):
            return len(loaded("bert").processor)

        is_fast = False

    with pytest.raises(ModelError, match="slow tokenizer"):
        WORDS.check(loaded("bert").model, Slow(), "old")


def test_predict_takes_texts_and_words():
    table = as_table(["Ada, hi", ["Ada", ",", "hi"]])
    assert isinstance(table, Dataset)
    assert table["words"][0] == table["words"][1] == ["Ada", ",", "hi"]
    assert (table["starts"][0], table["starts"][1]) == ([0, 3, 5], [0, 4, 6])
