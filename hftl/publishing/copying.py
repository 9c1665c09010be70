"""Files of a run, copied so that they can be published."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import transformers


# What `save_pretrained` of models and processors writes, beside the vocabulary files of the tokenizer's own class.
_NAMES = frozenset(
    {
        "added_tokens.json", "chat_template.jinja", "config.json", "merges.txt", "modeling_pooled.py",
        "preprocessor_config.json", "processor_config.json", "special_tokens_map.json", "tokenizer.json",
        "tokenizer_config.json", "vocab.json", "vocab.txt",
    }
)  # fmt: skip
_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
_PATH_FIELDS = ("_name_or_path", "name_or_path", "base_model_name_or_path")  # of JSON that libraries write


def model_files(folder: Path, *, weights: bool = True) -> list[Path]:
    """Return the files of a model folder that plain transformers loads, with its weights or without; no strays."""
    names = _NAMES | _vocabulary(folder / "tokenizer_config.json")
    found = {path for path in folder.iterdir() if path.name in names and path.is_file()}
    if weights:
        found |= {path for pattern in _WEIGHTS for path in folder.glob(pattern)}
    return sorted(found)


def _vocabulary(tokenizer_config: Path) -> frozenset[str]:
    """Return the names of the vocabulary files that the tokenizer's class reads, such as spiece.model."""
    if not tokenizer_config.is_file():
        return frozenset()
    name = str(json.loads(tokenizer_config.read_text(encoding="utf-8")).get("tokenizer_class"))
    files = getattr(getattr(transformers, name, None), "vocab_files_names", None)  # a class may be unknown
    return frozenset(Path(str(file)).name for file in files.values()) if isinstance(files, dict) else frozenset()


def copy_file(source: Path, target: Path) -> None:
    """Copy one file: weights as a hard link where that is possible, JSON without the folders that it was loaded from."""
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
    found = dict(fields)
    for field in _PATH_FIELDS:
        name = found.get(field)
        if isinstance(name, str) and (name.count("/") > 1 or name.startswith(("/", ".", "~")) or Path(name).is_dir()):
            found[field] = Path(name).expanduser().resolve().name
    return found
