"""What make says before it works."""

import re
import shutil
import subprocess

import pytest

from recipes.tour import JOBS
from tests.command import ROOT


pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
NUMBERS = {4: "four", 5: "five", 6: "six"}


def said(target):
    """Return the commands of a target in a checkout that is not set up, without running them."""
    make = ["make", "-n", "--no-print-directory", "-W", "pyproject.toml", target]
    return subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_a_run_says_first_what_will_happen():
    first, *others = said("run")
    assert first.startswith("echo ")
    assert f"the installation, then {NUMBERS[len(JOBS)]} runs" in first
    assert re.search(r"about \d+ minutes", first)
    assert others[-1].endswith("-m recipes.tour")
    assert not any("Two steps" in line for line in said("setup"))


def test_installation_shows_that_it_moves():
    """Every installation has a line of its own before it, and they count up to their number."""
    lines = said("setup")
    places = [place for place, line in enumerate(lines) if "pip install" in line]
    words = [lines[place - 1] for place in places]
    assert [line.split()[1].strip('"') for line in words] == [f"{i}/{len(places)}" for i in range(1, len(places) + 1)]


def test_another_index_for_torch_is_asked_for_torch_alone():
    make = [
        "make",
        "-n",
        "--no-print-directory",
        "-W",
        "pyproject.toml",
        "setup",
        "TORCH_INDEX=https://example.org/cpu",
    ]
    lines = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    asked = [line for line in lines if "--index-url https://example.org/cpu" in line]
    assert len(asked) == 1
    assert re.search(r" torch==[\d.]+$", asked[0])
