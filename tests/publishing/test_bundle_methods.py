"""Every method, texts and images: the published folder is whole, its card holds, and its code runs as it stands."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hftl.methods import METHODS
from hftl.predict import load
from hftl.publishing.bundle import build_bundle
from hftl.publishing.hub_repository import PushOptions
from hftl.run_data import open_artifact
from tests.hub.cards import card_problems
from tests.publishing.test_bundle import on_hub, run_code, snippets
from tests.runs import checkpoint, text_frame, tiny_run
from tests.tiny import TEXT_FAMILIES


pytestmark = pytest.mark.slow
RUNS: list[tuple[str, str, dict[str, Any]]] = [
    *[(family, method, {}) for family in ("distilbert", "resnet") for method in METHODS if method != "contrastive"],
    *[(family, "contrastive", {"per_device_train_batch_size": 16}) for family in ("distilbert", "resnet")],
    ("bert", "head", {"pooling": "mean"}),
    ("bert", "lora", {"seeds": 2, "class_weights": "balanced"}),
    ("vit", "lora", {"evidence": True}),
]


@pytest.mark.parametrize(("family", "method", "flags"), RUNS, ids=[f"{f}-{m}-{'-'.join(x)}" for f, m, x in RUNS])
def test_published_and_used(tmp_path, family, method, flags):
    home = tmp_path / "home-of-alice"
    home.mkdir()
    run = tiny_run(family, method, home, **flags).run_dir
    options = PushOptions("run", "someone/model", license="mit", online=False)
    whole = build_bundle(on_hub(open_artifact(run), "tiny/base"), tmp_path / "someone" / "model", options)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "base").symlink_to(checkpoint(family, home))
    assert card_problems(whole.card, "model") == ([], [])
    assert "alice" not in "".join(
        (whole.folder / name).read_text() for name in ("report.json", "config.yaml", "README.md")
    )
    assert (
        ("modeling_pooled.py" in whole.files)
        == ("trust_remote_code=True" in whole.card)
        == (flags.get("pooling") == "mean")
    )
    assert ("### Other seeds" in whole.card) == ("seeds" in flags)
    codes = snippets(whole.card)
    if method == "lora":
        alone = build_bundle(
            on_hub(open_artifact(run), "tiny/base"),
            tmp_path / "someone" / "alone",
            replace(options, adapter_only=True, repo_id="someone/alone"),
        )
        assert card_problems(alone.card, "model") == ([], [])
        codes += snippets(alone.card)
    assert len(codes) == (4 if method == "lora" else 2)
    if family in TEXT_FAMILIES:
        given, written = text_frame(40)["text"][0], '"a text"'
    else:
        given, written = str(sorted((home / "images").rglob("*.png"))[0]), '"image.jpg"'
    expected = load(run).predict([given])[0]
    out = run_code("\n".join(code.replace(written, json.dumps(given)) for code in codes), tmp_path)
    answers = re.findall(r"'label': '(\w+)', 'score': ([\d.e-]+)", out)
    found = {(label, round(float(score), 4)) for label, score in answers}
    for label, score in expected.probabilities.items():
        if label == expected.label or family not in TEXT_FAMILIES:
            assert any(name == label and abs(value - score) < 2e-4 for name, value in found), (label, score, found)


def test_the_same_run_gives_the_same_bundle(tmp_path: Path):
    run = tiny_run("bert", "probe", tmp_path).run_dir
    options = PushOptions("run", "a/b", license="mit", online=False)
    both = [build_bundle(open_artifact(run), tmp_path / name, options) for name in ("one", "two")]
    assert both[0].files == both[1].files
    for name in both[0].files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
