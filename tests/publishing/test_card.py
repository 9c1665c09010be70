"""The model card: front matter that the Hub takes, every part of the evidence, and names that can do no harm."""

import json
import re
from dataclasses import replace
from io import BytesIO

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData
from markdown_it import MarkdownIt
from PIL import Image

from hftl.publishing.card import CardOptions, Example, card_pictures, card_text
from hftl.publishing.metadata import Licence
from hftl.report.visible import code, md
from tests.hub.cards import card_problems
from tests.publishing.card_cases import HOSTILE, example_report
from tests.report_page.example import evidence, score, text_rows


MIT = Licence("mit", "chosen by the publisher")
PUSHED = CardOptions(licence=MIT, repo_id="me/tickets")


def body(card: str) -> str:
    return card.split("\n---\n", 1)[1]


def rendered(card: str) -> str:
    """As GitHub's Markdown reads it, raw HTML included."""
    return MarkdownIt("commonmark").enable("table").enable("strikethrough").render(body(card))


def read(card: str) -> ModelCardData:
    """Check the metadata and return them, as huggingface_hub reads them."""
    assert card_problems(card, "model") == ([], [])
    found = ModelCard(card).data
    assert isinstance(found, ModelCardData)
    return found


def test_front_matter():
    found = read(card_text(example_report(), PUSHED))
    assert (found.library_name, found.pipeline_tag, found.license) == ("transformers", "text-classification", "mit")
    assert (found.base_model, found.datasets, found.language) == ("org/model", None, None)
    assert found.tags == ["hftl", "lora"]
    assert found.model_name == "tickets"
    assert [(r.metric_name, r.metric_value) for r in found.eval_results or []] == [
        ("Accuracy", 0.84),
        ("Macro F1", 0.8),
    ]


@pytest.mark.parametrize(
    ("model", "base"),
    [
        ({"name": "org/model", "source": "hub"}, "org/model"),
        ({"name": "bert-base-uncased", "source": "cache"}, "bert-base-uncased"),
        ({"name": "sentence-transformers/all-MiniLM-L6-v2", "source": "packaged"}, "sentence-transformers/all-MiniLM-L6-v2"),
        ({"name": "efficientnet-lite0", "source": "packaged"}, None),
        ({"name": "/home/alice/my-model", "source": "folder"}, None),
    ],
)  # fmt: skip
def test_only_a_model_of_the_hub_is_named_as_base(model, base):
    card = card_text(
        example_report(model={"revision": None, "architecture": "Bert", "parameters": 1, **model}), PUSHED
    )
    assert read(card).base_model == base
    assert model["name"].rpartition("/")[2] in body(card)
    assert "alice" not in card


def test_data_of_the_hub_are_named_and_linked():
    report = example_report()
    report["data"]["name"] = "ns/data:small@v1"
    card = card_text(report, PUSHED)
    assert read(card).datasets == ["ns/data"]
    assert "(https://huggingface.co/datasets/ns/data)" in card
    assert "--data DATA" not in card  # whoever repeats it can load them


def test_all_of_the_evidence_is_shown():
    report = example_report()
    report["model"]["revision"] = "0123456789abcdef" * 2 + "01234567"
    card = card_text(report, PUSHED)
    for said in (
        "| Accuracy | 84.0% | 79.0 to 89.0% |",
        "| Macro F1 | 80.0% | 75.0 to 85.0% |",
        "**Pretraining helped.** +4.2 points of accuracy over TF-IDF + logistic regression",
        "(95% interval +2.1 to +6.3). That is the best",
        "| Arts | 80.0% | 60.0% | 10.0% | 5 |",
        "share of right answers: 0.030 (95% interval 0.010 to 0.050; chance alone: 0.020); 0.100 before",
        "If it only answers when at least 83.0% confident, 95.3% of its answers are right",
        "97.8% of the base's features can still be read (500 rows, on sample:x, a stand-in; 95% interval",
        "| kNN | frozen features of the pretrained model | 75.0% | 70.0 to 80.0% | 70.0% | 0.2 s |",
        "| lora | 1,000 parameters | 1e-05 to 0.0001 | 1.00 | 6 | 3.0 s |",
        "The check of the data found rows of validation or test that an earlier split holds too, which flatters the test (6)",
        "## Licence",
        "org/model](https://huggingface.co/org/model) at `0123456789ab`",
    ):
        assert said in card, said


