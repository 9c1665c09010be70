"""`--fix`: what it writes loads, passes the checks that it repairs, and leaves test alone."""

import json
from pathlib import Path

import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict

from hftl.doctor import doctor
from hftl.errors import RunError
from tests.doctor.pictures import folder, scene
from tests.doctor.tables import examined, sentence, table
from tests.small_data import load, write


REPAIRED = (
    "missing_values", "broken_images", "exact_duplicates", "cross_split_duplicates", "conflicting_labels",
    "similar_class_names", "sorted_rows",
)  # fmt: skip


def left_over(out: Path, **flags):
    """The findings of the cleaned data that are not PASS, of the checks that --fix repairs."""
    return {name: f for name, f in examined(out, **flags).items() if name in REPAIRED and f.level != "PASS"}


def log_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "changes.log").read_text(encoding="utf-8").splitlines()]


def faulty() -> dict[str, pd.DataFrame]:
    """Splits with every fault that can be repaired, and texts that are hard to write."""
    whole = table(200)
    train, validation, test = whole[:140].copy(), whole[140:170].copy(), whole[170:].copy()
    train.loc[1, "text"] = 'a "quoted", text\nof two lines; =cmd() <b>'
    train.loc[[2, 3], "text"] = ["  ", None]
    train.loc[4, "label"] = None
    train.loc[5, "label"] = train["label"][5].upper()
    more = [
        (sentence(6), train["label"][6]),  # copy
        (sentence(7), "mood 0"), (sentence(7), "mood 1"), (sentence(7), train["label"][7]),  # two against one or so
        (sentence(8), "mood 0" if train["label"][8] == "mood 1" else "mood 1"),  # one against one
        (sentence(150).upper(), validation["label"][150]),  # stands in validation
        (sentence(180), test["label"][180]),  # stands in test
    ]  # fmt: skip
    train = pd.concat([train, pd.DataFrame(more, columns=["text", "label"])]).sort_values("label")
    validation = pd.concat([validation, validation[:2], test[:1]])
    return {"train": train, "validation": validation, "test": pd.concat([test, test[:1]])}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_fixed_texts_load_and_pass(tmp_path, suffix):
    source = faulty()
    for split, rows in source.items():
        write(rows.reset_index(drop=True), tmp_path / "in" / f"{split}.{suffix}")
    before = examined(tmp_path / "in")
    assert {f.check for f in before.values() if f.level != "PASS"} >= set(REPAIRED) - {"broken_images"}
    out = tmp_path / "out"
    doctor(tmp_path / "in", fix=out)
    assert sorted(path.name for path in out.iterdir()) == [
        "changes.log", f"test.{suffix}", f"train.{suffix}", f"validation.{suffix}",
    ]  # fmt: skip
    left = left_over(out)
    assert set(left) == {"exact_duplicates"}  # that of test, which stays
    assert left["exact_duplicates"].by_split == {"test": 1}
    splits = load(out)
    assert splits.test["text"][:] == source["test"]["text"].tolist()
    assert 'a "quoted", text\nof two lines; =cmd() <b>' in splits.train["text"][:]
    # 147 rows less: 2 texts, 1 label, 1 copy, row 7 but one, row 8 twice, one of validation and one of test
    assert len(splits.train) == 147 - 2 - 1 - 1 - 3 - 2 - 2
    assert len(splits.validation) == 33 - 2 - 1
    log = log_of(out)
    assert sum(entry["change"].startswith("removed") for entry in log) == 14
    assert {entry["split"] for entry in log} == {"train", "validation"}
    for entry in log:
        if entry["row"] is not None:
            assert entry["row"] < len(source[entry["split"]])


def test_majorities_decide(tmp_path):
    data = table(60)
    for row, labels in ((3, "aab"), (4, "ab"), (5, "aabb"), (6, "aabc")):
        data = data.drop(index=row)
        data = pd.concat([data, pd.DataFrame({"text": [sentence(row)] * len(labels), "label": list(labels)})])
    rest = pd.DataFrame({"text": [sentence(100 + i) for i in range(9)], "label": list("abc") * 3})
    doctor(pd.concat([data, rest]), fix=tmp_path / "out")
    fixed = pd.read_parquet(tmp_path / "out" / "train.parquet").set_index("text")["label"]
    assert fixed[sentence(3)] == "a"
    assert not set(fixed.index) & {sentence(4), sentence(5), sentence(6)}


