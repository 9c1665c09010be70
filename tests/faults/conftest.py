"""The server, the tiny checkpoints and data, and runs that nothing disturbed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.faults.commands import Server
from tests.runs import text_frame
from tests.test_segmentation import draw, save_segformer
from tests.tiny import build, tiny_images


@pytest.fixture(scope="package")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    rows = text_frame(60)
    rows.to_csv(folder / "t.csv", index=False)
    rows.assign(label=rows["label"] + "|" + rows["label"].iloc[::-1].to_numpy()).to_csv(
        folder / "labels.csv", index=False
    )
    pairs = {"sentence1": rows["text"], "sentence2": rows["text"].iloc[::-1].to_numpy(), "label": rows["label"]}
    pd.DataFrame(pairs).to_csv(folder / "pairs.csv", index=False)
    build("bert", folder / "bert")  # dropout is on
    build("resnet", folder / "resnet")
    tiny_images(folder / "images", per_class=12)
    draw(folder / "shapes", 30)
    save_segformer(folder / "segformer")
    return folder


@pytest.fixture(scope="package")
def server(place: Path) -> Iterator[Server]:
    server = Server.start(place)
    yield server
    server.stop()


@pytest.fixture(scope="package")
def undisturbed(server: Server) -> Any:
    """kind → the folder of a run of that kind that ran through."""
    done: dict[str, Path] = {}

    def run(kind: str) -> Path:
        if kind not in done:
            folder = server.place / f"undisturbed-{kind}"
            folder.mkdir()
            outcome = server.train(folder, kind)
            assert outcome.code == 0, outcome.err
            done[kind] = folder / "run"
        return done[kind]

    return run
