"""The page as a file: whole, bounded, safe, and good with any part of the evidence missing."""

import base64
import hashlib
import itertools
import re
from collections import Counter
from dataclasses import replace
from html import escape as html_escape
from pathlib import Path

import numpy as np
import pytest

from hftl.report.html import render_page, write_page
from hftl.report.rows import PageRows
from tests.report_page.example import evidence, image_rows, outcome, page, picture, report, score, stage, text_rows
from tests.report_page.structure import parse


PARTS = {
    "ladder": (),
    "verdict": (),
    "forgetting": ("forgetting",),
    "calibration": ("calibration",),
    "abstain": ("abstain",),
    "slices": ("slices",),
    "worst_rows": ("worst",),
    "suspects": ("suspects",),
    "doctor": ("doctor",),
    "seconds": (),
}
SECTIONS = [
    "verdict",
    "ladder",
    "forgetting",
    "training",
    "confusion",
    "classes",
    "worst",
    "suspects",
    "calibration",
    "abstain",
    "slices",
    "doctor",
    "notes",
    "reproduce",
    "glossary",
]


def sections(html: str) -> list[str]:
    return re.findall(r'<section id="([a-z]+)"', html)


def text_of(html: str) -> str:
    return " ".join(" ".join(itertools.chain(*parse(html).texts.values())).split())


def sentence(html: str) -> str:
    found = re.search(r'<p class="sentence">(.*?)</p>', html, re.S)
    assert found
    return re.sub(r"<.*?>", "", found[1])


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> str:
    return page(tmp_path_factory.mktemp("page"), text_rows()).read_text(encoding="utf-8")


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
        ("POSITIVE", "Transfer worked", "+4.2 points of accuracy over {} (95% interval +2.1 to +6.3)."),
        (
            "NEGATIVE",
            "Transfer hurt",
            "\u22124.2 points of accuracy against {} (95% interval \u22126.3 to \u22122.1).",
        ),
        ("NEUTRAL", "No clear difference", "+0.0 points of accuracy against {} (95% interval \u22122.1 to +2.1)."),
    ],
)
def test_verdict_in_words(label, title, words):
    rows = text_rows()
    html = render_page(Path("runs/x"), report(rows, evidence=evidence(rows, label)), rows)
    assert f'<h2 id="verdict-title">{title}</h2>' in html
    assert sentence(html) == words.format("TF-IDF + logistic regression")
    assert "McNemar&#39;s test: p\u00a0&lt;\u00a00.001" in html
    assert "Gather more labels." in html
    assert "The interval is wide." in html


def test_figures_of_each_section_are_there(whole):
    text = text_of(whole)
    for words in (
        "Kept 97.8% of the base model's ability",
        "Probe accuracy after over before.",
        "88.0% (85.0 to 91.0%)",
        "91.0%",
        "1.900",
        "2.200",
        "a temperature of 1.40",
        "0.030",
        "Answering only when at least 83.0% sure, it is right in 95.3% of its answers (95% interval 93.3 to 97.3%; "
        "wished: 95%) and answers 71.0% of the rows.",
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
        "0.030 (0.010 to 0.050)",
        "would show an error of 0.020 by chance",
        "(by chance: 12.5%)",
        "a note",
    ):
        assert words in text, words


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("how", ["absent", "None", "empty"])
def test_missing_part(part, how, monkeypatch):
    monkeypatch.setattr("hftl.report.html.draw", lambda specs: ["<svg></svg>"] * len(specs))
    rows = text_rows()
    found = evidence(rows)
    if how == "absent":
        del found[part]
    else:
        found[part] = None if how == "None" or part == "seconds" else type(found[part])()
    gone = set(PARTS[part]) if not (part == "doctor" and how == "empty") else set()
    html = render_page(Path("runs/x"), report(rows, evidence=found), rows)
    assert sections(html) == [s for s in SECTIONS if s not in gone]
    assert ("No verdict" in html) == (part == "verdict")


@pytest.mark.parametrize("found", [{}, {"evidence": None}, {"evidence": {}}])
def test_no_evidence_and_no_stages(found):
    rows = text_rows()
    html = render_page(Path("runs/x"), report(rows, **{"baselines": [], "stages": [], "warnings": [], **found}), rows)
    assert sections(html) == ["verdict", "ladder", "confusion", "classes", "reproduce", "glossary"]
    assert "This run was not compared with models that learn without transfer." in html
    assert "84.0%" in html


