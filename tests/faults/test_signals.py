"""Ctrl-C at drawn moments, for every method, in bf16 and fp32, by epochs and by steps: what is resumed ends alike."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from hftl.adapt import complete
from hftl.config import build_config
from hftl.data.images import decode_image
from hftl.errors import Preempted
from hftl.tasks.outputs.classes import CLASSES
from hftl.training import arguments
from hftl.training.checkpoints import end_if_asked, heed_signals
from hftl.training.features import Passer, batches_by_length
from tests.faults.commands import BY_STEPS, INTERRUPT, KINDS, TEXT, Server, assert_same_run, assert_whole
from tests.faults.test_preempted import STEP, resume_words, stopped
from tests.runs import stock_model, subprocess_env
from tests.small_data import encoded_texts


# Steps of each method's run below, all stages together; the probe has none.
STEPS = {"head": 24, "lora": 24, "full": 24, "gradual": 48}
BOUNDARIES = (
    "hftl.training.stages:_save_stage",
    "hftl.training.stages:_write_done",
    "hftl.training.stages:_drop_stage",
)


@pytest.fixture(autouse=True)
def _ctrl_c_is_heeded() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what started the tests may have it ignored


def kind_of(method: str, bf16: bool, by_steps: bool) -> str:
    """Add the run to the server's kinds, and return its name."""
    name = f"{method} {'bf16' if bf16 else 'fp32'} by {'steps' if by_steps else 'epochs'}"
    epochs = 8 if method == "gradual" else 4
    KINDS[name] = {
        **TEXT, "method": method, "num_train_epochs": epochs, "bf16": str(bf16).lower(), **(BY_STEPS if by_steps else {})
    }  # fmt: skip
    return name


def moments() -> list[Any]:
    """Twenty seeded moments: in the middle of a stage for every kind of run, and four between two stages."""
    draw = random.Random(7)
    cases = []
    for method, steps in STEPS.items():
        for bf16 in (True, False):
            for by_steps in (True, False):
                step = draw.randint(1, steps - 1)
                cases.append(pytest.param(method, bf16, by_steps, STEP, step, id=f"{method}-{bf16}-{by_steps}-{step}"))
    for bf16, by_steps, call in ((True, True, 2), (True, False, 3), (False, True, 1), (False, False, 4)):
        boundary = BOUNDARIES[call % 3]
        cases.append(pytest.param("gradual", bf16, by_steps, boundary, call, id=f"boundary-{bf16}-{by_steps}-{call}"))
    return [
        case if i in (12, 16) else pytest.param(*case.values, id=case.id, marks=pytest.mark.slow)
        for i, case in enumerate(cases)
    ]


@pytest.mark.parametrize(("method", "bf16", "by_steps", "function", "call"), moments())
def test_ctrl_c(
    method: str, bf16: bool, by_steps: bool, function: str, call: int, server: Server, undisturbed: Any, tmp_path: Path
) -> None:
    kind = kind_of(method, bf16, by_steps)
    done = server.train(tmp_path, kind, moments=[stopped(function, call, number=INTERRUPT)])
    assert done.code == 130, done.err
    assert "Traceback" not in done.err
    assert server.command(tmp_path, *resume_words(done)).code == 0
    assert_same_run(tmp_path / "run", undisturbed(kind))
    assert_whole(tmp_path)


def test_the_cache_is_decided_once(server: Server, undisturbed: Any, tmp_path: Path) -> None:
    """With fewer epochs left, storing states no longer pays; the resumed run reads them all the same."""
    kind = kind_of("gradual", True, False)
    done = server.train(tmp_path, kind, moments=[stopped(BOUNDARIES[0], 4, number=INTERRUPT)])
    assert done.code == 130, done.err
    assert server.command(tmp_path, *resume_words(done)).code == 0
    assert_same_run(tmp_path / "run", undisturbed(kind))


class _Gone:
    """Ctrl-C comes while Python removes it, where an exception is printed and lost."""

    def __del__(self) -> None:
        os.kill(os.getpid(), INTERRUPT)
        sum(range(1000))  # the handler runs in here


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_lost_ctrl_c_is_heeded_after_the_batch(place: Path) -> None:
    model, _ = stock_model("bert", place / "bert")
    rows = encoded_texts([np.array([1, 2, 3])] * 300, np.zeros(300, dtype=np.int64))
    batches = []

    def use(numbers: list[int], *_: Any) -> None:
        batches.append(numbers)
        if len(batches) == 1:
            _Gone()

    def collate(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        ids = torch.tensor([[1, 2, 3]] * len(items))
        return {"input_ids": ids, "labels": torch.zeros(len(items), dtype=torch.long)}

    assert len(batches_by_length(rows.lengths)) > 1
    with pytest.raises(Preempted) as told, heed_signals():
        Passer(collate, use_cpu=True).run(model, rows, use, "rows")
    assert told.value.exit_code == 130
    assert len(batches) == 1
    end_if_asked()  # what comes afterwards in this process is not ended


def test_a_signal_is_not_taken_for_a_broken_flag_or_file(tmp_path, monkeypatch):
    """Ctrl-C may come while a library works, where any exception would turn into a line about the user's input."""

    def pressed(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)  # the handler raises here

    monkeypatch.setattr(arguments, "_rehearse", pressed)
    config = complete(
        build_config("text-classification", {"data": "x.csv", "weight_decay": 0.1, "output_dir": tmp_path})
    )
    with pytest.raises(Preempted), heed_signals():
        arguments.check_arguments(config, CLASSES)
    monkeypatch.setattr(ImageOps, "exif_transpose", pressed)
    with pytest.raises(Preempted), heed_signals():
        decode_image(Image.new("RGB", (8, 8)))


DROPPED = """
import os, signal
from hftl.surroundings import note_interrupts
from hftl.training.checkpoints import heed_signals

class Dropping:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)

note_interrupts()
dropping = Dropping()
del dropping
print("went on", flush=True)
with heed_signals():
    print("trains", flush=True)
"""


def test_a_ctrl_c_that_python_dropped_is_heeded_before_training():
    """Python ignores what is raised in a finalizer or a callback of an import."""
    done = subprocess.run([sys.executable, "-c", DROPPED], capture_output=True, text=True, env=subprocess_env())
    assert done.stdout == "went on\n"
    assert "KeyboardInterrupt" in done.stderr.splitlines()[-1]
    assert done.returncode in (130, -signal.SIGINT)
