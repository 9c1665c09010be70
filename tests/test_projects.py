"""The worked projects of docs/projects do what they say: their blocks run in order, as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import ROOT, environment


FOLDER = ROOT / "docs" / "projects"
PROJECTS = sorted(p.stem for p in FOLDER.glob("*.md") if p.name != "README.md")
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$|^<!-- expects: (.*?) -->$", re.MULTILINE | re.DOTALL)


def steps(name: str) -> list[tuple[str, str]]:
    """(language, code) of each block, and ("expects", pattern) of what the block before must print."""
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    return [("expects", m[3]) if m[3] else (m[1], m[2]) for m in BLOCK.finditer(text)]


def run(language: str, code: str, place: Path) -> str:
    words = ["bash", "-euo", "pipefail", "-c", code] if language == "bash" else [sys.executable, "-c", code]
    env = environment(PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    done = subprocess.run(words, cwd=place, env=env, capture_output=True, text=True, timeout=1200, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"{code}\n{said[-4000:]}"
    return said


def do(name: str, place: Path) -> None:
    said = ""
    for language, code in steps(name):
        if language == "expects":
            assert re.search(code, said), f"{code!r} is not in:\n{said[-4000:]}"
        else:
            said = run(language, code, place)


def test_the_projects_are_listed():
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert len(PROJECTS) == 3
    assert set(re.findall(r"\((\w+)\.md\)", index)) == set(PROJECTS)
    for name in PROJECTS:
        kinds = [kind for kind, _ in steps(name)]
        assert kinds[0] != "expects"
        assert kinds.count("expects") >= 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", PROJECTS)
def test_project(name, tmp_path):
    do(name, tmp_path)
