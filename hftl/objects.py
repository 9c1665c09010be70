"""What Python callers of `adapt` may hand over that no file or flag can name, turned into what a run can repeat."""

import hashlib
import inspect
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from transformers import PreTrainedModel, TrainingArguments

from hftl.config import OWN_FLAGS
from hftl.data.columns import is_columns
from hftl.data.splits import recognise_splits
from hftl.errors import ConfigError
from hftl.paths import cache_dir
from hftl.surroundings import quietly


_NOT_TAKEN = {  # arguments of Trainer, with what to use instead
    "train_dataset": "the rows are called data",
    "tokenizer": "Trainer and hftl call it processing_class",
    "data_collator": "hftl encodes and pads the rows itself",
    "model_init": "seeds=n trains n times from the same checkpoint",
    "optimizers": "optim=, learning_rate= and lr_scheduler_type= choose them",
    "compute_loss_func": "loss= and class_weights= choose the loss",
    "preprocess_logits_for_metrics": "compute_metrics gets what the model puts out",
}
_Function = TypeVar("_Function", bound=Callable[..., Any])


def for_python(function: _Function) -> _Function:
    """Keep libraries quiet while the function runs, and name hftl's own flags in what `help` and Tab show of it."""
    quiet = quietly()(function)
    signature = inspect.signature(function)
    *known, rest = signature.parameters.values()
    own = {name: flag for name, flag in OWN_FLAGS.items() if name not in signature.parameters}
    more = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=f.default) for name, f in own.items()]
    quiet.__signature__ = signature.replace(parameters=[*known, *more, rest])  # type: ignore[attr-defined]
    lines = [f"    {name}: {flag.metadata['help']}" for name, flag in own.items()]
    quiet.__doc__ = "\n".join([inspect.getdoc(function) or "", "", "Flags:", *lines])
    return quiet


def flags_in(args: TrainingArguments | None, flags: Mapping[str, object]) -> dict[str, Any]:
    """Return the flags, and what differs from the defaults in `args` where none says otherwise.

    Raises `ConfigError` for other `args`, and for an argument of Trainer's that hftl does not take.
    """
    refused = [name for name in flags if name in _NOT_TAKEN]
    if refused:
        raise ConfigError(f"{refused[0]}= is not taken: {_NOT_TAKEN[refused[0]]}.")
    if args is None:
        return {**flags}
    if not isinstance(args, TrainingArguments):
        raise ConfigError(f"args is a TrainingArguments of transformers, not {args!r:.60}.")
    usual = TrainingArguments()
    # Trainer reads no do_..., and whether it shows bars follows from how loud transformers was.
    names = [f.name for f in fields(args) if f.init and not f.name.startswith(("do_", "disable_tqdm"))]
    given = {name: getattr(args, name) for name in names if getattr(args, name) != getattr(usual, name)}
    plain = {name: getattr(value, "value", value) for name, value in given.items()}
    return {**{k: v.to_dict() if hasattr(v, "to_dict") else v for k, v in plain.items()}, **flags}


def data_with(data: Any, eval_dataset: Any) -> Any:
    """Return the data with `eval_dataset` as their validation split. Raises `ConfigError` where they have one."""
    if eval_dataset is None:
        return data
    splits = dict(data) if _by_split(data) else {"train": data}
    known = recognise_splits([str(name) for name in splits])
    if isinstance(data, str | Path) and not Path(data).is_file():
        raise ConfigError(
            f"eval_dataset is not taken beside {str(data)!r}, which may have splits of its own. Name them all, as paths or "
            "objects: data={'train': ..., 'validation': ..., 'test': ...}."
        )
    if "validation" in known or _by_split(eval_dataset):
        raise ConfigError("eval_dataset is the one validation split, and there are several: give one.")
    return {**splits, "validation": eval_dataset}


def _by_split(data: Any) -> bool:
    return isinstance(data, Mapping) and not is_columns(data)


def model_name(model: Any, processor: Any) -> str | None:
    """Return the name of the model that a run can be repeated with: an object is saved in a folder of the cache first.

    The folder is called after the bytes in it, so that the same weights are there once. Raises `ConfigError` for an
    object that is no model of transformers, or comes without a tokenizer or image processor.
    """
    if model is None or isinstance(model, str | Path):
        if processor is not None:
            raise ConfigError("processing_class goes with a model that is an object: give both as objects, or a name.")
        return None if model is None else str(model)
    if not isinstance(model, PreTrainedModel) or getattr(model, "_hf_peft_config_loaded", False):
        raise ConfigError(
            f"model is of the type {type(model).__name__}: give a PreTrainedModel of transformers (an adapter merged into "
            "it), or the name of one."
        )
    if not hasattr(processor, "save_pretrained"):
        raise ConfigError("A model object goes with its tokenizer or image processor: give that as processing_class.")
    parent = cache_dir() / "models"
    parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as work:
        model.save_pretrained(f"{work}/model")
        processor.save_pretrained(f"{work}/model")
        files = sorted(path for path in Path(work).rglob("*") if path.is_file())
        digest = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()
        name = re.sub(r"[^\w.-]+", "-", Path(str(model.name_or_path)).name or model.config.model_type)
        folder = parent / f"{name}-{digest[:12]}"
        with suppress(OSError):  # it is there already
            Path(work, "model").rename(folder)
    return str(folder)
