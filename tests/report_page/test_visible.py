"""Strings of the data lose everything that hides, reorders or breaks, and nothing else."""

import unicodedata

import pytest

from hftl.report.visible import isolated, one_line, shorten, visible


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain | text, =cmd()", "plain | text, =cmd()"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("bell\x07null\x00delete\x7f", "bell\u2407null\u2400delete[U+007F]"),
        ("\u202egpj.exe", "[U+202E]gpj.exe"),
        ("a\u2066b\u2069\u200f\u200b\ufeff", "a[U+2066]b[U+2069][U+200F][U+200B][U+FEFF]"),
        ("line\u2028paragraph\u2029", "line[U+2028]paragraph[U+2029]"),
        ("half \ud83d of a pair", "half [U+D83D] of a pair"),
        ("\U000e0041 hidden", "[U+E0041] hidden"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("\U0001f469\u200d\U0001f680 caf\u00e9 \u65e5\u672c", "\U0001f469\u200d\U0001f680 caf\u00e9 \u65e5\u672c"),
    ],
)
def test_visible(text, expected):
    assert visible(text) == expected
    assert visible(expected) == expected


def test_nothing_reorders_or_fails_to_encode():
    shown = visible("".join(map(chr, range(0x110000))))
    shown.encode("utf-8")
    # Right-to-left letters order themselves inside their element; marks, embeddings, overrides, isolates would not.
    directing = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    assert not {unicodedata.bidirectional(c) for c in shown} & directing
    assert not {c for c in shown if unicodedata.category(c) == "Cc"} - {"\n", "\t"}


def test_shorten():
    assert shorten("abc", 3, 1) == ("abc", False)
    assert shorten("abcd", 3, 1) == ("abc\u2026", True)
    assert shorten("a\nb\nc", 10, 2) == ("a\nb\u2026", True)
    assert shorten("ends so\u2026", 10, 2) == ("ends so\u2026", False)
    assert shorten("", 3, 1) == ("", False)


def test_names_are_one_short_line():
    assert one_line("two\nlines\tof a name") == "two\u23celines of a name"
    assert one_line("x" * 5_000_000, 10) == "x" * 10 + "\u2026"
    assert isolated("a\u202eb") == "\u2068a[U+202E]b\u2069"
