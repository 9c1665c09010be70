"""What a person reads of several labels, a number and pairs: page, card, terminal, and what may be published."""

import contextlib
import io
import json
import re
from html import unescape

import pytest
import yaml
from huggingface_hub import ModelCard

from hftl.cli import run_command
from hftl.evaluation.scale import Scale, figures
from hftl.evaluation.verdict import Verdict
from hftl.evidence.advice import NO_TRANSFER, Facts, advise
from hftl.publishing.card import CardOptions, card_text
from hftl.publishing.metadata import eval_entries
from hftl.publishing.public_report import public_report
from hftl.report.schema import REPORT
from hftl.report.show import show_result, show_seeds
from hftl.report.statements import banner, conformal
from hftl.seeds import summary
from hftl.tasks import get_task
from tests.report_page.test_schema import unknown


KINDS = [("labels", "text"), ("number", "text"), ("class", "pair"), ("labels", "pair"), ("number", "pair")]
SECRET = "zebra"  # a word of every row of the data
PERCENT = re.compile(r"\d%|points")


def report_of(run):
    return json.loads((run / "report.json").read_text(encoding="utf-8"))


def page_text(run):
    page = re.sub(r"<(style|script|svg)\b.*?</\1>", " ", (run / "report.html").read_text(encoding="utf-8"), flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.85, 0.8123), ["0.850", "0.812"]), ((1234.5, 3.2), ["1,234", "3"]), ((12.345,), ["12.3"]),
        ((0.0123, -0.2), ["0.012", "\u22120.200"]), ((1e-17, -2e-9), ["0.000", "0.000"]), ((0.0,), ["0.000"]),
        ((3e-7, 1e-7), ["3.00e\u221207", "1.00e\u221207"]), ((float("nan"), 2.0), ["\u2013", "2.00"]),
    ],
)  # fmt: skip
def test_numbers_have_three_digits(values, said):
    assert figures(*values) == said


def test_shares_and_numbers_are_written_apart():
    share, number = Scale(), Scale("R2", share=False)
    assert (share.value(0.8), share.bounds(0.75, 0.85), share.gaps(0.05)) == ("80.0%", "75.0 to 85.0%", ["+5.0"])
    assert (number.value(-0.8), number.bounds(-0.1, 0.85)) == ("\u22120.800", "\u22120.100 to 0.850")
    assert (number.value(None), share.value(float("nan"))) == ("\u2013", "\u2013")
    assert [get_task("text-classification", p).output.written().name for p in
            ("single_label_classification", "multi_label_classification", "regression")] == \
        ["accuracy", "micro F1", "R2"]  # fmt: skip


def test_the_verdict_of_numbers(run_of):
    report = report_of(run_of("number"))
    said = banner(report, report["evidence"])
    assert re.match(r"\+0\.\d+ in R2 over TF-IDF \(95% interval .*\)\.$", str(said["sentence"]))
    details = " ".join(map(str, said["details"]))
    assert re.search(r"RMSE says the same: 0\.\d+ lower \(95% interval \u2212", details)
    assert re.search(r"A test of random swaps: p . 0\.\d{3}\.$", details)
    assert "Pearson correlation says the same: +0." in details
    assert not PERCENT.search(f"{said['sentence']} {details}".replace("95% interval", ""))
    worse = {**report["evidence"]["verdict"]["rmse"], "label": "NEGATIVE", "gap": 0.25}
    turned = {"verdict": {**report["evidence"]["verdict"], "rmse": worse}}
    assert "RMSE says negative: 0.250 higher" in " ".join(map(str, banner(report, turned)["details"]))
    even = {**report["evidence"]["verdict"], "label": "NEUTRAL", "kind": "EQUIVALENT"}
    assert "lies within 0.02 of zero" in str(banner(report, {"verdict": even})["details"][0])
    open_ = {**even, "kind": "UNDECIDED", "gap": 0.1}
    assert "Ahead by 0.100, but 30 test rows cannot prove it: more would." in str(
        banner(report, {"verdict": open_})["details"][0]
    )


