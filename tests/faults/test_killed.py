"""A run that is killed at any moment and resumed is bit by bit the run that nobody killed."""

import random
from pathlib import Path
from typing import Any

import pytest

from tests.faults.commands import KILL, Moment, Server, assert_same_run, assert_whole, killed


TRAINER = "transformers.trainer:Trainer"
DRAW = random.Random(20)
STAGES = 4  # of gradient, of 12 steps each; the probe's stage is before them


def drawn(function: str, most: int, when: str = "before") -> Moment:
    return killed(function, DRAW.randint(1, most), when)


MOMENTS: dict[str, Moment] = {
    "features are extracted": drawn("hftl.training.features:pick_features", 2),
    "feature cache is written": drawn("hftl.training.cache:np.save", 4),
    "feature cache is written whole": killed("hftl.training.cache:_publish"),
    "the run's folder is made": killed("hftl.run_folder:Path.write_text", 2),
    "state cache is reserved": killed("hftl.training.cache:open_memmap", 2, "after"),
    "state cache is filled": drawn("hftl.training.states:_write", 6),
    "state cache is published": drawn("hftl.training.cache:_publish", 6),
    "the first stage begins": killed("hftl.training.stages:GroupedTrainer.__init__"),
    "a stage is in the middle": drawn(f"{TRAINER}.training_step", 12 * STAGES, "after"),
    "a later stage is in the middle": killed(f"{TRAINER}.training_step", 12 + 9, "after"),
    "a checkpoint has weights alone": drawn(f"{TRAINER}._save_optimizer_and_scheduler", 2 * STAGES),
    "a checkpoint has an optimizer, no scheduler": killed("torch:save", 3 * 3 + 1, "after"),
    "a checkpoint has no trainer state": drawn("transformers.trainer:TrainerState.save_to_json", 2 * STAGES),
    "a checkpoint is not marked": drawn("hftl.training.checkpoints:_flush", 20),
    "an old checkpoint is removed": killed("hftl.training.checkpoints:Path.touch", 3, "after"),
    "the weights of a stage are written": killed("hftl.training.stages:save_file", 3),
    "a stage is not listed as done": killed("hftl.training.stages:save_file", 3, "after"),
    "a stage is listed as done": killed("hftl.training.stages:Path.replace", 3, "after"),
    "states of a stage are dropped": killed("hftl.training.states:drop_states", 1),
    "the test split is scored": killed("hftl.adapt:predict_logits", 1),
    "final is begun": killed("transformers.modeling_utils:PreTrainedModel.save_pretrained", 2 * STAGES + 1),
    "final has weights": killed("transformers:PreTrainedTokenizerBase.save_pretrained", 1),
    "final has no card": killed("hftl.adapt:write_card"),
    "the report is written": killed("hftl.adapt:write_report", 1, "after"),
    "leftovers are removed": killed("hftl.run_folder:shutil.rmtree", 1, "after"),
    "leftovers are removed still": killed("hftl.run_folder:Path.unlink", 1, "after"),
    "leftovers are removed but for rows": killed("hftl.run_folder:Path.unlink", 2, "after"),
    "the folder gets its name": killed("hftl.run_folder:Path.rename"),
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


@pytest.mark.parametrize("moment", MOMENTS)
def test_gradual_run_is_killed_while(moment: str, server: Server, undisturbed: Any, tmp_path: Path) -> None:
    check(server, undisturbed, tmp_path, "gradual", MOMENTS[moment])
