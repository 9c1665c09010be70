"""Export of the text architectures that read a mark of the text instead of a fixed token."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hftl.adapt import adapt
from hftl.export import export
from tests.architectures.contract import FLAGS
from tests.runs import text_frame


Checkpoints = Callable[[str], Path]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bart", "t5", "gpt2", "opt", "llama"])
def test_exports(family: str, text_checkpoint: Checkpoints, tmp_path: Path) -> None:
    folder = str(text_checkpoint(family))
    run = adapt("text-classification", text_frame(40), folder, "probe", tmp_path / "run", pooling="native", **FLAGS)
    assert export(run.run_dir).values["parity"]["max_difference"] <= 1e-5
