"""The demo for several labels, for a number and for pairs: what is answered, why, in batches, and corrected."""

import csv
import json

import pandas as pd
import pytest

from hftl.demo.batch import classify, write_csv
from hftl.demo.explain import explain_image, explain_text
from hftl.demo.feedback import NONE_OF_THESE, as_text, open_feedback
from hftl.demo.looks import piece, report_html
from hftl.demo.served import BOXES, Served, examples_of, length_note
from hftl.errors import DataError
from hftl.predict import load
from hftl.run_data import open_artifact
from tests.demo.setups import picture
from tests.looks.made import PROBLEMS, WIDTH
from tests.tiny import build


gradio_client = pytest.importorskip("gradio_client", reason="the demo extra is not installed")
from hftl.demo.app import launch_demo  # noqa: E402 it imports gradio
from hftl.demo.try_tab import _answered, _checked  # noqa: E402


ONE, OTHER = "sad lonely tears", "happy joyful smile"
PAIR = {"text": ONE, "text_pair": OTHER}
KINDS = [("labels", "text"), ("number", "text"), ("class", "pair"), ("labels", "pair"), ("number", "pair")]


def served_of(run):
    artifact = open_artifact(run)
    return Served(artifact, load(artifact.folder))


def row_of(inputs):
    return PAIR if inputs == "pair" else ONE


@pytest.mark.parametrize(("kind", "inputs"), KINDS)
def test_predict(run_of, kind, inputs):
    run = run_of(kind, inputs)
    demo = launch_demo(run, port=0, feedback=run.parent / f"kept-{kind}-{inputs}")
    try:
        client = gradio_client.Client(str(demo.local_url), verbose=False)
        api = client.view_api(return_format="dict", print_info=False)
        assert list(api["named_endpoints"]) == ["/predict"]
        found = client.predict(*([ONE, OTHER] if inputs == "pair" else [ONE]), api_name="/predict")
    finally:
        demo.close(verbose=False)
    expected = load(run).predict([row_of(inputs)])[0]
    if kind == "number":
        assert found == pytest.approx(expected.value)
    else:
        assert {c["label"]: c["confidence"] for c in found["confidences"]} == pytest.approx(expected.detail)


@pytest.mark.parametrize(("kind", "inputs"), KINDS)
def test_what_is_shown(run_of, kind, inputs):
    served = served_of(run_of(kind, inputs))
    assert len(served.components()) == (2 if inputs == "pair" else 1)
    answer = served.predict([row_of(inputs)])[0]
    banner, _, value, every, _, likeliest, *_ = _answered(served, row_of(inputs), answer)
    if kind == "number":
        assert (value, every, likeliest) == (answer.value, piece("labels", rows=[], count=0, top=5), None)
        assert f"between {answer.value - WIDTH:.4g} and {answer.value + WIDTH:.4g}" in banner
    else:
        given = answer.value if kind == "labels" and answer.value else answer.detail
        assert likeliest == max(given, key=answer.detail.get)
        assert ("said" in banner) == (kind == "labels")
        assert kind == "class" or (", ".join(answer.value) or "No label is above its threshold") in banner


@pytest.mark.parametrize(("kind", "inputs"), KINDS)
def test_head_and_evidence(run_of, kind, inputs):
    served = served_of(run_of(kind, inputs))
    head, page = (
        report_html(name, served.name, served.predictor, served.artifact.report)
        for name in ("header.html", "evidence.html")
    )
    learned = {"class": "adapted to 3 classes", "labels": "adapted to 3 labels", "number": "adapted to a number"}[kind]
    assert learned in head
    assert "cannot be shown" not in head + page
    assert ("How far from the truth is a single answer?" in page) == (kind == "number")
    assert ("accuracy" in page.lower()) == (kind == "class")


@pytest.mark.parametrize(("kind", "inputs"), KINDS)
def test_why(run_of, kind, inputs):
    predictor = load(run_of(kind, inputs))
    why = explain_text(predictor, row_of(inputs), predictor.labels[0])
    assert "".join(text for text, _ in why.spans) == (f"{ONE}\n{OTHER}" if inputs == "pair" else ONE)
    assert {"sad", "tears"} <= {text for text, _ in why.spans}
    assert abs(why.completeness_gap) < 0.05 * max(1.0, abs(why.change))
    shown = BOXES["Textbox"].why(predictor, row_of(inputs), None if kind == "class" else predictor.labels[0])
    assert ("raises it" if kind == "number" else "speaks for it") in shown
    assert ("log-odds" in shown) == (kind != "number")


