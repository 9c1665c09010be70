"""One process that serves every Space of these tests, and what it serves."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hftl.models.find import find_checkpoint
from hftl.models.layers import Layers
from hftl.models.load import Loaded
from hftl.models.pooled import MeanPooledConfig, MeanPooledForSequenceClassification
from hftl.publishing.save import save_final
from tests.hub.server import HubServer
from tests.looks.made import made_run
from tests.publishing_space import farm
from tests.report_page.conftest import chromium  # noqa: F401  the same browser
from tests.tiny import build


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "=cmd|' /C calc'!A0",
    "\u202e\u2066right to left",
    "same",
    "same",
    "a" * 300,
]
TEXT = "she was so happy and glad about the walk home"
PACKAGED = "efficientnet-lite0"
MADE = (("labels", "text"), ("number", "text"), ("class", "pair"), ("number", "pair"))


def report(**changes: Any) -> dict[str, Any]:
    """A report.json with the parts that the Space shows."""
    score = {"value": 0.9, "low": 0.85, "high": 0.94}
    verdict = {"label": "POSITIVE", "gap": 0.1, "low": 0.05, "high": 0.15, "p": 0.001, "against": "TF-IDF <i>x</i>"}
    evidence = {
        "verdict": verdict,
        "abstain": {"threshold": 0.999, "test_precision": score, "coverage": 0.5},
        "calibration": {"after": {"ece": 0.0123}},
        "forgetting": {"kept": 0.75},
        "ladder": [{"name": "majority <b>class</b>", "accuracy": score}, {"name": "w" * 200, "accuracy": score}],
    }
    sentence = "+10.0 points of accuracy over TF-IDF <i>x</i> (95% interval +5.0 to +15.0)."
    return {
        "schema_version": 1,
        "statements": {
            "verdict": {"look": "good", "title": "Transfer worked", "sentence": sentence},
            "cards": [{"name": "Accuracy", "value": "90.0%", "below": "95% interval 85.0 to 94.0%"}],
        },
        "model": {"name": "base/<script>alert(1)</script>"},
        "data": {"name": "d & d", "rows": {"test": 1234}},
        "metrics": {"test": {"accuracy": score, "macro_f1": score}},
        "per_class": [{"label": "<b>x</b>", "precision": 0.5, "recall": 0.25, "f1": 1 / 3, "support": 7}],
        "evidence": evidence,
        **changes,
    }


def pooled_model(folder: Path) -> Path:
    """A mean-pooled text model, saved as a run saves it."""
    import transformers

    base = build("bert", folder / "pooled-base")
    config = transformers.AutoConfig.from_pretrained(base)
    torch.manual_seed(3)
    names = {0: "class_0", 1: "class_1", 2: "class_2"}
    model = MeanPooledForSequenceClassification(
        MeanPooledConfig(encoder=config.to_dict(), id2label=names, label2id={v: k for k, v in names.items()})
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    final = folder / "pooled-run" / "final"
    save_final(model, Loaded(model, tokenizer, Layers((), (), ()), (), ("classifier",), "base", "folder", None), final)
    return final


def masks_model(folder: Path) -> Path:
    """A model of masks whose classes have hostile names and colours of their own, the first black."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    torch.manual_seed(0)
    sizes = {"hidden_sizes": [8, 16, 24, 32], "num_attention_heads": [1, 1, 2, 2], "depths": [1, 1, 1, 1]}
    names = {0: "ground", 1: HOSTILE[0], 2: HOSTILE[2]}
    palette = [[0, 0, 0], [200, 0, 0], [0, 200, 0]]
    config = SegformerConfig(
        **sizes, decoder_hidden_size=16, id2label=names, label2id={v: k for k, v in names.items()}, palette=palette
    )
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessor(size={"height": 64, "width": 64}, do_reduce_labels=False).save_pretrained(folder)
    return folder


def tags_model(folder: Path) -> Path:
    """A model of tags whose tokenizer takes a word apart, letter by letter where it is not known."""
    import transformers

    base, names = build("roberta", folder / "base"), dict(enumerate(("O", "B-A", "I-A", "B-B", "I-B")))
    torch.manual_seed(5)
    make: Any = transformers.AutoModelForTokenClassification
    make.from_pretrained(
        base, num_labels=5, id2label=names, label2id={v: k for k, v in names.items()}
    ).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(base, add_prefix_space=True).save_pretrained(folder)
    return folder


def images(folder: Path) -> dict[str, Path]:
    """Images of every kind that people have."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (40, 56, 3), dtype=np.uint8))
    alpha = noise.convert("RGBA")
    alpha.putalpha(Image.fromarray(rng.integers(0, 255, (40, 56), dtype=np.uint8)))
    deep = Image.fromarray(rng.integers(0, 65535, (40, 56)).astype(np.uint16))
    shares = Image.fromarray(rng.random((40, 56)).astype(np.float32))
    turned = Image.Exif()
    turned[274] = 6
    kinds = {"rgb.png": noise, "grey.png": noise.convert("L"), "palette.png": noise.convert("P"), "alpha.png": alpha}
    kinds |= {
        "deep.png": deep,
        "deep.tiff": deep,
        "float.tiff": shares,
        "bit.png": noise.convert("1"),
        "alpha.webp": alpha,
    }
    for name, image in kinds.items():
        image.save(folder / name)
    noise.save(folder / "turned.jpg", exif=turned)
    noise.convert("CMYK").save(folder / "print.jpg")
    return {name: folder / name for name in (*kinds, "turned.jpg", "print.jpg")}


@dataclass(frozen=True)
class Farm:
    """What is served: folders by name, and what became of each."""

    process: subprocess.Popen[str]
    log: Path
    folders: dict[str, Path]
    outcome: dict[str, dict[str, Any]]
    hub: HubServer

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.outcome[name]['port']}/"

    def ask(self) -> dict[str, Any]:
        """What the process has to tell: the GPU calls of each app, and every package that it loaded."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found


