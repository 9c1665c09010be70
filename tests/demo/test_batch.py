"""Many inputs at once: columns, limits, rows that cannot be read, and the CSV."""

import csv
import json
from dataclasses import replace

import pytest

from hftl.demo import served
from hftl.demo.batch import _summary, classify, write_csv
from hftl.demo.served import MAX_CHARACTERS, Served, text_columns
from hftl.errors import DataError
from hftl.predict import load
from hftl.run_data import open_artifact
from tests.demo.setups import bomb, image_run, picture, text_run


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    artifact = open_artifact(text_run(tmp_path_factory.mktemp("texts") / "run"))
    return Served(artifact, load(artifact.folder))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    artifact = open_artifact(image_run(tmp_path_factory.mktemp("images") / "run"))
    return Served(artifact, load(artifact.folder))


def nothing(done: int, total: int) -> None:
    pass


def table(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def test_equals_predict_in_order(texts, tmp_path):
    inputs = [f"sad day {'walk ' * (i % 7)}{i}" for i in range(150)]
    path = table(tmp_path / "new.csv", [("id", "body"), *enumerate(inputs)])
    steps = []
    rows, notes = classify(texts, path, None, lambda done, total: steps.append((done, total)))
    expected = texts.predictor.predict(inputs)
    assert [row.input for row in rows] == inputs
    assert [row.prediction for row in rows] == [p.label for p in expected]
    assert [row.probability for row in rows] == pytest.approx([p.probability for p in expected], abs=1e-6)
    assert steps == [*((done, 150) for done in range(16, 150, 16)), (150, 150)]
    assert notes == []


def test_columns_are_found_or_chosen(texts, tmp_path):
    path = table(tmp_path / "new.csv", [("id", "review", "note"), ("1", "happy smile", "sad tears")])
    assert text_columns(path, texts.predictor) == (["id", "review", "note"], "review")
    assert classify(texts, path, None, nothing)[0][0].input == "happy smile"
    assert classify(texts, path, "note", nothing)[0][0].input == "sad tears"
    with pytest.raises(DataError, match="no column 'gone'"):
        classify(texts, path, "gone", nothing)
    numbers = table(tmp_path / "numbers.csv", [("a", "b"), ("1", "2")])
    assert text_columns(numbers, texts.predictor) == (["a", "b"], None)


def test_the_column_that_the_run_learnt_from_is_read(tmp_path):
    run = text_run(tmp_path / "run")
    with (run / "config.yaml").open("a", encoding="utf-8") as file:
        file.write("text_column: body\n")
    served = Served(open_artifact(run), load(run))
    path = table(tmp_path / "new.csv", [("text", "body"), ("7", "happy smile")])
    assert text_columns(path, served.predictor) == (["text", "body"], "body")
    assert classify(served, path, None, nothing)[0][0].input == "happy smile"
    other = table(tmp_path / "other.csv", [("text", "x"), ("sad tears", "1")])
    assert classify(served, other, None, nothing)[0][0].input == "sad tears"


@pytest.mark.parametrize("kind", ["txt", "jsonl", "tsv"])
def test_kinds_of_files(texts, tmp_path, kind):
    path = tmp_path / f"new.{kind}"
    lines = {
        "txt": "happy smile\n\nsad tears\n",
        "jsonl": "".join(json.dumps({"text": t}) + "\n" for t in ("happy smile", "sad tears")),
        "tsv": "text\tx\nhappy smile\t1\nsad tears\t2\n",
    }
    path.write_text(lines[kind], encoding="utf-8")
    assert [row.input for row in classify(texts, path, None, nothing)[0]] == ["happy smile", "sad tears"]


def test_rows_without_a_text_stay_in_place(texts, tmp_path):
    path = table(
        tmp_path / "new.csv", [("text", "x"), ("happy", 1), ("", 2), ("a" * (MAX_CHARACTERS + 1), 3), ("sad", 4)]
    )
    rows, notes = classify(texts, path, None, nothing)
    assert [bool(row.prediction) for row in rows] == [True, False, False, True]
    assert notes[0].startswith("Without a prediction: 2 texts. The first: number 2 (empty).")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"text,x\n,1\n", "None of the 1 texts"),
        ("a.csv", "text,x\nhé,1\n".encode("latin-1"), "not in UTF-8"),
        ("a.txt", "h\xe9".encode("latin-1"), "not in UTF-8"),
        ("a.txt", b"\n \n", "has no rows"),
        ("a.json", b"{", "cannot be parsed"),
        ("a.parquet", b"PAR", "cannot be parsed"),
    ],
)
def test_files_that_are_refused(texts, tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        classify(texts, path, None, nothing)


def test_limits(texts, images, tmp_path, monkeypatch):
    monkeypatch.setattr(served, "BOXES", {name: replace(box, most=3) for name, box in served.BOXES.items()})
    path = tmp_path / "new.txt"
    path.write_text("sad\n" * 5, encoding="utf-8")
    rows, notes = classify(texts, path, None, nothing)
    assert len(rows) == 3
    assert notes[0].startswith("There are 5 texts; the first 3 were answered.")
    rows, notes = classify(images, [str(picture(tmp_path / f"{i}.png")) for i in range(4)], None, nothing)
    assert len(rows) == 3
    assert "4 images; the first 3" in notes[0]


def test_images_broken_ones_too(images, tmp_path):
    fake = tmp_path / "fake.jpg"
    fake.write_text("nothing", encoding="utf-8")
    paths = [picture(tmp_path / "a.png", 0), fake, bomb(tmp_path / "bomb.png"), picture(tmp_path / "b.png", 1)]
    rows, notes = classify(images, [str(path) for path in paths], None, nothing)
    expected = images.predictor.predict([paths[0], paths[3]])
    assert [row.prediction for row in rows] == [expected[0].label, "", "", expected[1].label]
    assert "2 images. The first: number 2 (fake.jpg). This is not an image" in notes[0]
    with pytest.raises(DataError, match="None of the 1 images"):
        classify(images, [str(fake)], None, nothing)


def test_images_have_thumbnails_and_columns_their_names(images, texts, tmp_path):
    paths = [str(picture(tmp_path / f"{i}.png", i)) for i in range(2)]
    rows, notes = classify(images, paths, None, nothing)
    shown = _summary(images, rows, notes)
    assert shown.count('<img src="data:image/webp;base64,') == 2
    header, cells = ("text", "prediction", "hftl_prediction"), ("happy", "mine", "mine too")
    path = table(tmp_path / "new.csv", [header, cells])
    rows, _ = classify(texts, path, None, nothing)
    write_csv(tmp_path / "out.csv", rows)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert [row[name] for name in header] == [*cells]
    assert row["hftl_hftl_prediction"] == rows[0].prediction


def test_csv_runs_no_formula(texts, tmp_path):
    inputs = ["=1+1", "+a", "-b(1)", "@x", "\tx", "-1", "+49 30 1234", 'plain, "quoted"']
    path = table(tmp_path / "new.csv", [("text", "n"), *((text, i) for i, text in enumerate(inputs))])
    rows, _ = classify(texts, path, "text", nothing)
    out = tmp_path / "out.csv"
    write_csv(out, rows)
    with out.open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == ["text", "n", "prediction", "probability", "not_sure"]
    assert [row["n"] for row in read] == list(map(str, range(len(inputs))))  # the user's own columns are kept
    assert [row["text"] for row in read] == [*("'" + text for text in inputs[:5]), *inputs[5:]]
    assert [float(row["probability"]) for row in read] == pytest.approx([r.probability for r in rows], abs=1e-6)
    assert {row["not_sure"] for row in read} == {"true"}
