"""Nothing of the data, the machine or the token leaves with a push, unless examples were asked for by number."""

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hftl.cli import run_command
from tests.command import environment, shell
from tests.hub.server import HubServer
from tests.hub.target import HubTarget, target_fixture
from tests.push import LICENSE, image_run, push, text_run, texts_of, unchecked


target = target_fixture(real=False)
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_run(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_run(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def hub(target: HubTarget) -> HubServer:
    """The Hub, which forgets what arrived earlier."""
    found = target.loopback()
    found.log.clear()
    found.requests.clear()
    return found


def spelt(text: str) -> set[bytes]:
    """A string as files may hold it."""
    return {text.encode(), json.dumps(text)[1:-1].encode(), text.encode("utf-16-le")}


def leaked(hub: HubServer, words: list[str]) -> list[str]:
    arrived = hub.received_bytes()
    assert len(arrived) > 100_000  # weights and all
    return [word for word in words if any(form in arrived for form in spelt(word))]


def machine(target: HubTarget, run: Path) -> list[str]:
    """What tells where it was made."""
    return [str(run.parent), str(Path.home()), str(Path.cwd()), run.parent.name, target.token]


def no_pickle(files: dict[str, bytes]) -> bool:
    return not any(
        content.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK")) for content in files.values()
    )


def test_no_text_no_path_no_token(target: HubTarget, hub: HubServer, run: Path) -> None:
    repo = target.new_repo("texts")
    push(target, run, repo)
    texts = texts_of(run)
    assert len(texts) == 90
    assert leaked(hub, texts) == []
    assert leaked(hub, machine(target, run)) == []
    assert no_pickle(hub.files(repo))
    assert not [name for name in hub.files(repo) if name.endswith((".bin", ".pkl", ".pt", ".pth", ".html", ".csv"))]


def test_no_file_name_no_thumbnail(target: HubTarget, hub: HubServer, pictures: Path) -> None:
    repo = target.new_repo("pictures")
    push(target, pictures, repo)
    names = [path.name for path in (pictures.parent / "pictures").rglob("*.png")]
    assert len(names) == 24
    assert leaked(hub, [*names, *(Path(name).stem for name in names)]) == []
    assert leaked(hub, machine(target, pictures)) == []
    assert not [name for name, content in hub.files(repo).items() if content.startswith((b"\x89PNG", b"\xff\xd8"))]
    assert b"data:image" not in hub.received_bytes()


def test_a_run_report_that_holds_more(target: HubTarget, hub: HubServer, run: Path, tmp_path: Path) -> None:
    """report.json may be extended by later versions or by hand: only what is known to be harmless goes out."""
    made = shutil.copytree(run, tmp_path / "run")
    report = json.loads((made / "report.json").read_text())
    report["rows"] = ["a sentence that is private"]
    report["warnings"] = ["/srv/secret/rows.csv has 3 rows without a label", "plain words"]
    (made / "report.json").write_text(json.dumps(report))
    (made / "final" / "training_args.bin").write_bytes(b"\x80\x04private pickle")
    (made / "final" / "rows.csv").write_text("a sentence that is private")
    push(target, made, target.new_repo("more"))
    assert leaked(hub, ["a sentence that is private", "/srv/secret", "private pickle"]) == []
    assert b"plain words" in hub.received_bytes()


def test_examples_are_the_ones_announced(
    target: HubTarget, hub: HubServer, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repo = target.new_repo("examples")
    push(target, run, repo, include_examples=3)
    said = capsys.readouterr().err
    assert "The card will show these rows of the data:" in said
    shown = [line.split(": ", 1)[1] for line in said.splitlines() if line.startswith("  ")]
    assert len(shown) == 3
    assert sorted(leaked(hub, texts_of(run))) == sorted(shown)
    card = hub.files(repo)["README.md"].decode()
    assert all(text in card for text in shown)


def test_examples_of_pictures(target: HubTarget, hub: HubServer, pictures: Path) -> None:
    repo = target.new_repo("shown")
    push(target, pictures, repo, include_examples=2)
    files = hub.files(repo)
    there = [name for name in files if name.startswith("examples/")]
    assert there == ["examples/1.png", "examples/2.png"]
    assert all(Image.open(io.BytesIO(files[name])).info == {} for name in there)
    names = [path.name for path in (pictures.parent / "pictures").rglob("*.png")]
    assert leaked(hub, names) == []
    push(target, pictures, repo)
    assert not [name for name in hub.files(repo) if name.startswith("examples/")]


def command(target: HubTarget, capsys: Any, *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    with target.api(), unchecked():
        code = run_command(["push", *map(str, words)])
    return code, *capsys.readouterr()


def test_public_examples_need_a_yes(target: HubTarget, hub: HubServer, run: Path, capsys: Any) -> None:
    repo = target.new_repo("agreed")
    words = [run, repo, "--license", LICENSE, "--public", "--include_examples", 2]
    code, out, err = command(target, capsys, *words)
    assert (code, out) == (2, "")
    assert err.count("\n  mood") == 2  # the rows are shown first
    assert (
        err.splitlines()[-1]
        == "error: These rows would be public: add --yes to agree, or leave out --include_examples."
    )
    assert not hub.exists(repo)
    code, out, err = command(target, capsys, *words, "--yes")
    assert (code, out) == (0, f"{hub.url}/{repo}\n")
    assert err.count("\n  mood") == 2
    assert hub.repository(repo).private is False
    private = target.new_repo("private")
    assert command(target, capsys, run, private, "--license", LICENSE, "--include_examples", 1)[0] == 0


ANSWERS = """
import os, pty, sys
pid, place = pty.fork()
if pid == 0:
    os.execv(sys.executable, [sys.executable, "-m", "hftl", "push", *sys.argv[3:]])
seen = b""
while True:
    try:
        part = os.read(place, 4096)
    except OSError:
        break
    seen += part
    if sys.argv[1].encode() in seen and not sys.argv[2].startswith("done"):
        os.write(place, sys.argv[2].encode() + b"\\n")
        sys.argv[2] = "done"
print(seen.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "question", "answer", "code"),
    [
        (["--license", LICENSE, "--public", "--include_examples", "2"], "Publish? [y/N]", "n", 2),
        (["--license", LICENSE, "--public", "--include_examples", "2"], "Publish? [y/N]", "y", 0),
        ([], "Licence of the model", "mit", 0),
        ([], "Licence of the model", "no-such-licence", 2),
    ],
)
def test_asks_at_a_terminal(
    target: HubTarget,
    hub: HubServer,
    run: Path,
    tmp_path: Path,
    words: list[str],
    question: str,
    answer: str,
    code: int,
) -> None:
    made, repo = shutil.copytree(run, tmp_path / "run"), target.new_repo("asked")
    done = shell(["-c", ANSWERS, question, answer, made, repo, *words], tmp_path, target.env)
    assert question in done.out
    assert done.out.split()[-1] == str(code), done.out
    assert hub.exists(repo) is (code == 0)
    assert "Traceback" not in done.out


def test_dry_run(target: HubTarget, hub: HubServer, run: Path, tmp_path: Path) -> None:
    """Files, sizes and the card; with no token, no network and no Hub."""
    env = environment(
        HF_TOKEN="", HF_HOME=str(tmp_path / "home"), HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="0"
    )
    words = ["-m", "hftl", "push", run, "me/tickets", "--license", LICENSE, "--dry_run"]
    watch = "import socket; socket.socket.connect = lambda *a: (_ for _ in ()).throw(SystemExit('network'))"
    code = f"{watch}; import sys; from hftl.cli import main; main(sys.argv[1:])"
    done = shell(["-c", code, *words[2:]], tmp_path, env)
    assert done.code == 0, done.err
    assert "for the private repository me/tickets" in done.out
    assert re.search(r"model\.safetensors +\d+\.\d kB", done.out)
    assert "license: mit" in done.out
    assert "Nothing was sent (--dry_run)." in done.err
    assert hub.requests == []


def test_dry_run_for_machines(target: HubTarget, hub: HubServer, run: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # the verb sets it
    words = [run, "me/x", "--license", LICENSE, "--dry_run", "--json", "--public", "--include_examples", 2]
    code, out, _ = command(target, capsys, *words)
    assert code == 0
    found = json.loads(out)
    assert found["repo_id"] == "me/x"
    assert found["public"] is True
    assert found["license"] == LICENSE
    assert len(found["public_rows"]) == 2
    assert found["files"]["model.safetensors"] == (run / "final" / "model.safetensors").stat().st_size
    assert found["card"].startswith("---\n")
    assert hub.requests == []


def test_the_token_stays_where_it_is(
    target: HubTarget, hub: HubServer, run: Path, tmp_path: Path, capsys: Any, caplog: Any
) -> None:
    """Not in what is printed or logged, and not in what is sent but for the header that carries it."""
    made = shutil.copytree(run, tmp_path / "run")
    caplog.set_level("DEBUG")
    code, out, err = command(target, capsys, made, target.new_repo("token"), "--license", LICENSE, "--json")
    assert code == 0
    assert all(seen.authorized for seen in hub.log if "/lfs-storage/" not in seen.path)
    assert not any(seen.authorized for seen in hub.log if "/lfs-storage/" in seen.path)
    assert leaked(hub, [target.token]) == []
    assert target.token not in out + err + caplog.text
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [content for content in written if target.token.encode() in content]
