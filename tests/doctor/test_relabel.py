"""Labels put right: in every form in which files hold them, the copy has that form, and reads as the data did but there."""

import json
from pathlib import Path

import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from hftl.config import DataConfig
from hftl.data.settle import as_lists
from hftl.data.sources import read_source
from hftl.data.written import in_scheme
from hftl.doctor import doctor
from hftl.doctor.fix import relabel
from hftl.doctor.reading import open_source
from hftl.errors import DataError
from hftl.evaluation.span_scores import entities
from hftl.tasks import get_task
from hftl.tasks.outputs.tag_markup import marked_up, typed_tags
from hftl.tasks.outputs.tag_schemes import in_bio
from tests.tiny import tiny_images


NEW = "he saw [Ada Byron](PER) in [Rome](LOC)"
SENTENCES = [
    (["Ada", "Byron", "met", "Bo"], ["B-PER", "I-PER", "O", "B-PER"]),
    (["he", "saw", "Ada", "Byron", "in", "Rome"], ["O", "O", "B-PER", "O", "O", "O"]),
    (["Rome", "Paris", "and", "Oslo"], ["B-LOC", "B-LOC", "O", "B-LOC"]),
]
RIGHT = ("O", "O", "B-PER", "I-PER", "O", "B-LOC")


def corrected(data: Path, row: int, text: str, out: Path, task: str | None = None, **flags) -> Path:
    """The folder of a copy with one label put right."""
    relabel(open_source(str(data), task, DataConfig(data=str(data), **flags)), {("train", row): text}, out)
    return out


def values(data: Path, task: str | None = None, **flags) -> list:
    """The labels of train as a run reads them."""
    opened = open_source(str(data), task, DataConfig(data=str(data), **flags))
    name = opened.named["train"]
    table = as_lists(opened.source, opened.config).tables[name]
    return list(opened.task.output.read(table, opened.columns.label, name, None))


def spelled(scheme: str) -> list[list[str]]:
    return [in_scheme(tags, [_LIKE[scheme]]) for _, tags in SENTENCES]


_LIKE = {
    "BIO": ["B-A", "I-A"],
    "IOB1": ["I-A", "O", "I-A", "B-A"],
    "BIOES": ["S-A", "B-A", "I-A", "E-A"],
    "BILOU": ["U-A", "B-A", "I-A", "L-A"],
    "BMES": ["S-A", "B-A", "M-A", "E-A"],
}


def conll(path: Path, tags: list[list[str]], between: str, more: bool) -> Path:
    lines = ["-DOCSTART- -X- O" if more else "", ""]
    for (words, _), row in zip(SENTENCES, tags, strict=True):
        lines += [
            between.join([word, *([f"pos{len(word)}"] if more else []), tag])
            for word, tag in zip(words, row, strict=True)
        ]
        lines.append("")
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("scheme", _LIKE)
@pytest.mark.parametrize(("between", "more"), [(" ", True), ("\t", False)])
def test_conll_stays_conll(tmp_path, scheme, between, more):
    data = conll(tmp_path / "news.conll", spelled(scheme), between, more)
    before = data.read_bytes()
    copy = corrected(data, 1, NEW, tmp_path / "out") / "train.conll"
    assert data.read_bytes() == before
    right = [*spelled(scheme)]
    right[1] = in_scheme(RIGHT, [_LIKE[scheme]])
    assert copy.read_bytes() == conll(tmp_path / "expected.conll", right, between, more).read_bytes()
    assert values(tmp_path / "out") == [tuple(SENTENCES[0][1]), RIGHT, tuple(SENTENCES[2][1])]


def test_schemes_come_back_as_bio():
    for tags in (RIGHT, *(tuple(tags) for _, tags in SENTENCES)):
        for like in _LIKE.values():
            assert in_bio(in_scheme(tags, [like])) == tags
    assert in_scheme(RIGHT, [_LIKE["BIOES"]]) == ["O", "O", "B-PER", "E-PER", "O", "S-LOC"]
    assert in_scheme(("B-X", "B-X", "I-X"), [_LIKE["IOB1"]]) == ["I-X", "B-X", "I-X"]
    assert in_scheme(("B-X", "O"), [["B_Y", "O"]]) == ["B_X", "O"]


