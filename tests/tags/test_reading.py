"""Words and tags as they come: CoNLL, spans, lists; every scheme; and what is refused."""

import json
import re

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from hftl.config import build_config
from hftl.data.load import load_rows, load_task
from hftl.data.words import split_words
from hftl.errors import DataError
from hftl.tasks import get_task
from hftl.tasks.outputs.tag_schemes import in_bio, scheme_of
from tests.command import hftl, write_csv
from tests.tags.sentences import sentences


def read(data, **flags):
    return load_task("token-classification", build_config("token-classification", {"data": data, **flags}).data)[1]


def rows_of(splits, split="train"):
    table = getattr(splits, split)
    return [(row["words"], [splits.labels[i] for i in row["label"]]) for row in table]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ada lives in Paris.", ["Ada", "lives", "in", "Paris", "."]),
        ("  it's 3.5%\n(né Müller)", ["it", "'", "s", "3", ".", "5", "%", "(", "né", "Müller", ")"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("我在北京", ["我", "在", "北", "京"]),
        ("ab\u200bcd e\u0301t snake_case", ["ab", "cd", "e\u0301t", "snake_case"]),
        ("", []),
    ],
)
def test_words_of_a_text(text, words):
    found, starts = split_words(text)
    assert found == words
    assert [text[start : start + len(word)] for word, start in zip(found, starts, strict=True)] == words


CONLL = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
German JJ B-NP B-MISC
call NN I-NP O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""


def test_conll(tmp_path):
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.txt").write_text(CONLL)
    splits = read(tmp_path)
    assert splits.labels == ("O", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER")
    assert rows_of(splits)[1] == (["Peter", "Blackburn"], ["B-PER", "I-PER"])
    assert "BIO" in splits.warnings[0]
    (tmp_path / "two.conll").write_text("# id = 3\nAda\tB-PER\n#\tO\n\n\nin\tO\n\n" * 20)
    assert rows_of(read(tmp_path / "two.conll"))[0] in [(["Ada", "#"], ["B-PER", "O"]), (["in"], ["O"])]
    (tmp_path / "bad.conll").write_text("Ada B-PER\nlives\n")
    with pytest.raises(DataError, match=r"bad\.conll, line 2: 'lives' has 1 column"):
        read(tmp_path / "bad.conll")


SPANS = [
    {"text": "Ada Lovelace lived in London.", "entities": [{"start": 0, "end": 12, "label": "PER"}, {"start": 22, "end": 28, "label": "LOC"}]},
    {"text": "NewYork-based", "entities": [{"start": 0, "end": 7, "label": "LOC"}]},
    {"text": "antibodies", "entities": [{"start": 4, "end": 10, "label": "PER"}]},
    {"text": "nobody\there", "entities": []},
]  # fmt: skip


def test_spans_become_tags(tmp_path):
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in SPANS * 8))
    found = rows_of(read(tmp_path / "s.jsonl"))
    assert (["Ada", "Lovelace", "lived", "in", "London", "."], ["B-PER", "I-PER", "O", "O", "B-LOC", "O"]) in found
    assert (["anti", "bodies"], ["O", "B-PER"]) in found  # a span that begins inside a word splits it
    doccano = [
        {"text": row["text"], "label": [[*map(span.get, ("start", "end", "label"))] for span in row["entities"]]}
        for row in SPANS[:3] * 8
    ]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in doccano))
    assert (["NewYork", "-", "based"], ["B-LOC", "O", "O"]) in rows_of(read(tmp_path / "d.jsonl"))


@pytest.mark.parametrize(
    ("spans", "says"),
    [
        (
            [{"start": 3, "end": 40, "label": "A"}],
            "row 0 (counted from 0): the span 3 to 40 (A) lies outside of a text of 8",
        ),
        ([{"start": 0, "end": 4, "label": "A"}, {"start": 2, "end": 8, "label": "B"}], "overlaps the one before it"),
        ([{"start": 4, "end": 5, "label": "A"}], "holds no word"),
        ([{"begin": 4, "end": 5}], "is no span"),
    ],
)
def test_spans_that_mark_nothing(spans, says, tmp_path):
    (tmp_path / "s.json").write_text(json.dumps([{"text": "some one", "entities": spans}]))
    with pytest.raises(DataError, match=re.escape(says)):
        read(tmp_path / "s.json")


@pytest.mark.parametrize(
    ("tags", "bio"),
    [
        ("I-A I-A B-A O I-B", "B-A I-A B-A O B-B"),  # IOB1
        ("B-A E-A S-B O B-A I-A E-A S-A", "B-A I-A B-B O B-A I-A I-A B-A"),  # BIOES
        ("U-A B-A L-A", "B-A B-A I-A"),  # BILOU
        ("B-A I-B O", "B-A B-B O"),
        ("B-A I-A O B-A", "B-A I-A O B-A"),
    ],
)
def test_every_scheme_is_learnt_in_bio(tags, bio):
    assert " ".join(in_bio(tags.split())) == bio
    assert scheme_of(tags.split()) == ("BIOES" if {*tags} & {*"SUEL"} else "BIO")


