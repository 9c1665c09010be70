"""What the page says of a whole run: its order, its sentences, its figures."""

import re
from html import escape as html_escape
from pathlib import Path

import pytest

from hftl.evidence.advice import NO_TRANSFER, VERBS
from hftl.report.html import render_page, write_page
from hftl.report.views import command_of
from tests.report_page.example import evidence, report, score, stage, text_rows
from tests.report_page.structure import SECTIONS, parse, sections, sentence, text_of


def test_order_and_one_sentence_each(whole):
    assert sections(whole) == SECTIONS
    assert re.findall(r'<li><a href="#([a-z]+)"', whole) == SECTIONS[1:]
    for part in whole.split("<section ")[2:-1]:  # the verdict and the glossary explain themselves
        assert part.count('<p class="read">') >= 1
    ids = parse(whole).ids
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("label", "title", "words"),
    [
        ("POSITIVE", "Pretraining helped", "+4.2 points of accuracy over {} (95% interval +2.1 to +6.3)."),
        (
            "NEGATIVE",
            "Pretraining hurt",
            "\u22124.2 points of accuracy against {} (95% interval \u22126.3 to \u22122.1).",
        ),
        ("NEUTRAL", "No clear difference", "+0.0 points of accuracy against {} (95% interval \u22122.1 to +2.1)."),
    ],
)
def test_verdict_in_words(label, title, words):
    rows = text_rows()
    html = render_page(Path("runs/x"), report(rows, evidence=evidence(rows, label)), rows)
    assert f"</svg>\n{title}</h2>" in html
    assert sentence(html) == words.format("TF-IDF + logistic regression")
    assert "<p>McNemar&#39;s test: p &lt; 0.001.</p></details>" in html  # the statistics are there for who looks
    assert "<li><strong>Train longer</strong><p>The loss still fell.</p>" in html
    assert "<code>hftl train runs/x/config.yaml --max_steps 90</code>" in html
    for advice, verb in VERBS.items():
        assert command_of({"advice": advice, "flags": ""}, "runs/x") == f"hftl {verb} runs/x/config.yaml"
    assert command_of({"advice": NO_TRANSFER, "flags": ""}, "runs/x") == ""


def test_figures_of_each_section_are_there(whole):
    text = text_of(whole)
    for words in (
        "97.8% of the base's features can still be read (500 rows,",
        "on sample:x, a stand-in",
        "Probe accuracy after over before.",
        "88.0%, a change of −2.0 points (95% −5.0 to +1.0)",  # noqa: RUF001
        "91.0%",
        "1.900",
        "2.200",
        "a temperature of 1.40",
        "0.030",
        "If it only answers when at least 83.0% confident, 95.3% of its answers are right (95% interval 93.3 to 97.3%; "
        "target: 95%), and it answers 71.0% of the rows.",
        "train 0, 1, 2, 3, 4, 5, 6, 7, \u2026; test 4,000",
        "Drop them.",
        "exact duplicates",
        "a note on it",
        "1e-05 to 0.0001",
        "1 h 6 min",
        "of which evidence 12 s",
        "python 3.11, hftl 0.1.0",
        "cpu, 1 process, 2 threads",
        "hub abc123",
        "train: the text of row 3",
        "97.0% sure, loss 3.20, test row 3",
        "2.8% against 42.9%, training row 3, row 1,003 of its source",
        "0.010 to 0.050",
        "chance alone: 0.020",
        "(by chance: 12.5%)",
        "a note",
    ):
        assert words in text, words


def test_probe_without_steps_and_seeds():
    rows = text_rows()
    seeds = {"seeds": [1, 2], "kept": 2}
    for split in ("test", "validation"):
        seeds[split] = {"macro_f1": {"values": [0.81, 0.83], "mean": 0.82, "std": 0.0141}}
    stages = [stage("probe", 0, learning_rates={}, reads="features")]
    text = text_of(render_page(Path("runs/x"), report(rows, stages=stages, seeds=seeds), rows))
    assert "closed-form solution" in text
    assert "0.8100 0.8300" in text
    assert "This page shows seed 2" in text


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("runs/x.partial/report.html", "hftl train runs/x/config.yaml"),
        ("runs/x/report.html", "hftl train runs/x/config.yaml"),
        ("report.html", "hftl train config.yaml"),
        ("my runs/$(x).partial/report.html", "hftl train 'my runs/$(x)/config.yaml'"),
    ],
)
def test_command_names_the_finished_folder(path, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    rows = text_rows()
    write_page(Path(path), report(rows), rows)
    assert f"<code>{html_escape(command, quote=True)}<".replace("&#x27;", "&#39;") in Path(path).read_text("utf-8")
    write_page(Path(path), report(rows), rows, run_dir=Path("else/where"))
    assert "<code>hftl train else/where/config.yaml<" in Path(path).read_text("utf-8")


def test_classes_with_the_lowest_f1_first(whole):
    table = whole.split('<section id="classes">')[1].split("</section>")[0]
    f1 = [float(v) for v in re.findall(r'data-value="([\d.]+)"', table)[::4]]
    assert f1 == sorted(f1)
    assert len(f1) == 3


def test_score_of_an_unknown_kind_is_shown():
    rows = text_rows()
    found = evidence(rows)
    found["ladder"].append(
        {"name": "new", "kind": "kind of tomorrow", "accuracy": score(0.5), "macro_f1": score(0.5), "seconds": None}
    )
    assert "kind of tomorrow" in render_page(Path("runs/x"), report(rows, evidence=found), rows)