def test_the_spelling_of_test_wins(tmp_path):
    whole = table(100)
    train, test = whole[:70].copy(), whole[70:].copy()
    test["label"] = test["label"].str.replace("mood 0", "Mood_0")
    doctor({"train": train, "test": test}, fix=tmp_path / "out")
    assert left_over(tmp_path / "out") == {}
    splits = load(tmp_path / "out")
    assert splits.labels == ("Mood_0", "mood 1")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out" / "test.parquet"), test.reset_index(drop=True))


def test_class_labels_keep_their_feature(tmp_path):
    rows = {"text": [sentence(i) for i in range(40)], "label": [i % 3 for i in range(40)]}
    one = Dataset.from_dict(rows).cast_column("label", ClassLabel(names=["a", "A ", "b"]))
    doctor(one, fix=tmp_path / "one")
    assert load(tmp_path / "one").labels == ("a", "b")
    doctor(DatasetDict(train=one, test=one.filter(lambda row: row["label"] != 1)), fix=tmp_path / "two")
    # All of test stands in train, which keeps what test lacks.
    fixed = {split: pd.read_parquet(tmp_path / "two" / f"{split}.parquet") for split in ("train", "test")}
    assert set(fixed["train"]["label"]) == {0}
    assert fixed["test"]["label"].tolist() == [i % 3 for i in range(40) if i % 3 != 1]


def test_fixed_images_load_and_pass(tmp_path):
    root = folder(tmp_path / "in" / "train", 12)
    folder(tmp_path / "in" / "test", 0)
    for i in range(4):
        for name in ("cat", "dog"):
            scene(900 + i + 50 * (name == "dog")).save(tmp_path / "in" / "test" / name / f"{i}.jpg")
    (root / "cat" / "zbad.png").write_bytes(b"not an image")
    (root / "Cat").mkdir()
    scene(300).save(root / "Cat" / "one.png")
    scene(301).save(root / "Cat" / "two.png")
    (root / "dog" / "zcopy.png").write_bytes((root / "dog" / "a0.png").read_bytes())
    (root / "dog" / "zcat.png").write_bytes((root / "cat" / "a0.png").read_bytes())
    (root / "dog" / "ztest.jpg").write_bytes((tmp_path / "in" / "test" / "dog" / "1.jpg").read_bytes())
    bad_test = tmp_path / "in" / "test" / "dog" / "bad.png"
    bad_test.write_bytes(b"nor this")
    doctor(tmp_path / "in", fix=tmp_path / "out")
    assert left_over(tmp_path / "out") == {}
    bad_test.unlink()  # rows that nobody can use are the only ones that test loses
    splits = load(tmp_path / "out", "image")
    assert splits.labels == ("cat", "dog")
    assert len(splits.train) + len(splits.validation) == 24 + 2 - 1
    for before in sorted((tmp_path / "in" / "test").rglob("*.*")):
        after = tmp_path / "out" / "test" / before.relative_to(tmp_path / "in" / "test")
        assert after.read_bytes() == before.read_bytes()
    assert (tmp_path / "out" / "train" / "cat" / "one.png").is_file()


