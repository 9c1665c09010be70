"""Rows that cannot be used: all named at once where one learns or scores, answered with nothing where one predicts."""

import csv
import json
import logging

import pandas as pd
import pytest
from datasets import Dataset

from hftl.config import DataConfig
from hftl.data.load import load_splits
from hftl.errors import ConfigError, DataError
from hftl.predict import load
from hftl.predict_file import Wish, answers_for, evaluate_data, predict_data
from hftl.tasks.outputs.number import NUMBER
from tests.command import hftl, write_csv
from tests.small_data import frame, image_folder
from tests.tiny import build, tiny_images


LABELS = ("c0", "c1", "c2")


def spoilt(rows: int = 40) -> pd.DataFrame:
    """A label is missing in row 2, the text in 5 and 9; it is blank in 11, and row 7 has two lines."""
    table = frame(rows).astype(object)
    table.loc[2, "label"] = None
    table.loc[[5, 9], "text"] = None
    table.loc[11, "text"] = "  "
    table.loc[7, "text"] = 'two\nlines of "text", and a comma'
    return table


def told(data, kind="text", **options) -> str:
    with pytest.raises(DataError) as error:
        load_splits(kind, DataConfig(data=data, **options))
    return str(error.value)


SUMMARY = "4 of 40 rows cannot be used (1 without label, 2 without text, 1 empty): rows 2, 5, 9, 11 counted from 0"


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_rows_are_counted_as_a_spreadsheet_does(tmp_path, separator, blank, encoding):
    path = tmp_path / "my data.csv"
    head, *lines = spoilt().to_csv(index=False, sep=separator).split("\n")
    path.write_text("\n".join([head, *lines[:1], *[""] * blank, *lines[1:]]), encoding=encoding)
    numbers = ", ".join(str(row + 2 + blank) for row in (2, 5, 9, 11))
    assert told(str(path)) == (
        f"my data.csv: {SUMMARY} (rows {numbers} of the spreadsheet). "
        f"`hftl doctor '{path}' --fix cleaned` removes them, or add --skip_bad_rows."
    )


def test_lines_of_jsonl_and_no_more_than_is_known(tmp_path):
    spoilt().to_json(tmp_path / "x.jsonl", orient="records", lines=True)
    assert "(rows 3, 6, 10, 12 of the file, line by line)" in told(str(tmp_path / "x.jsonl"))
    spoilt().to_parquet(tmp_path / "x.parquet")
    assert f"x.parquet: {SUMMARY}. `hftl doctor" in told(str(tmp_path / "x.parquet"))
    assert told(spoilt()) == f"a DataFrame: {SUMMARY}. Remove them, or add --skip_bad_rows."


def test_the_splits_of_a_folder_are_told_together(tmp_path):
    spoilt().rename(columns={"text": "words"}).to_csv(tmp_path / "train.csv", index=False)
    test = frame(12).rename(columns={"text": "words"}).astype(object)
    test.loc[3, "words"] = None
    test.to_csv(tmp_path / "test.csv", index=False)
    said = told(str(tmp_path), text_column="words")
    assert "5 of 52 rows cannot be used (1 without label, 3 without text, 1 empty): train rows 2, 5, " in said
    assert "; test row 3 counted from 0 (row 5 of the spreadsheet). " in said
    assert "--text_column words --fix cleaned`" in said


def test_what_the_error_advises_works(tmp_path, capsys):
    spoilt().to_csv(tmp_path / "x.csv", index=False)
    hftl(capsys, "doctor", tmp_path / "x.csv", "--fix", tmp_path / "cleaned")
    assert load_splits("text", DataConfig(data=str(tmp_path / "cleaned"))).warnings == ()
    splits = load_splits("text", DataConfig(data=str(tmp_path / "x.csv"), skip_bad_rows=True))
    used = sorted(splits.train["row"][:] + splits.validation["row"][:] + splits.test["row"][:])
    assert used == sorted({*range(40)} - {2, 5, 9, 11})
    assert splits.warnings == (
        "Left out by --skip_bad_rows: 4 of 40 rows (1 without label, 2 without text, 1 empty).",
    )


