"""Hostile strings show as text; nothing but the page's own script runs, and nothing is asked of any other place."""

import base64
import hashlib
import itertools
import re
from collections import Counter

from hftl.report.html import render_page, write_page
from tests.report_page.hostile import hostile_run, plain_run
from tests.report_page.structure import parse, without_svg


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
