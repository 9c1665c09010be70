"""The page of `--seeds`: written anew for the run that is kept, with what all seeds reached."""

from pathlib import Path

import pytest

from hftl.adapt import Result
from tests.report_page.structure import parse
from tests.runs import text_frame, tiny_run


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("seeds")
    return tiny_run("bert", "probe", folder, "kept", data=text_frame(120), seeds=2, evidence=True, shots=8)


def test_page_of_the_kept_seed(kept: Result) -> None:
    html = (kept.run_dir / "report.html").read_text(encoding="utf-8")
    found = parse(html)
    assert '<section id="seeds">' in html
    assert f"This page shows seed {kept.report['seeds']['kept']}," in html
    assert f"hftl train {kept.run_dir}/config.yaml" in html
    assert f"{kept.run_dir.name}.seeds" not in html
    counts = {tuple(map(int, key.split(","))): n for key, n in found.data["totals"].items()}
    assert counts == {(true, said): n for true, said, n in kept.report["evidence"]["confusion"]}


def test_no_file_names_the_folder_of_the_seed(kept: Result) -> None:
    for path in kept.run_dir.rglob("*"):
        if path.suffix in (".json", ".html", ".md", ".yaml"):
            assert ".seeds" not in path.read_text(encoding="utf-8"), path
            assert f"seed-{kept.report['seeds']['kept']}" not in path.read_text(encoding="utf-8"), path
    assert not Path(f"{kept.run_dir}.seeds").exists()


def test_the_card_shows_all_seeds(kept: Result) -> None:
    card = (kept.run_dir / "final" / "README.md").read_text(encoding="utf-8")
    assert f"Trained 2 times, on the same splits. Seed {kept.report['seeds']['kept']}, the best" in card


def test_terminal_ends_with_the_folder_that_stays(capfd: pytest.CaptureFixture, tmp_path: Path) -> None:
    result = tiny_run("bert", "probe", tmp_path, "kept", seeds=2)
    *_, following, predict, demo = capfd.readouterr().err.strip().splitlines()
    assert following == "Next:"
    assert predict.strip() == f"hftl predict {result.run_dir} 'a text'"
    assert demo.strip() == f"hftl demo {result.run_dir}"
    assert result.report["pooling"] == "mean"
    assert not (result.run_dir / "report.html").exists()  # --evidence off
