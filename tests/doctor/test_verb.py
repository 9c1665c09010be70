"""`hftl doctor` as typed."""

import json

import pytest

import hftl as package
from hftl.errors import ConfigError
from tests.command import hftl, write_csv
from tests.doctor.tables import sentence, table


@pytest.fixture
def whole(tmp_path):
    return write_csv(tmp_path / "whole.csv", table(80).values.tolist())


@pytest.fixture
def bad(tmp_path):
    rows = [*table(80).values.tolist(), [sentence(1), ""], ["", "mood 0"]]
    return write_csv(tmp_path / "bad.csv", rows)


def test_exit_codes(capsys, tmp_path, whole, bad):
    assert hftl(capsys, "doctor", whole).code == 0
    done = hftl(capsys, "doctor", bad)
    assert done.code == 1
    assert done.err.endswith("error: 1 check failed: missing_values.\n")
    assert "Traceback" not in done.err
    lines = done.out.splitlines()
    assert lines[0] == "bad.csv: train 82 rows; texts in 'text', labels in 'label'"
    assert lines[2].split()[:4] == ["FAIL", "missing_values", "2", "in"]
    (tmp_path / "none.csv").write_text("")
    for words in (
        [], [whole, whole], [tmp_path / "none.csv"], [tmp_path / "nowhere.csv"], [whole, "--task", "guessing"],
        [whole, "--method", "magic"], [whole, "--label-column", "lable"], [whole, "--fixx", "out"], [whole, "--fix"],
        [whole, "--fix", whole], [whole, "--task", "image-classification"],
    ):  # fmt: skip
        done = hftl(capsys, "doctor", *words)
        assert (done.code, done.out) == (2, ""), words
        assert done.err.startswith("error: ")
        assert len(done.err.splitlines()) == 1


def test_json_is_alone_on_stdout(capsys, bad):
    done = hftl(capsys, "doctor", bad, "--json")
    assert done.code == 1
    findings = {finding["check"]: finding for finding in json.loads(done.out)["findings"]}
    assert set(findings["sorted_rows"]) == {"check", "level", "count", "by_split", "rows", "fix"}
    assert findings["missing_values"]["rows"] == {"train": [80, 81]}
    assert findings["sorted_rows"]["level"] == "PASS"


def test_fix_says_what_is_left(capsys, tmp_path, bad):
    done = hftl(capsys, "doctor", bad, "--json", "--fix", tmp_path / "out")
    assert done.code == 0  # nothing is left
    assert {f["check"] for f in done.json["findings"] if f["level"] == "FAIL"} == {"missing_values"}
    assert "What is left" in done.err
    assert hftl(capsys, "doctor", tmp_path / "out").code == 0


def test_hostile_labels_are_shown_escaped(capsys, tmp_path):
    rows = [*table(40).values.tolist(), ["x y z", "\x1b[31mred\u202e"], ["x y", "\x1b[31mRED\u202e"]]
    done = hftl(capsys, "doctor", write_csv(tmp_path / "t.csv", rows))
    assert "\x1b" not in done.out
    assert "\u202e" not in done.out


def test_public_name():
    assert package.doctor is not None
    assert callable(package.doctor)
    assert package.doctor(table(80))[0].check == "missing_values"
    with pytest.raises(ConfigError, match="Did you mean 'method'"):
        package.doctor(table(), methd="probe")


def test_help(capsys):
    done = hftl(capsys, "doctor", "--help")
    assert done.code == 0
    assert "hftl doctor DATA" in done.out
    assert "--fix" in done.out
