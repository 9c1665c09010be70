"""A corrected or cleaned copy is the file as it was, but for what was corrected: comments, line ends, the forms of annotators."""

import copy
import json

import pytest

from hftl.doctor import doctor
from tests.doctor.test_relabel import corrected, values


CONLL = [
    "-DOCSTART- -X- O", "", "# sent_id = 1", "# text = Ada sings", "Ada\tNNP \tB-PER", "sings\tVBZ\tO ", "",
    "", "-DOCSTART- -X- O", "", "# sent_id = 2", "in\tIN\tO", "Rome\tNNP\tB-LOC", " ", "#\tSYM\tO", "Bo\tNNP\tO",
]  # fmt: skip


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_conll_keeps_comments_breaks_and_columns(tmp_path, end, mark):
    data = tmp_path / "news.conll"
    data.write_bytes(mark + end.join(CONLL).encode())
    out = corrected(data, 0, "Ada [sings](LOC)", tmp_path / "out")
    expected = [*CONLL]
    expected[4:6] = ["Ada\tNNP \tO", "sings\tVBZ\tB-LOC "]
    assert (out / "train.conll").read_bytes() == mark + end.join(expected).encode()
    out = corrected(data, 2, "# [Bo](PER)", tmp_path / "last")
    assert (out / "train.conll").read_bytes() == mark + end.join([*CONLL[:-1], "Bo\tNNP\tB-PER"]).encode()


def test_what_is_removed_of_conll_takes_its_comments_along(tmp_path):
    data = tmp_path / "news.conll"
    again = ["# sent_id = 3", "Ada  NNP\u00a0 B-PER", "", "# sent_id = 4", "Bo NNP B-PER", ""]
    lines = ["-DOCSTART- -X- O", "", *again[:3], "# again", again[1], "", "", "-DOCSTART- -X- O", "", *again[3:]]
    data.write_text("\n".join(lines))
    doctor(data, fix=tmp_path / "out")
    left = [*lines[:5], *lines[9:]]
    assert (tmp_path / "out" / "train.conll").read_text() == "\n".join(left)


LINE, OTHER = "Ada saw Rome", "Bo is in Oslo"
NEW = "[Bo](PER) is in [Oslo](LOC)"


def result(number: str, start: int, end: int, label: str, text: str) -> dict:
    value = {"start": start, "end": end, "text": text, "labels": [label]}
    return {"id": number, "from_name": "ner", "to_name": "text", "type": "labels", "value": value}


FIRST = [result("a", 0, 3, "PER", "Ada"), result("b", 8, 12, "LOC", "Rome")]
TIE = {"type": "relation", "from_id": "d", "to_id": "c"}


def task(number: int, text: str, results: list[dict]) -> dict:
    cut = {"id": 7, "was_cancelled": True, "result": []}
    done = {"id": 8, "was_cancelled": False, "completed_by": 2, "result": results}
    return {"id": number, "data": {"text": text, "url": "x"}, "annotations": [cut, done], "meta": {}, "total": 1}


