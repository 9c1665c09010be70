"""Models that do not exist, do not fit the task, are unsafe to load or lack a file."""

import json
import time
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file

from tests.bad_input.refusals import check, copy_of, refused
from tests.command import hftl
from tests.tiny import build


def test_unknown_hub_id_offline(capsys, place):
    start = time.perf_counter()
    message = refused(capsys, place, "--model", "nobody/nothing", says=("nobody/nothing", "offline", "Usable now"))
    assert "all-MiniLM-L6-v2" in message
    assert time.perf_counter() - start < 20  # no retries, which take minutes


def test_unreachable_hub(capsys, place, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    start = time.perf_counter()
    refused(capsys, place, "--model", "nobody/nothing", says=("127.0.0.1:9 cannot be reached", "Usable now"))
    assert time.perf_counter() - start < 20  # no retries, which take minutes


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


def test_positions_that_no_memory_could_hold(capsys, place):
    folder = copy_of(place / "bert", "endless")
    config = json.loads((folder / "config.json").read_text()) | {"max_position_embeddings": 10**9}
    (folder / "config.json").write_text(json.dumps(config))
    refused(capsys, place, "--model", folder, says=("max_position_embeddings is 1,000,000,000",))
    check(hftl(capsys, "predict", folder, "text"), "max_position_embeddings")


def test_base_model_cannot_predict(capsys, place):
    check(hftl(capsys, "predict", place / "bert", "text"), "not a trained classifier", "hftl train")
