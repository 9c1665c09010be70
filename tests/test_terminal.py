"""What a person sees while a run works: lines in a log, a live line and a box on a terminal."""

import os
import pty
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from hftl import terminal
from hftl.training.features import predict_logits
from tests.command import environment, hftl, text_csv
from tests.runs import checkpoint, tiny_run


STEP = re.compile(r"^ *\d+\.\d s  ")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("terminal")
    text_csv(folder / "t.csv", 120)
    checkpoint("bert", folder).rename(folder / "bert")
    return folder


def words(place, method, name, *more):
    return ["train", "--data", place / "t.csv", "--model", place / "bert", "--method", method, "--max_seq_length", 16,
            "--output_dir", place / name, *more]  # fmt: skip


def test_a_log_has_a_line_for_each_step_and_few_words(place, capsys):
    done = hftl(capsys, *words(place, "probe", "log"))
    assert done.code == 0
    lines = done.err.splitlines()
    steps = [line.split()[2] for line in lines if STEP.match(line)]
    assert steps == ["data", "base", "features", "training", "finish", "test", "forgetting", "evidence"]
    assert len(done.err.split()) <= 130
    assert "{" not in done.err
    assert re.search(r"\d% accuracy on 24 test rows \(95% interval", done.err)
    assert f"hftl predict {place}/log" in lines[lines.index("Next:") + 1]
    assert lines[-1].strip() == f"open {place}/log/report.html"


def test_a_log_has_a_line_for_each_epoch(place, capsys):
    done = hftl(capsys, *words(place, "full", "epochs", "--num_train_epochs", 2, "--evidence", "off"))
    assert done.code == 0
    epochs = [line.strip() for line in done.err.splitlines() if line.strip().startswith("epoch")]
    assert [line.split(",")[0] for line in epochs] == ["epoch 1/2", "epoch 2/2"]
    assert re.search(r"validation accuracy \d+\.\d%, 0:\d\d left$", epochs[0])
    assert "left" not in epochs[1]
    assert "{'" not in done.err


def test_verbose_has_the_tables(place, capsys):
    done = hftl(capsys, *words(place, "probe", "verbose", "--verbose"))
    assert done.code == 0
    for title in ("What will train", "Test, 24 rows", "Evidence", "parity of final"):
        assert title in done.err


def test_a_terminal_has_a_live_line_and_a_box(place):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "hftl", *map(str, words(place, "probe", "box"))]
    child = subprocess.Popen(
        command, stderr=theirs, stdout=subprocess.PIPE, env=environment(TERM="xterm", COLUMNS="100")
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        seen += part
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 0, seen[-2000:]
    assert out == b""
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    live, _, box = screen.partition("\u256d")
    assert "features" in live
    assert "\u256d" not in live
    assert len(re.sub(r"[\u2500-\u257f\u2022]", " ", box).split()) <= 90
    assert re.search(rb"\x1b\[1m\d+\.\d% accuracy", seen)  # bold
    assert f"hftl demo {place}/box" in box


def test_a_log_is_never_silent_for_long(capfd, monkeypatch):
    monkeypatch.setattr(terminal, "HEARTBEAT", 0.05)
    with terminal.step("features"):
        terminal.at("3 of 9 batches")
        time.sleep(0.3)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].strip() == "... features  3 of 9 batches  0:00"
    assert STEP.match(lines[-1])
    assert "features" in lines[-1]


def test_a_step_that_fails_has_no_line(capfd):
    with pytest.raises(ValueError, match="no"), terminal.step("features"):
        raise ValueError("no")
    assert "features" not in capfd.readouterr().err
    assert terminal._now.title == ""


@pytest.mark.slow
def test_quick_evidence_leaves_out_what_takes_long(tmp_path):
    quick = tiny_run("bert", "full", tmp_path, "quick", evidence="quick").report["evidence"]
    full = tiny_run("bert", "full", tmp_path, "full", evidence="on").report["evidence"]
    assert quick["verdict"]["label"] == full["verdict"]["label"]
    names = [[rung["name"] for rung in evidence["ladder"]] for evidence in (quick, full)]
    assert set(names[1]) - set(names[0]) == {"probe, random weights"}
    assert (quick["suspects"], quick["forgetting"]["kept"]) == (None, None)
    assert full["suspects"] is not None
    assert full["forgetting"]["kept"] is not None


@pytest.mark.slow
@pytest.mark.parametrize("bf16", [False, True])
def test_a_probe_answers_from_features_as_its_model_does(tmp_path, monkeypatch, bf16):
    """The rows are not passed through the model again, also where training is in bf16; a few are, which check it."""
    passed = []
    answers = predict_logits
    monkeypatch.setattr(
        sys.modules["hftl.adapt"],
        "predict_logits",
        lambda model, rows, *more, **named: passed.append(len(rows)) or answers(model, rows, *more, **named),
    )
    monkeypatch.setattr(sys.modules["hftl.adapt"], "CHECKED", 3)
    fast = tiny_run("bert", "probe", tmp_path, "fast", bf16=bf16, evidence="quick").report
    assert passed == [3]
    assert fast["data"]["rows"]["test"] > 3
    monkeypatch.setattr(sys.modules["hftl.adapt"], "by_probe", lambda *_: None)
    monkeypatch.setattr("hftl.evidence.gather.by_probe", lambda *_: None)
    slow = tiny_run("bert", "probe", tmp_path, "slow", bf16=bf16, evidence="quick").report
    assert fast["metrics"]["test"]["log_loss"] == pytest.approx(slow["metrics"]["test"]["log_loss"], rel=1e-5)
    assert fast["metrics"]["test"]["accuracy"] == slow["metrics"]["test"]["accuracy"]
    monkeypatch.setattr(
        sys.modules["hftl.adapt"], "by_probe", lambda *_: np.full((1, 3), 9.0)
    )  # wrong: the check finds it
    again = tiny_run("bert", "probe", tmp_path, "again", bf16=bf16, evidence="quick").report
    assert again["metrics"]["test"]["accuracy"] == slow["metrics"]["test"]["accuracy"]