@pytest.mark.parametrize(
    ("label", "kind", "title", "said"),
    [
        ("NEGATIVE", None, "Pretraining hurt", "The whole interval is below zero"),
        ("NEUTRAL", "EQUIVALENT", "Equivalent: a simple model does as well", "within 2 points of zero"),
        ("NEUTRAL", "UNDECIDED", "Undecided: too few test rows to tell", "60 test rows cannot"),
    ],
)
def test_a_verdict_against_transfer_is_said_without_advice(label, kind, title, said):
    found = evidence(text_rows(), label)
    found["verdict"] |= {"kind": kind, "advice": [{"advice": "use the baseline", "reason": "It costs less."}]}
    card = card_text(example_report() | {"evidence": found}, PUSHED)
    assert f"**{title}.** " in card
    assert said in card
    assert "use the baseline" not in card  # a word to who trained it, not to who reads the card


def test_pictures_and_language():
    report = example_report()
    report["evidence"]["confusion"] = [[0, 0, 9], [0, 1, 7], [2, 1, 2]]
    pictures = card_pictures(report)
    assert set(pictures) == {"ladder.png", "confusion.png"}
    for shows, png in pictures.values():
        with Image.open(BytesIO(png)) as picture:
            assert picture.format == "PNG"
            assert picture.width > 1000
            assert picture.convert("RGB").getpixel((1, 1)) == (255, 255, 255)  # as a page in the dark shows it too
        assert "U+2068" not in shows
    shown = tuple((name, shows) for name, (shows, _) in pictures.items())
    card = card_text(report, replace(PUSHED, pictures=shown, language="de"))
    assert "](ladder.png)" in card
    assert (
        "![Confusion matrix, true classes by predicted ones: 9 of 18 test rows lie off its diagonal.](confusion.png)"
        in card
    )
    assert read(card).language == "de"
    report["data"]["name"] = "sample:wikipedia-topics"
    assert read(card_text(report, PUSHED)).language == "en"
    assert card_pictures(report | {"evidence": None, "baselines": []}) == {}


def test_without_evidence_it_says_so():
    card = card_text(example_report() | {"evidence": None, "baselines": []}, PUSHED)
    read(card)
    assert "Whether pretraining helped is not known" in card
    assert "Against simpler models" not in card
    assert "How far to trust" not in card
    assert "| Accuracy | 84.0% | 79.0 to 89.0% |" in card


@pytest.mark.parametrize("missing", ["verdict", "forgetting", "calibration", "abstain", "slices", "doctor", "ladder"])
@pytest.mark.parametrize("absent", [True, False])
def test_any_part_of_the_evidence_may_be_missing(missing, absent):
    report = example_report()
    report["evidence"][missing] = None
    if absent:
        del report["evidence"][missing]
    read(card_text(report, PUSHED))


@pytest.mark.parametrize(
    "missing",
    ["pooling", "baselines", "per_class", "probe", "stages", "timing", "environment", "seed", "warnings", "parity"],
)
def test_reports_of_other_versions(missing):
    report = example_report(parity={})
    report.pop(missing)
    assert read(card_text(report, PUSHED)).pipeline_tag == "text-classification"


def test_many_classes_are_folded_to_the_weakest():
    labels = tuple(f"intent {i}" for i in range(77))
    card = card_text(example_report(labels), PUSHED)
    table = card.split("### Classes")[1].split("###")[0]
    shown = re.findall(r"^\| (intent \d+) \|", table, re.MULTILINE)
    assert shown == [f"intent {i}" for i in range(15)]  # F1 rises with the number in this report
    assert "These are the 15 classes with the lowest F1; `report.json` has the other 62 as well." in table
    assert "intent 0, intent 1" in card
    assert "intent 11 and 65 more" in card


