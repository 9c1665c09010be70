"""What is installed is what the checkout has, under no other top-level name than hftl."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.command import ROOT, environment, shell


PIP = ("-m", "pip", "--disable-pip-version-check", "-q")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build from a copy: setuptools leaves build/ behind, whose old files it would pack the next time."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    if not (source / "README.md").is_file():
        (source / "README.md").write_text("hftl\n")
    done = shell([*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", target, source], target)
    assert done.code == 0, done.err
    (found,) = target.glob("hftl-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("site")
    done = shell([*PIP, "install", "--no-deps", "--no-index", "--target", target, wheel], target)
    assert done.code == 0, done.err
    return target


def test_files_of_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0].split("-")[0] for name in names} == {"hftl"}
    for folder, inside in (("hftl", "hftl"), ("recipes", "hftl/recipes"), ("spaces_demo", "hftl/spaces_demo")):
        files = [p for p in (ROOT / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        wanted = {f"{inside}/{p.relative_to(ROOT / folder).as_posix()}" for p in files if p.suffix != ".md"}
        assert wanted <= names, wanted - names
    assert "hftl/publishing/templates/card.md" in names
    assert "hftl/spaces_demo/README.md" in names  # the header of a Space
    assert {"hftl/data/splits/digits.json", "hftl/data/splits/wikipedia-topics.json"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_entry_point(wheel):
    (entry,) = [n for n in zipfile.ZipFile(wheel).namelist() if n.endswith("entry_points.txt")]
    assert "hftl = hftl.cli:main" in zipfile.ZipFile(wheel).read(entry).decode()


def test_installed_outside_the_checkout(installed, tmp_path):
    env = environment(PYTHONPATH=str(installed))
    where = shell(["-c", "import hftl; print(hftl.__file__)"], tmp_path, env)
    assert where.out.strip().startswith(str(installed)), where
    done = shell(["-m", "hftl", "--help"], tmp_path, env)
    assert done.code == 0, done.err
    assert "usage: hftl VERB" in done.out
    for name in ("text_classification", "image_classification", "tour"):
        done = shell(["-m", f"hftl.recipes.{name}", "--help"], tmp_path, env)
        assert done.code == 0, done.err
        assert "usage" in done.out
    assert shell(["-m", "hftl", "samples", "--json"], tmp_path, env).code == 0


@pytest.mark.slow
def test_installed_in_an_environment_of_its_own(wheel, tmp_path):
    """The `hftl` script works; the dependencies are those of this environment."""
    assert shell(["-m", "venv", "--without-pip", tmp_path / "venv"], tmp_path).code == 0
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    here = next(p for p in sys.path if p.endswith("site-packages"))
    (site / "dependencies.pth").write_text(here + "\n")
    python = tmp_path / "venv" / "bin" / "python"
    env = environment()
    del env["PYTHONPATH"]
    install = [
        sys.executable,
        *PIP,
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        "--ignore-installed",
        wheel,
    ]
    subprocess.run(list(map(str, install)), check=True, env=env, cwd=tmp_path)
    script = tmp_path / "venv" / "bin" / "hftl"
    done = subprocess.run([script, "--help"], capture_output=True, text=True, env=env, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: hftl VERB" in done.stdout