def test_advice_speaks_of_the_score():
    verdict = Verdict(label="NEGATIVE", gap=-0.2, low=-0.3, high=-0.1, p=0.001)
    scale = get_task("text-classification", "regression").output.written()
    facts = Facts(
        "probe", 0.3, 100, 500, "TF-IDF + ridge regression", 0.5, majority=0.0, neighbours=0.2, probe=0.3,
        scale=scale, per="", guess="the mean", given="number",
    )  # fmt: skip
    said = {step.advice: step.reason for step in advise(verdict, facts)}
    assert said[NO_TRANSFER].startswith("TF-IDF + ridge regression is better by 0.200 in R2 (95% 0.100 to 0.300)")
    every = " ".join(said.values())
    assert "100 rows (above 32) carry all layers" in every
    assert "class" not in every
    assert "accuracy" not in every


@pytest.mark.parametrize(("kind", "inputs"), KINDS)
def test_page(run_of, kind, inputs):
    run = run_of(kind, inputs)
    text, page = page_text(run), (run / "report.html").read_text(encoding="utf-8")
    assert ('id="matrix"' in page) == (kind == "class")
    assert ('href="#confusion"' in page) == ('<section id="confusion"' in page) == (kind == "class")
    for section in re.findall(r'href="#(\w+)"', page):
        assert f'id="{section}"' in page
    learned = {"class": "3 classes", "labels": "3 labels", "number": "a number"}[kind]
    assert f"adapted to {learned} with 108 training rows" in text
    assert ("accuracy" in text.lower()) == (kind == "class")
    assert ("For 90% of rows the truth should lie within 0.750 of the answer" in text) == (kind == "number")
    assert ('id="numbers"' in page) == (kind == "number")
    assert ("How good is each label?" in text) == (kind == "labels")
    assert ("Calibration" in text) is False
    if kind != "class":
        guess = {"labels": "always the most frequent set of labels", "number": "always the mean"}[kind]
        assert guess in text
        assert "class" not in text.lower().replace("text classification", "").replace("classic", "")
        worst = report_of(run)["evidence"]["worst_rows"][0]
        said = get_task("text-classification", report_of(run)["problem_type"]).output.say
        assert f"predicted {said(worst['predicted'], report_of(run)['data']['labels'])}" in text
    if kind == "number":
        assert "off by" in text
        assert "R2 The share of the variance" in text
    if inputs == "pair" and kind != "class":
        assert text.count(SECRET) == len(report_of(run)["evidence"]["worst_rows"])
        assert re.search(r'<p class="text" dir="auto">[^<]*zebra\n[^<]+</p>', page)  # both texts, a line each


@pytest.mark.parametrize(("kind", "inputs"), KINDS)
def test_terminal(run_of, kind, inputs, capsys):
    run = run_of(kind, inputs)
    report = report_of(run)
    show_result(report, str(run))
    shown = capsys.readouterr().err
    names = {"class": "accuracy", "labels": "micro F1", "number": "R2"}
    assert names[kind] in shown
    assert "-0.000" not in shown
    show_seeds({**report, "seeds": summary({1: report, 2: report}, 1)}, str(run))
    seeds = capsys.readouterr().err
    assert names[kind] in seeds
    assert ("RMSE" in seeds) == (kind == "number")


@pytest.mark.parametrize(("kind", "inputs"), KINDS)
def test_only_what_may_be_public_leaves(run_of, kind, inputs):
    run = run_of(kind, inputs)
    report = report_of(run)
    assert unknown(REPORT, {**report, "warnings": []}) == []
    public = public_report(report, yaml.safe_load((run / "config.yaml").read_text()))
    assert SECRET not in json.dumps(public)
    assert public["metrics"]["test"] == report["metrics"]["test"]
    for part in ("worst_rows", "ladder"):
        assert public["evidence"][part] == report["evidence"][part]
    headline = get_task("text-classification", report["problem_type"]).output.headline
    others = [name for name, value in report["evidence"]["verdict"].items() if isinstance(value, dict)]
    assert all(public["evidence"]["verdict"][name] == report["evidence"]["verdict"][name] for name in others)
    slices = [{"by": "text length", "slice": "1 to 9 characters", "count": 4, "weak": True,
               headline: {"value": 0.2, "low": 0.1, "high": 0.3}}]  # fmt: skip
    told = {**report, "evidence": {**report["evidence"], "slices": slices}}
    assert public_report(told)["evidence"]["slices"] == slices
    value = {"class": "20.0%", "labels": "20.0%", "number": "0.200"}[kind]
    assert f"{value} on 4 test rows" in card_text(told)
    secret = {
        **report["evidence"],
        "worst_rows": [{"row": 1, "true": ["zebra"], "predicted": "zebra", "text": "zebra"}],
    }
    assert SECRET not in json.dumps(public_report({**report, "evidence": secret}))
    if kind == "number":
        assert public["evidence"]["conformal"] == report["evidence"]["conformal"]


