"""Training flags that Trainer would refuse only after the features are extracted: refused before any data is read."""

from pathlib import Path

import pytest

from tests.bad_input.refusals import check, refused, train
from tests.command import hftl


WRONG = (
    ("--warmup_steps -1", "--warmup_steps"),
    ("--label_smoothing_factor 5", "0 to 1"),
    ("--max_steps 0", "from 1 on"),
    ("--bf16 true --fp16 true", "At most one of fp16 and bf16"),
    ("--save_strategy no --early_stopping_patience 2", "--save_strategy"),
    ("--save_strategy steps --save_steps 0", "--save_steps"),
    ("--logging_steps 0", "--logging_steps"),
    ("--dataloader_num_workers -1", "--dataloader_num_workers"),
    ("--dataloader_prefetch_factor 2", "--dataloader_num_workers > 0"),
    ("--dataloader_persistent_workers true", "num_workers > 0"),
    ("--metric_for_best_model nonsense", "no such score here. There are loss, accuracy, macro_f1"),
    ("--report_to foo", "tensorboard"),
    ("--deepspeed nope.json", "--deepspeed"),
    ("--tf32 true", "--tf32"),
    ("--use_liger_kernel true", "pip install liger-kernel"),
    ("--accelerator_config nope.json", "nope.json"),
    ("--optim_args foo", "--optim_args"),
    ("--optim adamw_bnb_8bit", "bitsandbytes"),
    ("--adam_beta1 2", "--adam_beta1"),
    ("--adam_epsilon -1", "--adam_epsilon"),
    ("--lr_scheduler_kwargs {bad", "--lr_scheduler_kwargs"),
    ("--batch_eval_metrics true", "--batch_eval_metrics"),
    ("--prediction_loss_only true", "--prediction_loss_only"),
    ("--save_only_model true", "--resume needs"),
    ("--enable_jit_checkpoint true", "SIGTERM"),
    ("--auto_find_batch_size true", "always split"),
    ("--ignore_data_skip true", "resumed"),
    ("--label_names y", "targets"),
    ("--neftune_noise_alpha -1", "from 0 on"),
    ("--torch_compile true", "--torch_compile"),
    ("--dataloader_drop_last true --per_device_train_batch_size 500", "--per_device_train_batch_size"),
)


@pytest.mark.parametrize(("flags", "says"), WRONG, ids=[flags.split()[0] for flags, _ in WRONG])
def test_wrong_value(flags: str, says: str, capsys, place) -> None:
    refused(capsys, place, "--use_cpu", "true", *flags.split(), says=(says,))


def test_the_flag_is_named_among_others(capsys, place) -> None:
    flags = "--use_cpu true --learning_rate 1e-3 --optim_args foo --num_train_epochs 2"
    refused(capsys, place, *flags.split(), says=("--optim_args foo does not work",))


def test_the_corrected_command_runs(capsys, place) -> None:
    """Nothing of the refused one is in its way."""
    words = ("--use_cpu", "true", "--output_dir", "out", "--method", "head", "--num_train_epochs", "1")
    check(train(capsys, place, *words, "--optim_args", "foo"), "--optim_args")
    assert not list(Path().glob(".out*"))
    assert train(capsys, place, *words).code == 0


def test_checkpointing_that_the_model_lacks(capsys, place) -> None:
    words = ["--data", place / "images", "--model", place / "resnet", "--method", "full", "--output_dir", "out"]
    done = hftl(
        capsys, "train", "image-classification", *words, "--use_cpu", "true", "--gradient_checkpointing", "true"
    )
    check(done, "does not support it")
