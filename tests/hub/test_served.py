import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub.datasets import BEANS_NAMES, EMOTION_NAMES, serve_image_dataset, serve_text_dataset
from tests.hub.server import HubServer
from tests.tiny import DEFAULT_IDS, build, build_default, tiny_image_rows, tiny_text_rows


TEXT_ID, VIT_ID, RESNET_ID = DEFAULT_IDS

_CLIENT = """
import json, sys
from pathlib import Path
from huggingface_hub import HfApi, hf_hub_download, list_repo_refs, snapshot_download
from PIL import Image as Pictures
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from datasets import ClassLabel, Image, load_dataset
from transformers import (
    AutoConfig, AutoImageProcessor, AutoModelForImageClassification, AutoModelForSequenceClassification,
    AutoTokenizer,
)

def commit_of(file):
    return Path(file).parent.name  # the cache keeps snapshots/<commit>/<file>

def failure(call):
    try:
        call()
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as error:
        return type(error).__name__
    return None

text, vit, resnet, shas = json.loads(sys.argv[1])
found = {}
tokenizer = AutoTokenizer.from_pretrained(text)
model = AutoModelForSequenceClassification.from_pretrained(text, num_labels=6)
found["text"] = list(model(**tokenizer(["i feel sad"], return_tensors="pt")).logits.shape)
found["text_commit"] = HfApi().model_info(text).sha
found["text_folder"] = commit_of(hf_hub_download(text, "config.json"))
for name, hub_id, options in (
    ("vit", vit, {}), ("resnet", resnet, {"ignore_mismatched_sizes": True}),
):
    processor = AutoImageProcessor.from_pretrained(hub_id)
    model = AutoModelForImageClassification.from_pretrained(hub_id, num_labels=3, **options)
    batch = processor(Pictures.new("RGB", (40, 40)), return_tensors="pt")
    found[name] = list(model(**batch).logits.shape)

emotion = load_dataset("dair-ai/emotion")
found["emotion"] = {split: part.num_rows for split, part in emotion.items()}
found["emotion_names"] = emotion["train"].features["label"].names
found["emotion_columns"] = emotion["train"].column_names
found["unsplit"] = load_dataset("dair-ai/emotion", "unsplit", split="train").num_rows
pinned = load_dataset("dair-ai/emotion", "split", split="test", revision=shas["emotion"])
found["emotion_pinned"] = pinned.num_rows
found["streamed"] = next(iter(load_dataset("dair-ai/emotion", split="train", streaming=True)))
beans = load_dataset("AI-Lab-Makerere/beans")
found["beans"] = {split: part.num_rows for split, part in beans.items()}
found["beans_names"] = beans["train"].features["labels"].names
found["beans_columns"] = beans["train"].column_names
found["beans_image"] = isinstance(beans["train"].features["image"], Image)
found["beans_size"] = list(beans["train"][0]["image"].size)

found["wrong_model"] = failure(lambda: hf_hub_download("nobody/nothing", "config.json"))
found["namespace"] = failure(lambda: HfApi().model_info("google"))
found["wrong_dataset"] = failure(lambda: HfApi().dataset_info("nobody/nothing"))
found["wrong_revision"] = failure(lambda: hf_hub_download(text, "config.json", revision="nowhere"))
found["wrong_file"] = failure(lambda: hf_hub_download(text, "nothing.json"))
try:
    AutoConfig.from_pretrained("nobody/nothing")
except OSError as error:
    found["wrong_pretrained"] = str(error)

found["by_sha_layers"] = AutoConfig.from_pretrained(text, revision=shas["text"]).n_layers
found["by_sha"] = commit_of(hf_hub_download(text, "model.safetensors", revision=shas["text"]))
found["by_branch"] = AutoConfig.from_pretrained(text, revision="refs/pr/1").n_layers
found["main_layers"] = AutoConfig.from_pretrained(text).n_layers
refs = list_repo_refs(text, include_pull_requests=True)
found["refs"] = [[branch.name for branch in kind] for kind in (refs.branches, refs.pull_requests)]
snapshot = Path(snapshot_download(resnet))
found["snapshot"] = [snapshot.name, sorted(path.name for path in snapshot.iterdir())]
print("FOUND" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    root = tmp_path_factory.mktemp("hub")
    for hub_id in DEFAULT_IDS:
        build_default(hub_id, root / "models" / hub_id)
    branch = build("distilbert", root / "branch", n_layers=2)
    serve_text_dataset(root, "dair-ai/emotion", tiny_text_rows(60, 6))
    serve_image_dataset(root, "AI-Lab-Makerere/beans", tiny_image_rows(30, 3, size=40))
    with HubServer(root, revisions={TEXT_ID: {"refs/pr/1": branch}}) as server:
        yield server


def _run(server: HubServer, code: str, *arguments: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **server.env(home), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def found(hub: HubServer) -> dict[str, Any]:
    """What a client process got from the server."""
    shas = {"text": hub.sha(TEXT_ID), "emotion": hub.sha("dair-ai/emotion", kind="datasets")}
    done = _run(hub, _CLIENT, json.dumps([TEXT_ID, VIT_ID, RESNET_ID, shas]))
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.split("FOUND")[1])


def test_default_checkpoints_load(hub: HubServer, found: dict[str, Any]) -> None:
    assert found["text"] == [1, 6]
    assert found["vit"] == [1, 3]
    assert found["resnet"] == [1, 3]
    assert found["text_commit"] == found["text_folder"] == hub.sha(TEXT_ID)


def test_text_dataset_loads(found: dict[str, Any]) -> None:
    assert found["emotion"] == {"train": 48, "validation": 6, "test": 6}
    assert found["emotion_names"] == list(EMOTION_NAMES)
    assert found["emotion_columns"] == ["text", "label"]
    assert found["unsplit"] == 60
    assert found["emotion_pinned"] == 6
    text, label = tiny_text_rows(60, 6)[0]
    assert found["streamed"] == {"text": text, "label": label}


def test_image_dataset_loads(found: dict[str, Any]) -> None:
    assert found["beans"] == {"train": 24, "validation": 3, "test": 3}
    assert found["beans_names"] == list(BEANS_NAMES)
    assert found["beans_columns"] == ["image_file_path", "image", "labels"]
    assert found["beans_image"]
    assert found["beans_size"] == [40, 40]


def test_what_is_not_there_gives_the_hubs_own_errors(found: dict[str, Any]) -> None:
    assert found["wrong_model"] == found["wrong_dataset"] == found["namespace"] == "RepositoryNotFoundError"
    assert found["wrong_revision"] == "RevisionNotFoundError"
    assert found["wrong_file"] in ("EntryNotFoundError", "RemoteEntryNotFoundError")
    assert "not a valid model identifier" in found["wrong_pretrained"]


def test_revisions(hub: HubServer, found: dict[str, Any]) -> None:
    assert found["by_sha"] == hub.sha(TEXT_ID)
    assert found["by_sha_layers"] == 3
    assert found["by_branch"] == 2
    assert found["main_layers"] == 3
    assert found["refs"] == [["main"], ["refs/pr/1"]]
    assert found["snapshot"][0] == hub.sha(RESNET_ID)
    assert found["snapshot"][1] == ["config.json", "model.safetensors", "preprocessor_config.json"]


def test_requests_are_recorded_and_offline_needs_none(hub: HubServer, found: dict[str, Any], tmp_path: Path) -> None:
    assert ("HEAD", f"/{TEXT_ID}/resolve/main/config.json") in hub.requests
    load = f"from transformers import AutoTokenizer; AutoTokenizer.from_pretrained({TEXT_ID!r})"
    assert _run(hub, load, home=tmp_path).returncode == 0
    before = len(hub.requests)
    offline = f"import os; os.environ['HF_HUB_OFFLINE'] = '1'; {load}"
    assert _run(hub, offline, home=tmp_path).returncode == 0
    assert len(hub.requests) == before


def test_the_commit_follows_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    with HubServer(tmp_path) as server:
        first = server.sha("a/b")
        (folder / "config.json").write_text('{"x": 1}')
        assert server.sha("a/b") != first
        assert len(first) == 40
        home = Path(server.env()["HF_HOME"])
        assert home.is_dir()
    assert not home.exists()
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.url


def test_other_hosts_are_refused_at_once(hub: HubServer) -> None:
    code = """
import time
import httpx
start = time.monotonic()
print(httpx.get("http://datasets-server.example.invalid/info?dataset=a").status_code)
try:
    httpx.get("https://huggingface.co/api/models/a/b")
except httpx.ProxyError:
    print("refused")
print(time.monotonic() - start < 5)
"""
    assert _run(hub, code).stdout.split() == ["404", "refused", "True"]
    assert ("CONNECT", "huggingface.co:443") in hub.requests


def test_the_server_needs_no_hub_library_and_sends_a_token_when_asked(hub: HubServer) -> None:
    code = """
import sys
from tests.hub.server import HubServer
assert not {"huggingface_hub", "transformers", "datasets"} & set(sys.modules)
from huggingface_hub import get_token
print(get_token())
"""
    root = Path(__file__).parents[1]
    for token in (None, hub.token):
        env = {**os.environ, **hub.env(token=token), "PYTHONPATH": str(root)}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
        assert done.stdout.split() == [str(token)], done.stderr[-2000:]
