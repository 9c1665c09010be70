"""Evidence on two processes is that of one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.runs import split_folder, subprocess_env
from tests.tiny import build


ROOT = Path(__file__).resolve().parents[2]
FLAGS: dict[str, Any] = {
    "max_steps": 6, "learning_rate": "1e-3", "train_sampling_strategy": "random", "use_cpu": "true", "bf16": "false",
    "control": "scratch",
}  # fmt: skip


def _train(folder: Path, name: str, processes: int) -> dict[str, Any]:
    flags = {
        **FLAGS, "data": folder / "data", "model": folder / "base", "method": "full", "output_dir": folder / name,
        "per_device_train_batch_size": 8 // processes,
    }  # fmt: skip
    words = [w for k, v in flags.items() for w in (f"--{k}", str(v))]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if processes == 2 else []
    done = subprocess.run(
        [sys.executable, *launch, "-m", "hftl", "train", "text-classification", *words],
        capture_output=True, text=True, cwd=ROOT, env=subprocess_env(HFTL_CACHE=str(folder / f"cache-{name}")), timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / name / "report.json").read_text())["evidence"]


@pytest.mark.slow
def test_two_processes_give_the_evidence_of_one(tmp_path: Path) -> None:
    split_folder(tmp_path / "data", 64, other=45)  # of validation and test rows, two processes get unequal shares
    build("bert", tmp_path / "base", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    one, two = (_train(tmp_path, name, n) for name, n in (("one", 1), ("two", 2)))
    for mine, theirs in zip(one["ladder"], two["ladder"], strict=True):
        assert {**mine, "seconds": 0} == {**theirs, "seconds": 0}
    assert one["verdict"] == two["verdict"]
    assert one["confusion"] == two["confusion"]
    assert one["doctor"] == two["doctor"]
    assert one["forgetting"]["kept"] == pytest.approx(two["forgetting"]["kept"], abs=1e-3)
    assert one["calibration"]["temperature"] == pytest.approx(two["calibration"]["temperature"], rel=1e-3)
    assert [s["row"] for s in one["suspects"]] == [s["row"] for s in two["suspects"]]
