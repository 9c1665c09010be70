"""Words and tags as they come: CoNLL, spans, lists; every scheme; and what is refused."""

import json
import re

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from hftl.config import DataConfig, build_config
from hftl.data.load import load_rows, load_task
from hftl.data.settle import find_task
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
    (tmp_path / "three.conll").write_text("Ada NNP B-PER\nlives VBZ O\n\n" * 20)
    assert rows_of(read(tmp_path / "three.conll", label_column="column_2"))[0] == (["Ada", "lives"], ["NNP", "VBZ"])
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
        ([{"start": 3, "end": 40, "label": "A"}], "the span 3 to 40 (A) lies outside of a text of 8 characters"),
        (
            [{"start": 0, "end": 4, "label": "A"}, {"start": 2, "end": 8, "label": "B"}],
            "the span 2 to 8 (B) overlaps the one before it",
        ),
        ([{"start": 4, "end": 5, "label": "A"}], "the span 4 to 5 (A) holds no word"),
        ([{"begin": 4, "end": 5}], "[4, 5] is no span: start, end and one label are needed"),
    ],
)
def test_spans_that_mark_nothing(spans, says, tmp_path, capsys):
    good = [{"text": f"Ada {i} sings", "entities": [{"start": 0, "end": 3, "label": "PER"}]} for i in range(20)]
    rows = [*good, {"text": "some one", "entities": spans}, *good, {"text": "some one", "entities": spans}]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError) as refused:
        read(tmp_path / "s.jsonl")
    assert f"2 of 42 rows cannot be used (2 with a span that cannot be read, such as {says}" in str(refused.value)
    assert "rows 20, 41 counted from 0 (rows 21, 42 of the file, line by line)" in str(refused.value)
    kept = read(tmp_path / "s.jsonl", skip_bad_rows=True)
    assert len(kept.train) + len(kept.validation) + len(kept.test) == 40
    assert hftl(capsys, "doctor", tmp_path / "s.jsonl", "--fix", tmp_path / "clean").code in (0, 1)
    assert len(read(tmp_path / "clean").train) > 0
    (tmp_path / "s.jsonl").write_text(json.dumps(rows[20]))
    with pytest.raises(DataError, match=r"row 0 .*span"):
        read(tmp_path / "s.jsonl")


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


WORDS = [("Ada", "B-PER"), ("lives", "O"), ("in", "O"), ("Rome", "B-LOC"), (".", "O")]


@pytest.mark.parametrize("form", ["first", "each", "blank"])
def test_a_csv_with_one_word_on_each_row(tmp_path, form):
    rows = []
    for i in range(20):
        rows += [
            (f"Sentence: {i}" if k == 0 or form == "each" else "", w, f"P{k}", t) for k, (w, t) in enumerate(WORDS)
        ]
        rows += [("", "", "", "")] * (form == "blank")
    header = ("Sentence #" if form != "blank" else "Nr", "Word", "POS", "Tag")
    rows = rows if form != "blank" else [("", *row[1:]) for row in rows]
    splits = read(write_csv(tmp_path / "ner.csv", rows, header))
    assert rows_of(splits)[0] == ([w for w, _ in WORDS], [t for _, t in WORDS])
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 20
    assert any("Every row holds one word" in line for line in splits.warnings)
    words = [row[:-1] for row in rows]
    task, config = (
        get_task("token-classification"),
        DataConfig(data=write_csv(tmp_path / "new.csv", words, header[:-1])),
    )
    assert form == "blank" or load_rows(task.inputs, config, None, task.output).inputs["words"][0] == [
        w for w, _ in WORDS
    ]
    assert form == "blank" or find_task(DataConfig(data=str(tmp_path / "ner.csv"))) == "token-classification"
    other = read(tmp_path / "ner.csv", label_column="POS") if form == "each" else None
    assert other is None or other.labels


def test_words_of_which_nothing_says_where_a_sentence_begins(tmp_path):
    csv = write_csv(tmp_path / "w.csv", WORDS * 9, ("word", "tag"))
    with pytest.raises(DataError, match="number the sentences in a column 'sentence_id'"):
        read(csv)
    csv = write_csv(
        tmp_path / "x.csv", [(i % 2, w, t) for i, (w, t) in enumerate(WORDS * 9)], ("sent_id", "word", "tag")
    )
    with pytest.raises(DataError, match="'sent_id' changes from word to word"):
        read(csv)
    (tmp_path / "b.csv").write_text("word,tag\n" + "Ada,B-PER\nsings,O\n\n" * 9)
    assert rows_of(read(tmp_path / "b.csv"))[0] == (["Ada", "sings"], ["B-PER", "O"])


