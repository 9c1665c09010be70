"""Every mistake is answered by a short message that names cause and mend, exit code 2, and nothing left behind."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from tests.command import Outcome, environment, hftl, shell, text_csv, write_csv
from tests.tiny import build, tiny_images, tiny_text_rows


ROWS = [(text, f"mood{label}") for text, label in tiny_text_rows(60, 3)]


@pytest.fixture(autouse=True)
def workplace(tmp_path_factory, tmp_path, monkeypatch):
    """Each case runs in a folder of its own, offline."""
    monkeypatch.setenv("HFTL_CACHE", str(tmp_path_factory.getbasetemp() / "hftl-cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bad-input")
    build("bert", folder / "bert")
    build("resnet", folder / "resnet")
    text_csv(folder / "t.csv")
    tiny_images(folder / "images", per_class=10)
    return folder


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


# The command line


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
        (["train", "text-classification", "--data", "x.csv", "--method"], ["no method"]),
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
        (["tasks", "more"], ["takes no"]),
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
        (["--strict=perhaps"], ["--strict needs true or false", "'perhaps'"]),
        (["--seed", "1e400"], ["--seed needs a whole number"]),
        (["--pooling", "men"], ["--pooling", "Did you mean 'mean'?"]),
        (["--learnin_rate", "1"], ["no flag --learnin_rate", "Did you mean 'learning_rate'?"]),
        (["--modle", "x"], ["no flag --modle", "Did you mean 'model'?"]),
        (["--eval_strategy", "sometimes"], ["sometimes"]),
        (["--push_to_hub"], ["--push_to_hub", "hf upload"]),
        (["--hub_model_id", "me/x"], ["--hub_model_id", "hf upload"]),
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


# Data


@pytest.mark.parametrize(
    ("rows", "header", "says"),
    [
        ([], ("text", "label"), ["empty"]),
        ([(t, "same") for t, _ in ROWS], ("text", "label"), ["one class", "'same'", "two are needed"]),
        ([*ROWS, ("once", "rare")], ("text", "label"), ["single row", "'rare'"]),
        ([(t, y if i % 9 else "") for i, (t, y) in enumerate(ROWS)], ("text", "label"), ["label", "missing"]),
        ([(i, y) for i, (_, y) in enumerate(ROWS)], ("text", "label"), ["numbers, not text", "--text-column"]),
        ([(t if i % 9 else "", y) for i, (t, y) in enumerate(ROWS)], ("text", "label"), ["missing or empty"]),
        ([(t, y, i) for i, (t, y) in enumerate(ROWS)], ("text", "foo", "bar"), ["no label column", "foo", "bar"]),
    ],
    ids=["no rows", "one class", "single row", "missing labels", "numbers", "missing texts", "no label column"],
)
def test_tables(capsys, place, rows, header, says):
    refused(capsys, place, "--data", write_csv(Path("x.csv"), rows, header), says=tuple(says))


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe\x93garbage", b'text,label\n"a,b\n'], ids=range(3))
@pytest.mark.parametrize("name", ["x.csv", "x.json", "x.parquet"])
def test_broken_files(capsys, place, name, content):
    Path(name).write_bytes(content)
    refused(capsys, place, "--data", name, says=(name,))


def test_unknown_class_in_test(capsys, place):
    Path("d").mkdir()
    write_csv(Path("d/train.csv"), ROWS[:40])
    write_csv(Path("d/test.csv"), [*ROWS[40:], ("strange", "mood9")])
    refused(capsys, place, "--data", "d", says=("test holds the class 'mood9'", "train lacks"))


def test_image_folders(capsys, place):
    Path("none").mkdir()
    refused(capsys, place, "--data", "none", task="image-classification", says=("none",))
    tiny_images(Path("some"), per_class=4)
    (Path("some") / "hollow").mkdir()
    refused(capsys, place, "--data", "some", task="image-classification", says=("'hollow'", "no images"))


def test_broken_images(capsys, place):
    tiny_images(Path("some"), per_class=4)
    next(Path("some/class_0").iterdir()).write_bytes(b"no image")
    words = ("--data", "some", "--strict")
    refused(capsys, place, *words, task="image-classification", says=("broken image", "class_0"))


# Models


def test_unknown_hub_id_offline(capsys, place):
    start = time.perf_counter()
    message = refused(capsys, place, "--model", "nobody/nothing", says=("nobody/nothing", "offline", "Usable now"))
    assert "all-MiniLM-L6-v2" in message
    assert time.perf_counter() - start < 2


def test_unreachable_hub(capsys, place, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    start = time.perf_counter()
    refused(capsys, place, "--model", "nobody/nothing", says=("127.0.0.1:9 cannot be reached", "Usable now"))
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("name", ["a b/c", "-x-", "x..y", "x" * 120])
def test_names_that_no_model_can_have(capsys, place, name):
    refused(capsys, place, f"--model={name}", says=(name,))


def test_text_model_for_an_image_task(capsys, place):
    flags = ("--model", place / "bert")
    refused(capsys, place, *flags, task="image-classification", says=("bert", "cannot do image-classification"))


def test_image_model_for_a_text_task(capsys, place):
    refused(capsys, place, "--model", place / "resnet", says=("resnet", "cannot do text-classification", "try "))


def test_model_without_the_auto_class(capsys, place):
    Path("whisper").mkdir()
    Path("whisper/config.json").write_text(json.dumps({"model_type": "speecht5"}))
    refused(capsys, place, "--model", "whisper", says=("speecht5", "AutoModelForSequenceClassification"))


def copy_of(folder: Path, name: str, without: str = "") -> Path:
    target = Path(name)
    target.mkdir()
    for file in folder.iterdir():
        if file.name != without:
            (target / file.name).write_bytes(file.read_bytes())
    return target


@pytest.mark.parametrize("model_type", ["unheard_of", "bert"])
def test_remote_code(capsys, place, model_type):
    folder = copy_of(place / "bert", "remote")
    config = json.loads((folder / "config.json").read_text())
    marker = Path("ran").absolute()
    config |= {"model_type": model_type, "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    config["auto_map"]["AutoModelForSequenceClassification"] = "evil.Model"
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    if model_type == "bert":  # transformers knows the architecture, so its own class is used
        words = ["--data", place / "t.csv", "--model", folder, "--method", "probe", "--output_dir", "out"]
        assert hftl(capsys, "train", "text-classification", *words).code == 0
    else:
        refused(capsys, place, "--model", folder, says=("remote", "--trust_remote_code"))
    assert not marker.exists()


def test_remote_code_is_not_run_by_predict(capsys, place):
    Path("remote").mkdir()
    fields = {"model_type": "unheard_of", "architectures": ["EvilForSequenceClassification"]}
    fields["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Model"}
    Path("remote/config.json").write_text(json.dumps(fields))
    marker = Path("ran").absolute()
    Path("remote/evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    message = check(hftl(capsys, "predict", "remote", "text"), "remote")
    assert "--trust_remote_code" not in message  # predict has no such flag
    assert not marker.exists()


def test_pickle(capsys, place):
    folder = copy_of(place / "bert", "pickle", without="model.safetensors")
    torch.save(load_file(place / "bert" / "model.safetensors"), folder / "pytorch_model.bin")
    refused(capsys, place, "--model", folder, says=("pickle", "--allow_pickle"))
    words = ["--data", place / "t.csv", "--model", folder, "--method", "probe", "--output_dir", "out"]
    assert hftl(capsys, "train", "text-classification", *words, "--allow_pickle").code == 0


def test_pickle_is_not_read_by_predict(capsys, place):
    folder = build("bert", Path("saved"), num_labels=2)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    message = check(hftl(capsys, "predict", folder, "text"), "safetensors")
    assert "--allow_pickle" not in message


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_folder_that_lacks_a_file(capsys, place, file):
    folder = copy_of(place / "bert", "holey", without=file)
    if file == "tokenizer.json":
        (folder / "tokenizer_config.json").unlink()
    refused(capsys, place, "--model", folder, says=("holey",))


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_folder_with_a_broken_file(capsys, place, file):
    folder = copy_of(place / "bert", "broken")
    (folder / file).write_bytes(b'{"a": ')
    refused(capsys, place, "--model", folder, says=("broken",))


def test_base_model_cannot_predict(capsys, place):
    check(hftl(capsys, "predict", place / "bert", "text"), "not a trained classifier", "hftl train")


# Output folders


def train(capsys, place, *flags: object) -> Outcome:
    words = ["--data", place / "t.csv", "--model", place / "bert", "--method", "probe"]
    return hftl(capsys, "train", "text-classification", *words, *flags)


def test_existing_run(capsys, place):
    assert train(capsys, place, "--output_dir", "run").code == 0
    before = Path("run/report.json").read_text()
    check(train(capsys, place, "--output_dir", "run", "--seed", 3), "run exists already", "--overwrite")
    assert Path("run/report.json").read_text() == before
    assert train(capsys, place, "--output_dir", "run", "--seed", 3, "--overwrite").code == 0
    assert json.loads(Path("run/report.json").read_text())["seed"] == 3
    assert not Path("run.partial").exists()


def test_overwrite_that_fails_keeps_the_old_run(capsys, place):
    assert train(capsys, place, "--output_dir", "run").code == 0
    flags = ("--output_dir", "run", "--overwrite", "--method", "full", "--learning_rate", "1e30")
    check(train(capsys, place, *flags), "nan")
    assert Path("run/final/model.safetensors").is_file()
    assert not Path("run.partial").exists()


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_folder_that_is_no_run_stays(capsys, place, overwrite):
    Path("mine").mkdir()
    Path("mine/letter.txt").write_text("dear")
    check(train(capsys, place, "--output_dir", "mine", *overwrite), "mine")
    assert Path("mine/letter.txt").read_text() == "dear"
    assert not Path("mine.partial").exists()


def test_empty_folder_is_used(capsys, place):
    Path("run").mkdir()
    assert train(capsys, place, "--output_dir", "run").code == 0
    assert Path("run/report.json").is_file()


@pytest.mark.parametrize("where", [".", "..", "/"])
def test_folders_that_cannot_be_a_run(capsys, place, where):
    check(train(capsys, place, "--output_dir", where), "--output_dir")


def test_partial_that_is_no_run_stays(capsys, place):
    Path("run.partial").mkdir()
    Path("run.partial/letter.txt").write_text("dear")
    check(train(capsys, place, "--output_dir", "run", "--overwrite"), "run.partial")
    check(train(capsys, place, "--output_dir", "run", "--resume"), "run.partial")
    assert Path("run.partial/letter.txt").read_text() == "dear"


def test_output_under_a_file(capsys, place):
    Path("file").write_text("x")
    check(train(capsys, place, "--output_dir", "file"), "is a file")
    check(train(capsys, place, "--output_dir", "file/run"), "file")
    assert Path("file").read_text() == "x"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(capsys, place):
    Path("locked").mkdir(mode=0o500)
    check(train(capsys, place, "--output_dir", "locked/run"), "permission")


def test_unwritable_folder_of_the_kernel(capsys, place):
    check(train(capsys, place, "--output_dir", "/proc/run"), "/proc/run")


def test_prediction_that_cannot_be_written(capsys, place):
    assert train(capsys, place, "--output_dir", "run").code == 0
    words = ["predict", "run", "--data", place / "t.csv", "--output"]
    check(hftl(capsys, *words, "none/out.csv"), "no folder none")
    Path("folder").mkdir()
    check(hftl(capsys, *words, "folder"), "folder")
    check(hftl(capsys, *words, "/proc/out.csv"), "/proc/out.csv")
    assert {p.name for p in Path().iterdir()} == {"run", "folder"}


def test_rows_that_do_not_fit_the_run(capsys, place):
    assert train(capsys, place, "--output_dir", "run").code == 0
    check(hftl(capsys, "predict", "run", "--data", place / "images"), "text")
    check(hftl(capsys, "predict", "run", "--data", "none.csv"), "no such file")
    strange = write_csv(Path("x.csv"), [*ROWS, ("strange", "mood9")])
    check(hftl(capsys, "eval", "run", "--data", strange), "'mood9'", "the model does not know")
    unlabelled = write_csv(Path("y.csv"), [(text, 1, 2) for text, _ in ROWS], ("text", "foo", "bar"))
    check(hftl(capsys, "eval", "run", "--data", unlabelled), "no label column")
    check(hftl(capsys, "eval", "run", "--data", place / "t.csv", "--text_column", "txt"), "Did you mean 'text'?")


def test_image_arguments_that_are_none(capsys, place):
    words = ["--data", place / "images", "--model", place / "resnet", "--method", "probe", "--output_dir", "run"]
    assert hftl(capsys, "train", "image-classification", *words).code == 0
    check(hftl(capsys, "predict", "run", "none.png"), "no image file none.png")
    Path("x.png").write_bytes(b"no image")
    check(hftl(capsys, "predict", "run", "x.png"), "x.png")


# Training that fails or is cut off


@pytest.mark.parametrize("method", ["full", "lora"])
def test_loss_that_is_no_number(capsys, place, method):
    flags = ("--method", method, "--learning_rate", "1e30", "--num_train_epochs", 3)
    refused(capsys, place, *flags, says=("--learning_rate",))


@pytest.mark.parametrize("method", ["probe", "full"])
def test_weights_that_are_no_numbers(capsys, place, method):
    folder = copy_of(place / "bert", "inf")
    weights = load_file(folder / "model.safetensors")
    weights["bert.embeddings.word_embeddings.weight"][:] = float("inf")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(capsys, place, "--model", folder, "--method", method, says=("inf",))


def interrupted(place: Path, cwd: Path, *flags: str) -> Outcome:
    """Start a run, wait until it has saved a checkpoint, and press Ctrl-C."""
    words = ["--data", str(place / "t.csv"), "--model", str(place / "bert"), "--method", "full", "--max_steps", "5000"]
    words += ["--early_stopping_patience", "9999", *flags]
    process = subprocess.Popen(
        [sys.executable, "-m", "hftl", "train", "text-classification", *words],
        cwd=cwd, env=environment(HFTL_CACHE=str(cwd / "cache")), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 120
        while not any(cwd.glob("**/*.partial/checkpoints/*/checkpoint-*/trainer_state.json")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return Outcome(process.returncode, out, err)


def test_interrupted_and_resumed(capsys, place, tmp_path):
    done = interrupted(place, tmp_path)
    assert done.code == 130, done.err
    assert "Traceback" not in done.err
    line = done.err.strip().splitlines()[-1]
    assert line.startswith("Interrupted. Go on with: hftl train ")
    assert done.out == ""
    command = shlex.split(line.split("Go on with: hftl ")[1])
    (partial,) = tmp_path.glob("runs/*.partial")
    output = str(partial).removesuffix(".partial")

    relative = os.path.relpath(output, tmp_path)
    config = f"{relative}.partial/config.yaml"
    check(hftl(capsys, "train", config, "--output_dir", relative), "cut off", "--resume")
    check(
        hftl(capsys, "train", config, "--output_dir", relative, "--resume", "--seed", 3), "other flags", "--overwrite"
    )
    other = text_csv(tmp_path / "t.csv", n=66)
    check(hftl(capsys, "train", config, "--output_dir", relative, "--resume", "--data", other), "other flags")
    assert partial.is_dir()

    # the run is long; a stop file makes no part of hftl, so the test shortens what is left instead
    states = sorted(partial.glob("checkpoints/*/checkpoint-*/trainer_state.json"))
    step = json.loads(states[-1].read_text())["global_step"]
    text = (partial / "config.yaml").read_text()
    (partial / "config.yaml").write_text(re.sub(r"max_steps: \d+", f"max_steps: {step + 5}", text))
    again = shell(["-m", "hftl", *command, "--json"], tmp_path, environment(HFTL_CACHE=str(tmp_path / "cache")))
    assert again.code == 0, again.err
    assert again.json["stages"][-1]["steps"] == step + 5
    assert (tmp_path / relative / "final" / "model.safetensors").is_file()
    assert not partial.exists()


def test_resume_with_other_rows(capsys, place):
    rows = write_csv(Path("x.csv"), ROWS)
    words = ["--data", rows, "--output_dir", "run"]
    assert train(capsys, place, *words).code == 0
    Path("run").rename("run.partial")
    Path("run.partial/rows.json").write_text(json.dumps({"train": "other", "labels": []}))
    check(train(capsys, place, *words, "--resume"), "other data")
    assert Path("run.partial/final").is_dir()