def span(row: int, *keys: str, inclusive: int = 0, several: bool = False, **more) -> list[dict]:
    """The spans of a sentence whose words have a space between them."""
    words, tags = SENTENCES[row]
    starts = [sum(len(word) + 1 for word in words[:i]) for i in range(len(words))]
    made = []
    for kind, first, last in entities(tags):
        ends = starts[last] + len(words[last]) - inclusive
        made.append(dict(zip(keys, (starts[first], ends, [kind] if several else kind), strict=True)) | more)
    return made


@pytest.mark.parametrize(
    ("keys", "inclusive", "several", "more"),
    [
        (("start", "end", "label"), 0, False, {"by": "ann"}),
        (("start_offset", "end_offset", "label"), 1, False, {}),
        (("start", "end", "labels"), 0, True, {}),
    ],
)
def test_spans_stay_spans(tmp_path, keys, inclusive, several, more):
    rows = [{"id": i, "text": " ".join(words), "entities": span(i, *keys, inclusive=inclusive, several=several, **more)}
            for i, (words, _) in enumerate(SENTENCES)]  # fmt: skip
    data = tmp_path / "news.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    out = corrected(data, 1, NEW, tmp_path / "out")
    copy = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    start, end, label = keys
    kinds = [["PER"], ["LOC"]] if several else ["PER", "LOC"]
    right = [
        {start: 7, end: 16 - inclusive, label: kinds[0]},
        {start: 20, end: 24 - inclusive, label: kinds[1]},
    ]
    assert copy == [rows[0], rows[1] | {"entities": right}, rows[2]]
    assert values(out) == [tuple(SENTENCES[0][1]), RIGHT, tuple(SENTENCES[2][1])]
    out = corrected(data, 2, "[Rome](LOC) Paris and [Oslo](LOC)", tmp_path / "again")
    copy = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    assert copy[2]["entities"] == [rows[2]["entities"][0], rows[2]["entities"][2]], "a span that stays keeps its keys"


def test_lists_of_tags_stay_lists(tmp_path):
    rows = [{"tokens": words, "ner_tags": tags} for words, tags in SENTENCES]
    data = tmp_path / "news.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    out = corrected(data, 1, NEW, tmp_path / "out")
    copy = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    assert copy == [rows[0], rows[1] | {"ner_tags": list(RIGHT)}, rows[2]]
    names = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    features = Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=names))})
    coded = {
        "tokens": [w for w, _ in SENTENCES],
        "ner_tags": [[names.index(t) for t in tags] for _, tags in SENTENCES],
    }
    Dataset.from_dict(coded, features=features).to_parquet(str(tmp_path / "news.parquet"))
    out = corrected(tmp_path / "news.parquet", 1, NEW, tmp_path / "coded")
    table = read_source(str(out), "sentence").tables["train"]
    assert table.features["ner_tags"] == features["ner_tags"]
    assert [names[i] for i in table["ner_tags"][1]] == list(RIGHT)


@pytest.mark.parametrize("form", ["number", "first", "blank", "python", "json", "spaces"])
def test_tags_in_csv_stay_as_they_are_written(tmp_path, form):
    data, outside = tmp_path / "news.csv", "" if form == "number" else "O"
    cells = [[tag if tag != "O" else outside for tag in tags] for _, tags in SENTENCES]
    if form in ("number", "first", "blank"):
        lines = ["n,sentence_id,word,tag" if form != "blank" else "word,tag"]
        for i, (words, _) in enumerate(SENTENCES):
            for j, word in enumerate(words):
                number = f"7,{'' if form == 'first' and j else i}," if form != "blank" else ""
                lines.append(f"{number}{word},{cells[i][j]}")
            lines += [""] * (form == "blank")
        data.write_text("\n".join(lines) + "\n")
    else:
        write = {"python": str, "json": json.dumps, "spaces": " ".join}[form]
        pd.DataFrame({"words": [write(w) for w, _ in SENTENCES], "tags": [write(t) for t in cells]}).to_csv(
            data, index=False
        )
    out = corrected(data, 1, NEW, tmp_path / "out", "token-classification")
    old, new = (
        [line for line in path.read_text().splitlines() if line.strip(",")] for path in (data, out / "train.csv")
    )
    changed = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    assert len(changed) == (2 if form in ("number", "first", "blank") else 1)
    assert values(out, "token-classification") == [tuple(SENTENCES[0][1]), RIGHT, tuple(SENTENCES[2][1])]