def test_every_kind_of_row(tmp_path):
    pairs = pd.DataFrame({"text": [f"a {i}" for i in range(20)], "text_pair": ["b", None, "  ", *"x" * 17]})
    pairs["label"] = ["c0", "c1"] * 10
    pairs.loc[2, "text"] = None
    assert "(1 with one text of the pair missing or empty, 1 without text): rows 1, 2 " in told(pairs, "pair")
    numbers = pd.DataFrame({"text": [f"t {i}" for i in range(30)], "label": [i / 7 for i in range(30)]})
    numbers.loc[4, "label"] = float("inf")
    with pytest.raises(
        DataError, match=r"1 of 30 rows cannot be used \(1 without a finite number\): row 4 counted from 0\."
    ):
        load_splits("text", DataConfig(data=numbers), output=NUMBER)
    folder = image_folder(tmp_path / "images")
    names = [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(6)]
    (folder / names[3]).write_bytes(b"broken")
    write_csv(folder / "metadata.csv", [(n, "" if n == names[8] else n[:3]) for n in names], ("file_name", "label"))
    assert "1 of 12 rows cannot be used (1 without label, such as dog/2.png): row 8 counted from 0" in told(
        folder, "image"
    )
    splits = load_splits("image", DataConfig(data=folder, skip_bad_rows=True))
    assert len(splits.skipped) == 1
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 10


def test_a_class_is_not_lost_by_skipping():
    table = frame(20).astype(object)
    table.loc[table["label"] == "c1", "text"] = None
    assert "no row of the class 'c1' can be used" in told(table, skip_bad_rows=True)
    assert "No row of train is left." in told(frame(20).assign(text=""), skip_bad_rows=True)


# Predict


@pytest.fixture(scope="module")
def text_model(tmp_path_factory):
    return load(build("bert", tmp_path_factory.mktemp("m") / "bert", num_labels=3, id2label=dict(enumerate(LABELS))))


def test_predict_never_fails_for_one_row(text_model, tmp_path, caplog):
    spoilt().to_csv(tmp_path / "in.csv", index=False)
    flags = {"data": str(tmp_path / "in.csv"), "output": str(tmp_path / "out.csv")}
    with caplog.at_level(logging.WARNING, logger="hftl"):
        rows = predict_data(text_model, flags).rows
    assert caplog.messages == ["3 of 40 rows cannot be read and get an empty answer. The first: row 5: without text."]
    assert [i for i, row in enumerate(rows) if row["prediction"] is None] == [5, 9, 11]
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert list(written[0]) == ["text", "label", "prediction", "probability", "not_sure"]
    assert [row["text"] for row in written] == spoilt()["text"].fillna("").tolist()
    assert {row["not_sure"] for row in written} == {""}
    assert [written[i][name] for i in (5, 9, 11) for name in ("prediction", "probability")] == [""] * 6
    usable = [row for row in rows if row["prediction"] is not None]
    alone = text_model.predict([row["text"] for row in usable])
    assert [row["prediction"] for row in usable] == [answer.label for answer in alone]


def test_no_row_can_be_read(text_model):
    assert predict_data(text_model, {"data": frame(3).assign(text=None)}).names == {"prediction": "prediction"}
    assert [row["prediction"] for row in answers_for(text_model, ["", " \n"]).rows] == [None, None]


def test_broken_images_keep_their_row(tmp_path, caplog):
    model = load(build("vit", tmp_path / "vit", num_labels=3, id2label=dict(enumerate(LABELS))))
    names = [
        str(path.relative_to(tmp_path)) for path in sorted(tiny_images(tmp_path / "i", per_class=2).rglob("*.png"))
    ]
    (tmp_path / names[1]).write_bytes(b"broken")
    write_csv(tmp_path / "in.csv", [(n, i) for i, n in enumerate([*names, "gone.png", ""])], ("image", "ticket"))
    flags = {"data": str(tmp_path / "in.csv"), "output": str(tmp_path / "out.csv")}
    rows = predict_data(model, flags).rows
    assert [row["image"] for row in rows] == [*names, "gone.png", None]
    assert [i for i, row in enumerate(rows) if row["prediction"] is None] == [1, 6, 7]
    assert "3 of 8 rows cannot be read" in caplog.text
    with pytest.raises(DataError, match="broken image"):
        predict_data(model, flags | {"strict": True})