def test_limits_come_from_the_figures():
    report = example_report(("Arts", "History", "Science", "Empty"))
    report["data"]["cut"] = {"rows": 303, "of": 1323, "tokens": 128}
    report["evidence"]["confusion"] = [[0, 0, 9], [0, 1, 7], [2, 1, 2], [1, 2, 1]]
    report["per_class"][3] |= {"support": 0, "f1": 0.0}
    report["evidence"]["slices"] = [
        {"by": "text length", "slice": "5 to 9 characters", "count": 20, "accuracy": score(0.4), "weak": True}
    ]
    limits = body(card_text(report, PUSHED)).split("## Intended use and limits")[1].split("## Evidence")[0]
    for said in (
        "always answers with one of its 4 classes",
        "figures hold for texts like those of its own data",
        "only 60 rows",
        "Arts (F1 10.0%, 5 test rows)",
        "1 class has no test row at all",
        "by text length, 5 to 9 characters: accuracy 40.0% on 20 test rows",
        "first 128 tokens of a text and nothing after them; 22.9% of the texts",
        "Arts taken for History (7), Science taken for History (2).",
        "Fairness towards groups of people was not examined",
    ):
        assert said in limits, said


def test_no_threshold_and_no_temperature():
    report = example_report()
    report["evidence"]["abstain"] |= {"threshold": None, "test_precision": None, "coverage": None}
    report["evidence"]["calibration"]["temperature"] = 1.0
    card = card_text(report, PUSHED)
    assert "No threshold reached the target of 95%" in card
    assert "no temperature was needed" in card
    report["evidence"]["abstain"] |= {"threshold": 0.0, "test_precision": score(0.97), "coverage": 1.0}
    assert "If it answers everything, 97.0% of its answers are right" in card_text(report, PUSHED)


def test_seeds_and_parity():
    spread = {"values": [0.5, 0.7], "mean": 0.6, "std": 0.1414}
    seeds = {
        "seeds": [1, 2],
        "kept": 2,
        "test": dict.fromkeys(("accuracy", "macro_f1", "log_loss"), spread),
        "validation": {},
    }
    parity = {
        "final": {"rows": 64, "origin": "test rows of the run", "labels_equal": True, "max_difference": 1.2e-7, "note": ""},
        "hub": {"rows": 64, "origin": "x", "labels_equal": None, "max_difference": None, "note": "not checked"},
    }  # fmt: skip
    card = card_text(example_report(seeds=seeds, parity=parity), PUSHED)
    assert "Trained 2 times, on the same splits. Seed 2, the best on validation, is published." in card
    assert "| Accuracy | 60.00% | 14.14% | 50.00%, 70.00% |" in card
    assert "The saved model was loaded in a fresh process without hftl" in card
    assert "on 64 rows (test rows of the run): the same labels, probabilities apart by at most 1e-07" in card
    assert "downloaded again" not in card  # that one was not checked


def test_names_from_elsewhere_do_no_harm():
    report = example_report(HOSTILE)
    report["data"]["name"] = "d.csv\n---\nlicense: gpl-3.0\n---\n# <script>alert(1)</script>"
    report["model"] |= {"name": "/tmp/m`x`|<b>", "source": "folder"}
    report["evidence"]["verdict"]["against"] = HOSTILE[1]
    report["evidence"]["confusion"] = [[i, (i + 1) % 8, 5 + i] for i in range(8)]
    card = card_text(report, PUSHED)
    assert read(card).license == "mit"
    html = rendered(card)
    assert "<img" not in html
    assert "<script" not in html
    assert not re.search(r"<b>|onerror=alert\(1\)>", html)
    allowed = ("https://huggingface.co/", "https://pypi.org/project/hftl/")
    assert all(link.startswith(allowed) for link in re.findall(r'href="([^"]+)"', html))
    assert not re.search(r"[\u202a-\u202e]", card)
    # a bare address or mention would become a link on the Hub without any markup
    assert not re.search(r"https?://evil|www\.evil|(?<!\w)@someone", card)
    classes = html.split("<h3>Classes</h3>")[1].split("</table>")[0]
    lines = re.findall(r"<tr>(.*?)</tr>", classes, re.DOTALL)
    assert len(lines) == 1 + len(HOSTILE)
    assert {line.count("<td") + line.count("<th") for line in lines} == {5}
    assert "a|b|c" in classes  # shown as it is


