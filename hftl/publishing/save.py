"""Write the artifacts: `final/` for plain transformers, `adapter/` for peft, the card."""

import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from peft import PeftModel

from hftl.models import pooled
from hftl.models.load import Loaded


def merge_adapter(model: Any, adapter: Path, loaded: Loaded) -> Any:
    """Save a peft model's adapter and return the merged plain model; any other model is returned as it is.

    The adapter names the base as the user did, and of a local folder only the last part: no path of the machine.
    """
    if not isinstance(model, PeftModel):
        return model
    base = Path(loaded.name).name if loaded.source == "folder" else loaded.name
    for config in model.peft_config.values():
        config.base_model_name_or_path = base
    model.save_pretrained(str(adapter), save_embedding_layers=False)
    (adapter / "README.md").unlink(missing_ok=True)  # peft's template has nothing filled in
    return model.merge_and_unload()


def save_final(model: Any, loaded: Loaded, folder: Path) -> None:
    """Write weights (safetensors), config with labels, and processor; a pooled model brings its modelling file."""
    if isinstance(model, pooled.MeanPooledForSequenceClassification):
        name = Path(pooled.__file__).name
        module = "modeling_" + name.removesuffix(".py")
        model.config.auto_map = {
            "AutoConfig": f"{module}.MeanPooledConfig",
            "AutoModelForSequenceClassification": f"{module}.MeanPooledForSequenceClassification",
        }
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pooled.__file__, folder / f"{module}.py")
    model.save_pretrained(folder)
    loaded.processor.save_pretrained(folder)


def write_card(folder: Path, report: dict[str, Any]) -> None:
    """Write README.md from the template. Labels and rows stay out of it; names are quoted for the front matter."""
    model = report["model"]
    on_hub = model["source"] != "folder" and "/" in model["name"]
    rows = [
        f"| {name} | {m['value']:.4f} | {m['low']:.4f} to {m['high']:.4f} |"
        for name, m in report["metrics"]["test"].items()
        if isinstance(m, dict)
    ]
    text = report["task"] == "text-classification"
    template = files("hftl.publishing").joinpath("templates/card.md").read_text(encoding="utf-8")
    extra = ", truncation=True" if text else ""
    if report["pooling"] == "mean":
        extra += ", trust_remote_code=True"
    card = template.format(
        task=report["task"],
        base_model=yaml.safe_dump({"base_model": model["name"]}) if on_hub else "",
        method=report["method"],
        title=f"{Path(model['name']).name} for {report['task']}".replace("\n", " "),
        n_labels=len(report["data"]["labels"]),
        n_test=report["data"]["rows"]["test"],
        metrics="\n".join(rows),
        extra=extra,
        example='"a text"' if text else '"image.jpg"',
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
