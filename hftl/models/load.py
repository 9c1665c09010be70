"""Find a checkpoint (folder, packaged, Hub cache, Hub) and load it with a new head for the task's labels."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from transformers.utils import cached_file

from hftl.config import ModelConfig
from hftl.errors import ModelError
from hftl.hub_errors import hub_errors
from hftl.models.classes import check_loaded, check_positions, classifier_config, load_into
from hftl.models.decoders import check_own_decoder, decoder_config, levels_read, whole_images
from hftl.models.find import SAFE, Checkpoint, cached_config, check_reads, checkpoint_of, find_checkpoint
from hftl.models.heads import output_linears
from hftl.models.layers import Layers, find_layers, head_modules
from hftl.models.pooled import OWN_CLASSES, LinearForSemanticSegmentation, own_auto_model
from hftl.tasks.task import Task


# Fields of config.json that say how a checkpoint answered before.
_ANSWERS = ("thresholds", "conformal_width", "conformal_level", "input_columns", "mask_values", "ignore_index")
_POOLING = "1_Pooling"  # the folder in which sentence-transformers keeps it
# How transformers names in config.json what turns outputs into probabilities; pipeline answers by it.
_PROBLEMS = {"softmax": None, "sigmoid": "multi_label_classification", "none": "regression"}


@dataclass(frozen=True)
class Loaded:
    """A model with a head for the task, and what hftl needs to know of it."""

    model: Any
    processor: Any
    layers: Layers
    head: tuple[str, ...]  # modules that the checkpoint lacked
    outputs: tuple[str, ...]  # the head's Linears whose mean is the logits; none of a decoder of another form
    name: str
    source: str  # folder, packaged, cache or hub
    revision: str | None
    averaged: bool = False  # its own files say that the mean of its states stands for a text

    @property
    def output(self) -> str:
        """The last of the Linears that put out the logits: for nearly every model the only one."""
        return self.outputs[-1]


def _weights_options(allow_pickle: bool) -> dict[str, Any]:
    return {
        "ignore_mismatched_sizes": True,  # the checkpoint may have a head for other classes
        "dtype": torch.float32,  # v5 keeps the checkpoint's dtype: a bf16 one would train in pure bf16
        "use_safetensors": None if allow_pickle else True,
        "output_loading_info": True,
    }


def load_model(task: Task, config: ModelConfig, labels: tuple[str, ...]) -> Loaded:
    """Load the checkpoint in fp32 with a new head of `labels`; what the checkpoint lacks is drawn from the global seed.

    Raises `ModelError`: not found, no such Auto class, no safetensors, remote code asked for.
    """
    name = config.model or task.default_model
    checkpoint = find_checkpoint(name, config.revision)
    check_reads(name, config.revision, task.name, "image" if "image" in task.inputs.columns else "text")
    common = {**checkpoint.options, "trust_remote_code": config.trust_remote_code}
    auto_model, reading = getattr(transformers, task.auto_model), dict(common)
    width = len(labels)
    names: dict[str, Any] = {"num_labels": width}
    if labels:
        names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    options = {**_weights_options(config.allow_pickle), **common}
    with hub_errors(name, task.name, task.default_model):
        own = _own_class(checkpoint, task)
        model_config = (own.config_class if own else transformers.AutoConfig).from_pretrained(
            checkpoint.path, **common
        )
        check_positions(model_config.to_dict(), name)
        dense = task.output.keep is not None
        if own is not None:  # AutoTokenizer does not know its config, and would ask to run remote code for it
            auto_model, reading["config"] = own, model_config
        around = _config_around(model_config, auto_model, names, task, config)
        _check_weights(checkpoint, config)
        processor = getattr(transformers, task.inputs.processor).from_pretrained(checkpoint.path, **reading)
        if dense:
            processor, names = whole_images(processor), {**names, **levels_read(model_config, around)}
        if around is None:
            model, info = auto_model.from_pretrained(checkpoint.path, **{"num_labels": width, **names}, **options)
        else:
            batch = task.inputs.smallest(None, processor) if dense else None
            model, info = load_into(checkpoint.path, around, auto_model, options, batch)
        model.eval()
        model.config.problem_type = _PROBLEMS[task.output.link]  # the base's own would stay
        for field in _ANSWERS:
            if hasattr(model.config, field):
                delattr(model.config, field)
        if len(task.inputs.columns) > 1:
            model.config.input_columns = list(task.inputs.columns)
        task.inputs.check(model, processor, name)
        batch = task.inputs.smallest(model, processor)
        check_loaded(model, info, name, batch)
        head = head_modules(model, info, width)
        layers = find_layers(model, head, batch)
        fits = not dense or isinstance(model, LinearForSemanticSegmentation)  # a head that a probe can be written into
        outputs = output_linears(model, head, width, batch) if fits else ()
    revision = checkpoint.revision
    if checkpoint.source in ("cache", "hub"):
        cached = cached_config(checkpoint.path, revision)
        revision = cached.parent.name if cached else revision
    said = (checkpoint.name, checkpoint.source, revision, _says_mean(checkpoint, task))
    return Loaded(model, processor, layers, head, outputs, *said)


def _says_mean(checkpoint: Checkpoint, task: Task) -> bool:
    """Do the files of sentence-transformers beside a checkpoint say that it takes the mean of its states, of single texts?"""
    if "mean" not in task.inputs.poolings or len(task.inputs.columns) > 1:
        return False
    quiet = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    path = cached_file(checkpoint.path, "config.json", subfolder=_POOLING, **checkpoint.options, **quiet)
    try:
        said = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError):  # damaged: what it says is a hint, and no part of the model
        return False
    return isinstance(said, dict) and (
        said.get("pooling_mode_mean_tokens") is True or said.get("pooling_mode") == "mean"
    )


def load_adapted(path: str, task: Task, processor: Any, common: dict[str, Any]) -> Any:
    """Return the base model that the adapter at `path` names, in fp32, with the adapter merged.

    Labels and sizes are those of the config.json beside the adapter. `common` says how `path` is to be read
    (`revision`, `local_files_only`). The base is resolved like any model: folder, packaged checkpoint, Hub cache, Hub.
    Raises `ModelError` when it is nowhere, or when a tensor of the base's body or of the adapter is missing.
    """
    from peft import (  # late: it takes a second, and few models need it
        PeftConfig,
        PeftModel,
        get_peft_model_state_dict,
    )
    from peft.utils import SAFETENSORS_WEIGHTS_NAME

    adapter = PeftConfig.from_pretrained(path, **common)
    base = find_checkpoint(str(adapter.base_model_name_or_path), adapter.revision)
    model, info = getattr(transformers, task.auto_model).from_pretrained(
        base.path,
        config=transformers.AutoConfig.from_pretrained(path, **common),
        trust_remote_code=False,
        **_weights_options(allow_pickle=False),
        **base.options,
    )
    check_loaded(model, info, base.name, task.inputs.smallest(model, processor))
    weights = cached_file(path, SAFETENSORS_WEIGHTS_NAME, **common)  # peft would take a pickle in its place
    adapted = PeftModel.from_pretrained(model, path, **common)
    with safe_open(weights, framework="pt") as file:
        lacking = sorted(get_peft_model_state_dict(adapted, save_embedding_layers=False).keys() - set(file.keys()))
    if lacking:
        raise ModelError(
            f"{path} is not the adapter that its adapter_config.json describes: {len(lacking)} tensors are missing, "
            f"such as {lacking[0]}. Save it again."
        )
    return adapted.merge_and_unload()


def _own_class(checkpoint: Checkpoint, task: Task) -> Any:
    """Return the class of hftl's own that a checkpoint is of; None for any other one. Raises `ModelError` for another task's.

    The modelling file beside it is for plain transformers: hftl never runs it.
    """
    fields, _ = transformers.PretrainedConfig.get_config_dict(checkpoint.path, **checkpoint.options)
    own = OWN_CLASSES.get(fields.get("model_type", ""))
    if own is not None and own_auto_model(own) != task.auto_model:
        raise ModelError(
            f"{checkpoint.name} is a {own.__name__}, which cannot do {task.name}: name the model that it was made from."
        )
    return own


def _config_around(config: Any, auto_model: Any, names: dict[str, Any], task: Task, asked: ModelConfig) -> Any:
    """Return the config of the class around a body that has none for the task; None for every other checkpoint.

    Raises `ModelError` for one that cannot do the task.
    """
    if auto_model in OWN_CLASSES.values():
        check_own_decoder(auto_model, asked.decoder)
        return None
    if task.output.keep is not None:
        around = decoder_config(config, auto_model, names, asked.decoder)
    else:
        around = classifier_config(config, auto_model, names)
    if around is None:
        _check_class(auto_model, config, asked.model or task.default_model, task)
    return around


def _check_class(auto_model: Any, config: Any, name: str, task: Task) -> None:
    known = type(config) in auto_model._model_mapping
    auto_map = getattr(config, "auto_map", None) or {}  # only remote-code configs have one
    if not known and task.auto_model not in auto_map:
        raise ModelError(
            f"{name} is {checkpoint_of(config.model_type)}, which cannot do {task.name}: transformers has no "
            f"{task.auto_model} for it. For {task.name} try {task.default_model}."
        )


def _check_weights(checkpoint: Checkpoint, config: ModelConfig) -> None:
    folder = Path(checkpoint.path)
    if config.allow_pickle or not folder.is_dir():
        return
    files = [p.name for p in folder.iterdir()]
    if any(f.endswith(SAFE) for f in files):
        return
    pickles = [f for f in files if f.endswith((".bin", ".pt", ".pth"))]
    if pickles:
        raise ModelError(
            f"{checkpoint.name} has only a pickle ({pickles[0]}), which can run code when it is read. "
            "If you trust it, add --allow_pickle (it is then read with weights_only)."
        )
    raise ModelError(f"{checkpoint.name} has no weights: no .safetensors file in the folder.")