def test_tags_without_letters_stay_as_they_are():
    rows = [{"words": ["a", "dog", "barks"], "upos": ["DET", "NOUN", "VERB"]}] * 20
    splits = read(Dataset.from_list(rows))
    assert splits.labels == ("DET", "NOUN", "VERB")
    assert "no B- or I-" in splits.warnings[0]


def test_lists_with_names_and_lists_as_text(tmp_path):
    names = ClassLabel(names=["O", "B-PER", "I-PER", "B-LOC"])
    features = Features({"tokens": List(Value("string")), "ner_tags": List(names)})
    rows = [{"tokens": ["Ada", "in", "Rome"], "ner_tags": [1, 0, 3]}] * 20
    splits = read(Dataset.from_list(rows, features=features))
    assert rows_of(splits)[0] == (["Ada", "in", "Rome"], ["B-PER", "O", "B-LOC"])
    csv = write_csv(
        tmp_path / "t.csv", [("['Ada', 'Lee']", "['B-PER', 'I-PER']"), ("in Rome", "O B-LOC")] * 10, ("tokens", "tags")
    )
    assert (["in", "Rome"], ["O", "B-LOC"]) in rows_of(read(csv))


def test_rare_types_are_in_every_split():
    rows = sentences(60) + [{"tokens": ["x", f"y{i}"], "tags": ["B-RARE", "O"]} for i in range(12)]
    splits = read(Dataset.from_list(rows), test_size=0.25)
    assert any("B-RARE" in tags for _, tags in rows_of(splits, "test"))


def parts(**rows):
    return DatasetDict({name: Dataset.from_list(part) for name, part in rows.items()})


GOOD = sentences(12)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (Dataset.from_list([*GOOD, {"tokens": ["a", "b"], "tags": ["O"]}]), "(1 with more or fewer tags than words): row 12 counted from 0"),
        (Dataset.from_list([{"tokens": ["a"], "tags": [1]}] * 9), "are numbers, and nothing says what they stand for"),
        (Dataset.from_list([{"tokens": ["a"], "tags": ["O"]}] * 9), "train holds no entities"),
        (parts(train=GOOD, test=[{"tokens": ["a"], "tags": ["B-NEW"]}]), "test holds the tag 'B-NEW' (1 row), which train lacks"),
        (Dataset.from_list([*GOOD, {"tokens": [], "tags": []}]), "(1 without words): row 12 counted from 0"),
        (Dataset.from_list([*GOOD, {"tokens": ["a", None], "tags": ["O", "O"]}]), "(1 with a word that is missing (null))"),
        (Dataset.from_list([*GOOD, {"tokens": ["a"], "tags": None}]), "(1 without label)"),
        (Dataset.from_list([{"tokens": ["a"], "tags": "O"}] * 3).rename_column("tokens", "strange"), "no sentence column found"),
    ],
)  # fmt: skip
def test_what_is_refused(data, says):
    with pytest.raises(DataError, match=re.escape(says)) as error:
        read(data)
    assert "\n" not in str(error.value)


def test_unknown_tags_at_evaluation():
    task = get_task("token-classification")
    config = build_config("token-classification", {"data": Dataset.from_list(GOOD)}).data
    rows = load_rows(task.inputs, config, ("O", *(f"{a}-T{k}" for k in range(3) for a in "BI")), task.output)
    assert len(rows.labels) == 12
    with pytest.raises(DataError, match=r"holds tags that the model does not know: 'B-T2'"):
        load_rows(task.inputs, config, ("O", "B-T0", "I-T0", "B-T1", "I-T1"), task.output)


@pytest.mark.parametrize("flags", [("--shots", 2), ("--class_weights", "balanced")])
def test_flags_of_classes_are_refused_in_a_line(flags, tmp_path, capsys):
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sentences(40)))
    done = hftl(
        capsys, "train", "token-classification", "--data", tmp_path / "d.jsonl", "--output_dir", tmp_path / "r", *flags
    )
    assert done.code == 2
    assert "types of entities" in done.err
    assert "one class" in done.err


def test_other_tasks_name_what_conll_is_for(tmp_path, capsys):
    (tmp_path / "d.conll").write_text(CONLL)
    done = hftl(capsys, "train", "text-classification", "--data", tmp_path / "d.conll", "--output_dir", tmp_path / "r")
    assert done.code == 2
    assert "token-classification" in done.err