def test_what_the_doctor_leaves_of_sentences_keeps_their_format(tmp_path):
    path, lines = (
        tmp_path / "news.conll",
        ["".join(f"{w} x {t}\n" for w, t in zip(*row, strict=True)) for row in SENTENCES],
    )
    path.write_text("\n".join([*lines, lines[0]]))
    doctor(path, fix=tmp_path / "out")
    text = (tmp_path / "out" / "train.conll").read_text()
    assert text == "".join(f"{one}\n" for one in lines)


# ---------------------------------------------------------------------------------------------- what people type


def test_marked_text_is_read_back():
    names = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
    words = ["[", "Ada", "]", "(", "x", ")", "Byron", "[sic]", "in", "Rome"]
    for tags in (
        ["O"] * 10,
        ["B-PER", "I-PER", "I-PER"] + ["O"] * 6 + ["B-LOC"],
        ["B-PER", "B-PER", "B-PER", "O", "O", "O", "B-LOC", "I-LOC", "O", "O"],
    ):
        text = marked_up([names.index(tag) for tag in tags], names, words)
        assert typed_tags(text, names, words) == tuple(tags)
    assert marked_up([1, 2, 0, 3], names, ["Ada", "Byron", "in", "Rome"]) == "[Ada Byron](PER) in [Rome](LOC)"
    assert typed_tags("[a](NOUN) [b](VERB) [c](VERB)", ("NOUN", "VERB"), ["a", "b", "c"]) == ("NOUN", "VERB", "VERB")
    assert typed_tags("[a b](X) \n c", ("B-X", "I-X", "O"), ["a", "\xa0", "b", "c"])[:1] == ("B-X",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[he](PRS) runs", "no type of entity 'PRS': they have 'LOC', 'PER'. Did you mean 'PER'?"),
        ("[he runs away](PER)", "'away](PER)' is not in the row there: the row ends before it"),
        ("[she](PER) runs", "'she](PER)' is not in the row there: the row goes on with 'he'"),
        ("he", "the row goes on with 'runs'"),
        ("", "the row goes on with 'he'"),
        ("[he runs", "a mark is not closed"),
        ("[](PER) he runs", "holds no word"),
        ("[[he](PER) runs](LOC)", "is not in the row there"),
        ("[he](PER runs", "is not in the row there"),
    ],
)  # fmt: skip
def test_a_wrong_mark_is_refused_in_a_line(text, says):
    with pytest.raises(DataError) as refused:
        typed_tags(text, ("O", "B-PER", "I-PER", "B-LOC", "I-LOC"), ["he", "runs"])
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("problem", "text", "says"),
    [
        ("single_label_classification", "blu", "no class 'blu': they have 'blue', 'red'. Did you mean 'blue'?"),
        ("multi_label_classification", "red, blu", "no label 'blu'"),
        ("multi_label_classification", " , ", "no label was given: write 'no label'"),
        ("regression", "1,5", "'1,5' is not a number"),
        ("regression", "nan", "'nan' is not a number"),
        ("regression", "", "'' is not a number"),
    ],
)
def test_a_wrong_label_is_refused_in_a_line(problem, text, says):
    with pytest.raises(DataError) as refused:
        get_task("text-classification", problem).output.typed(text, ("blue", "red"), "a text")
    assert says in str(refused.value)


# ------------------------------------------------------------------------------------- several labels, and numbers


