# The flags as types. Written by `python -m tests.write_stubs`: change hftl/config.py instead.

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict


Flags = TypedDict("Flags", {
    "text_column": str | None, "text_pair_column": str | None, "label_column": str | None,
    "label_columns": Sequence[str] | None, "label_separator": str | None,
    "problem_type": Literal["single_label_classification", "multi_label_classification", "regression"] | None,
    "image_column": str | None, "mask_values": Literal["class", "binary"] | None, "ignore_index": int | None,
    "max_train_samples": int | None, "draw_seed": int | None, "max_eval_samples": int | None, "validation_size": float,
    "test_size": float, "slice_column": str | None, "group_column": str | None, "shots": int | None,
    "skip_bad_rows": bool, "strict": bool, "seed": int, "revision": str | None, "allow_pickle": bool,
    "trust_remote_code": bool, "max_seq_length": int | None, "image_size": int | None, "sliding_windows": bool,
    "decoder": Literal["upernet", "linear"] | None, "budget": str | None, "pooling": Literal["auto", "native", "mean"],
    "layer_decay": float | None, "init_head": Literal["probe", "random"], "train_top": int | None, "train_norms": bool,
    "train_bias": bool, "thaw_every": float | None, "thaw_to": int | None,
    "class_weights": Literal["auto", "balanced", "none"], "thresholds": str | float,
    "cache": Literal["auto", "on", "off"], "cache_views": int, "lora_r": int, "lora_alpha": int | None,
    "lora_dropout": float, "lora_target_modules": Sequence[str] | None,
    "augment": Literal["none", "light", "default", "strong"] | None, "no_flip": bool, "keep": float | None,
    "loss": Literal["logit_adjusted"] | None, "early_stopping_patience": int | None, "name": str | None,
    "author": str | None, "overwrite": bool, "resume": bool, "seeds": int,
    "evidence": Literal["full", "quick", "off"] | bool, "control": Literal["none", "scratch"],
    "target_precision": float, "retain": str | None, "per_device_train_batch_size": int, "num_train_epochs": float,
    "max_steps": int, "learning_rate": float, "lr_scheduler_type": str,
    "lr_scheduler_kwargs": dict[str, Any] | str | None, "warmup_steps": float, "optim": str, "optim_args": str | None,
    "weight_decay": float, "adam_beta1": float, "adam_beta2": float, "adam_epsilon": float,
    "optim_target_modules": None | str | list[str], "gradient_accumulation_steps": int,
    "average_tokens_across_devices": bool, "max_grad_norm": float, "label_smoothing_factor": float, "bf16": bool,
    "fp16": bool, "bf16_full_eval": bool, "fp16_full_eval": bool, "tf32": bool | None,
    "activation_checkpointing": bool | None, "activation_checkpointing_kwargs": dict[str, Any] | str | None,
    "gradient_checkpointing": bool | None, "gradient_checkpointing_kwargs": dict[str, Any] | str | None,
    "torch_compile": bool, "torch_compile_backend": str | None, "torch_compile_mode": str | None,
    "use_liger_kernel": bool, "liger_kernel_config": dict[str, bool] | None, "use_cache": bool,
    "neftune_noise_alpha": float | None, "torch_empty_cache_steps": int | None, "logging_strategy": str,
    "logging_steps": float, "logging_first_step": bool, "log_on_each_node": bool, "logging_nan_inf_filter": bool,
    "include_num_input_tokens_seen": str | bool, "log_level": str, "log_level_replica": str,
    "disable_tqdm": bool | None, "report_to": None | str | list[str], "run_name": str | None, "project": str,
    "trackio_space_id": str | None, "trackio_bucket_id": str | None,
    "trackio_static_space_id": str | None | Literal[False], "eval_strategy": str, "eval_steps": float | None,
    "eval_delay": float, "per_device_eval_batch_size": int, "eval_on_start": bool, "eval_do_concat_batches": bool,
    "eval_use_gather_object": bool, "eval_accumulation_steps": int | None, "include_for_metrics": list[str],
    "save_strategy": str, "save_steps": float, "save_on_each_node": bool, "save_total_limit": int | None,
    "load_best_model_at_end": bool, "metric_for_best_model": str | None, "greater_is_better": bool | None,
    "restore_callback_states_from_checkpoint": bool, "full_determinism": bool, "data_seed": int | None,
    "use_cpu": bool, "accelerator_config": dict[str, Any] | str | None, "parallelism_config": Any,
    "dataloader_drop_last": bool, "dataloader_num_workers": int, "dataloader_pin_memory": bool,
    "dataloader_persistent_workers": bool, "dataloader_prefetch_factor": int | None,
    "dataloader_multiprocessing_context": str | None, "dataloader_in_order": bool, "train_sampling_strategy": str,
    "length_column_name": str, "ddp_find_unused_parameters": bool | None, "ddp_bucket_cap_mb": int | None,
    "ddp_broadcast_buffers": bool | None, "ddp_static_graph": bool | None, "ddp_backend": str | None,
    "ddp_timeout": int, "fsdp": str | None, "fsdp_config": dict[str, Any] | str | None,
    "deepspeed": dict[str, Any] | str | None, "debug": str | list[str], "skip_memory_metrics": bool, "local_rank": int,
}, total=False)  # of every function that trains


class ColumnFlags(TypedDict, total=False):
    text_column: str | None
    text_pair_column: str | None
    image_column: str | None
    label_column: str | None
    label_columns: Sequence[str] | None
    label_separator: str | None
    problem_type: Literal["single_label_classification", "multi_label_classification", "regression"] | None
    mask_values: Literal["class", "binary"] | None
    ignore_index: int | None


class RunFlags(Flags, total=False):
    data: Any
    model: str | None
    output_dir: str | Path | None


class PlanFlags(RunFlags, total=False):
    method: str | None


class PickFlags(Flags, total=False):
    data: Any
    method: str | None
    output_dir: str | Path | None
    shortlist: str | None
    max_parameters: int | None
    licence: str | None
    language: str | None
