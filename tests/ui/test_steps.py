"""What the four steps of the page show, against what the commands of the same names say."""

import json
import re
import shlex
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from hftl.data.load import load_task
from hftl.data.sources import read_source
from hftl.doctor import doctor
from hftl.errors import ConfigError, DataError, ModelError, RunError
from hftl.methods import METHODS
from hftl.surroundings import ONE_AT_A_TIME
from hftl.tasks import get_task
from hftl.ui.files import Correction, Workspace, corrected_copy
from hftl.ui.steps import MOVED, _filled, command_line, fix, look, plan_cards, result
from tests.command import hftl, text_csv, write_csv
from tests.runs import checkpoint, text_frame, tiny_run
from tests.small_data import image_folder
from tests.test_segmentation import draw
from tests.thin import thin
from tests.tiny import tiny_images


@pytest.fixture
def space(tmp_path) -> Workspace:
    (tmp_path / "space").mkdir()
    return Workspace(tmp_path / "space")


def faulty(path: Path) -> Path:
    """Tiny texts, one of which stands twice, one of which has no label."""
    rows = text_frame(40).values.tolist()
    return write_csv(path, [*rows, rows[0], ["a text without", ""]])


def test_a_table_is_looked_at_as_the_doctor_does(tmp_path):
    path = faulty(tmp_path / "moods.csv")
    seen = look(str(path))
    frame = pd.read_csv(path)
    assert (seen.task, seen.splits) == ("text-classification", {"train": 42})
    assert seen.why.endswith("in 'label'.")
    assert seen.classes == frame["label"].value_counts().to_dict()
    assert list(seen.classes.values()) == sorted(seen.classes.values(), reverse=True)
    assert [(row.row, row.content, row.label) for row in seen.rows] == [
        (i, *pair) for i, pair in enumerate(frame[["text", "label"]].values.tolist()[:5])
    ]
    assert "'text'" in seen.why
    assert "3 classes" in seen.why
    found = {finding.check: finding for finding in doctor(str(path)) if finding.level != "PASS"}
    assert {p.check: (p.level, p.count, p.advice) for p in seen.problems} == {
        name: (finding.level, finding.count, finding.fix) for name, finding in found.items()
    }
    missing = next(p for p in seen.problems if p.check == "missing_values")
    assert [(row.row, row.content, row.label) for row in missing.rows] == [(41, "a text without", None)]
    assert seen.fixable


def test_the_button_fixes_a_copy(space, tmp_path):
    path = faulty(tmp_path / "moods.csv")
    before = path.read_bytes()
    fixed = fix(space, look(str(path)))
    assert path.read_bytes() == before
    assert space.holds(Path(fixed.data))
    assert fixed.splits == {"train": 40}
    assert not fixed.fixable
    assert {p.check for p in fixed.problems}.isdisjoint({"missing_values", "exact_duplicates"})


def test_images_broken_ones_too(tmp_path):
    folder = image_folder(tmp_path / "pets")
    (folder / "cat" / "0.png").write_bytes(b"no picture")
    seen = look(str(folder))
    assert (seen.task, seen.classes) == ("image-classification", {"cat": 6, "dog": 6})
    assert isinstance(seen.rows[0].content, str)
    assert seen.rows[1].content.size == (8, 8)
    assert seen.fixable


def test_data_that_cannot_be_read_are_one_line(tmp_path):
    path = write_csv(tmp_path / "odd.csv", [["a"], ["b"]], ("thing",))
    with pytest.raises(DataError) as refused:
        look(str(path))
    assert "\n" not in str(refused.value)


