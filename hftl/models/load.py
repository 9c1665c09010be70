"""Find a checkpoint (folder, packaged, Hub cache, Hub) and load it with a new head for the task's labels."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from hftl.config import ModelConfig
from hftl.errors import ModelError, did_you_mean
from hftl.hub_access import hub_reachable
from hftl.hub_errors import hub_errors
from hftl.models.classes import classifier_config, load_into
from hftl.models.coverage import check_loaded
from hftl.models.heads import output_linears
from hftl.models.layers import Layers, find_layers, head_modules
from hftl.models.packaged import PACKAGED, find_packaged
from hftl.paths import typed_path
from hftl.tasks.task import Task


_INDEX = "model.safetensors.index.json"
_JSON = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "adapter_config.json", _INDEX)
SHORTEST = 4  # tokens: less holds no word beside the special ones


@dataclass(frozen=True)
class Loaded:
    """A model with a head for the task, and what hftl needs to know of it."""

    model: Any
    processor: Any
    layers: Layers
    head: tuple[str, ...]  # modules that the checkpoint lacked
    output: str  # the head's Linear that puts out the logits
    name: str
    source: str  # folder, packaged, cache or hub
    revision: str | None
    averaged: tuple[str, ...] = ()  # further Linears: the logits are their mean with `output`'s

    @property
    def outputs(self) -> tuple[str, ...]:
        """Every Linear that the logits are made of."""
        return (*self.averaged, self.output)


@dataclass(frozen=True)
class Checkpoint:
    """Where the weights are."""

    name: str
    path: str  # a folder, or a Hub id
    source: str
    revision: str | None
    local_only: bool


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
            raise ModelError(f"{folder} is not a model folder: it has no config.json.{hint}")
        _check_files(folder)
        return Checkpoint(name, str(folder), "folder", None, True)
    packaged = find_packaged(name, revision)
    if packaged is not None:
        known = next(p for p in PACKAGED.values() if name in (p.name, p.name.split("/")[-1]))
        return Checkpoint(known.name, str(packaged), "packaged", known.revision, True)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"There is no folder {name}.{_similar_folders(folder)}")
    if _cached(name, revision):
        return Checkpoint(name, name, "cache", revision, True)
    if not hub_reachable():
        why = "offline mode is on" if constants.HF_HUB_OFFLINE else f"{constants.ENDPOINT} cannot be reached"
        raise ModelError(
            f"{name} is neither a folder nor in the Hub cache, and {why}."
            f"{_similar_folders(folder) or did_you_mean(name, PACKAGED)} "
            f"Usable now: a model folder, or {', '.join(PACKAGED)}."
        )
    return Checkpoint(name, name, "hub", revision, False)


def _check_files(folder: Path) -> None:
    """Raise `ModelError` when a file of a model folder cannot be read, is no JSON, or names a shard that is not there."""
    files = {file.name: file for file in folder.iterdir()}
    for name, file in files.items():
        if not os.access(file, os.R_OK):
            raise ModelError(f"{file} cannot be read: you have no permission.")
        if name not in _JSON:
            continue
        try:
            fields = json.loads(file.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{file} is no valid JSON: {error}.") from None
        shards = fields.get("weight_map", {}) if isinstance(fields, dict) else None
        if not isinstance(shards, dict) or (name == _INDEX and not shards):
            raise ModelError(f"{file} is no JSON object{' with a weight_map' if name == _INDEX else ''}.")
        lacking = [shard for shard in shards.values() if not isinstance(shard, str) or shard not in files]
        if lacking:
            raise ModelError(f"{file} names the file {lacking[0]!r}, which the folder does not hold.")


def _similar_folders(folder: Path) -> str:
    parent = folder.parent
    if parent == Path() or not parent.is_dir():  # a bare name is rather a model's than a folder's
        return ""
    return did_you_mean(str(folder), [str(p) for p in parent.iterdir() if p.is_dir()])


def _cached(name: str, revision: str | None) -> bool:
    try:
        config = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError as error:
        raise ModelError(f"{name!r} is neither a folder nor a valid Hub id: {error}") from None
    if not isinstance(config, str):
        return False
    files = {p.name for p in Path(config).parent.iterdir()}
    return any(f.endswith((".safetensors", ".safetensors.index.json", ".bin")) for f in files)


def _commit(checkpoint: Checkpoint) -> str | None:
    """Return the commit that the Hub cache holds of the checkpoint, from the name of the snapshot folder."""
    config = try_to_load_from_cache(checkpoint.path, "config.json", revision=checkpoint.revision)
    return Path(config).parent.name if isinstance(config, str) else checkpoint.revision


def load_model(task: Task, config: ModelConfig, labels: tuple[str, ...]) -> Loaded:
    """Load the checkpoint in fp32 with a new head of `labels`; what the checkpoint lacks is drawn from the global seed.

    Raises `ModelError`: not found, no such Auto class, no safetensors, remote code asked for.
    """
    name = config.model or task.default_model
    checkpoint = find_checkpoint(name, config.revision)
    common: dict[str, Any] = {
        "revision": checkpoint.revision if checkpoint.source in ("cache", "hub") else None,
        "local_files_only": checkpoint.local_only,
        "trust_remote_code": config.trust_remote_code,
    }
    if checkpoint.path != checkpoint.name or checkpoint.source == "folder":
        common.pop("revision")
    auto_model = getattr(transformers, task.auto_model)
    auto_processor = getattr(transformers, task.auto_processor)
    names: dict[str, Any] = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
    }
    options: dict[str, Any] = {
        "ignore_mismatched_sizes": True,
        "dtype": torch.float32,  # v5 keeps the checkpoint's dtype: a bf16 one would train in pure bf16
        "use_safetensors": None if config.allow_pickle else True,
        "output_loading_info": True,
        **common,
    }
    with hub_errors(name, task.name, task.default_model):
        model_config = transformers.AutoConfig.from_pretrained(checkpoint.path, **common)
        around = classifier_config(model_config, task.auto_model, names)
        if around is None:
            _check_class(auto_model, model_config, name, task)
        _check_weights(checkpoint, config)
        processor = auto_processor.from_pretrained(checkpoint.path, **common)
        if around is None:
            model, info = auto_model.from_pretrained(checkpoint.path, num_labels=len(labels), **names, **options)
        else:
            model, info = load_into(checkpoint.path, around, options)
        model.eval()
        model.config.problem_type = None  # the base's own would stay, and pipeline answers by it
        prepare_processor(model, processor, name)
        batch = task.default_model_inputs(model, processor)
        check_loaded(model, info, name, batch)
        head = head_modules(model, info, len(labels))
        layers = find_layers(model, head, batch)
        *averaged, output = output_linears(model, head, len(labels), batch)
    revision = _commit(checkpoint) if checkpoint.source in ("cache", "hub") else checkpoint.revision
    return Loaded(
        model, processor, layers, head, output, checkpoint.name, checkpoint.source, revision, tuple(averaged)
    )


def prepare_processor(model: Any, processor: Any, name: str) -> None:
    """Check that a tokenizer goes with its model, and give it a padding token where it has none.

    Raises `ModelError` when it does not, which would show only at the first text that it matters for. Image
    processors are left alone.
    """
    if not isinstance(processor, transformers.PreTrainedTokenizerBase):
        return
    if len(processor) <= len(processor.all_special_tokens):  # transformers makes one without tokens, and says nothing
        raise ModelError(f"{name} has no tokenizer files, such as tokenizer.json: every word would be unknown to it.")
    length = processor.model_max_length
    if not isinstance(length, int | float) or length < SHORTEST:
        raise ModelError(
            f"{name} has a tokenizer whose model_max_length is {length!r}: a number of at least {SHORTEST} is needed."
        )
    if processor.pad_token is None:
        processor.pad_token = processor.eos_token
    if processor.pad_token is None:
        raise ModelError(f"{name} has a tokenizer with neither a padding nor an end token: texts cannot be padded.")
    if getattr(model.config, "pad_token_id", 0) is None:  # a mean-pooled head has no such field, and needs none
        model.config.pad_token_id = processor.pad_token_id
    embeddings = model.get_input_embeddings()
    highest = max(processor.get_vocab().values())
    if isinstance(embeddings, torch.nn.Embedding) and highest >= embeddings.num_embeddings:
        raise ModelError(
            f"{name} has a tokenizer with token numbers up to {highest}, but embeddings for {embeddings.num_embeddings} "
            "tokens alone. If tokens were added, save the model again after "
            "model.resize_token_embeddings(len(tokenizer))."
        )


def _check_class(auto_model: Any, config: Any, name: str, task: Task) -> None:
    known = type(config) in auto_model._model_mapping
    auto_map = getattr(config, "auto_map", None) or {}  # only remote-code configs have one
    if not known and task.auto_model not in auto_map:
        raise ModelError(
            f"{name} is a {config.model_type} checkpoint, which cannot do {task.name}: transformers has no "
            f"{task.auto_model} for it. For {task.name} try {task.default_model}."
        )


def _check_weights(checkpoint: Checkpoint, config: ModelConfig) -> None:
    folder = Path(checkpoint.path)
    if config.allow_pickle or not folder.is_dir():
        return
    files = [p.name for p in folder.iterdir()]
    if not any(f.endswith((".safetensors", ".safetensors.index.json")) for f in files):
        pickles = [f for f in files if f.endswith((".bin", ".pt", ".pth"))]
        if pickles:
            raise ModelError(
                f"{checkpoint.name} has only a pickle ({pickles[0]}), which can run code when it is read. "
                "If you trust it, add --allow_pickle (it is then read with weights_only)."
            )
        raise ModelError(f"{checkpoint.name} has no weights: no .safetensors file in the folder.")