@pytest.mark.parametrize(("kind", "inputs"), KINDS)
def test_card(run_of, kind, inputs):
    run = run_of(kind, inputs)
    card = card_text(report_of(run), CardOptions(repo_id="me/it"), yaml.safe_load((run / "config.yaml").read_text()))
    read = ModelCard(card, ignore_metadata_errors=False)
    results = {(result.metric_type, str(result.metric_args)): result for result in read.data.eval_results}
    types = {"class": {"accuracy", "f1"}, "labels": {"f1", "exact_match"},
             "number": {"r_squared", "mse", "mae", "pearsonr", "spearmanr"}}[kind]  # fmt: skip
    assert set(read.data.metrics) == types
    assert types <= {metric for metric, _ in results}
    assert SECRET not in card
    assert eval_entries(report_of(run)) == []
    body = card.split("---", 2)[2]
    assert ("accuracy" in body.lower()) == (kind == "class")
    start = {"class": "Sorts a pair", "labels": "Tells which of 3 labels", "number": "Estimates a number for a"}[kind]
    assert f"\n\n{start}" in body
    assert "| --" not in body
    for table in re.findall(r"(?:^\|.*\n)+", body, flags=re.M):
        assert len({line.count("|") for line in table.splitlines()}) == 1
        assert "\\|---" not in table
    if inputs == "pair":
        assert "hftl predict me/it 'one text' --text_pair another" in body
        assert "pairs like those" in body


@pytest.mark.parametrize(("kind", "inputs"), KINDS)
def test_the_code_of_the_card_runs(run_of, kind, inputs):
    run = run_of(kind, inputs)
    card = card_text(report_of(run), CardOptions(repo_id="me/it"))
    first, second = re.findall(r"```python\n(.*?)```", card, flags=re.S)
    for code in (first, second):
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            exec(code.replace("me/it", str(run / "final" if code is first else run)), {})
        shown = told.getvalue()
        assert "None" not in shown
        if code is first:
            scores = [float(score) for score in re.findall(r"'score': ([-\d.e]+)", shown)]
            assert len(scores) == {"class": 1, "labels": 3, "number": 1}[kind]
        else:
            assert {"class": "Prediction(", "labels": "LabelSet(", "number": "Estimate("}[kind] in shown


@pytest.mark.parametrize(("kind", "inputs"), KINDS)
def test_predict_and_eval(run_of, kind, inputs, capsys, tmp_path):
    run = run_of(kind, inputs)
    words = ["a sad day", "--text_pair", "a happy one"] if inputs == "pair" else ["a sad day"]
    assert run_command(["predict", str(run), *words]) in (0, None)
    answer, *more = capsys.readouterr().out.rstrip("\n").split("\t")
    assert more[-1] == ("a sad day | a happy one" if inputs == "pair" else "a sad day")
    if kind == "number":
        low, high = map(float, more[0].split(" to "))
        assert low < float(answer) < high
    assert len(more) == {"class": 2, "labels": 1, "number": 2}[kind]
    run_command(["predict", str(run), *words, "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert isinstance(row["prediction"], {"class": str, "labels": list, "number": float}[kind])
    out = tmp_path / "out.csv"
    run_command(["predict", str(run), "--data", str(run / "data.jsonl"), "--output", str(out)])
    head = out.read_text(encoding="utf-8").splitlines()[0].split(",")
    assert head[-3:] == {"class": ["prediction", "probability", "not_sure"], "labels": [*head[-3:-1], "prediction"],
                         "number": ["prediction", "low", "high"]}[kind]  # fmt: skip
    capsys.readouterr()
    run_command(["eval", str(run), "--data", str(run / "data.jsonl")])
    shown = capsys.readouterr().out
    assert {"class": "accuracy", "labels": "mAP", "number": "RMSE"}[kind] in shown


def test_the_interval_in_words():
    assert conformal({"level": 0.9, "width": 1234.5}) == (
        "For 90% of rows the truth should lie within 1,234 of the answer, by the validation rows."
    )