def test_images_within_a_table_stay_there(tmp_path):
    rows = {"image": [scene(i) for i in range(30)], "label": ["a", "b"] * 15, "site": ["x/y"] * 30}
    data = Dataset.from_dict(rows)
    data = Dataset.from_dict({name: [*data[name], data[name][0]] for name in rows})
    data.to_parquet(tmp_path / "in.parquet")
    doctor(tmp_path / "in.parquet", fix=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["changes.log", "train.parquet"]
    assert left_over(tmp_path / "out", task="image-classification") == {}
    before, after = pd.read_parquet(tmp_path / "in.parquet"), pd.read_parquet(tmp_path / "out" / "train.parquet")
    assert after["image"].tolist() == before["image"].tolist()[:30]
    assert after["site"].tolist() == ["x/y"] * 30
    assert len(load(tmp_path / "out", "image").labels) == 2


def test_images_named_by_a_table(tmp_path):
    (tmp_path / "p").mkdir()
    names = [f"p/{i}.png" for i in range(20)]
    for i, name in enumerate(names):
        scene(i).save(tmp_path / name)
    data = pd.DataFrame({"image": [*names, "p/0.png", "p/gone.png"], "label": ["a/b", "c"] * 11, "site": range(22)})
    data.loc[20, "label"] = "a/b"
    data.to_csv(tmp_path / "t.csv", index=False)
    doctor(tmp_path / "t.csv", "image-classification", fix=tmp_path / "out")
    assert left_over(tmp_path / "out") == {}
    kept = pd.read_csv(tmp_path / "out" / "train" / "metadata.csv")
    assert kept["label"].tolist() == data["label"].tolist()[:20]
    assert kept["site"].tolist() == list(range(20))
    assert load(tmp_path / "out", "image").labels == ("a/b", "c")


def test_whole_data_come_back_as_they_were(tmp_path):
    data = table(60)
    doctor(data, fix=tmp_path / "out")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out" / "train.parquet"), data)
    assert log_of(tmp_path / "out") == []


def test_splits_that_are_not_used_are_kept(tmp_path):
    doctor({"train": table(60), "unsupervised": table(5)}, fix=tmp_path / "out")
    assert len(pd.read_parquet(tmp_path / "out" / "unused" / "unsupervised" / "rows.parquet")) == 5
    assert len(load(tmp_path / "out").train) < 60


def test_out_must_be_new_and_outside(tmp_path):
    write(table(), tmp_path / "in" / "train.csv")
    for out in (tmp_path / "in", tmp_path / "in" / "sub", tmp_path / "in" / "train.csv"):
        with pytest.raises(RunError):
            doctor(tmp_path / "in", fix=out)
    (tmp_path / "empty").mkdir()
    doctor(tmp_path / "in", fix=tmp_path / "empty")
    with pytest.raises(RunError, match="exists already"):
        doctor(tmp_path / "in", fix=tmp_path / "empty")
    (tmp_path / "mine.partial").mkdir()
    (tmp_path / "mine.partial" / "notes.txt").write_text("keep")
    with pytest.raises(RunError, match="in the way"):
        doctor(tmp_path / "in", fix=tmp_path / "mine")
    assert (tmp_path / "mine.partial" / "notes.txt").is_file()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_out_is_whole_or_absent(tmp_path, monkeypatch, error):
    source = {"train": table(), "test": table(20)}

    def fail(self, path):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Dataset, "to_parquet", fail)
        with pytest.raises((RunError, KeyboardInterrupt)):
            doctor(source, fix=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "changes.log").write_text("")  # as a killed process leaves it
    doctor(source, fix=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_rows_that_nobody_can_use_leave_test_too(tmp_path):
    whole = table(100)
    train, test = whole[:70].copy(), whole[70:].reset_index(drop=True)
    test.loc[[1, 2], "text"] = ["", None]
    test.loc[3, "label"] = None
    doctor({"train": train, "test": test}, fix=tmp_path / "out")
    assert left_over(tmp_path / "out") == {}
    assert load(tmp_path / "out").test["text"][:] == test["text"].tolist()[:1] + test["text"].tolist()[4:]
    assert [(entry["split"], entry["row"]) for entry in log_of(tmp_path / "out")] == [
        ("test", 2),
        ("test", 3),
        ("test", 1),
    ]


def test_a_test_split_without_labels_is_kept(tmp_path):
    doctor({"train": table(60), "test": pd.DataFrame({"text": ["x y", "z"]})}, fix=tmp_path / "out")
    assert pd.read_parquet(tmp_path / "out" / "test.parquet")["text"].tolist() == ["x y", "z"]
    folder(tmp_path / "in" / "train")
    folder(tmp_path / "in" / "test", 3, classes=(".",), seed=1)
    (tmp_path / "in" / "train" / "cat" / "zz.png").write_bytes(b"broken")
    doctor(tmp_path / "in", fix=tmp_path / "images")
    assert len(list((tmp_path / "images" / "test").glob("*.png"))) == 3
    assert sorted(path.name for path in (tmp_path / "images" / "train").iterdir()) == ["cat", "dog"]