def hub_models(root: Path) -> None:
    """tester/text and tester/picture with examples on their cards, and tester/adapter, which is an adapter alone."""
    folder = root / "models" / "tester" / "text"
    build("bert", folder, num_labels=3, id2label={0: "sad", 1: "glad", 2: "cross"})
    card = '---\nwidget:\n- text: "we walk <b>home</b>"\n- text: 7\n- src: ../secret\n---\nA card.\n'
    (folder / "README.md").write_text(card)
    (folder / "report.json").write_text(json.dumps(report()))
    picture = build("vit", root / "models" / "tester" / "picture", num_labels=3)
    (picture / "examples").mkdir()
    Image.new("RGB", (40, 40), "red").save(picture / "examples" / "1.png")
    own = "https://huggingface.co/tester/picture/resolve/main/examples/1.png"
    others = ("https://elsewhere.example/2.png", "../text/3.png", "/etc/4.png", "config.json", "gone.png", 5)
    listed = "".join(f"- src: {source}\n" for source in (own, *others))
    (picture / "README.md").write_text(f"---\nwidget:\n{listed}---\n")
    adapter = root / "models" / "tester" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text("{}")
    locked = root / "models" / "tester" / "locked"
    locked.mkdir(parents=True)
    (locked / "config.json").write_text("{}")


def folders_to_serve(folder: Path) -> dict[str, Path]:
    final = folder / "run" / "final"
    build("bert", final, num_labels=len(HOSTILE), id2label=dict(enumerate(HOSTILE)))
    (folder / "run" / "report.json").write_text(json.dumps(report()))
    picture = build("vit", folder / "picture", num_labels=3, id2label={0: "a", 1: "b", 2: "c"})
    (picture / "examples").mkdir()
    Image.new("RGB", (40, 40), "red").save(picture / "examples" / "1.png")
    (picture / "README.md").write_text(
        "---\nwidget:\n- src: examples/1.png\n- src: https://elsewhere.example/2.png\n---\n"
    )
    deberta = build("deberta-v2", folder / "deberta", num_labels=3)
    (deberta / "report.json").write_text("{ this is no JSON")
    made = {f"{kind} {inputs}": made_run(folder / f"{kind}-{inputs}", kind, inputs) / "final" for kind, inputs in MADE}
    return made | {
        "masks": masks_model(folder / "masks"), "tags": tags_model(folder / "tags"), "hostile": final, "vit": picture, "deberta": deberta, "pooled": pooled_model(folder),
        "encoder": build("bert", folder / "encoder"), "packaged": Path(find_checkpoint(PACKAGED, None).path),
    }  # fmt: skip


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """Every Space of these tests, served by one process without hftl."""
    folder = tmp_path_factory.mktemp("space")
    found = folders_to_serve(folder)
    hub_models(folder / "hub")
    environments = {name: {"MODEL_ID": str(path)} for name, path in found.items()}
    environments |= {
        "untrusted": {"MODEL_ID": str(found["pooled"])},
        "remote": {"MODEL_ID": "tester/text", "REVISION": "main"},
        "remote picture": {"MODEL_ID": "tester/picture"},
        "adapter": {"MODEL_ID": "tester/adapter"}, "locked": {"MODEL_ID": "tester/locked"},
        "missing": {"MODEL_ID": "tester/nothing"}, "revision": {"MODEL_ID": "tester/text", "REVISION": "no-such"},
        "unset": {}, "bad name": {"MODEL_ID": "a/b/c/d"},
        "zero": {"MODEL_ID": str(found["vit"]), "SPACES_ZERO_GPU": "1"},
    }  # fmt: skip
    environments["pooled"]["TRUST_REMOTE_CODE"] = "1"
    environments["hostile"]["TRUST_REMOTE_CODE"] = "1"  # changes nothing for a stock class
    log = folder / "log"
    with HubServer(folder / "hub") as hub, log.open("w") as errors:
        hub.set_access("tester/locked", private=True)
        env = {**hub.env(folder / "home"), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        env |= {"PATH": "", "HOME": str(folder), "GRADIO_TEMP_DIR": str(folder / "uploads")}
        process = subprocess.Popen(
            [sys.executable, farm.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            text=True, env=env, cwd=folder,
        )  # fmt: skip
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(list(environments.values())) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            assert line, log.read_text()[-4000:]
            yield Farm(process, log, found, dict(zip(environments, json.loads(line), strict=True)), hub)
        finally:
            process.kill()
            process.wait()
