"""Text can be read against what lies behind it, in light and dark."""

import re

import pytest


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