def test_optional_figures_inside_the_parts(monkeypatch):
    monkeypatch.setattr("hftl.report.html.draw", lambda specs: ["<svg></svg>"] * len(specs))
    rows = text_rows()
    found = evidence(
        rows,
        forgetting={
            "kept": 1.0,
            "definition": "d",
            "rows": 5,
            "retention": "x",
            "probe": {"before": 0.9, "after": 0.9},
            "knn_agreement": None,
            "cka": [],
            "original_head": None,
        },
        abstain={"precision": 0.99, "threshold": None, "test_precision": None, "coverage": None, "curve": []},
        calibration={"temperature": 1.0, "before": {"ece": 0.1}, "after": {"ece": float("nan")}},
        suspects=[{"row": 0, "given": 0, "suggested": 1, "score": 0.9}],
        verdict={
            "label": "POSITIVE",
            "gap": 0.1,
            "low": 0.01,
            "high": 0.2,
            "p": None,
            "against": "x",
            "macro_f1": None,
        },
    )
    text = text_of(render_page(Path("runs/x"), report(rows, evidence=found), rows))
    assert "No threshold reached the wished 99% of right answers" in text
    assert "Kept 100.0%" in text
    assert "McNemar" not in text
    assert "score 0.900, training row 0" in text
    assert "by chance" not in text.split("How good is each class?")[1]
    assert "nan" not in text.lower().replace("finance", "")


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


def test_smallest_runs():
    sure = np.array([1.0, 0.0])
    for references, predictions in (([0, 0], [0, 0]), ([0, 1], [1, 0]), ([1, 1], [0, 0])):
        rows = PageRows(("a", "b"), np.array(references), np.array(predictions), sure, str, str)
        found = evidence(rows, worst_rows=[], suspects=[])
        html = render_page(Path("runs/x"), report(rows, evidence=found), rows)
        assert len(parse(html).data["cells"]) == len(set(zip(references, predictions, strict=True)))
        assert ("No test row was answered wrongly." in html) == (references == predictions)


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
    assert f'id="command">{html_escape(command, quote=True)}<'.replace("&#x27;", "&#39;") in Path(path).read_text(
        "utf-8"
    )
    write_page(Path(path), report(rows), rows, run_dir=Path("else/where"))
    assert 'id="command">hftl train else/where/config.yaml<' in Path(path).read_text("utf-8")


HOSTILE = (
    "<script>window.hacked=1</script>",
    "</script><img src=x onerror=window.hacked=1>",
    "<!--<script>",
    "a|b\n# c",
    "\u202egpj.exe",
    "=cmd()|' /C calc'!A0",
    "{{ 7*7 }}{% raw %}",
    '"onmouseover="window.hacked=1',
    "&lt;b&gt;",
    "x" * 4000,
    "\x00\x1b[31m\ud800",
    "\u2028\u2029'`${1}",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "]]>",
)


def hostile_run(n: int = 80) -> tuple[dict, PageRows]:
    """Every string that comes from data or names is hostile; the figures are those of `plain_run`."""
    labels = HOSTILE
    references, predictions, sure = outcome(n, len(labels))
    texts = [f"{HOSTILE[i % len(HOSTILE)]} row {i}" for i in range(n)]
    rows = PageRows(labels, references, predictions, sure, texts.__getitem__, texts.__getitem__)
    bad = HOSTILE[1]
    found = evidence(rows)
    for one, name in zip(found["ladder"], HOSTILE, strict=False):
        one["name"] = name
    found["verdict"]["against"] = HOSTILE[0]
    found["verdict"]["advice"] = [{"advice": bad, "reason": HOSTILE[0]}]
    for one in found["slices"]:
        one["slice"] = one["by"] = bad
    found["forgetting"].update(
        retention=bad, definition=bad, note=bad, cka=[{"block": h, "value": 0.5} for h in HOSTILE]
    )
    found["forgetting"]["original_head"]["kind"] = bad
    for part in ("calibration", "abstain"):
        found[part]["note"] = bad
    for one in found["doctor"]:
        one.update(check=bad, mend=HOSTILE[0], rows={bad: [1, 2]})
    made = report(rows, evidence=found, warnings=list(HOSTILE), method=HOSTILE[0])
    made["data"]["name"] = made["model"]["name"] = made["data"]["origins"]["train"] = bad
    made["model"]["revision"] = made["environment"]["device"] = bad
    made["stages"][1]["name"] = bad
    made["stages"][1]["learning_rates"] = {bad: 1e-4, HOSTILE[0]: 1e-5}
    made["data"]["skipped"] = [f"{bad}.png: broken"]
    return made, rows


def plain_run() -> tuple[dict, PageRows]:
    """The same run with harmless strings."""
    made, rows = hostile_run()
    names = {name: f"name {i}" for i, name in enumerate(HOSTILE)}

    def harmless(value):
        if isinstance(value, dict):
            return {names.get(k, k): harmless(v) for k, v in value.items()}
        if isinstance(value, list):
            return [harmless(v) for v in value]
        return names.get(value, value) if isinstance(value, str) else value

    labels = tuple(names[label] for label in rows.labels)
    return harmless(made), replace(rows, labels=labels, test_content=lambda i: "text", train_content=lambda i: "text")


def without_svg(html: str) -> str:
    return re.sub(r"<svg xmlns.*?</svg>", "", html, flags=re.S)


