"""A run that is killed at any moment and resumed is bit by bit the run that nobody killed."""

import random
from pathlib import Path
from typing import Any

import pytest

from tests.faults.commands import KILL, Moment, Server, assert_same_run, assert_whole, killed
from tests.thin import thin


TRAINER = "transformers.trainer:Trainer"
CLOSE = "hftl.adapt:close_partial"
FINAL = "hftl.adapt:save_final"
DRAW = random.Random(20)
STAGES = 4  # by gradient, of 2 epochs and 12 steps each; the probe's stage is before them


def drawn(function: str, most: int, when: str = "before", within: str = "") -> Moment:
    return killed(function, DRAW.randint(1, most), when, within)


MOMENTS: dict[str, Moment] = {
    "features are extracted": drawn("hftl.training.features:pick_features", 2),
    "features are written": drawn("hftl.training.cache:np.save", 4),
    "the state cache is filled": drawn("hftl.training.replay:_write", 6),
    "the first stage begins": killed("hftl.training.stages:GroupedTrainer.__init__"),
    "a stage is in the middle": drawn(f"{TRAINER}.training_step", 12 * STAGES, "after"),
    "a checkpoint has weights alone": drawn(f"{TRAINER}._save_optimizer_and_scheduler", 2 * STAGES),
    "a checkpoint has no trainer state": drawn("transformers.trainer:TrainerState.save_to_json", 2 * STAGES),
    "a checkpoint is not marked": drawn("hftl.training.checkpoints:_flush", 20),
    "a stage is over": killed("hftl.training.stages:save_file", 3),
    "a stage is not listed": killed("hftl.training.stages:save_file", 3, "after"),
    "the next stage is to begin": killed("hftl.training.stages:_drop_stage", 2, "after"),
    "final has no tokenizer": killed("transformers:PreTrainedTokenizerBase.save_pretrained", within=FINAL),
    "the run is to be closed": killed(CLOSE),
    "leftovers are half removed": killed("hftl.run_folder:Path.unlink", 2, "after", within=CLOSE),
    "leftovers are removed": killed("hftl.run_folder:Path.replace", within=CLOSE),
}
QUICK = (
    "the state cache is filled", "a stage is in the middle", "a checkpoint has no trainer state",
    "a checkpoint is not marked", "a stage is not listed", "final has no tokenizer", "leftovers are half removed",
)  # fmt: skip
MORE: dict[str, Moment] = {
    "features are published": killed("hftl.training.cache:put_in_place", 2),
    "the run's folder is made": killed("hftl.run_folder:Path.write_text", 2),
    "the state cache is reserved": killed("hftl.training.cache:open_memmap", 2, "after"),
    "the state cache is published": killed("hftl.training.cache:put_in_place", 3),
    "a later stage is in the middle": killed(f"{TRAINER}.training_step", 12 + 9, "after"),
    "a checkpoint has an optimizer alone": killed("torch:save", 4 * 3 + 2, "after"),
    "an old checkpoint is removed": killed("hftl.training.checkpoints:Path.touch", 3, "after"),
    "a stage is listed": killed("hftl.training.stages:write_new", 3, "after"),
    "the test split is scored": killed("hftl.adapt:predict_logits"),
    "final is begun": killed("transformers.modeling_utils:PreTrainedModel.save_pretrained", within=FINAL),
    "final has no card": killed("hftl.adapt:write_card"),
    "the report is written": killed("hftl.adapt:write_report", 1, "after"),
    "checkpoints are removed": killed("hftl.run_folder:shutil.rmtree", 1, "after", within=CLOSE),
}


def check(server: Server, undisturbed: Any, folder: Path, kind: str, *moments: Moment) -> None:
    """Kill a run at the first moment, the resumed one at the second and so on; then let it end."""
    for i, moment in enumerate(moments):
        done = server.train(folder, kind, *(["--resume"] if i else []), moments=[moment])
        assert done.code == -KILL, done.err
        assert not (folder / "run").exists()
    done = server.train(folder, kind, "--resume")
    assert done.code == 0, done.err
    assert_same_run(folder / "run", undisturbed(kind))
    assert_whole(folder)


@pytest.mark.parametrize("moment", thin(MOMENTS, QUICK))
def test_gradual_run_is_killed_while(moment: str, server: Server, undisturbed: Any, tmp_path: Path) -> None:
    check(server, undisturbed, tmp_path, "gradual", MOMENTS[moment])


def also(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MORE)
def test_gradual_run_is_also_killed_while(moment: str, server: Server, undisturbed: Any, tmp_path: Path) -> None:
    check(server, undisturbed, tmp_path, "gradual", MORE[moment])


@pytest.mark.parametrize(
    ("kind", "moment"),
    [
        also("full", killed(f"{TRAINER}.training_step", 15)),
        also("resnet", killed(f"{TRAINER}.training_step", 7)),
        ("resnet", killed("hftl.training.checkpoints:_flush", 2)),
        also("full by steps", killed(f"{TRAINER}.training_step", 11)),
        ("resnet by steps", killed(f"{TRAINER}.training_step", 8)),
        ("resnet on states", killed(f"{TRAINER}.training_step", 11)),
        ("windows", killed(f"{TRAINER}.training_step", 5)),
        ("max_steps", killed(f"{TRAINER}._finalize_training")),
        also("early stop", killed(f"{TRAINER}._finalize_training")),
        ("wise", killed("hftl.methods.wise:between", 5)),
        ("contrastive", killed(f"{TRAINER}.training_step", 7)),
        also("contrastive", killed("hftl.training.stages:closed_form")),
        also("wise", killed("hftl.training.stages:save_file", 3, "after")),
        also("kept", killed(f"{TRAINER}.training_step", 11)),
        also("kept", killed("hftl.methods.wise:between", 5)),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0].rpartition(":")[2],
)
def test_run_of_one_stage_is_killed(
    kind: str, moment: Moment, server: Server, undisturbed: Any, tmp_path: Path
) -> None:
    """By steps, it goes on in the middle of an epoch; at a stage's end, it takes no step more."""
    check(server, undisturbed, tmp_path, kind, moment)


def test_resumed_run_is_killed_too(server: Server, undisturbed: Any, tmp_path: Path) -> None:
    """First in the middle of a stage, then in the middle of a checkpoint, then between two stages."""
    moments = (
        killed(f"{TRAINER}.training_step", 12 + 8),
        killed(f"{TRAINER}._save_optimizer_and_scheduler"),
        killed("hftl.training.stages:save_file", 1, "after"),
    )
    check(server, undisturbed, tmp_path, "gradual", *moments)
