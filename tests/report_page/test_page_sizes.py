"""Huge runs give a page that opens."""

from dataclasses import replace

from hftl.report.html import write_page
from hftl.report.rows import PageRows
from tests.report_page.example import evidence, image_rows, outcome, picture, report, stage
from tests.report_page.structure import parse


def test_a_huge_run_gives_a_page_that_opens(tmp_path):
    classes, n = 1000, 100_000
    labels = tuple(f"class {i} with a longish name" for i in range(classes))
    references, predictions, sure = outcome(n, classes)
    text = "\u65e5\u672c\u8a9e <b> " * 100_000
    rows = PageRows(labels, references, predictions, sure, lambda i: text, lambda i: text)
    found = evidence(
        rows,
        doctor=[{"check": "c", "level": "WARN", "count": 9, "rows": {"train": list(range(n))}, "fix": "m"}] * 300,
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
    assert "7,970 more are in report.json." in html
    assert "7,950 more are in report.json." in html
    assert len(parse(html).data["cells"]) > 20


def test_many_images_give_a_page_that_opens(tmp_path):
    rows = image_rows(4000)
    noise = [picture(i, (120, 90)) for i in range(8)]  # noise packs worst
    rows = replace(rows, test_content=lambda i: noise[i % 8], train_content=lambda i: noise[i % 8])
    path = tmp_path / "report.html"
    write_page(path, report(rows, evidence=evidence(rows), task="image-classification"), rows)
    assert path.stat().st_size < 3_000_000
