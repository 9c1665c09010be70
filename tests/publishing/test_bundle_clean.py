"""The last look at a folder: each thing that must not be published is found, and what is fine is let through."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hftl.errors import RunError
from hftl.publishing.public_report import check_clean, machine_places


HOME = "/home/alice"


def folder_with(folder: Path, **files: bytes | str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"id2label": {"0": "a"}}')
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"training_args_DOT_bin": b"x"}, r"training_args\.bin is a pickle"),
        ({"weights_DOT_pt": b"x"}, r"weights\.pt is a pickle"),
        ({"notes_DOT_txt": pickle.dumps({"a": [1, 2]})}, r"notes\.txt is a pickle"),
        ({"notes_DOT_txt": pickle.dumps([print], protocol=2)}, r"notes\.txt is a pickle"),
        ({"_DOT_env": b"x"}, r"\.env is hidden"),
        ({"_DOT_git__config": b"x"}, r"\.git is hidden"),
        ({"a_DOT_yaml": "token: hf_" + "a" * 34}, r"a\.yaml holds what looks like an access token"),
        ({"a_DOT_yaml": f"data: {HOME}/tickets.csv"}, r"a\.yaml names a folder of this machine \(/home/alice\)"),
        ({"a_DOT_json": '{"data": "\\/home\\/alice"}'}, r"a\.json names a folder"),
        ({"tokenizer_DOT_json": f'"{HOME}"'}, r"tokenizer\.json names a folder"),
        ({"sub__b_DOT_md": "see file:///home/alice/x"}, r"sub/b\.md names a folder"),
        ({"a_DOT_md": "a photo, party.jpg, is broken"}, r"a\.md names 'party\.jpg'"),
    ],
)
def test_found(tmp_path, files, said):
    with pytest.raises(RunError, match=said) as caught:
        check_clean(folder_with(tmp_path / "x", **files), ["party.jpg"], [HOME, "/tmp"])
    assert "\n" not in str(caught.value)


def test_a_torch_file_under_any_name(tmp_path):
    folder = folder_with(tmp_path / "x")
    torch.save({"a": torch.zeros(2)}, folder / "model.safetensors.old")
    with pytest.raises(RunError, match="is a pickle"):
        check_clean(folder, places=[])


def test_links(tmp_path):
    folder = folder_with(tmp_path / "x")
    (folder / "link.json").symlink_to(folder / "config.json")
    with pytest.raises(RunError, match=r"link\.json is a link"):
        check_clean(folder, places=[])


def test_the_header_of_weights(tmp_path):
    folder = folder_with(tmp_path / "x")
    save_file({"a": torch.zeros(2)}, folder / "model.safetensors", metadata={"from": f"{HOME}/base"})
    with pytest.raises(RunError, match=r"model\.safetensors names a folder"):
        check_clean(folder, places=[HOME])


def test_let_through(tmp_path):
    folder = folder_with(
        tmp_path / "x",
        README_DOT_md="see https://huggingface.co/tmp/model and /tmpfiles, /home/alicet, x/home/alice hf_hub_download",
        tokenizer_DOT_json='{"/tmp": 5}',  # a word of the vocabulary
        _DOT_eval_results__data_DOT_yaml="- value: 1",
    )
    save_file({"a": torch.zeros(2)}, folder / "model.safetensors")
    check_clean(folder, [""], [HOME, "/tmp"])


def test_places_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    found = machine_places(Path("linked"), None, Path("/"))
    assert {str(Path.home()), str(tmp_path), str(tmp_path / "linked"), str(tmp_path / "real")} <= set(found)
    assert "/" not in found
    assert all(Path(place).is_absolute() for place in found)
