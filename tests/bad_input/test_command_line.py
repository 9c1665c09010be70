"""Mistakes on the command line and in config files."""

from pathlib import Path

import pytest

from tests.bad_input.refusals import check, refused
from tests.command import hftl


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trian"], ["no verb 'trian'", "Did you mean 'train'?"]),
        (["train"], ["needs one TASK"]),
        (["train", "text-clasification", "--data", "x.csv"], ["no task", "Did you mean 'text-classification'?"]),
        (["train", "text-classification", "image-classification"], ["needs one TASK"]),
        (["train", "text-classification"], ["No data", "--data"]),
        (["train", "text-classification", "--data"], ["--data needs"]),
        (["train", "text-classification", "--data", "x.csv", "--method", "lor"], ["method", "Did you mean 'lora'?"]),
        (["train", "text-classification", "--data", "x.csv", "--method"], ["--method needs"]),
        (["train", "text-classification", "-data", "x.csv"], ["two dashes"]),
        (["train", "none.yaml"], ["no config file none.yaml"]),
        (["predict"], ["needs a RUN"]),
        (["predict", "run"], ["either texts", "--data"]),
        (["predict", "run", "text", "--data", "x.csv"], ["either texts"]),
        (["predict", "run", "text", "--dta", "x.csv"], ["no flag --dta", "Did you mean 'data'?"]),
        (["predict", "norun", "text"], ["norun"]),
        (["predict", "norun/none/none", "text"], ["no folder"]),
        (["predict", "run", "--data"], ["--data needs"]),
        (["predict", "run", "--data", "x.csv", "--output"], ["--output needs"]),
        (["eval", "run"], ["--data"]),
        (["eval", "run", "--data"], ["--data needs"]),
        (["eval", "run", "--data", "x.csv", "--lable_column", "y"], ["Did you mean 'label_column'?"]),
        (["tasks", "--jsn"], ["no flag --jsn", "Did you mean 'json'?"]),
        (["tasks", "more"], ["no further words"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_commands(capsys, words, says):
    check(hftl(capsys, *words), *says)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--learning_rate", "abc"], ["learning_rate", "abc"]),
        (["--learning_rate"], ["learning_rate"]),
        (["--max_steps", "1.5"], ["max_steps", "1.5"]),
        (["--num_train_epochs", "-1"], ["num_train_epochs", "-1"]),
        (["--per_device_train_batch_size", "0"], ["per_device_train_batch_size"]),
        (["--max_train_samples", "many"], ["--max_train_samples needs a whole number", "'many'"]),
        (["--max_train_samples", "0"], ["max_train_samples"]),
        (["--max_eval_samples", "-3"], ["max_eval_samples"]),
        (["--test_size", "2"], ["test_size"]),
        (["--validation_size", "nan"], ["validation_size"]),
        (["--lora_r", "0", "--method", "lora"], ["lora_r"]),
        (["--evidence", "maybe"], ["--evidence is full or quick or off, not 'maybe'"]),
        (["--evidence=maybe"], ["--evidence is one of full, quick, off", "'maybe'"]),
        (["--strict=perhaps"], ["--strict needs true or false", "'perhaps'"]),
        (["--seed", "1e400"], ["--seed needs a whole number"]),
        (["--pooling", "men"], ["--pooling", "Did you mean 'mean'?"]),
        (["--learnin_rate", "1"], ["no flag --learnin_rate", "Did you mean 'learning_rate'?"]),
        (["--modle", "x"], ["no flag --modle", "Did you mean 'model'?"]),
        (["--eval_strategy", "sometimes"], ["sometimes"]),
        (["--push_to_hub"], ["--push_to_hub", "hftl push RUN ns/name"]),
        (["--hub_model_id", "me/x"], ["--hub_model_id", "hftl push RUN ns/name"]),
        (["--resume_from_checkpoint", "x"], ["--resume_from_checkpoint", "--resume"]),
        (["--do_train"], ["--do_train"]),
        (["--text_column", "txt"], ["no column 'txt'", "Did you mean 'text'?"]),
        (["--label_column", "lable"], ["no column 'lable'", "Did you mean 'label'?"]),
        (["--label_column", "text"], ["text", "label"]),
        (["--max_seq_length", "100000"], ["--max_seq_length 100000", "limit"]),
        (["--max_seq_length", "1"], ["--max_seq_length 1"]),
        (["--data", "none.csv"], ["no such file", "none.csv"]),
        (["--data", "sample:digit"], ["sample", "digits"]),
        (["--model", "./none"], ["no folder ./none"]),
        (["--model", ""], ["model"]),
        (["--output_dir", ""], ["output_dir"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_flags(capsys, place, flags, says):
    refused(capsys, place, *flags, says=tuple(says))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("task: [", ["not valid YAML"]),
        ("- a\n- b\n", ["mapping", "task:"]),
        ("data: x.csv\n", ["task:"]),
        ("task: text-classification\ndata: x.csv\nmethd: probe\n", ["--methd", "Did you mean 'method'?"]),
        ("task: text\ndata: x.csv\n", ["no task 'text'"]),
        ("task: text-classification\ndata: x.csv\nlora_r: [1, 2]\n", ["--lora_r needs a whole number"]),
        ("task: text-classification\ndata: x.csv\nmethod: [probe]\n", ["method"]),
        ("task: text-classification\ndata: x.csv\n1: 2\n", ["1"]),
        ("\x00\x01", ["YAML"]),
        ("", ["mapping"]),
    ],
    ids=range(10),
)
def test_config_files(capsys, text, says):
    Path("c.yaml").write_text(text)
    check(hftl(capsys, "train", "c.yaml", "--output_dir", "out"), *says)


def test_config_of_data_in_memory(capsys, place):
    Path("c.yaml").write_text("task: text-classification\ndata: '(in memory: DataFrame)'\n")
    check(hftl(capsys, "train", "c.yaml", "--output_dir", "out"), "memory", "--data")