def test_hostile_strings_change_no_structure(tmp_path):
    made, rows = hostile_run()
    path = tmp_path / "x" / "report.html"
    path.parent.mkdir()
    write_page(path, made, rows)
    html = path.read_text(encoding="utf-8")
    plain, harmless_rows = plain_run()
    expected = render_page(path.parent, plain, harmless_rows)
    found = parse(html)
    assert Counter(parse(without_svg(html)).tags) == Counter(parse(without_svg(expected)).tags)
    assert [t for t, _ in found.tags].count("script") == 2
    assert not [(t, n) for t, n, _ in found.attributes if n.startswith("on") or n in ("style", "srcdoc")]
    assert "\u202e" not in html
    assert "\x00" not in html
    texts = list(itertools.chain(*found.texts.values()))
    for words in ("<script>window.hacked=1</script>", "[U+202E]gpj.exe", "=cmd()|' /C calc'!A0", "{{ 7*7 }}{% raw %}"):
        assert words in texts
    shown = [e["text"] for entries in found.data["cells"].values() for e in entries]
    assert any(text.startswith("</script><img src=x onerror=window.hacked=1> row ") for text in shown)
    assert any(text == "x" * 300 + "\u2026" for text in shown)


def test_only_its_own_script_and_style_may_run(whole):
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', whole)
    assert policy
    rules = dict(rule.split(" ", 1) for rule in policy[1].replace("&#39;", "'").split("; "))
    for name, tag in (("style-src", "<style>"), ("script-src", "<script>")):
        body = whole.split(tag)[1].split(tag.replace("<", "</"))[0]
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert [n for _, n, _ in parse(whole).attributes if n == "style" or n.startswith("on")] == []


def test_nothing_points_outside(whole):
    links = [v for _, n, v in parse(whole).attributes if n in ("href", "src", "srcset", "action", "data", "poster")]
    assert links
    assert all(link.startswith(("#", "data:image/webp;base64,")) for link in links)
    assert "@import" not in whole
    assert "url(" not in whole


def test_charts_that_cannot_be_drawn_are_said(monkeypatch):
    monkeypatch.setattr("hftl.report.html.draw", lambda specs: "the process ended: <b>")
    rows = text_rows()
    html = render_page(Path("runs/x"), report(rows, evidence=evidence(rows)), rows)
    assert html.count("This chart could not be drawn: the process ended: &lt;b&gt;") == 7
    assert sections(html) == SECTIONS


def test_a_huge_run_gives_a_page_that_opens(tmp_path):
    classes, n = 1000, 100_000
    labels = tuple(f"class {i} with a longish name" for i in range(classes))
    references, predictions, sure = outcome(n, classes)
    text = "\u65e5\u672c\u8a9e <b> " * 100_000
    rows = PageRows(labels, references, predictions, sure, lambda i: text, lambda i: text)
    found = evidence(
        rows,
        doctor=[{"check": "c", "level": "WARN", "count": 9, "rows": {"train": list(range(n))}, "mend": "m"}] * 300,
    )
    found["suspects"] *= 1000
    found["worst_rows"] *= 1000
    long_log = [{"loss": 1.0, "step": i} for i in range(50_000)]
    made = report(rows, evidence=found, stages=[stage("s", 50_000, history=long_log)], warnings=[])
    path = tmp_path / "report.html"
    write_page(path, made, rows)
    html = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 3_000_000
    assert "The matrix shows 24 of 1,000 classes" in html
    assert "7,970 more stand in report.json." in html
    assert "7,950 more stand in report.json." in html
    assert len(parse(html).data["cells"]) > 20


def test_many_images_give_a_page_that_opens(tmp_path):
    rows = image_rows(4000)
    noise = [picture(i, (120, 90)) for i in range(8)]  # noise packs worst
    rows = replace(rows, test_content=lambda i: noise[i % 8], train_content=lambda i: noise[i % 8])
    path = tmp_path / "report.html"
    write_page(path, report(rows, evidence=evidence(rows), task="image-classification"), rows)
    assert path.stat().st_size < 3_000_000


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrast(whole, theme):
    """WCAG 2.2: 4.5 to 1 for text."""
    colours = {
        name: pair[theme] for name, *pair in re.findall(r"--([a-z-]+): light-dark\((#\w{6}), (#\w{6})\)", whole)
    }
    pairs = [(ink, back) for ink in ("ink", "muted", "accent") for back in ("card", "soft")]
    pairs += [("ink", "page"), ("muted", "page")]
    pairs += [(mark, "card") for mark in ("base", "cool", "good", "bad", "even")]
    pairs += [(tone, f"{tone}-back") for tone in ("good", "bad", "even")]
    pairs += [("ink", f"{tone}-back") for tone in ("good", "bad", "even")]
    for ink, back in pairs:
        light, dark = sorted((luminance(colours[ink]), luminance(colours[back])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, back)


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
