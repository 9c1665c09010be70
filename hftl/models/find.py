"""Where a checkpoint is: a folder, a package, the Hub cache or the Hub. Nothing heavy is imported to say that it is nowhere."""

import contextlib
import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hftl.errors import ModelError, did_you_mean
from hftl.models.packaged import PACKAGED, find_packaged, is_installed, packaged_as
from hftl.paths import typed_path
from hftl.surroundings import hub_reachable


_POINTER = b"version https://git-lfs.github.com/spec"
_INDEX = "model.safetensors.index.json"
SAFE = (".safetensors", ".safetensors.index.json")  # endings of files of weights
# What these fields can be: sizes one number, or one for each stage or side; colours one number for each channel.
_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "patch_size", "image_size")
_COLOURS = ("image_mean", "image_std")
_JSON = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "adapter_config.json", _INDEX)


@dataclass(frozen=True)
class Checkpoint:
    """Where the weights are."""

    name: str
    path: str  # a folder, or a Hub id
    source: str
    revision: str | None
    local_only: bool

    @property
    def options(self) -> dict[str, Any]:
        """What `from_pretrained` is told beside the path."""
        revision = {"revision": self.revision} if self.source in ("cache", "hub") else {}
        return {"local_files_only": self.local_only, **revision}


def find_checkpoint(name: str, revision: str | None) -> Checkpoint:
    """Resolve a model name: a folder, a packaged checkpoint, the Hub cache, the Hub, in that order.

    Raises `ModelError` within two seconds when it is nowhere, or needs a network that is not there.
    """
    folder = typed_path(name)
    if folder.is_dir():
        if not os.access(folder, os.R_OK | os.X_OK):
            raise ModelError(f"{folder} cannot be read: you have no permission.")
        if not (folder / "config.json").is_file():
            inner = folder / "final"
            hint = f" Did you mean {inner}?" if (inner / "config.json").is_file() else ""
            if (folder / "adapter_config.json").is_file():
                hint = " It holds a PEFT adapter alone: load it on its base model, and save what merge_and_unload() returns."
            raise ModelError(f"{folder} is not a model folder: it has no config.json.{hint}")
        _check_files(folder)
        return Checkpoint(name, str(folder), "folder", None, True)
    packaged = find_packaged(name, revision)
    if packaged is not None:
        known = packaged_as(name)
        assert known is not None
        return Checkpoint(known.name, str(packaged), "packaged", known.revision, True)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"There is no folder {name}.{_similar_folders(folder)}")
    config = cached_config(name, revision)
    if config is not None and any(f.name.endswith((*SAFE, ".bin")) for f in config.parent.iterdir()):
        return Checkpoint(name, name, "cache", revision, True)
    if not hub_reachable():
        from huggingface_hub import constants

        why = "offline mode is on" if constants.HF_HUB_OFFLINE else f"{constants.ENDPOINT} cannot be reached"
        usable = ["a model folder", *filter(is_installed, PACKAGED)]
        raise ModelError(
            f"{name} is neither a folder nor in the Hub cache, and {why}."
            f"{_similar_folders(folder) or did_you_mean(name, PACKAGED)} Usable now: {', '.join(usable)}."
        )
    return Checkpoint(name, name, "hub", revision, False)


def _check_files(folder: Path) -> None:
    """Raise `ModelError` when a file of a model folder cannot be read, is no JSON, or names a shard that is not there."""
    files = {file.name: file for file in folder.iterdir()}
    for name, file in files.items():
        if not os.access(file, os.R_OK):
            raise ModelError(f"{file} cannot be read: you have no permission.")
        if file.is_file() and _is_pointer(file):
            raise ModelError(
                f"{file} is a pointer of Git LFS, not the file itself: `git lfs pull` in its folder fetches it."
            )
        if name.endswith(".safetensors") and not _is_whole(file):
            raise ModelError(
                f"{folder} has a broken .safetensors file ({name} is cut off, or is none). Fetch it again."
            )
        if name == "tokenizer.json" and not _last_bytes(file).rstrip().endswith(b"}"):  # too large to be parsed here
            raise ModelError(f"{file} is no valid JSON: its end is missing. Fetch it again.")
        if name in _JSON:
            _check_json(file, files)


def _check_json(file: Path, beside: Collection[str]) -> None:
    try:
        fields = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file} is no valid JSON: {error}.") from None
    index = file.name == _INDEX
    shards = fields.get("weight_map", {}) if isinstance(fields, dict) else None
    if not isinstance(shards, dict) or (index and not shards):
        raise ModelError(f"{file} is no JSON object{' with a weight_map' if index else ''}.")
    odd = _odd_field(fields)
    if odd:
        raise ModelError(f"{file} has {odd} {fields[odd]!r}, which cannot be. Fetch the file again.")
    lacking = [shard for shard in shards.values() if not isinstance(shard, str) or shard not in beside]
    if lacking:
        raise ModelError(f"{file} names the file {lacking[0]!r}, which the folder does not hold.")


