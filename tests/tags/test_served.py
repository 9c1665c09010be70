"""What is done with a model of tags: predict, eval, the demo, the export."""

import csv
import json
import subprocess
import sys

import pytest
from datasets import Dataset

import hftl
from hftl.adapt import adapt
from hftl.errors import RunError
from hftl.export import export
from hftl.report.statements import duration
from tests.architectures.text_models import build_text
from tests.command import hftl as command
from tests.runs import SMALL
from tests.tags.sentences import sentences


TEXT = "happy day, sad night"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A whole run, with evidence; its window is short, so that rows are read in several."""
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(folder / "cache"))
        (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sentences(60, long=3)))
        base = build_text("modernbert", folder / "base")
        flags = {**SMALL, "evidence": True, "max_seq_length": 32, "max_steps": 4}
        yield adapt("token-classification", data=str(folder / "d.jsonl"), model=str(base), method="full",
                    output_dir=folder / "run", **flags)  # fmt: skip


def test_the_report(run):
    evidence = run.evidence
    assert [rung["kind"] for rung in evidence["ladder"]][:2] == ["majority", "no-pretraining"]
    assert {"f1", "macro_f1", "strict_f1"} <= set(evidence["ladder"][0])
    assert set(evidence) >= {"forgetting", "calibration", "slices", "type_confusion", "worst_rows", "doctor"}
    assert evidence["type_confusion"]["names"] == ["T0", "T1", "T2", "no entity"]
    assert run.report["parity"]["final"]["labels_equal"]
    assert "read in overlapping windows" in " ".join(run.report["warnings"])
    page = (run.run_dir / "report.html").read_text()
    assert "<mark>" in page
    assert "No entity" in page
    card = (run.run_dir / "final" / "README.md").read_text()
    assert 'aggregation_strategy="simple"' in card
    assert "pipeline_tag: token-classification" in card
    assert f", total {duration(run.report['timing']['total_seconds'])} |" in card  # the page included


def test_predict_and_eval(run, tmp_path, capsys):
    done = command(capsys, "predict", run.run_dir, TEXT, "--json")
    (row,) = done.json
    assert row["input"] == TEXT
    for entity in row["prediction"]:
        assert set(entity) == {"start", "end", "text", "label", "score"}
        assert TEXT[entity["start"] : entity["end"]] == entity["text"]
    assert row["prediction"]
    said = ", ".join(f"{entity['text']} ({entity['label']})" for entity in row["prediction"])
    assert command(capsys, "predict", run.run_dir, TEXT).out == f"{said}\t{row['probability']:.4f}\t{TEXT}\n"
    (tmp_path / "new.csv").write_text(f'text,id\n"{TEXT}",7\n"=day, happy",8\n')
    assert (
        command(capsys, "predict", run.run_dir, "--data", tmp_path / "new.csv", "--output", tmp_path / "o.csv").code
        == 0
    )
    with (tmp_path / "o.csv").open(newline="") as file:
        first, _ = csv.DictReader(file)
    assert json.loads(first["prediction"]) == row["prediction"]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sentences(20, seed=9)))
    scores = command(capsys, "eval", run.run_dir, "--data", tmp_path / "t.jsonl", "--json").json
    assert scores["rows"] == 20
    assert set(scores["metrics"]["f1"]) == {"value", "low", "high"}
    (tmp_path / "t.jsonl").write_text(json.dumps({"tokens": ["a"], "tags": ["B-NEW"]}))
    done = command(capsys, "eval", run.run_dir, "--data", tmp_path / "t.jsonl")
    assert done.code == 2
    assert "tags that the model does not know: 'B-NEW'" in done.err


def test_the_baseline_predicts(run):
    folder = run.run_dir / "baseline"
    if not folder.is_dir():  # it is saved where the transfer is not shown to be better
        pytest.skip("the transfer was better")
    answer = hftl.predict.load_predictor(folder).predict([TEXT])[0]
    assert len(answer.tags) == 5


def test_plan(run, capsys):
    data, base = run.run_dir.parent / "d.jsonl", run.run_dir.parent / "base"
    done = command(
        capsys,
        "plan",
        "token-classification",
        "--data",
        data,
        "--model",
        base,
        "--method",
        "lora",
        "--use_cpu",
        "--json",
    )
    assert done.code == 0, done.err
    assert done.json["tokens"]["truncated"] == 0


def test_a_row_without_words_has_an_empty_cell(run, tmp_path, capsys):
    (tmp_path / "new.csv").write_text(f'text\n"{TEXT}"\n" "\n')
    out = tmp_path / "out.csv"
    done = command(capsys, "predict", run.run_dir, "--data", tmp_path / "new.csv", "--output", out)
    assert done.code == 0, done.err
    with out.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert json.loads(first["prediction"]) == hftl.load(run.run_dir).predict([TEXT])[0].entities != []
    assert second["prediction"] == ""


def test_doctor(run, capsys):
    done = command(capsys, "doctor", run.run_dir.parent / "d.jsonl", "--json")
    assert done.code in (0, 1), done.err


def test_the_export_answers_alike(run):
    pytest.importorskip("onnxruntime")
    report = export(run.run_dir, int8=True, max_drop=1)
    assert report.values["parity"]["labels_equal"]
    done = subprocess.run([sys.executable, report.output_dir / "predict.py", TEXT, " ".join(["sad day"] * 40)],
                          capture_output=True, text=True, check=True)  # fmt: skip
    found = [line.split("\t") for line in done.stdout.splitlines()]
    ours = run.predict([TEXT, " ".join(["sad day"] * 40)])
    assert [(int(n), kind, int(start), int(end)) for n, kind, _, start, end, _ in found] == [
        (n, e["label"], e["start"], e["end"]) for n, answer in enumerate(ours) for e in answer.entities
    ]


def test_the_demo(run, tmp_path):
    client = pytest.importorskip("gradio_client", reason="the demo extra is not installed")
    from hftl.demo.app import launch_demo
    from hftl.demo.batch import classify, write_csv
    from hftl.demo.served import Served, examples_of
    from hftl.demo.try_tab import _answered
    from hftl.run_data import open_artifact

    demo = launch_demo(run.run_dir, port=0)
    try:
        answer = client.Client(str(demo.local_url), verbose=False).predict(TEXT, api_name="/predict")
    finally:
        demo.close(verbose=False)
    ours = run.predict([TEXT])[0]
    spans = [(part["token"], part["class_or_confidence"]) for part in answer if part["class_or_confidence"]]
    assert spans == [(e["text"], e["label"]) for e in ours.entities]
    served = Served(open_artifact(run.run_dir), hftl.load(run.run_dir))
    assert (
        "No entity was found" in _answered(served, "xq", served.predict(["xq"])[0])[0]
        or served.predict(["xq"])[0].entities
    )
    assert all(isinstance(text, str) for text in examples_of(served, tmp_path / "e", share=False, data=None))
    (tmp_path / "new.csv").write_text(f'text\n"{TEXT}"\n')
    rows, _ = classify(served, str(tmp_path / "new.csv"), None, lambda *_: None)
    write_csv(tmp_path / "o.csv", rows)
    assert json.loads(rows[0].prediction) == ours.entities
    words = ["happy", "day", ",", "o'clock"]
    (tmp_path / "new.jsonl").write_text(json.dumps({"tokens": words}) + '\n{"tokens": []}\n')
    rows, _ = classify(served, str(tmp_path / "new.jsonl"), None, lambda *_: None)
    assert rows[0].cells["prediction"] == run.predict([words])[0].entities  # not those of "['happy', 'day', ..."
    assert (rows[0].input, rows[1].cells) == (" ".join(words), {})
    with pytest.raises(RunError, match="no corrections of sentences"):
        launch_demo(run.run_dir, port=0, feedback=tmp_path / "f")


def test_slices_by_a_column(tmp_path):
    rows = [{**row, "source": "ab"[i % 2]} for i, row in enumerate(sentences(60))]
    base = build_text("modernbert", tmp_path / "base")
    flags = {**SMALL, "evidence": True, "slice_column": "source"}
    run = adapt(
        "token-classification",
        data=Dataset.from_list(rows),
        model=str(base),
        method="probe",
        output_dir=tmp_path / "r",
        **flags,
    )
    assert {"sentence length", "source"} <= {one["by"] for one in run.evidence["slices"]}


def test_the_baseline_that_counts_knows_words(run):
    """Most words are O, so that O everywhere has many right; it finds no entity, and is no rival."""
    assert run.evidence["verdict"]["against"] == "each word's most frequent tag"