def test_cards_of_the_methods_and_their_commands(tmp_path, capsys):
    data, model = text_csv(tmp_path / "moods.csv"), checkpoint("bert", tmp_path)
    flags = ["--use_cpu", "true", "--bf16", "false", "--num_train_epochs", "1"]
    bare, cards = batched(plan_cards(str(data), "text-classification", str(model), flags), len(METHODS))
    assert cards[0].method == bare[0].method == "auto"
    assert {card.method for card in cards} == {card.method for card in bare} == set(METHODS)
    assert {card.method: card.command for card in cards} == {card.method: card.command for card in bare}
    assert not [card for card in bare if card.seconds or card.recommended]
    (advised,) = (card for card in cards if card.reason)
    assert {card.method for card in cards if card.expected} == {"auto", "probe"}, (
        "of the others a score comes with training"
    )
    for card in cards:
        assert card.problem or (card.seconds > 0 and card.memory > 0)
        words = shlex.split(card.command)
        assert words[:2] == ["hftl", "train"]
        assert tuple(words[2:]) == card.words_of_command
    probe = next(card for card in cards if card.method == "probe")
    report = hftl(capsys, "plan", *probe.words_of_command, "--json").json
    advice = report["recommendation"]
    assert advice["method"] == "do not transfer", "these features are those of random weights"
    assert (advised.method, advised.reason) == ("auto", advice["reason"])
    assert not [card for card in cards if card.recommended]
    advice["method"] = "full"  # as of data that a method carries: auto comes first all the same
    again = {card.method: _filled(card, report, get_task("text-classification")) for card in bare[1:]}
    assert not [card.method for card in again.values() if card.recommended]
    assert [card.method for card in again.values() if card.reason.endswith(advice["reason"])] == ["full"]
    assert {card.method for card in again.values() if card.expected} == {"probe"}
    figures = report["recommendation"]["comparison"]
    share, beside = (f"{100 * figures[name]:.1f}%" for name in ("probe_accuracy", "baseline_accuracy"))
    bounds = r"\([\d.]+ to [\d.]+%\)"
    baseline = f"without pretraining {beside} (TF-IDF + logistic regression)"
    assert re.fullmatch(rf"Expected accuracy: {share} {bounds}; {re.escape(baseline)}", probe.expected)
    begins, keeps = (
        f"Begins at the probe's accuracy: {share} {bounds}",
        "Keeps the probe unless another is better in 85% of the draws from the validation rows",
    )
    assert re.fullmatch(begins, cards[0].expected), "contrastive learning may win more easily on so few rows"
    race = hftl(capsys, "plan", *cards[0].words_of_command, "--json").json
    race["race"]["trials"] = [one | {"method": "full"} for one in race["race"]["trials"]]
    race["recommendation"]["method"] = "full"
    auto = _filled(bare[0], race, get_task("text-classification"))
    assert auto.recommended
    assert re.fullmatch(rf"{begins}\. {keeps}", auto.expected)
    assert report["memory"]["total_bytes"] == probe.memory


def test_a_model_that_is_not_to_be_had_is_said_before_the_first_card(tmp_path):
    data = text_csv(tmp_path / "moods.csv")
    with pytest.raises(ModelError):
        next(plan_cards(str(data), "text-classification", str(tmp_path / "nothing"), []))


def test_two_pages_plan_one_after_the_other(monkeypatch):
    inside, most = [], []

    def alone(*_):
        inside.append(1)
        time.sleep(0.01)
        most.append(len(inside))
        inside.pop()

    def refused(*_):
        alone()
        raise ConfigError("not here")

    monkeypatch.setattr(sys.modules["hftl.adapt"], "complete", lambda config: alone() or config)
    monkeypatch.setattr("hftl.planning.plan_report.measure", alone)
    monkeypatch.setattr("hftl.planning.plan_report.report_for", refused)
    monkeypatch.setattr("hftl.ui.steps.check_model", lambda *_: None)
    with ThreadPoolExecutor(4) as pool:
        pages = [pool.submit(list, plan_cards("d.csv", "text-classification", None, [])) for _ in range(4)]
    assert [len(page.result()) for page in pages] == [2 * len(METHODS)] * 4
    assert max(most) == 1, "accelerate's state is one for all threads"
    left = plan_cards("d.csv", "text-classification", None, [])
    next(left)  # a page that is closed in the middle
    assert not ONE_AT_A_TIME.locked()


def batched(items, size):
    every = list(items)
    return [every[i : i + size] for i in range(0, len(every), size)]


def test_a_command_line_is_quoted():
    assert shlex.split(command_line(["--data", "my file; rm.csv"])) == ["hftl", "train", "--data", "my file; rm.csv"]