SETS = [["red"], ["blue", "red"], [], ["blue"]]
FORMS = {  # what the columns of a table hold for the sets above, the flags by which it is read, and for {"red", "blue"}
    "lists": ({"labels": SETS}, {}, ["red", "blue"]),
    "texts": ({"labels": [str(one) for one in SETS]}, {}, "['red', 'blue']"),
    "separated": ({"labels": ["|".join(one) for one in SETS]}, {"label_separator": "|"}, "red|blue"),
    "ticks": ({"red": [1, 1, 0, 0], "blue": [0, 1, 0, 1]}, {"label_columns": ("red", "blue")}, [1, 1]),
    "words": ({"red": ["True", "True", "False", "False"], "blue": ["False", "True", "False", "True"]},
              {"label_columns": ("red", "blue")}, ["True", "True"]),
    "coded": ({"labels": [[1, 0], [1, 1], [0, 0], [0, 1]]}, {}, [1, 1]),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pictures", [False, True])
def test_sets_of_labels_keep_their_form(tmp_path, form, pictures):
    columns, flags, cell = FORMS[form]
    new, names = ("LABEL_0, LABEL_1", ("LABEL_0", "LABEL_1")) if form == "coded" else ("red, blue", ("red", "blue"))
    if pictures:
        folder = tmp_path / "in"
        images = [path.relative_to(folder).as_posix() for path in sorted(tiny_images(folder).rglob("*.png"))[:4]]
        data, kept = folder, {"file_name": images, "by": ["ann", "bo", "ann", "bo"]}
        path = folder / "metadata.jsonl"
    else:
        kept, path = {"text": ["one", "two", "three", "four"], "by": ["ann", "bo", "ann", "bo"]}, tmp_path / "in.jsonl"
        data = path
    pd.DataFrame(kept | columns).to_json(path, orient="records", lines=True)
    before = values(data, **flags)
    out = corrected(data, 0, new, tmp_path / "out", **flags)
    after = values(out, **flags)
    assert {*after[0]} == {*names}
    assert after[1:] == before[1:]
    written = next(
        path for path in sorted(out.rglob("*")) if path.name in ("metadata.jsonl", "metadata.csv", "train.jsonl")
    )
    rows = pd.read_json(written, lines=True) if written.suffix == ".jsonl" else pd.read_csv(written, dtype=object)
    got = [rows[name][0] for name in columns]
    assert list(map(str, got)) == list(map(str, cell if len(columns) > 1 else [cell]))
    assert list(rows["by"]) == kept["by"]
    again = corrected(out, 1, "no label", tmp_path / "none", **flags)
    assert values(again, **flags)[1] == ()


@pytest.mark.parametrize(
    ("cells", "text", "cell"),
    [
        (["$1,234.50", "$7.25", "$9.99", "$3.10"], "2000.5", "$2000.5"),
        (["1.234,50 €", "7,25 €", "9,99 €", "3,10 €"], "2000.5", "2000,5 €"),
        (["12.5", "7.25", "9.99", "3"], "-3", "-3"),
        ([12.5, 7.25, 9.99, 3.0], "4", 4.0),
        ([12, 7, 9, 3], "4", 4),
    ],
)
@pytest.mark.parametrize("pictures", [False, True])
def test_numbers_are_written_as_the_others(tmp_path, cells, text, cell, pictures):
    flags = {"problem_type": "regression", "label_column": "price"}
    folder = tmp_path / "in"
    folder.mkdir()
    if pictures:
        kept = {
            "file_name": [
                path.relative_to(folder).as_posix() for path in sorted(tiny_images(folder).rglob("*.png"))[:4]
            ]
        }
        data = folder
        pd.DataFrame(kept | {"price": cells}).to_csv(folder / "metadata.csv", index=False)
    else:
        data = folder / "houses.jsonl"
        pd.DataFrame({"text": list("abcd"), "price": cells}).to_json(data, orient="records", lines=True)
    before = values(data, **flags)
    out = corrected(data, 1, text, tmp_path / "out", **flags)
    after = values(out, **flags)
    assert after == [before[0], float(text), *before[2:]]
    if not pictures:
        rows = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
        assert rows[1]["price"] == cell


def test_an_answer_that_the_column_cannot_hold_is_refused(tmp_path):
    data = tmp_path / "stars.jsonl"
    pd.DataFrame({"text": list("abcd"), "stars": [1, 2, 3, 4]}).to_json(data, orient="records", lines=True)
    flags = {"problem_type": "regression"}
    with pytest.raises(DataError, match=r"the column 'stars' cannot hold '2.5'"):
        corrected(data, 1, "2.5", tmp_path / "out", **flags)
    assert not (tmp_path / "out").exists()
    data = tmp_path / "topics.csv"  # a second column that might be the labels
    pd.DataFrame({"text": list("abcd"), "label": list("xyxy"), "mood": ["up", "down", "up", "down"]}).to_csv(
        data, index=False
    )
    out = corrected(data, 0, "down", tmp_path / "moods", label_column="mood")
    rows = pd.read_csv(out / "train.csv")
    assert list(rows["mood"]) == ["down", "down", "up", "down"]
    assert list(rows["label"]) == list("xyxy")
