"""The files of a model: written with the card beside them, and copied without this machine's folders."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import transformers
from peft import PeftModel

from hftl.config import read_yaml
from hftl.errors import ConfigError, RunError
from hftl.models import pooled
from hftl.models.classes import OWN_FILE
from hftl.models.load import Loaded
from hftl.paths import usual_modes
from hftl.publishing.card import CardOptions, card_pictures, card_text
from hftl.publishing.hub_repository import MODEL_FILES
from hftl.publishing.metadata import choose_license, known_license
from hftl.training.world import is_main_process


_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
_PATH_FIELDS = ("_name_or_path", "name_or_path", "base_model_name_or_path")  # of JSON that libraries write


def merge_adapter(model: Any, adapter: Path, loaded: Loaded) -> Any:
    """Save a peft model's adapter, on rank 0, and return the merged plain model; any other one is returned as it is.

    The adapter names the base as the user did, and of a local folder only the last part: no path of the machine.
    """
    if not isinstance(model, PeftModel):
        return model
    base = Path(loaded.name).name if loaded.source == "folder" else loaded.name
    for config in model.peft_config.values():
        config.base_model_name_or_path = base
    if is_main_process():
        model.save_pretrained(str(adapter), save_embedding_layers=False)
        (adapter / "README.md").unlink(missing_ok=True)  # peft's template has nothing filled in
        usual_modes(adapter)
    return model.merge_and_unload()


def save_final(model: Any, loaded: Loaded, folder: Path) -> None:
    """Write weights (safetensors), config with labels, and processor; a pooled model brings its modelling file."""
    own = pooled.OWN_CLASSES.get(model.config.model_type)
    if own is not None:
        module = OWN_FILE.removesuffix(".py")
        model.config.auto_map = {
            "AutoConfig": f"{module}.{own.config_class.__name__}",
            pooled.own_auto_model(own): f"{module}.{own.__name__}",
        }
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pooled.__file__, folder / OWN_FILE)
    model.save_pretrained(folder)
    loaded.processor.save_pretrained(folder)
    usual_modes(folder)


def write_card(folder: Path, report: dict[str, Any]) -> None:
    """Write README.md of a finished run, before there is a repository: no Hub is asked, no row is in it.

    `folder` is final/; the licence is named when it can be carried over from the base model and the data.
    """
    try:
        licence = choose_license(*known_license(report, online=False))
    except ConfigError:  # `hftl push` asks for it
        licence = None
    path = folder.parent / "config.yaml"
    config = read_yaml(path) if path.is_file() else None
    pictures = write_pictures(folder, report, config)
    options = CardOptions(licence, has_config=config is not None, config_place="../config.yaml", pictures=pictures)
    (folder / "README.md").write_text(card_text(report, options, config), encoding="utf-8", newline="\n")


def write_pictures(folder: Path, report: dict[str, Any], config: dict[str, Any] | None) -> tuple[tuple[str, str], ...]:
    """Write the card's pictures into `folder`; return the name of each file, and what it shows."""
    pictures = card_pictures(report, config)
    for name, (_, png) in pictures.items():
        (folder / name).write_bytes(png)
    return tuple((name, shows) for name, (shows, _) in pictures.items())


def model_files(folder: Path, *, weights: bool = True) -> list[Path]:
    """Return the files of a model folder that plain transformers loads, with its weights or without; no strays."""
    names = {*MODEL_FILES}
    if (folder / "tokenizer_config.json").is_file():  # whose class may read files of its own, such as spiece.model
        fields = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        own = getattr(getattr(transformers, str(fields.get("tokenizer_class")), None), "vocab_files_names", {})
        names |= {Path(str(file)).name for file in own.values()} if isinstance(own, dict) else set()
    files = {path for path in folder.iterdir() if path.name in names and path.is_file()}
    return sorted(files | {path for pattern in _WEIGHTS if weights for path in folder.glob(pattern)})


def copy_file(source: Path, target: Path) -> None:
    """Copy one file: weights as a hard link where that is possible, JSON without the folders that it was loaded from.

    Raises `RunError` for a file that may not be read.
    """
    if source.is_file() and not os.access(source, os.R_OK):  # a hard link would be made, and fail its reader
        raise RunError(f"{source} cannot be read: you have no permission.")
    if source.suffix == ".safetensors":
        try:
            os.link(source.resolve(), target)  # gigabytes, not twice on the disk
        except OSError:
            shutil.copyfile(source, target)
    elif source.suffix == ".json" and source.name != "tokenizer.json":
        fields = json.loads(source.read_text(encoding="utf-8"))
        target.write_text(json.dumps(_without_folders(fields), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    else:
        shutil.copyfile(source, target)


def _without_folders(fields: Any) -> Any:
    """Return JSON in which the name of a model that lay in a folder is its last part."""
    if not isinstance(fields, dict):
        return fields
    public = dict(fields)
    for field in _PATH_FIELDS:
        name = public.get(field)
        if isinstance(name, str) and (name.count("/") > 1 or name.startswith(("/", ".", "~")) or Path(name).is_dir()):
            public[field] = Path(name).expanduser().resolve().name
    return public