BO, IS = result("c", 0, 2, "PER", "Bo"), result("d", 3, 5, "LOC", "is")
FORMS = {  # the two records, and the second one put right
    "label studio": (
        [task(1, LINE, FIRST), task(2, OTHER, [BO, IS, TIE])],
        task(2, OTHER, [BO, result("hftl-0", 9, 13, "LOC", "Oslo")]),
    ),
    "doccano": (
        [{"id": 1, "text": LINE, "label": [[0, 3, "PER"], [8, 12, "LOC"]], "Comments": []},
         {"id": 2, "text": OTHER, "label": [[0, 2, "PER"]], "Comments": ["x"]}],
        {"id": 2, "text": OTHER, "label": [[0, 2, "PER"], [9, 13, "LOC"]], "Comments": ["x"]},
    ),
    "spacy": (
        [[LINE, {"entities": [[0, 3, "PER"], [8, 12, "LOC"]]}], [OTHER, {"entities": []}]],
        [OTHER, {"entities": [[0, 2, "PER"], [9, 13, "LOC"]]}],
    ),
    "dataturks": (
        [{"content": LINE, "annotation": [{"label": ["PER"], "points": [{"start": 0, "end": 2, "text": "Ada"}]},
                                          {"label": ["LOC"], "points": [{"start": 8, "end": 11, "text": "Rome"}]}], "extras": None},
         {"content": OTHER, "annotation": [{"label": ["LOC"], "points": [{"start": 3, "end": 4, "text": "is"}]}], "extras": 1}],
        {"content": OTHER, "annotation": [{"label": ["PER"], "points": [{"start": 0, "end": 1, "text": "Bo"}]},
                                          {"label": ["LOC"], "points": [{"start": 9, "end": 12, "text": "Oslo"}]}], "extras": 1},
    ),
    "json-min": (
        [{"id": 1, "text": LINE, "label": [one["value"] for one in FIRST], "annotator": 1},
         {"id": 2, "text": OTHER, "label": [BO["value"]]}],
        {"id": 2, "text": OTHER, "label": [BO["value"], {"start": 9, "end": 13, "text": "Oslo", "labels": ["LOC"]}]},
    ),
    "dicts": (
        [{"text": LINE, "entities": [{"start": 0, "end": 3, "label": "PER", "by": "x"}, {"start": 8, "end": 12, "label": "LOC"}]},
         {"text": OTHER, "more": {"a": [1]}, "entities": [{"start": 0, "end": 2, "label": "PER"}]}],
        {"text": OTHER, "more": {"a": [1]}, "entities": [{"start": 0, "end": 2, "label": "PER"}, {"start": 9, "end": 13, "label": "LOC"}]},
    ),
}  # fmt: skip
WAYS = {
    "lines": (".jsonl", lambda rows: "".join(f"{json.dumps(row)}\n" for row in rows)),
    "list": (".json", lambda rows: f"{json.dumps(rows, indent=2)}\n"),
    "dict": (".json", lambda rows: f"{json.dumps({'classes': ['PER', 'LOC'], 'annotations': rows}, indent=4)}\n"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", FORMS)
def test_the_forms_of_annotators_stay(tmp_path, form, way):
    (first, second), right = copy.deepcopy(FORMS[form])
    suffix, write = WAYS[way]
    data = tmp_path / f"news{suffix}"
    data.write_text(write([first, second]))
    out = corrected(data, 1, NEW, tmp_path / "out")
    assert (out / f"train{suffix}").read_text() == write([first, right])
    tags = values(out)
    assert tags == [("B-PER", "O", "B-LOC"), ("B-PER", "O", "O", "B-LOC")]
    assert tags[0] == values(data)[0]
    data.write_text(write([first, second, first]))
    doctor(data, fix=tmp_path / "clean")
    assert (tmp_path / "clean" / f"train{suffix}").read_text() == write([first, second])


def test_choices_of_label_studio_stay(tmp_path):
    def chosen(number: int, choices: list[str]) -> dict:
        value = {"value": {"choices": choices}, "from_name": "topic", "to_name": "text", "type": "choices", "id": "q"}
        return task(number, f"so {number}", [value])

    rows = [chosen(1, ["up"]), chosen(2, ["down"]), chosen(3, ["up"])]
    data = tmp_path / "topics.json"
    data.write_text(json.dumps(rows))
    out = corrected(data, 2, "down", tmp_path / "out")
    assert json.loads((out / "train.json").read_text()) == [*rows[:2], chosen(3, ["down"])]
    data.write_text(json.dumps([*rows[:2], chosen(3, ["down", "up"])]))
    out = corrected(data, 0, "down, up", tmp_path / "sets")
    assert json.loads((out / "train.json").read_text())[0] == chosen(1, ["down", "up"])


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ('text;label;n\r\n"a; b";x;007\r\n"Gr\u00fc\u00dfe\r\nzwei";y;\r\n"drei";x;NA\r\n', "utf-8-sig"),
        ("text\tlabel\tn\n\na\tx\t1\n\n'b'\ty\t2\nc\tx\t3", "utf-8"),
        ("text,label,n\na,x,1\nb,y,2\nc,x,3\n", "utf-16"),
    ],
)
def test_csv_keeps_its_separator_its_line_ends_and_its_encoding(tmp_path, text, encoding):
    data = tmp_path / "moods.csv"
    data.write_bytes(text.encode(encoding))
    out = corrected(data, 1, "x", tmp_path / "out")
    right = text.replace("y", "x").encode(encoding)
    whole = right if text.endswith("\n") else right + b"\n"
    assert (out / "train.csv").read_bytes() == (whole if encoding != "utf-8" else whole.replace(b"\n\n", b"\n"))
    data.write_bytes((text + "\n" * (not text.endswith("\n")) + text.splitlines(keepends=True)[-1]).encode(encoding))
    doctor(data, fix=tmp_path / "clean")
    assert values(tmp_path / "clean") == [*values(out)[:1], "y", *values(out)[2:]]
    assert (tmp_path / "clean" / "train.csv").read_bytes().decode(encoding).count("\r") == text.count("\r")