def test_ends_that_are_inclusive(tmp_path):
    rows = [{"text": "Ada Lovelace lived in London.", "label": [[0, 11, "PER"], [22, 27, "LOC"]]}] * 9
    rows += [{"text": "I met Li U.", "label": [[6, 7, "PER"], [9, 9, "PER"]]}]
    splits = read(rows)
    assert (["Ada", "Lovelace", "lived", "in", "London", "."], ["B-PER", "I-PER", "O", "O", "B-LOC", "O"]) in rows_of(
        splits
    )
    assert any("ends of spans are inclusive" in line for line in splits.warnings)
    mixed = [*rows, {"text": "Ada Lovelace lived", "label": [[0, 12, "PER"]]}]
    with pytest.raises(DataError, match=r"the ends of 1 spans look exclusive \(train, row 10 .*those of 20 others"):
        read(mixed)
    suffixes = [{"text": "Wir leben in Romes Deutschlands", "label": [[13, 16, "LOC"], [19, 28, "LOC"]]}] * 9
    assert (["Wir", "leben", "in", "Rom", "es", "Deutschla", "nds"], [*"OOO", "B-LOC", "O", "B-LOC", "O"]) in rows_of(
        read(suffixes)
    )


@pytest.mark.parametrize(
    ("tags", "bio"),
    [
        ("b-per o o", "B-per O O"),
        ("B-PER 0 I-PER", "B-PER O B-PER"),
        (["B-PER", "", ""], "B-PER O O"),
        ("PER 0 0", "PER O O"),
    ],
)
def test_other_signs_of_no_entity(tags, bio):
    tags = tags.split() if isinstance(tags, str) else tags
    splits = read([{"tokens": ["a", "b", "c"], "tags": tags}] * 20)
    assert rows_of(splits)[0][1] == bio.split()
    assert any("read as O" in line for line in splits.warnings)
    columns = Features({"tokens": List(Value("string")), "tags": List(ClassLabel(names=sorted({*tags})))})
    named = Dataset.from_list([{"tokens": ["a", "b", "c"], "tags": tags}] * 20, features=columns)
    assert rows_of(read(named))[0][1] == bio.split()


def test_no_other_sign_where_it_may_be_a_tag():
    assert read([{"tokens": ["a", "b", "c"], "tags": ["0", "1", "0"]}] * 20).labels == ("0", "1")
    with pytest.raises(DataError, match="20 without label"):
        read([{"tokens": ["a", "b", "c"], "tags": ["B-PER", "", "O"]}] * 20 + GOOD)


LINE = "Ada Lovelace lived in London."
STUDIO = {
    "data": {"text": LINE},
    "annotations": [
        {"was_cancelled": True, "result": []},
        {"result": [{"value": {"start": a, "end": b, "labels": [k], "text": LINE[a:b]}, "type": "labels"} for a, b, k in ((0, 12, "PER"), (22, 28, "LOC"))]},
    ],
}  # fmt: skip
TOOLS = {
    "label studio": [STUDIO] * 20,
    "json-min": [{"id": 1, "text": LINE, "label": [one["value"] for one in STUDIO["annotations"][1]["result"]], "created_at": "today"}] * 20,
    "doccano": [{"data": LINE, "label": [[0, 12, "PER"], [22, 28, "LOC"]]}] * 20,
    "dataturks": [{"content": LINE, "annotation": [{"label": ["PER"], "points": [{"start": 0, "end": 11}]}, {"label": ["LOC"], "points": [{"start": 22, "end": 27}]}]}] * 20,
    "spacy": [[LINE, {"entities": [[0, 12, "PER"], [22, 28, "LOC"]]}]] * 20,
    "annotator": {"classes": ["PER", "LOC"], "annotations": [None, *[[LINE, {"entities": [[0, 12, "PER"], [22, 28, "LOC"]]}]] * 20]},
}  # fmt: skip


@pytest.mark.parametrize("tool", TOOLS)
def test_files_of_tools_for_annotation(tool, tmp_path):
    (tmp_path / "export.json").write_text(json.dumps(TOOLS[tool]))
    splits = read(tmp_path / "export.json")
    assert rows_of(splits)[0] == (
        ["Ada", "Lovelace", "lived", "in", "London", "."],
        ["B-PER", "I-PER", *"OO", "B-LOC", "O"],
    )
    assert find_task(DataConfig(data=str(tmp_path / "export.json"))) == "token-classification"


def test_tasks_of_label_studio_that_nobody_has_done(tmp_path):
    with pytest.raises(DataError, match="1 of 21 rows cannot be used"):
        read([*[STUDIO] * 20, {"data": {"text": "Ada"}, "annotations": []}])
    choice = (
        [{"value": {"choices": ["good"]}, "type": "choices"}],
        [{"value": {"choices": ["bad"]}, "type": "choices"}],
    )
    tasks = [{"data": {"text": f"so {i}"}, "annotations": [{"result": choice[i % 2]}]} for i in range(20)]
    task, splits = load_task("text-classification", build_config("text-classification", {"data": tasks}).data)
    assert (task.output.problem_type, splits.labels) == ("single_label_classification", ("bad", "good"))


def test_a_tag_that_is_in_no_scheme_is_named():
    rows = [{"tokens": ["a", "b", "c"], "tags": ["O", "B-X", "I-X"]} for _ in range(20)]
    rows[3]["tags"][1] = "Q-X"
    with pytest.raises(DataError, match=r"'Q-X' in 'tags' \(1 word\) cannot be read: the other tags have B- or I-"):
        load_task("token-classification", DataConfig(data=rows))