def _odd_field(fields: dict[str, Any]) -> str | None:
    """Return the first field with a value that no model can have. What is left out (None) has a default."""
    for name in (*_SIZES, *_COLOURS):
        value = fields.get(name)
        values = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
        if name in _SIZES:
            fits = all(v is None or isinstance(v, list) or (isinstance(v, int) and v >= 0) for v in values)
        else:
            numbers = all(isinstance(v, int | float) and (v > 0 or name == "image_mean") for v in values)
            fits = value is None or (numbers and (len(values) == 3 or not isinstance(value, list)))
        if not fits or (name == "patch_size" and 0 in values):
            return name
    return None


def _is_pointer(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(_POINTER)) == _POINTER


def _is_whole(weights: Path) -> bool:
    """Has a safetensors file a header, and all the bytes of which it speaks? Its tensors are not read."""
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= weights.stat().st_size:
            return False
        try:
            tensors = {k: v for k, v in json.loads(file.read(length)).items() if k != "__metadata__"}
            ends = [int(tensor["data_offsets"][1]) for tensor in tensors.values()]
        except (ValueError, TypeError, AttributeError, KeyError, IndexError):
            return False
    return weights.stat().st_size >= 8 + length + max(ends, default=0)


def _last_bytes(file: Path) -> bytes:
    with file.open("rb") as opened:
        opened.seek(-min(64, file.stat().st_size), os.SEEK_END)
        return opened.read()


def _similar_folders(folder: Path) -> str:
    parent = folder.parent
    if parent == Path() or not parent.is_dir():  # a bare name is rather a model's than a folder's
        return ""
    return did_you_mean(str(folder), [str(p) for p in parent.iterdir() if p.is_dir()])


def cached_config(name: str, revision: str | None) -> Path | None:
    """Return config.json of the checkpoint in the Hub cache, in the folder that has the commit's name."""
    from huggingface_hub import try_to_load_from_cache  # late: only what is no folder is looked for there
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError as error:
        raise ModelError(f"{name!r} is neither a folder nor a valid Hub id: {error}") from None
    return Path(config) if isinstance(config, str) else None


def model_of(run_or_model: str) -> str:
    """Return the model folder of a run; of anything else its name."""
    final = typed_path(run_or_model) / "final"
    return str(final) if (final / "config.json").is_file() else run_or_model


def checkpoint_of(model_type: str | None) -> str:
    """Return "a vit checkpoint", with the right article; "a packaged checkpoint" where no type is known."""
    kind = model_type or "packaged"
    return f"{'an' if kind[:1] in 'aeiou' else 'a'} {kind} checkpoint"


def check_reads(name: str, revision: str | None, task: str, kind: str) -> None:
    """Raise `ModelError` for a checkpoint that plainly cannot read a task's texts or images (`kind`), by its files.

    What a Hub id holds that is not in the cache, and what says neither or both, its loading will tell.
    """
    packaged, folder = packaged_as(name), typed_path(name)
    config = folder / "config.json" if folder.is_dir() else cached_config(name, revision)
    fields: dict[str, Any] = {}
    if config is not None and config.is_file():
        with contextlib.suppress(ValueError):  # of the cache: what is broken there, its loading will say
            read = json.loads(config.read_bytes())
            fields = read if isinstance(read, dict) else {}
    signs = {"text": {"vocab_size", "text_config"}, "image": {"num_channels", "image_size", "vision_config"}}
    reads = {one for one, names in signs.items() if names & fields.keys()}
    reads = {packaged.input} if packaged is not None and not folder.is_dir() else reads
    beside = {"text": ("tokenizer", "vocab"), "image": ("preprocessor_config", "processor_config")}[kind]
    known = config is not None and any(file.name.startswith(beside) for file in config.parent.glob("*"))
    if reads and kind not in reads and not known:  # ImageGPT has a vocabulary, of colours
        raise ModelError(
            f"{name} is {checkpoint_of(fields.get('model_type'))}, which cannot do {task}: it reads "
            f"{' and '.join(sorted(reads))}s. For {task} try one that `hftl models` or `hftl pick {task}` names."
        )
    if kind == "image" and fields.get("num_channels", 3) != 3:
        raise ModelError(
            f"{name} reads images with num_channels {fields['num_channels']} in its config.json, and hftl gives it 3: red, "
            "green and blue."
        )
    own = "pretrained_cfg" in fields or "image_processor_type" in fields  # in config.json itself, as timm's
    if kind == "image" and folder.is_dir() and not own and not known:
        raise ModelError(
            f"{folder} has no preprocessor_config.json, which says how images are scaled: copy that of the model it comes "
            "from into the folder."
        )


def check_model(name: str, revision: str | None = None) -> None:
    """Raise `ModelError` for a model that is nowhere, or whose folder cannot be read. The packaged ones are not opened."""
    if packaged_as(name) is None or typed_path(name).is_dir() or not is_installed(name):
        find_checkpoint(name, revision)