@pytest.mark.parametrize(("kind", "inputs"), KINDS)
def test_batches(run_of, tmp_path, kind, inputs):
    served = served_of(run_of(kind, inputs))
    path = tmp_path / "new.csv"
    columns = {"sentence1": [ONE, OTHER, ""], "sentence2": [OTHER, "=1+1", ONE], "x": [1, 2, 3]}
    pd.DataFrame(columns if inputs == "pair" else {"text": columns["sentence1"], "x": 1}).to_csv(path, index=False)
    rows, notes = classify(served, str(path), None, lambda *_: None)
    assert len(rows) == 3
    assert notes[0].startswith("Without a prediction: 1 ")
    write_csv(tmp_path / "out.csv", rows)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    given = ["sentence1", "sentence2", "x"] if inputs == "pair" else ["text", "x"]
    more = {"class": ["probability", "not_sure"], "labels": [], "number": ["low", "high"]}[kind]
    assert list(read[0]) == [*given, "prediction", *more]
    answer = served.predict([row_of(inputs)])[0]
    if kind == "number":  # as `hftl predict` writes it
        assert float(read[0]["prediction"]) == rows[0].cells["prediction"] == pytest.approx(answer.value, abs=1e-6)
    else:
        assert read[0]["prediction"] == as_text(answer.value)
    assert read[2]["prediction"] == ""
    if kind == "number":
        assert float(read[0]["high"]) == pytest.approx(answer.high, abs=1e-5)
    if inputs == "pair":
        assert read[1]["sentence2"] == "'=1+1"


def test_corrections_are_data(run_of, tmp_path):
    labels, number, pair = (served_of(run_of(*kind)) for kind in (("labels",), ("number",), ("class", "pair")))
    assert _checked(labels, ["red", "blue"]) == ["blue", "red"]
    assert _checked(labels, [NONE_OF_THESE]) == []
    assert _checked(number, 3) == 3.0
    for served, wrong in (
        (labels, []), (labels, ["gone"]), (labels, ["red", NONE_OF_THESE]), (number, None), (number, float("nan")),
        (number, "3"), (pair, None), (pair, "gone"), (pair, ["red", "blue"]), (labels, [["red"]]),
    ):  # fmt: skip
        with pytest.raises(DataError, match="Choose the right"):
            _checked(served, wrong)
    feedback = open_feedback(tmp_path / "pairs", "pair")
    feedback.save(PAIR, pair.predict([PAIR])[0], "red", "run")
    texts = open_feedback(tmp_path / "texts", "text")
    texts.save(ONE, labels.predict([ONE])[0], ["blue", "red"], "run")
    texts.save(ONE, number.predict([ONE])[0], 253499.5, "run")
    with (tmp_path / "pairs" / "feedback.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["text"], row["text_pair"], row["label"]) == (ONE, OTHER, "red")
    with (tmp_path / "texts" / "feedback.csv").open(encoding="utf-8") as file:
        several, one = csv.DictReader(file)
    assert several["label"] == "blue|red"
    assert (one["label"], one["probability"]) == ("253499.5", "")


def test_examples_of_pairs(run_of, tmp_path):
    served = served_of(run_of("number", "pair"))
    found = examples_of(served, tmp_path / "examples", share=False, data=None)
    assert len(found) == 5
    assert all(set(row) == {"text", "text_pair"} and served.parts(row) == [*row.values()] for row in found)
    assert "zebra" in json.dumps(found)
    assert length_note(served.predictor.processor, PAIR) is None
    assert "64 tokens" in length_note(served.predictor.processor, {"text": "day " * 60, "text_pair": "night " * 9})


@pytest.mark.parametrize(("kind", "n"), [("labels", 3), ("number", 1)])
def test_images(tmp_path, kind, n):
    names = dict(enumerate(["a", "b", "c"][:n]))
    options = {"num_labels": n, "id2label": names, "problem_type": PROBLEMS[kind]}
    served = served_of(build("vit", tmp_path / kind, **options))
    upload = {"path": str(picture(tmp_path / "one.png"))}
    content = served.read([upload])
    answer = served.predict([content])[0]
    banner, _, value, *_ = _answered(served, content, answer)
    assert (value == answer.value) if kind == "number" else (set(value) == set(names.values()))
    assert ("said" in banner) == (kind == "labels")  # no interval is known of this number
    shown = BOXES["Image"].why(served.predictor, content, "a")
    assert ("What raises" in shown) == (kind == "number")
    why = explain_image(served.predictor, content, "a")
    assert abs(why.completeness_gap) < 0.1 * max(1.0, abs(why.change))
    rows, _ = classify(served, [upload["path"]], None, lambda *_: None)
    write_csv(tmp_path / "out.csv", rows)
    head = (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()[0]
    assert head == {"labels": "input,prediction", "number": "input,prediction"}[kind]
