"""The files beside model.onnx: what predict.py reads, and what transformers.js reads."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as TEXT_CLASSES

from hftl.errors import ModelError
from hftl.export.preprocessing import Plan
from hftl.models.pooled import OWN_CLASSES


def write_predict(folder: Path, kind: str, labels: tuple[str, ...], plan: Plan | None) -> None:
    """Write predict.py for "text" or "image", and predict.json with the labels and an image model's `plan`.

    Characters of a label that a terminal would obey (tabs, line ends, escapes) become spaces there; config.json keeps
    the labels as they are.
    """
    source = files("hftl.export").joinpath(f"templates/predict_{kind}.py").read_text(encoding="utf-8")
    (folder / "predict.py").write_text(source, encoding="utf-8")
    shown = ["".join(c if c.isprintable() else " " for c in label) for label in labels]
    values = {"labels": shown} | ({"preprocessing": plan} if plan else {})
    (folder / "predict.json").write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def write_tokenizer(folder: Path, tokenizer: Any, name: str) -> None:
    """Write tokenizer.json, which cuts at `tokenizer.model_max_length` and pads nothing, and its configuration.

    Raises `ModelError` for a tokenizer that the tokenizers library cannot run.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)  # tokenizers written in Python have none
    if backend is None:
        raise ModelError(
            f"{name} cannot be exported: its {type(tokenizer).__name__} is written in Python, and predict.py needs one "
            "that the tokenizers library can run."
        )
    tokenizer.save_pretrained(folder)
    alone = type(backend).from_str(backend.to_str())  # settings of the copy, not of the tokenizer in use
    alone.no_padding()
    alone.enable_truncation(int(tokenizer.model_max_length), direction=tokenizer.truncation_side)
    alone.save(str(folder / "tokenizer.json"))


def write_config(folder: Path, config: Any) -> None:
    """Write config.json, by which transformers.js knows the task, the inputs and the labels.

    A class of hftl's own reads and puts out what a stock classifier of the encoder would, so its graph goes by that name.
    """
    if config.model_type in OWN_CLASSES:
        fields = {**config.encoder, "id2label": config.id2label, "label2id": config.label2id}
        fields["architectures"] = [TEXT_CLASSES.get(fields["model_type"], config.architectures[0])]
    else:
        fields = json.loads(config.to_json_string())
    for private in ("auto_map", "_name_or_path", "name_or_path"):  # code that is not here; a path of this machine
        fields.pop(private, None)
    (folder / "config.json").write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
