"""What a run leaves behind works without hftl: plain `pipeline` in a fresh process, peft, loud failure."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer

import hftl
from tests.runs import checkpoint, stock_model, subprocess_env, text_frame, tiny_run
from tests.tiny import tiny_image


STOCK = ("bert", "distilbert", "resnet", "vit")
TEXTS = [*text_frame(6, seed=9)["text"], "happy smile very sad furious " * 40]
_PIPELINES = """
import json, sys
sys.modules["hftl"] = None  # an import of it would fail
from transformers import pipeline
jobs = json.loads(sys.stdin.read())
found = {}
for name, job in jobs.items():
    extra = {"trust_remote_code": True} if job["trust"] else {}
    pipe = pipeline(job["task"], job["folder"], device="cpu", **extra)
    call = {"truncation": True} if job["task"] == "text-classification" else {}
    rows = [pipe(x, top_k=None, **call) for x in job["inputs"]]
    found[name] = [{e["label"]: e["score"] for e in row} for row in rows]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("reload")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(path / "cache"))
        yield path


@pytest.fixture(scope="module")
def pictures(folder: Path) -> list[str]:
    rng = np.random.default_rng(5)
    paths = []
    for i in range(4):
        path = folder / f"new-{i}.png"
        tiny_image(i % 3, 3, (48, 40, 70, 33)[i], rng).save(path)
        paths.append(str(path))
    grey = folder / "grey.png"
    Image.open(paths[0]).convert("L").save(grey)
    return [*paths, str(grey)]


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, Any]:
    return {
        "bert": tiny_run("bert", "full", folder, max_seq_length=12),
        "distilbert": tiny_run("distilbert", "lora", folder, max_seq_length=12, max_steps=20, learning_rate=1e-2),
        "resnet": tiny_run("resnet", "lora", folder),
        "vit": tiny_run("vit", "full", folder),
        "roberta-mean": tiny_run("roberta", "probe", folder, "roberta-mean", pooling="mean", max_seq_length=12),
        "bert-mean": tiny_run("bert", "probe", folder, "bert-mean", pooling="mean", max_seq_length=12),
    }


@pytest.fixture(scope="module")
def answers(runs: dict[str, Any], folder: Path, pictures: list[str]) -> dict[str, list[dict[str, float]]]:
    jobs = {
        name: {
            "task": run.report["task"],
            "folder": str(run.run_dir / "final"),
            "trust": name.endswith("-mean"),
            "inputs": TEXTS if run.report["task"] == "text-classification" else pictures,
        }
        for name, run in runs.items()
    }
    done = subprocess.run(
        [sys.executable, "-c", _PIPELINES],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        cwd=folder,
        env=subprocess_env(HF_HOME=str(folder / "hf")),
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", [*STOCK, "bert-mean", "roberta-mean"])
def test_plain_pipeline_gives_the_same_answers(
    name: str, runs: dict[str, Any], answers: dict[str, Any], pictures: list[str]
) -> None:
    run = runs[name]
    ours = hftl.load(run.run_dir).predict(TEXTS if run.report["task"] == "text-classification" else pictures)
    assert len(ours) == len(answers[name])
    for mine, theirs in zip(ours, answers[name], strict=True):
        assert set(theirs) == {"class_0", "class_1", "class_2"}
        for label, probability in mine.probabilities.items():
            assert theirs[label] == pytest.approx(probability, abs=1e-4)
        assert max(theirs, key=lambda k: theirs[k]) == mine.label
    spread = np.std([list(p.probabilities.values()) for p in ours], axis=0).max()
    assert spread > 1e-3  # the answers depend on the input


def test_pooled_folder_fails_loudly_without_its_code(runs: dict[str, Any], folder: Path) -> None:
    final = str(runs["bert-mean"].run_dir / "final")
    code = (
        "import sys\nfrom transformers import AutoModelForSequenceClassification as A, pipeline\n"
        "for make in (lambda: A.from_pretrained(sys.argv[1]), lambda: pipeline('text-classification', sys.argv[1]),\n"
        "             lambda: A.from_pretrained(sys.argv[1], trust_remote_code=False)):\n"
        "    try:\n        make()\n    except Exception as e:\n        print('REFUSED', type(e).__name__, str(e)[:300])\n"
        "    else:\n        print('LOADED')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, final],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=folder,
        env=subprocess_env(HF_HOME=str(folder / "hf2")),
        timeout=200,
    )
    assert done.stdout.count("REFUSED") == 3, (done.stdout, done.stderr[-1000:])
    assert "LOADED" not in done.stdout
    assert "hftl_mean_pooled" in done.stdout or "trust_remote_code" in done.stdout


@pytest.mark.parametrize("family", ["bert", "distilbert", "resnet", "efficientnet", "vit"])
def test_adapter_on_the_checkpoint_equals_final(family: str, folder: Path) -> None:
    run = tiny_run(family, "lora", folder, f"{family}-adapter", max_steps=4, learning_rate=1e-2)
    final, _ = stock_model(family, run.run_dir / "final")
    torch.manual_seed(123)  # another random head than the run's: the adapter must bring all of it
    base, _ = stock_model(family, checkpoint(family, folder))
    adapted = PeftModel.from_pretrained(base, str(run.run_dir / "adapter")).eval()
    if run.report["task"] == "text-classification":
        tokenizer = AutoTokenizer.from_pretrained(run.run_dir / "final")
        batch = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    else:
        processor = AutoImageProcessor.from_pretrained(run.run_dir / "final")
        rng = np.random.default_rng(1)
        batch = processor([tiny_image(i % 3, 3, 48, rng) for i in range(6)], return_tensors="pt")
    with torch.no_grad():
        merged = final.eval()(**batch).logits
        torch.testing.assert_close(adapted(**batch).logits, merged, atol=1e-4, rtol=1e-4)
        untrained = stock_model(family, checkpoint(family, folder))[0].eval()(**batch).logits
    assert float((untrained - merged).abs().max()) > 1e-2
