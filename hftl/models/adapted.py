"""A repository that holds a LoRA adapter alone: its base model is found elsewhere, and the adapter merged into it."""

from typing import Any

import torch
import transformers
from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import safe_open
from transformers.utils import cached_file

from hftl.errors import ModelError
from hftl.models.coverage import check_loaded
from hftl.models.load import find_checkpoint
from hftl.tasks.task import Task


def load_adapted(path: str, task: Task, processor: Any, common: dict[str, Any]) -> Any:
    """Return the base model that the adapter at `path` names, in fp32, with the adapter merged.

    Labels and sizes are those of the config.json beside the adapter. `common` says how `path` is to be read
    (`revision`, `local_files_only`). The base is resolved like any model: folder, packaged checkpoint, Hub cache, Hub.
    Raises `ModelError` when it is nowhere, or when a tensor of the base's body or of the adapter is missing.
    """
    adapter = PeftConfig.from_pretrained(path, **common)
    base = find_checkpoint(str(adapter.base_model_name_or_path), adapter.revision)
    where: dict[str, Any] = {"local_files_only": base.local_only}
    if base.source in ("cache", "hub"):
        where["revision"] = adapter.revision
    model, info = getattr(transformers, task.auto_model).from_pretrained(
        base.path,
        config=transformers.AutoConfig.from_pretrained(path, **common),
        dtype=torch.float32,
        trust_remote_code=False,
        use_safetensors=True,
        ignore_mismatched_sizes=True,  # the base may have a head for other classes
        output_loading_info=True,
        **where,
    )
    check_loaded(model, info, base.name, task.default_model_inputs(model, processor))
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
