"""Runs a command that is to be refused, and checks the form of the refusal."""

from pathlib import Path

from tests.command import Outcome, hftl, shell
from tests.tiny import tiny_text_rows


ROWS = [(text, f"mood{label}") for text, label in tiny_text_rows(60, 3)]


def check(done: Outcome, *words: str) -> str:
    """Check the form of a refusal, and that nothing is left behind; return the message."""
    assert done.code == 2, done
    assert done.out == ""
    lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.err
    message = done.err[done.err.index("error: ") :].strip()
    assert len(message.splitlines()) <= 6, message
    assert "Traceback" not in done.err
    assert len(message) < 900
    for word in words:
        assert word in message, message
    assert not Path("out").exists()
    assert not Path("out.partial").exists()
    return message


def refused(capsys, place, *flags: object, says: tuple[str, ...], task: str = "text-classification") -> str:
    """Train on the tiny data, with these flags on top, and check the refusal."""
    image = task == "image-classification"
    data, model = ("images", "resnet") if image else ("t.csv", "bert")
    words = ["--data", place / data, "--model", place / model, "--method", "probe", "--output_dir", "out"]
    return check(hftl(capsys, "train", task, *words, *flags), *says)


def train(capsys, place, *flags: object) -> Outcome:
    words = ["--data", place / "t.csv", "--model", place / "bert", "--method", "probe", "--evidence", "off"]
    return hftl(capsys, "train", "text-classification", *words, *flags)


def copy_of(folder: Path, name: str, without: str = "") -> Path:
    target = Path(name)
    target.mkdir()
    for file in folder.iterdir():
        if file.name != without:
            (target / file.name).write_bytes(file.read_bytes())
    return target


def as_nobody(code: str, cwd: Path, *words: object) -> list[str]:
    """Run Python code in a process that gives up the rights of root after its imports; return the lines it prints.

    The code defines `calls`, which yields functions: each prints its `HftlError`, or "it was read".
    """
    helper = f"""{code}
import os
from hftl.errors import HftlError
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for call in calls():
    try:
        call()
        print("it was read")
    except HftlError as error:
        print(error)
"""
    cwd.chmod(0o755)
    return shell(["-c", helper, *words], cwd).out.splitlines()