def test_words_without_any(tmp_path):
    sizes = {"num_labels": 3, "id2label": dict(enumerate(("O", "B-X", "I-X")))}
    folder = build("bert", tmp_path / "tags", **sizes)
    config = folder / "config.json"
    config.write_text(config.read_text().replace("BertForSequenceClassification", "BertForTokenClassification"))
    import transformers

    transformers.BertForTokenClassification(transformers.BertConfig.from_pretrained(folder)).save_pretrained(folder)
    model = load(folder)
    table = Dataset.from_dict({"tokens": [["sad", "day"], [], ["a", None]]})
    rows = predict_data(model, {"data": table}).rows
    assert [row["prediction"] is None for row in rows] == [False, True, True]
    with pytest.raises(ConfigError, match="--top_k is for labels"):
        predict_data(model, {"data": table}, Wish(top_k=2))


def test_not_sure_and_the_likeliest(text_model):
    inputs = ["sad lonely day", "", "happy smile of the morning", "walk"]
    sure = sorted(answer.probability for answer in text_model.predict([text for text in inputs if text]))
    rows = answers_for(text_model, inputs, Wish(top_k=2, threshold=sure[1])).rows
    assert [row["not_sure"] for row in rows].count(True) == 1
    assert rows[1]["not_sure"] is None
    for row in (rows[0], *rows[2:]):
        assert row["not_sure"] == (row["probability"] < sure[1])
        likeliest = sorted(row["probabilities"], key=row["probabilities"].get, reverse=True)
        assert [row["label_1"], row["label_2"]] == likeliest[:2]
        assert row["probability_2"] == row["probabilities"][row["label_2"]]
    assert "label_3" in answers_for(text_model, inputs, Wish(top_k=9)).names
    assert "label_4" not in answers_for(text_model, inputs, Wish(top_k=9)).names


def test_eval_names_bad_rows_and_leaves_them_out_when_asked(text_model, tmp_path):
    folder = build("bert", tmp_path / "bert", num_labels=2, id2label={0: "c0", 1: "c1"})
    with pytest.raises(DataError, match=r"4 of 40 rows cannot be used \(1 without label"):
        evaluate_data(str(folder), {"data": spoilt()})
    scores = evaluate_data(str(folder), {"data": spoilt(), "skip_bad_rows": True})
    assert scores["rows"] == 36
    assert scores["skipped"][0] == "row 2: without label"


def test_eval_says_how_many_rows_were_trained_on(tmp_path, capsys):
    table = frame(60)
    table.to_csv(tmp_path / "t.csv", index=False)
    model = build("bert", tmp_path / "bert")
    words = (
        "--model",
        model,
        "--method",
        "probe",
        "--evidence",
        "off",
        "--use_cpu",
        "true",
        "--output_dir",
        tmp_path / "run",
    )
    assert hftl(capsys, "train", "text-classification", "--data", tmp_path / "t.csv", *words).code == 0
    scores = hftl(capsys, "eval", tmp_path / "run" / "final", "--data", tmp_path / "t.csv", "--json")
    assert scores.json["rows_trained_on"] == 48  # the fifth part is for test
    test = load_splits("text", DataConfig(data=str(tmp_path / "t.csv"))).test["row"][:]
    table.loc[test].assign(text=table["text"].str.upper()).to_csv(tmp_path / "new.csv", index=False)
    assert evaluate_data(str(tmp_path / "run"), {"data": str(tmp_path / "new.csv")})["rows_trained_on"] == 0
    (tmp_path / "t.csv").rename(tmp_path / "elsewhere.csv")
    assert evaluate_data(str(tmp_path / "run"), {"data": str(tmp_path / "new.csv")})["rows_trained_on"] is None
    threshold = {"schema_version": 1, "evidence": {"abstain": {"threshold": 2.0}}}
    (tmp_path / "run" / "report.json").write_text(json.dumps(threshold))
    said = hftl(capsys, "predict", tmp_path / "run", "the text", "--top_k", "1").out
    assert said.split("\t")[2] == "not sure"
    assert said.split("\t")[3].startswith(said.split("\t")[0])