def test_the_result_of_a_run_and_its_errors_lead_back_to_the_data(space, tmp_path):
    data = text_csv(tmp_path / "moods.csv", 90)
    done = tiny_run("bert", "probe", tmp_path, data=str(data), evidence="full")
    shown, evidence = result(done.run_dir), done.report["evidence"]
    score = done.report["metrics"]["test"]["accuracy"]
    assert shown.score == f"{100 * score['value']:.1f}%"
    assert shown.interval == f"{100 * score['low']:.1f} to {100 * score['high']:.1f}%"
    assert len(shown.ladder) == len(evidence["ladder"])
    assert shown.verdict
    assert shown.trouble == ""
    assert shown.config.data == str(data)
    frame = pd.read_csv(data)
    assert len([row for row in shown.worst if not row.suspect]) == len(evidence["worst_rows"][:12])
    for row in shown.worst:
        assert row.split == "train", "all rows came from one file"
        assert (row.content, row.label) == tuple(frame.loc[row.row, ["text", "label"]])
        assert row.label != row.prediction
    one = next(iter(shown.worst), None)
    if one is not None:
        copy = corrected_copy(space, str(data), [Correction(one.split, one.row, one.prediction)])
        assert read_source(copy, "text").tables["train"]["label"][one.row] == one.prediction
    data.unlink()
    moved = result(done.run_dir)
    assert (moved.score, moved.worst, moved.trouble) == (shown.score, (), MOVED)


@pytest.mark.parametrize("answers", thin(["sets", "numbers"], ["sets"]))
def test_what_images_have_is_put_right(space, tmp_path, answers):
    folder = tiny_images(tmp_path / "photos", per_class=10)
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.png"))]
    kinds = [name.split("/")[0] for name in names]
    if answers == "sets":
        facts = {"tags": [f"{kind};{'even' if i % 2 else 'odd'}" for i, kind in enumerate(kinds)]}
        flags, right = {"label_separator": ";", "label_column": "tags"}, "even, odd"
    else:
        facts, flags, right = {"weight": [100.5 + i for i in range(len(kinds))]}, {"label_column": "weight"}, "7.25"
    pd.DataFrame({"file_name": names, "by": "ann", **facts}).to_csv(folder / "metadata.csv", index=False)
    done = tiny_run("resnet", "probe", tmp_path, data=str(folder), evidence="quick", **flags)
    shown = result(done.run_dir)
    assert (shown.trouble, shown.single) == ("", False)
    row = next(iter(shown.worst))
    if answers == "numbers":  # with all digits
        assert float(row.typed) == pytest.approx(float(row.prediction), rel=1e-3)
    else:
        assert row.typed == row.prediction
    one = Correction(row.split, row.row, right)
    copy = Path(corrected_copy(space, str(folder), [one], "image-classification", shown.config))
    table = pd.read_csv(copy / "train" / "metadata.csv")
    (column,) = facts
    expected = [right.replace(", ", ";") if i == row.row else str(one) for i, one in enumerate(facts[column])]
    assert list(map(str, table[column])) == expected
    assert set(table["by"]) == {"ann"}
    splits = load_task("image-classification", replace(shown.config, data=str(copy)))[1]
    assert len(splits.train) + len(splits.validation) + len(splits.test) == len(names)


def test_no_result_of_what_is_no_run(tmp_path):
    with pytest.raises(RunError):
        result(tmp_path)


def test_entities_and_masks_are_said_in_words(tmp_path):
    rows = [{"tokens": ["Ada", "Byron", "met", f"Bo{i}"], "tags": ["B-per", "I-per", "O", "B-per"]} for i in range(12)]
    path = tmp_path / "people.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    seen = look(str(path))
    assert seen.why == "Sentences in 'tokens', 3 tags in 'tags'."
    assert seen.rows[0].label == "per (words 1 to 2), per (word 4)"
    path = tmp_path / "people.csv"  # lists that a CSV holds as text
    pd.DataFrame({name: [str(row[name]) for row in rows] for name in rows[0]}).to_csv(path, index=False)
    assert (look(str(path)).task, look(str(path)).rows[0].label) == ("token-classification", seen.rows[0].label)
    (draw(tmp_path / "shapes", 4) / "labels.txt").write_text("back\nround\nsquare\n")
    seen = look(str(tmp_path / "shapes"))
    assert seen.why.startswith("Images in 'image', 3 classes in ")
    assert set(seen.rows[0].label.split(", ")) <= {"back", "round", "square"}