@pytest.mark.parametrize("text", [*HOSTILE, "", " ", "a" * 500, "\\", "x\\|y", "1. one", "- x", "tab\there"])
@pytest.mark.parametrize("write", [md, code])
def test_a_name_in_a_cell_stays_in_its_cell(text, write):
    table = f"| a | b |\n|---|---|\n| {write(text)} | end |\n"
    html = MarkdownIt("commonmark").enable("table").render(table)
    assert len(re.findall(r"<td>", html)) == 2
    assert "<td>end</td>" in html
    assert not re.search(r"<(a|img|em|strong|script|b|h1)\b", html)


def test_right_to_left_names_do_not_reorder_the_line():
    assert md(HOSTILE[5]) == f"\u2068{HOSTILE[5]}\u2069"
    assert md("plain_name") == "plain\\_name"


def test_no_row_gets_in_with_notes():
    report = example_report()
    report["warnings"] = [
        "3 broken images are left out; the first: /home/alice/pics/secret party.jpg: broken",
        "all well",
    ]
    report["data"]["skipped"] = ["/home/alice/pics/secret party.jpg: broken"] * 3
    report["evidence"]["doctor"][1]["fix"] = "Drop 'my dear diary'."
    report["evidence"]["forgetting"]["note"] = "The original head was not measured: /home/alice/model has none."
    card = card_text(report, PUSHED, {"task": "text-classification", "data": "/home/alice/tickets.csv"})
    for secret in ("alice", "secret party", "diary", "/home"):
        assert secret not in card
    assert "3 rows of the data could not be read" in card
    assert "all well" in card


def test_settings_are_those_that_differ_from_the_defaults():
    config = {
        "task": "text-classification", "data": "/x/tickets.csv", "method": "lora", "lora_r": 16, "cache_views": 4,
        "max_seq_length": 128, "learning_rate": 1e-4, "deepspeed": "/x/ds.json", "run_name": "alice", "fp16": False,
        "class_weights": "auto", "text_column": "body",
    }  # fmt: skip
    card = card_text(example_report(), PUSHED, config)
    settings = next(line for line in card.splitlines() if line.startswith("| Settings"))
    for shown in (
        "`lora_r 16`",
        "`max_seq_length 128`",
        "`learning_rate 0.0001`",
        "`class_weights auto`",
        "`fp16 off`",
    ):
        assert shown in settings
    for hidden in ("cache_views", "deepspeed", "alice", "text_column", "data"):
        assert hidden not in settings


def test_before_there_is_a_repository():
    card = card_text(example_report(), CardOptions(config_place="../config.yaml"))
    assert read(card).license is None
    assert "| Licence | not chosen yet |" in card
    assert 'model="path/or/id/of/this/model"' in card
    assert "hftl train ../config.yaml --data DATA" in card
    assert "hf download" not in card


def test_an_adapter_alone():
    card = card_text(example_report(), CardOptions(licence=MIT, repo_id="me/tickets", adapter_only=True))
    found = read(card)
    assert (found.library_name, found.base_model) == ("peft", "org/model")
    assert found.to_dict()["base_model_relation"] == "adapter"
    assert "hftl predict" not in card
    assert "PeftModel.from_pretrained(base, name).merge_and_unload()" in card


def test_examples_only_where_given():
    examples = (Example("Arts", "a | text\nof two lines", None, None), Example("History", "another @one", None, None))
    card = card_text(example_report(), CardOptions(licence=MIT, repo_id="me/tickets", examples=examples))
    assert "| a \\| text⏎of two lines | Arts |" in card
    found = read(card).to_dict()["widget"]
    assert found[0] == {"text": "a | text\nof two lines", "example_title": "Arts"}
    assert "## Examples" not in card_text(example_report(), PUSHED)


def test_code_blocks_are_whole():
    card = card_text(example_report(), CardOptions(licence=MIT, repo_id="me/tickets", has_adapter=True))
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        compile(block, "card", "exec")
    front = yaml.safe_load(card.split("\n---\n")[0].removeprefix("---\n"))
    assert json.loads(json.dumps(front)) == front  # plain values: no tags of Python
