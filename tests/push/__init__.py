"""What the tests of `hftl push` share: one run per module, and pushes in this process without the check at the end.

That check (a fresh process, a download) takes seconds; the tests of it push for real.
"""

import csv
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.utils import _http

from hftl.publishing import hub, hub_repository
from hftl.publishing.hub import Pushed, push_to_hub
from tests.command import text_csv
from tests.hub.target import HubTarget
from tests.runs import CLASSES, checkpoint, tiny_run
from tests.tiny import tiny_images


CHECKED = {
    "rows": 1, "origin": "test rows of the run", "labels_equal": True, "max_difference": 0.0, "tolerance": 1e-4,
    "seconds": 0.0, "note": "",
}  # fmt: skip
LICENSE = "mit"


def text_run(folder: Path) -> Path:
    """A LoRA run on the texts of `folder/data/rows.csv`."""
    (folder / "data").mkdir(parents=True)
    data = text_csv(folder / "data" / "rows.csv", n=90)
    return tiny_run("bert", "lora", folder, name="run", data=str(data)).run_dir


def image_run(folder: Path) -> Path:
    """A run on pictures whose file names are nobody's business."""
    images = tiny_images(folder / "pictures", per_class=8, classes=CLASSES)
    for number, path in enumerate(sorted(images.rglob("*.png"))):
        path.rename(path.with_name(f"patient_{number:04d}_left.png"))
    return tiny_run("resnet", "probe", folder, name="image-run", data=str(images)).run_dir


def texts_of(run: Path) -> list[str]:
    """Every text of the data behind a text run."""
    with (run.parent / "data" / "rows.csv").open(newline="", encoding="utf-8") as file:
        return [row["text"] for row in csv.DictReader(file)]


def on_the_hub(run: Path, target: HubTarget, copy: Path) -> Path:
    """A copy of the run whose base model lies on the target's Hub, as if it had been trained from there."""
    base, made = target.new_repo("base"), shutil.copytree(run, copy)
    with target.api() as api:
        api.create_repo(base, private=True)
        commit = api.upload_folder(repo_id=base, folder_path=checkpoint("bert", run.parent)).oid
    report = json.loads((made / "report.json").read_text())
    report["model"] |= {"name": base, "source": "hub", "revision": commit}
    (made / "report.json").write_text(json.dumps(report))
    return made


@contextmanager
def unchecked() -> Iterator[list[float]]:
    """Push without the check at the end, and wait for nothing; gives the waits that there would have been."""
    waits: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub, "prove", lambda *_, **__: CHECKED)
        for module in (hub_repository, _http):  # each has `time` of its own here, so that the server's stays
            patch.setattr(module, "time", _NoWait(waits))
        yield waits


class _NoWait:
    """The module `time`, but for its sleep."""

    def __init__(self, waits: list[float]) -> None:
        self.waits = waits

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def push(target: HubTarget, run: Path, repo_id: str, **options: Any) -> Pushed:
    """Push in this process, without the check at the end and without waiting."""
    with target.api(), unchecked():
        return push_to_hub(run, repo_id, **{"license": LICENSE, **options})
