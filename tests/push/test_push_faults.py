"""What goes wrong on the way: asked again where that helps, else one line; main never holds half a model."""

import errno
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from hftl.errors import RunError
from hftl.hub_errors import HubError, plain, push_line
from hftl.publishing import hub as hub_module
from hftl.publishing.hub import push_to_hub
from hftl.publishing.hub_repository import LONGEST_WAIT, RETRIES, persist, seconds_to_wait
from tests.hub.server import HubServer
from tests.hub.target import HubTarget, target_fixture
from tests.push import LICENSE, push, text_run, unchecked


target = target_fixture(real=False)
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")

LOOK, MAKE, CARD = ("GET", r"/api/models/[^?]*$"), ("POST", "/api/repos/create"), ("POST", "/api/validate-yaml")
MODES, BATCH, STORE = ("POST", "/preupload/"), ("POST", "/objects/batch"), ("PUT", "/lfs-storage/")
VERIFY, COMMIT, BRANCH = ("POST", "/objects/verify"), ("POST", "/commit/"), ("POST", "/branch/")
ALL = {
    "look": LOOK, "make": MAKE, "card": CARD, "modes": MODES, "batch": BATCH, "store": STORE, "verify": VERIFY,
    "commit": COMMIT, "branch": BRANCH,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_run(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def hub(target: HubTarget) -> Iterator[HubServer]:
    found = target.loopback()
    found.faults.clear()
    found.requests.clear()
    yield found
    found.faults.clear()


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield
    assert list(place.glob("hftl-*")) == []


def refused(target: HubTarget, run: Path, repo: str, **options: Any) -> tuple[str, list[float]]:
    """Push, see it fail, and return the line and the waits."""
    with target.api(), unchecked() as waits, pytest.raises(HubError) as caught:
        push_to_hub(run, repo, **{"license": LICENSE, **options})
    line = str(caught.value)
    assert "\n" not in line
    assert target.token not in line
    return line, waits


def commits(hub: HubServer, repo: str) -> int:
    """How many commits a push made."""
    return len(hub.history(repo)) - 1 if hub.exists(repo) else 0


def sent(hub: HubServer, method: str, part: str) -> int:
    return sum(m == method and part in path for m, path in hub.requests)


@pytest.mark.parametrize(
    ("step", "status"),
    [
        pytest.param(step, status, marks=() if (i + j) % 3 == 0 else pytest.mark.slow)
        for i, step in enumerate(ALL)
        for j, status in enumerate((429, 500, 503))
    ],
)
def test_asked_again(target: HubTarget, hub: HubServer, run: Path, step: str, status: int) -> None:
    """A Hub that is busy for a moment: twice in a row, at every step, the push goes on as soon as it may."""
    repo = target.new_repo("busy")
    fault = hub.fail(*ALL[step], status, times=2)
    with target.api(), unchecked() as waits:
        found = push_to_hub(run, repo, license=LICENSE, revision="v1" if step == "branch" else None)
    assert fault.hits == 2
    assert len(waits) == 2
    revision = found.revision or "main"
    assert hub.history(repo, revision) == ["lora of base-bert, by hftl", "initial commit"]
    assert hub.files(repo, revision)["model.safetensors"] == (run / "final" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("step", ["make", "store", "commit"])
def test_waits_as_long_as_told(
    target: HubTarget, hub: HubServer, run: Path, step: str, capsys: pytest.CaptureFixture[str], caplog: Any
) -> None:
    hub.fail(*ALL[step], 429, headers={"Retry-After": "17"})
    with target.api(), unchecked() as waits:
        push_to_hub(run, target.new_repo("told"), license=LICENSE)
    assert waits in ([17.0], [18.0])  # huggingface_hub adds a second
    said = capsys.readouterr().err + caplog.text
    assert "17 s (1 of 5)" in said or "Waiting 18.0s" in said


@pytest.mark.parametrize("step", ["look", "commit"])
def test_does_not_wait_for_ever(target: HubTarget, hub: HubServer, run: Path, step: str) -> None:
    repo = target.new_repo("slow")
    hub.fail(*ALL[step], 429, times=None, headers={"Retry-After": str(LONGEST_WAIT + 1)})
    line, waits = refused(target, run, repo)
    assert line.startswith("The Hub asks to slow down (429")
    assert waits == []
    assert commits(hub, repo) == 0


@pytest.mark.parametrize("step", ["look", "make", "store", "commit"])
def test_gives_up_and_can_be_repeated(target: HubTarget, hub: HubServer, run: Path, step: str) -> None:
    """A Hub that stays broken: bounded, one line, nothing on main; the next push sends no weights twice."""
    repo = target.new_repo("broken")
    fault = hub.fail(*ALL[step], 500, times=None)
    line, waits = refused(target, run, repo)
    assert line.startswith("The Hub fails while pushing (500: Internal Error")
    assert line.endswith("Push again: nothing is sent twice.")
    assert fault.hits % (RETRIES + 1) == 0
    assert set(waits) <= {1, 2, 4, 8}
    assert commits(hub, repo) == 0
    hub.faults.clear()
    hub.requests.clear()
    push(target, run, repo)
    assert commits(hub, repo) == 1
    assert sent(hub, "PUT", "/lfs-storage/") == (0 if step == "commit" else 2)


def test_refused_token(target: HubTarget, hub: HubServer, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = target.new_repo("token")
    with target.api(), unchecked() as waits, pytest.raises(HubError) as caught:
        push_to_hub(run, repo, license=LICENSE, token="hf_" + "w" * 34)
    line = str(caught.value)
    assert line.startswith("The Hub does not accept this token (401: Invalid credentials in Authorization header): ")
    assert "hf auth login" in line
    assert "www" not in line
    assert (waits, sent(hub, "POST", "")) == ([], 0)
    hub.fail(*COMMIT, 401)  # revoked meanwhile
    assert "does not accept this token" in refused(target, run, repo)[0]
    assert commits(hub, repo) == 0


def test_no_right_to_write(target: HubTarget, hub: HubServer, run: Path) -> None:
    repo = target.new_repo("rights")
    with target.api(), unchecked(), pytest.raises(HubError, match=r"may not write to tester .*role 'write'"):
        push_to_hub(run, repo, license=LICENSE, token=hub.read_token)
    assert not hub.exists(repo)
    assert "may not write to nobody" in refused(target, run, "nobody/model")[0]


def test_gone_meanwhile(target: HubTarget, hub: HubServer, run: Path) -> None:
    hub.fail(*COMMIT, 404)
    line, waits = refused(target, run, target.new_repo("gone"))
    assert line.startswith("The Hub has no tester/")
    assert waits == []


@pytest.mark.parametrize("status", [409, 412])
def test_conflict(target: HubTarget, hub: HubServer, run: Path, status: int) -> None:
    repo = target.new_repo("conflict")
    hub.fail(*COMMIT, status)
    line, waits = refused(target, run, repo)
    assert "somebody else" in line.lower()
    assert (commits(hub, repo), waits) == (0, [])
    push(target, run, repo)


def test_somebody_commits_meanwhile(
    target: HubTarget, hub: HubServer, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their commit stays; a second push, made after looking at it, goes on top."""
    repo = target.new_repo("meanwhile")
    make = HfApi.create_commit

    def later(api: HfApi, *arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(HfApi, "create_commit", make)
        api.upload_file(path_or_fileobj=b"theirs", path_in_repo="theirs.txt", repo_id=repo)
        return make(api, *arguments, **options)

    monkeypatch.setattr(HfApi, "create_commit", later)
    line, _ = refused(target, run, repo)
    assert line.startswith(f"Somebody else committed to {repo} meanwhile (412")
    assert set(hub.files(repo)) == {".gitattributes", "theirs.txt"}
    push(target, run, repo)
    assert hub.files(repo)["theirs.txt"] == b"theirs"


def test_made_by_somebody_else_meanwhile(target: HubTarget, hub: HubServer, run: Path) -> None:
    """A repository that appears between looking and making must not be published into."""
    repo = target.new_repo("race")
    with target.api() as api:
        api.create_repo(repo, private=False)
    hub.fail("GET", f"/api/models/{repo}$", 404)
    assert "is public, and a push never changes that" in refused(target, run, repo)[0]
    hub.fail("GET", f"/api/models/{repo}$", 404, times=2)
    assert f"The name {repo} is taken" in refused(target, run, repo)[0]
    assert commits(hub, repo) == 0


def test_cut_in_the_middle_of_a_file(target: HubTarget, hub: HubServer, run: Path) -> None:
    repo = target.new_repo("cut")
    fault = hub.fail(*STORE, cut_upload=2000)
    push(target, run, repo)
    assert fault.hits == 1
    assert sent(hub, "PUT", "/lfs-storage/") == 3  # two files, one of them twice
    assert hub.files(repo)["model.safetensors"] == (run / "final" / "model.safetensors").read_bytes()


def test_cut_again_and_again(target: HubTarget, hub: HubServer, run: Path) -> None:
    repo = target.new_repo("cut")
    hub.fail(*STORE, times=None, cut_upload=2000)
    line, _ = refused(target, run, repo)
    assert line.startswith(f"The connection to {hub.url} broke while pushing (")
    assert commits(hub, repo) == 0
    hub.faults.clear()
    push(target, run, repo)


@pytest.mark.parametrize("step", ["make", "commit", "branch"])
def test_lost_answer(target: HubTarget, hub: HubServer, run: Path, step: str) -> None:
    """The Hub did it, and the line broke before it said so: it is not done twice."""
    repo, revision = target.new_repo("lost"), "v1" if step == "branch" else None
    fault = hub.fail(*ALL[step], drop_reply=True)
    found = push(target, run, repo, revision=revision)
    assert fault.hits == 1
    assert len(hub.history(repo, revision or "main")) == 2
    assert found.commit == hub.sha(repo, revision or "main")


def test_lost_answer_when_files_were_removed(target: HubTarget, hub: HubServer, run: Path) -> None:
    repo = target.new_repo("lost")
    push(target, run, repo)
    with target.api() as api:
        api.upload_file(path_or_fileobj=b"{}", path_in_repo="adapter_config.json", repo_id=repo)
    hub.fail(*COMMIT, drop_reply=True)
    found = push(target, run, repo, license="cc-by-4.0")
    assert found.commit == hub.sha(repo)
    assert len(hub.history(repo)) == 4
    assert "adapter_config.json" not in hub.files(repo)


@pytest.mark.parametrize("how", [{"drop_reply": True}, {"status": 504}])
def test_lost_answer_of_a_pull_request(target: HubTarget, hub: HubServer, run: Path, how: dict[str, Any]) -> None:
    """It may be there: no second one is opened."""
    repo = target.new_repo("pull")
    push(target, run, repo)
    hub.fail(*COMMIT, **how)
    line, waits = refused(target, run, repo, license="cc-by-4.0", create_pr=True)
    assert line.startswith("The Hub did not say whether the pull request was opened (")
    assert line.endswith(f"look at {hub.url}/{repo}/discussions before you push again.")
    assert waits == []
    assert hub.repository(repo).pulls == (0 if "status" in how else 1)
    hub.fail(*COMMIT, 503)
    push(target, run, repo, license="cc-by-4.0", create_pr=True)


def test_no_json_from_the_check_of_the_card(target: HubTarget, hub: HubServer, run: Path) -> None:
    hub.fail(*CARD, 502)
    push(target, run, target.new_repo("page"))


def test_card_that_the_hub_refuses(target: HubTarget, hub: HubServer, run: Path) -> None:
    repo = target.new_repo("card")
    hub.fail(*CARD, 400, message='"license" is wrong')
    line, waits = refused(target, run, repo)
    assert line == 'The Hub refused while pushing (400: "license" is wrong).'
    assert (commits(hub, repo), waits) == (0, [])


@pytest.mark.parametrize(
    ("number", "fails"), [(errno.ENOSPC, RunError), (errno.EDQUOT, RunError), (errno.EIO, OSError)]
)
def test_disk_full(
    target: HubTarget, hub: HubServer, run: Path, monkeypatch: pytest.MonkeyPatch, number: int, fails: type[Exception]
) -> None:
    write = Path.write_text

    def full(path: Path, *arguments: Any, **options: Any) -> int:
        if path.name == "README.md":
            raise OSError(number, os.strerror(number), str(path))
        return write(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with target.api(), unchecked(), pytest.raises(fails) as caught:
        push_to_hub(run, target.new_repo("full"), license=LICENSE)
    if fails is RunError:
        assert str(caught.value).startswith("The disk is full (")
        assert "TMPDIR" in str(caught.value)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("create_repo", "nothing was committed to {}. Push again"),
        ("create_commit", "{} has the whole commit or nothing of it. Push again"),
        ("prove", "is made, but was not checked."),
    ],
)
def test_ctrl_c(
    target: HubTarget, hub: HubServer, run: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, where: str, says: str
) -> None:
    repo = target.new_repo("stopped")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    # undone before `unchecked` is: later it would put back what that has put there
    with target.api(), unchecked(), monkeypatch.context() as patch:
        patch.setattr(hub_module if where == "prove" else HfApi, where, stop)
        with pytest.raises(KeyboardInterrupt):
            push_to_hub(run, repo, license=LICENSE)
    assert says.format(repo) in capsys.readouterr().err
    assert commits(hub, repo) == (1 if where == "prove" else 0)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_while_sending(
    target: HubTarget, hub: HubServer, run: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Ends at once, though the Hub takes its time with a large file; nothing is left on this machine."""
    repo = target.new_repo("stopped")
    fault = hub.fail(*STORE, delay=60)
    words = [sys.executable, "-m", "hftl", "push", str(run), repo, "--license", LICENSE]
    env = {**target.env, "TMPDIR": str(tmp_path / "temporary")}
    process = subprocess.Popen(words, env=env, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    end = time.monotonic() + 120
    while not fault.hits and time.monotonic() < end:
        time.sleep(0.1)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in said
    assert ("Interrupted: " in said) is (number == signal.SIGINT)
    assert commits(hub, repo) == 0
    assert list((tmp_path / "temporary").glob("hftl-*")) == []


def test_signed_addresses_stay_out_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("huggingface_hub.utils._http")
    record: list[str] = []
    keeper = logging.Handler()
    keeper.emit = lambda r: record.append(r.getMessage())  # type: ignore[method-assign]
    above = logging.getLogger("huggingface_hub")
    above.addHandler(keeper)
    try:
        line = "HTTP Error 503 thrown while requesting PUT https://s3.example/a/b?X-Signature=abc&x=1"
        persist(lambda: logger.warning(line), "sending")
    finally:
        above.removeHandler(keeper)
    assert record == ["HTTP Error 503 thrown while requesting PUT https://s3.example/a/b"]


def test_lines_are_plain() -> None:
    secret = "hf_" + "a" * 34
    assert plain(f"one\ntwo \x1b[31m {secret} https://s3.example/a?sig=1 end.") == (
        "one two [31m (token) https://s3.example/a end"
    )
    assert len(plain("x" * 1000)) == 200
    assert push_line(KeyError("x"), "a/b", "pushing") is None
    assert push_line(OSError(errno.ENOSPC, "full"), "a/b", "pushing") is None
    assert (
        push_line(PermissionError("the store\nrefuses"), "a/b", "pushing") == "a/b: pushing failed: the store refuses"
    )


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "12"}, 12),
        ({"retry-after": " 3 "}, 3),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"RateLimit": '"api";r=0;t=55'}, 55),
        ({"ratelimit": '"api";r=4;t=55', "Retry-After": "2"}, 2),
        ({}, None),
    ],
)
def test_seconds_to_wait(headers: dict[str, str], seconds: int | None) -> None:
    assert seconds_to_wait(headers) == seconds
