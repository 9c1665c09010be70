"""Which rows are looked at, and what is said of retention sets that cannot be used."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from hftl.config import build_config, to_yaml
from hftl.data.samples import load_sample
from hftl.errors import DataError
from hftl.forgetting import retention
from hftl.forgetting.retention import LEAST, ROWS, choose_retention
from hftl.prepare import prepare
from tests.forgetting.setups import ready_run, write_texts
from tests.runs import text_frame
from tests.small_data import picture
from tests.tiny import tiny_images, tiny_text_rows


def texts(n, seed=1):
    return [text for text, _ in tiny_text_rows(n, 3, seed)]


def choose(folder, family="bert", **flags):
    return choose_retention(ready_run(folder, family, **flags))


def test_flag_reaches_the_run_and_its_yaml(tmp_path):
    config = build_config("text-classification", {"data": "x.csv", "retain": tmp_path / "r.csv"})
    assert config.retain == str(tmp_path / "r.csv")
    assert "retain: " in to_yaml(config)
    assert "retain" not in to_yaml(build_config("text-classification", {"data": "x.csv"}))


def test_many_rows_are_sampled_stratified(folder, tmp_path):
    path = write_texts(tmp_path / "r.csv", texts(900), label=["a"] * 600 + ["b"] * 200 + ["c"] * 100)
    found = choose(folder, retain=str(path))
    assert len(found.encoded) == ROWS == 400
    assert np.abs(np.bincount(found.encoded.targets) - np.array([600, 200, 100]) * 400 / 900).max() <= 1
    assert found.notes == ()
    assert found.name == "r.csv"  # no path of this machine
    assert np.array_equal(found.encoded.targets, choose(folder, retain=str(path)).encoded.targets)


def test_long_texts_are_cut_and_the_tokenizer_is_left_as_it_was(folder, tmp_path):
    path = write_texts(tmp_path / "r.csv", [f"{t} {t} {t} {t} {t} {t} {t} {t} {t}" for t in texts(40)])
    ready = ready_run(folder, "bert", max_seq_length=60, retain=str(path))
    found = choose_retention(ready)
    assert max(found.encoded.lengths) == 60
    assert ready.loaded.processor.model_max_length == 60
    monkey = pytest.MonkeyPatch()
    monkey.setattr(retention, "TOKENS", 20)
    assert max(choose_retention(ready).encoded.lengths) == 20
    monkey.undo()
    assert ready.loaded.processor.model_max_length == 60


def test_rows_of_training_are_left_out_and_counted(folder, tmp_path):
    base = ready_run(folder, "bert")
    seen = base.splits.train["text"][:10]
    spaced = ["\t".join(text.upper().split(" ")) + " " for text in seen]
    path = write_texts(tmp_path / "r.csv", spaced + texts(50))
    found = choose(folder, retain=str(path))
    assert (len(found.encoded), found.left_out) == (50, 10)
    assert "10 rows" in found.notes[0]
    assert "own data" not in found.notes[0]


def test_the_very_data_of_the_run(folder, tmp_path):
    path = tmp_path / "t.csv"
    text_frame(150).to_csv(path, index=False)
    values = {"data": str(path), "model": str(folder / "base-bert"), "method": "full", "use_cpu": True}
    choose(folder)  # makes the checkpoint
    ready = prepare(build_config("text-classification", {**values, "retain": str(path)}))
    found = choose_retention(ready)
    assert found.left_out == len(ready.splits.train) > 75
    assert len(found.encoded) == 150 - found.left_out
    assert "own data" in found.notes[0]
    copy = tmp_path / "other.csv"  # under another name it is the same data
    shutil.copyfile(path, copy)
    again = choose_retention(prepare(build_config("text-classification", {**values, "retain": str(copy)})))
    assert again.notes == found.notes


def test_images_of_training_are_left_out_by_their_paths(folder):
    with pytest.raises(DataError, match="it has 7 rows to look at, beside 17 that the run trains on"):
        choose(folder, "resnet", retain=str(folder / "run-images"))


def test_images_under_other_names(folder, tmp_path):
    ready_run(folder, "resnet")
    other = tiny_images(tmp_path / "more", per_class=15, seed=4)
    for i, path in enumerate(sorted((folder / "run-images" / "class_0").glob("*.png"))[:6]):
        shutil.copyfile(path, other / "class_0" / f"copy-{i}.png")
    found = choose(folder, "resnet", retain=str(other))
    trained = 51 - len(found.encoded)
    assert found.left_out == trained > 0
    assert found.left_out <= 6


@pytest.mark.parametrize("labels", [None, [""] * 40, list(range(40))])
def test_unlabelled_rows_do(folder, tmp_path, labels):
    columns = {} if labels is None else {"label": labels}
    found = choose(folder, retain=str(write_texts(tmp_path / "r.csv", texts(40), **columns)))
    assert len(found.encoded) == 40
    if labels is None or labels[0] == "":
        assert (found.encoded.targets == -1).all()


def test_some_labels_are_missing(folder, tmp_path):
    path = write_texts(tmp_path / "r.csv", texts(40), label=["a", "b", None, "b"] * 10)
    labels = choose(folder, retain=str(path)).encoded.targets
    assert np.bincount(labels + 1).tolist() == [10, 10, 20]


def test_a_column_that_was_guessed_need_not_hold_classes(folder, tmp_path):
    Dataset.from_dict({"text": texts(40), "score": [i / 7 for i in range(40)]}).to_parquet(tmp_path / "s.parquet")
    found = choose(folder, retain=str(tmp_path / "s.parquet"))
    assert (found.encoded.targets == -1).all()
    assert "numbers with fractions" in found.notes[0]
    table = Dataset.from_dict({"text": texts(40), "tags": [["a", "b"]] * 40})
    table.to_parquet(tmp_path / "r.parquet")
    found = choose(folder, retain=str(tmp_path / "r.parquet"))
    assert (found.encoded.targets == -1).all()
    assert "several labels" in found.notes[0]


def test_column_flags_of_the_run_hold_where_there_are_such_columns(folder, tmp_path):
    frame = text_frame(40).rename(columns={"text": "note", "label": "group"})
    choose(folder)
    values = {
        "data": frame, "text_column": "note", "label_column": "group", "model": str(folder / "base-bert"),
        "method": "full", "use_cpu": True,
    }  # fmt: skip
    same = tmp_path / "same.csv"
    pd.DataFrame({"note": texts(40), "group": ["a", "b"] * 20, "text": ["x"] * 40, "label": ["y"] * 40}).to_csv(same)
    found = choose_retention(prepare(build_config("text-classification", {**values, "retain": str(same)})))
    assert np.bincount(found.encoded.targets).tolist() == [20, 20]
    assert len({tuple(ids) for ids in found.encoded.arrays["input_ids"]}) == 40
    other = write_texts(tmp_path / "other.csv", texts(40), label=["a", "b"] * 20)
    found = choose_retention(prepare(build_config("text-classification", {**values, "retain": str(other)})))
    assert np.bincount(found.encoded.targets).tolist() == [20, 20]


def test_the_test_split_is_taken(folder, tmp_path):
    for name, n, seed in (("train", 90, 3), ("test", 35, 4)):
        text_frame(n, seed=seed).to_csv(tmp_path / f"{name}.csv", index=False)
    assert len(choose(folder, retain=str(tmp_path)).encoded) == 35


def test_packaged_samples_are_the_default(folder):
    found = choose(folder, "resnet", retain=None)
    assert found.name == "sample:digits"
    test = load_sample("digits")["test"]
    assert len(found.encoded) == 400
    assert np.bincount(found.encoded.targets).tolist() == pytest.approx(
        np.bincount(np.array(test["label"][:], dtype=int)) * 400 / 540, abs=1
    )


def test_default_that_cannot_be_had(folder, monkeypatch):
    monkeypatch.setattr("hftl.data.samples.package_files", lambda _: None)
    found = choose(folder, retain=None)
    assert isinstance(found, str)
    assert "pip install" in found


def _write(folder, kind):
    if kind == "images":
        return tiny_images(folder / "pictures", per_class=12)
    if kind == "one image":
        picture().save(folder / "one.png")
        return folder / "one.png"
    if kind == "two rows":
        return write_texts(folder / "two.csv", ["a b", "c d"])
    if kind == "empty":
        (folder / "empty.csv").write_text("")
        return folder / "empty.csv"
    if kind == "empty texts":
        return write_texts(folder / "gaps.csv", ["a", ""] * 20, label=["a", "b"] * 20)
    if kind == "numbers":
        path = folder / "numbers.jsonl"
        path.write_text("\n".join(json.dumps({"x": i, "y": i}) for i in range(40)))
        return path
    return folder / "nowhere.csv"


@pytest.mark.parametrize(
    ("family", "kind", "says"),
    [
        ("bert", "images", "the model reads texts, so this must be texts too, but it holds images"),
        ("bert", "one image", "must be texts"),
        ("bert", "two rows", f"2 rows to look at; at least {LEAST}"),
        ("bert", "empty", "is empty"),
        ("bert", "empty texts", f"0 rows to look at; at least {LEAST}"),
        ("bert", "numbers", "no text column"),
        ("bert", "nowhere", "no such file"),
        ("bert", "sample:digits", "the model reads texts, so this must be texts too, but it holds images"),
        ("bert", "sample:digit", "sample:digit"),
        ("bert", "no/such-data", "Hub"),
        ("resnet", "two rows", "must be images"),
        ("resnet", "nowhere", "no such file"),
        ("resnet", "numbers", "no image column"),
        ("resnet", "one image", f"1 rows? to look at; at least {LEAST}"),
        (
            "resnet",
            "sample:wikipedia-topics",
            "the model reads images, so this must be images too, but it holds texts",
        ),
    ],
)
def test_bad_sets_are_one_clear_line(family, kind, says, folder, tmp_path):
    name = kind if ":" in kind or "/" in kind else str(_write(tmp_path, kind))
    with pytest.raises(DataError, match=says) as caught:
        choose(folder, family, retain=name)
    line = str(caught.value)
    assert line.startswith("--retain ")
    assert "\n" not in line
    assert "task" not in line  # another task is no advice here: it is the rows that are the wrong ones


def test_all_rows_are_trained_on(folder):
    ready = ready_run(folder, "bert")
    path = folder / "trained.csv"
    write_texts(path, ready.splits.train["text"][:])
    n = len(ready.splits.train)
    with pytest.raises(DataError, match=f"0 rows to look at, beside {n} that the run trains on"):
        choose(folder, retain=str(path))


def test_broken_images_are_counted(folder, tmp_path):
    images = tiny_images(tmp_path / "r", per_class=12, seed=5)
    (images / "class_0" / "broken.png").write_bytes(b"no image")
    found = choose(folder, "resnet", retain=str(images))
    assert len(found.encoded) == 36
    assert found.notes[0] == "Rows of the retention set that cannot be used: 1."
