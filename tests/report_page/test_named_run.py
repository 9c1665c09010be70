"""A run says what it is called, when and by whom it was made; its loss curve has about 20 points."""

from hftl.adapt import adapt
from hftl.config import read_yaml
from hftl.publishing.public_report import public_config, public_report
from hftl.report.views import head
from tests.report_page.example import report, text_rows
from tests.runs import SMALL, checkpoint, tiny_data


def test_a_run_with_a_name(tmp_path):
    flags = {**SMALL, "max_steps": 40, "name": "Ticket sorter", "author": "Ada"}
    where = {
        "data": tiny_data("bert", tmp_path),
        "model": str(checkpoint("bert", tmp_path)),
        "output_dir": tmp_path / "run",
    }
    made = adapt("text-classification", method="full", **where, **flags)
    losses = [entry["loss"] for entry in made.report["stages"][-1]["history"] if "loss" in entry]
    assert 18 <= len(losses) <= 22
    assert (made.report["name"], made.report["author"]) == ("Ticket sorter", "Ada")
    shown = head(made.report)
    assert shown["title"] == "Ticket sorter"
    assert shown["made"].endswith(" by Ada")
    config = read_yaml(made.run_dir / "config.yaml")
    assert config["name"] == "Ticket sorter"  # a repeated run is called the same
    assert "Ada" not in str(public_report(made.report, config)) + str(public_config(config, made.report))


def test_without_a_name():
    older = report(text_rows())
    assert head(older) == {"title": "model on tickets.csv", "made": ""}
    made = head({**older, "date": "2026-03-04T05:06:07+00:00", "author": None})["made"]
    assert made == "4 March 2026"
