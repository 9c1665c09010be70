"""What a run is asked to do: frozen dataclasses, filled alike from Python keywords, YAML and command-line flags.

To add a flag of hftl's own, add a field below: the command line, its help and `config.yaml` follow from it.
Every other flag is a field of `transformers.TrainingArguments` and goes to the Trainer untouched.
"""

import dataclasses
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hftl.errors import ConfigError, did_you_mean
from hftl.paths import typed_path
from hftl.values import TRUTH, check_bounds, is_share, trainer_fields, training_values, typed_value


# The names of tasks, without the heavy imports of the things themselves; a test holds them against `TASKS`.
TASK_NAMES = {
    "text-classification": "a class, several labels or a number for a text or a pair of texts",
    "image-classification": "a class, several labels or a number for an image",
    "token-classification": "a tag for every word: entities in a text",
    "image-segmentation": "a class for every pixel of an image",
}

TASK_KINDS = {  # what a row of each is, which says what files of data there may be; likewise held against `TASKS`
    "text-classification": "text",
    "image-classification": "image",
    "token-classification": "sentence",
    "image-segmentation": "image",
}
_ROW_SCORES = (
    *("accuracy", "macro_f1", "macro_precision", "macro_recall"),
    *("micro_f1", "exact", "micro_precision", "micro_recall"),
    *("r2", "rmse", "mae", "pearson"),
)
TASK_SCORES = {  # of all outputs of each, which a checkpoint may be chosen by; likewise
    "text-classification": _ROW_SCORES,
    "image-classification": _ROW_SCORES,
    "token-classification": ("f1", "macro_f1", "strict_f1", "precision", "recall"),
    "image-segmentation": ("miou", "pixel_accuracy", "dice"),
}
SHORTLISTS = ("small", "base", "large", "multilingual", "long")  # of `hftl pick`, in hftl/selection/shortlist.csv
BY_GRADIENT = ("loss",)  # flags of the methods that answer training rows by gradient
PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")  # transformers' words


def check_task(name: object) -> str:
    """Return the task's name (`-` and `_` alike). Raises `ConfigError` naming the ones there are."""
    if not isinstance(name, str):
        raise ConfigError(f"A task is named by one of {', '.join(TASK_NAMES)}, not by {name!r:.60}.")
    key = name.replace("_", "-")
    if key not in TASK_NAMES:
        have = ", ".join(TASK_NAMES)
        raise ConfigError(f"There is no task {name!r}; there are {have}.{did_you_mean(key, TASK_NAMES)}")
    return key


def check_score(training: dict[str, Any], scores: Iterable[str]) -> None:
    """Raise `ConfigError` when `--metric_for_best_model` is none of the scores that will be there."""
    name, have = training.get("metric_for_best_model"), ["loss", *scores]
    if name is not None and str(name).removeprefix("eval_") not in have:
        raise ConfigError(
            f"--metric_for_best_model {name}: there is no such score here. There are {', '.join(have)}."
            f"{did_you_mean(str(name), have)}"
        )


def _flag(default: Any, kind: type, text: str, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"kind": kind, "help": text, "choices": choices})


@dataclass(frozen=True)
class DataConfig:
    """Where the rows come from and how they are split."""

    data: Any = _flag(None, str, "file, folder, sample:<name>, or Hub id name[:config][@revision]")
    text_column: str | None = _flag(None, str, "column with the text (default: found by name and type)")
    text_pair_column: str | None = _flag(None, str, "column with the second text of a pair (default: found by name)")
    label_column: str | None = _flag(None, str, "column with the label (default: found by name)")
    label_columns: tuple[str, ...] | None = _flag(None, tuple, "several labels: columns of 0 and 1, one for each")
    label_separator: str | None = _flag(None, str, "several labels: what stands between them in the label column")
    problem_type: str | None = _flag(None, str, "what a label is (default: found by its values)", PROBLEM_TYPES)
    image_column: str | None = _flag(None, str, "column with the image (default: found by type)")
    mask_values: str | None = _flag(
        None, str, "masks: ids of classes (default); binary: all above 0 is one", ("class", "binary")
    )
    ignore_index: int | None = _flag(None, int, "masks: the id that is not counted (default: 255)")
    max_train_samples: int | None = _flag(None, int, "use at most N training rows, sampled by class")
    draw_seed: int | None = _flag(None, int, "seed of the rows that --max_train_samples draws (default: --seed)")
    max_eval_samples: int | None = _flag(None, int, "use at most N validation rows and N test rows")
    validation_size: float = _flag(0.1, float, "share of train to validate on when the data has no validation split")
    test_size: float = _flag(0.2, float, "share to test on when the data has no test split")
    slice_column: str | None = _flag(None, str, "column whose values the report scores apart, such as the source")
    group_column: str | None = _flag(None, str, "column of what rows share, such as the person: no cut divides them")
    shots: int | None = _flag(None, int, "train on N rows of every class, drawn by --seed")
    skip_bad_rows: bool = _flag(False, bool, "leave out rows without a label, a text or words, and count them")
    strict: bool = _flag(False, bool, "a broken image is an error instead of being skipped and named")
    seed: int = _flag(42, int, "seed of the splits, the head and the training")


@dataclass(frozen=True)
class ModelConfig:
    """Which checkpoint, and how it reads its input."""

    model: str | None = _flag(None, str, "folder, packaged checkpoint or Hub id")
    revision: str | None = _flag(None, str, "branch, tag or commit of the Hub model")
    allow_pickle: bool = _flag(False, bool, "read a checkpoint that has no safetensors (with weights_only)")
    trust_remote_code: bool = _flag(False, bool, "run the modelling code that the checkpoint brings along")
    max_seq_length: int | None = _flag(None, int, "tokens per text (default: the longest text, at most the model's)")
    image_size: int | None = _flag(None, int, "pixels per side, a multiple of 32 (default: from model and data)")
    sliding_windows: bool = _flag(False, bool, "masks: read images in their own size, in windows of image_size")
    decoder: str | None = _flag(
        None, str, "masks: the head on a body (default: its own, else upernet)", ("upernet", "linear")
    )


@dataclass(frozen=True)
class MethodConfig:
    """Which weights learn, and the knobs of the methods."""

    method: str | None = _flag(None, str, "how to train, see `hftl methods` (default: auto)")
    budget: str | None = _flag(
        None, str, "auto: time to race, 600 (seconds), 10m or 2h (default: 1.5 times that of full)"
    )
    race: str | None = _flag(None, str, "auto: the trials and their steps, as config.yaml of a run holds them")
    pooling: str = _flag("auto", str, "probe and head: which features of a text", ("auto", "native", "mean"))
    layer_decay: float | None = _flag(None, float, "full: rate of each layer relative to the one above it")
    init_head: str = _flag("probe", str, "how the head starts: from the probe, or random", ("probe", "random"))
    train_top: int | None = _flag(None, int, "full, lora: train only the top N blocks and the head")
    train_norms: bool = _flag(False, bool, "full: of the body only the normalisation layers learn")
    train_bias: bool = _flag(False, bool, "full: of the body only the biases learn (BitFit)")
    thaw_every: float | None = _flag(None, float, "gradual: epochs per stage (default: the epochs shared out)")
    thaw_to: int | None = _flag(None, int, "gradual: thaw the top N blocks (default: all, and the stem)")
    class_weights: str = _flag(
        "none", str, "balanced: rare classes count more; auto: if some are rare", ("auto", "balanced", "none")
    )
    thresholds: str = _flag("0.5", str, "several labels: from which probability on a row has one; auto: one for each")
    cache: str = _flag("auto", str, "states under what learns, once instead of every epoch", ("auto", "on", "off"))
    cache_views: int = _flag(4, int, "images: augmented views per row in that cache")
    lora_r: int = _flag(16, int, "lora: rank")
    lora_alpha: int | None = _flag(None, int, "lora: scale (default: twice the rank)")
    lora_dropout: float = _flag(0.05, float, "lora: dropout")
    lora_target_modules: tuple[str, ...] | None = _flag(None, tuple, "lora: names or suffixes of the layers to adapt")
    augment: str | None = _flag(
        None,
        str,
        "images: none; light (when not given): shift, scale, flip if it does no harm; default: rotate, colours; strong: more",
        ("none", "light", "default", "strong"),
    )
    no_flip: bool = _flag(False, bool, "images: never mirror (digits, text, left and right hands)")
    keep: float | None = _flag(None, float, "wise: only mixtures that keep at least this share of the base")
    loss: str | None = _flag(None, str, "answer as if all classes were equally frequent", ("logit_adjusted",))
    early_stopping_patience: int | None = _flag(
        None, int, "stop after N evaluations without a better one, and keep the best"
    )

    @property
    def augmentation(self) -> str:
        """The preset by which images are augmented."""
        return self.augment or "light"


@dataclass(frozen=True)
class OutputConfig:
    """Where the run goes, how often it is done, and what is measured."""

    output_dir: Path | None = _flag(None, Path, "the run folder (default: runs/<data>-<model>-<method>)")
    name: str | None = _flag(None, str, "title of the run's report (default: after its model and data)")
    author: str | None = _flag(None, str, "who made the run, for its report (default: the user's login)")
    overwrite: bool = _flag(False, bool, "replace a run folder that exists")
    resume: bool = _flag(False, bool, "go on with the run that was cut off in <output_dir>.partial")
    seeds: int = _flag(1, int, "train with N seeds, report mean and deviation, keep the best on validation")
    evidence: str = _flag(
        "full",
        str,
        "quick: without random weights, forgetting and suspect labels; off: no baselines, parity or report.html either",
        ("full", "quick", "off"),
    )
    control: str = _flag("none", str, "scratch: also train from random weights, as long", ("none", "scratch"))
    target_precision: float = _flag(0.95, float, "share of right answers that the abstain threshold aims at")
    retain: str | None = _flag(
        None, str, "retention set for forgetting: file, folder, sample:<name>, Hub id (default: a packaged sample)"
    )


@dataclass(frozen=True, kw_only=True)
class RunConfig(OutputConfig):
    """One run with all its settings."""

    task: str
    data: DataConfig
    model: ModelConfig
    method: MethodConfig
    training: dict[str, Any] = field(default_factory=dict)  # TrainingArguments fields that the user typed

    @property
    def proves(self) -> bool:
        """Is there any evidence?"""
        return self.evidence != "off"

    @property
    def train_seed(self) -> int:
        """Seed of the head, the training and the draw of `--shots`; `data.seed` cuts the splits."""
        return int(self.training.get("seed", self.data.seed))


_IN_MEMORY = "(in memory: "  # what config.yaml says of data that has no name
SECTIONS = (DataConfig, ModelConfig, MethodConfig, OutputConfig)
OWN_FLAGS = {f.name: f for section in SECTIONS for f in dataclasses.fields(section)}
# Of data that are only read, not cut into splits.
_COLUMNS = (
    "text_column text_pair_column image_column label_column label_columns label_separator problem_type mask_values "
    "ignore_index"
)
COLUMN_FLAGS = _COLUMNS.split()
ALIASES = {
    "model_name_or_path": "model",
    "dataset_name": "data",
    "text_column_name": "text_column",
    "text_pair_column_name": "text_pair_column",
    "label_column_name": "label_column",
    "image_column_name": "image_column",
    "max_length": "max_seq_length",
    "max_predict_samples": "max_eval_samples",
}
# TrainingArguments fields that would cut across what hftl does, with what to use instead.
OWNED = {
    "push_to_hub": "publish the finished run with `hftl push RUN ns/name`",
    "resume_from_checkpoint": "use --resume",
    "do_train": "hftl train always trains",
    "do_eval": "hftl train always evaluates",
    "do_predict": "use `hftl predict RUN --data new.csv`",
    "remove_unused_columns": "hftl encodes the columns itself",
    "batch_eval_metrics": "hftl keeps only the predicted classes of a validation row, which always fit",
    "enable_jit_checkpoint": "SIGTERM and Ctrl-C always write a checkpoint",
    "save_only_model": "--resume needs the optimizer's state, which goes when the run is finished",
    "prediction_loss_only": "the scores of the validation rows are always needed",
    "auto_find_batch_size": "a batch that does not fit is always split, with accumulation in its place",
    "ignore_data_skip": "a run that is resumed goes on with the rows that it had not seen",
    "label_names": "hftl calls the targets of a batch `labels`",
}


def build_config(task: object, values: dict[str, Any]) -> RunConfig:
    """Return the run that `values` (flag name → typed or text value) asks for.

    Raises `ConfigError` for an unknown task or flag, a value of the wrong type, or a flag that hftl owns.
    """
    task = check_task(task)
    own: dict[str, Any] = {}
    training: dict[str, Any] = {}
    known: dict[str, str] = {}
    for name, value in values.items():
        key = str(name).replace("-", "_")
        key = ALIASES.get(key, key)
        if key in OWN_FLAGS:
            own |= {} if value is None else {key: _coerce(key, OWN_FLAGS[key], value)}
            continue
        known = known or trainer_fields()
        if key not in known:
            raise ConfigError(f"There is no flag --{key}.{did_you_mean(key, [*known, *OWN_FLAGS])}")
        if value is not None:
            if key in OWNED or key.startswith("hub_"):
                raise ConfigError(f"--{key} is not taken: {OWNED.get(key, OWNED['push_to_hub'])}.")
            training[key] = value
    if "seed" in own:
        training["seed"] = own["seed"]
    if "budget" in own:
        parse_budget(own["budget"])
    sections: list[Any] = [
        section(**{f.name: own[f.name] for f in dataclasses.fields(section) if f.name in own}) for section in SECTIONS
    ]
    data, model, method, output = sections
    training = training_values(training) if training else {}
    return RunConfig(task=task, data=data, model=model, method=method, training=training, **vars(output))


def parse_budget(text: str, flag: str = "budget") -> float:
    """Return the seconds that a flag gives as 600, 10m or 2h. Raises `ConfigError` for anything else."""
    parts = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text.lower())
    seconds = float(parts[1]) * {"m": 60, "h": 3600}.get(parts[2], 1) if parts else 0.0
    if seconds == 0:
        raise ConfigError(f"--{flag} {text} is no length of time: give seconds (600), minutes (10m) or hours (2h).")
    return seconds


def data_config(values: dict[str, Any]) -> DataConfig:
    """Return the part of a config that says where rows come from; other names among `values` are left out.

    Raises `ConfigError` for a value of the wrong type.
    """
    names = {f.name for f in dataclasses.fields(DataConfig)}
    own = {name: value for name, value in values.items() if name in names and value is not None}
    own = {k: v[0] if isinstance(v, list) and len(v) == 1 and k != "data" else v for k, v in own.items()}
    return DataConfig(**{name: _coerce(name, OWN_FLAGS[name], value) for name, value in own.items()})


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the flat mapping in a config file. Raises `ConfigError` when it is missing or not a mapping."""
    import yaml

    if not typed_path(path).is_file():
        raise ConfigError(f"There is no config file {path}.")
    try:
        values = yaml.safe_load(typed_path(path).read_text(encoding="utf-8"))
    except RecursionError:
        raise ConfigError(f"{path} is not a config file: it is nested too deeply.") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        why = "it is not in UTF-8" if isinstance(error, UnicodeDecodeError) else " ".join(str(error).split())[:300]
        raise ConfigError(f"{path} is not valid YAML: {why}.") from None
    if not isinstance(values, dict) or "task" not in values:
        raise ConfigError(f"{path} must be a mapping of flags to values with a `task:`, such as config.yaml of a run.")
    return values


def to_yaml(config: RunConfig) -> str:
    """Return the config as flat YAML that `hftl train config.yaml` repeats (without the place it wrote to)."""
    import yaml

    flat: dict[str, Any] = {"task": config.task}
    for section in (config.data, config.model, config.method):
        flat.update({k: v for k, v in dataclasses.asdict(section).items() if v is not None and k != "data"})
    data = config.data.data
    flat["data"] = data if isinstance(data, str) else f"{_IN_MEMORY}{type(data).__name__})"
    flat |= {name: getattr(config, name) for name in ("evidence", "seeds", "control", "target_precision")}
    flat |= {k: v for k in ("retain", "name", "author") if (v := getattr(config, k)) is not None}
    flat |= {name: value for name, value in config.training.items() if name != "seed"}
    plain = json.loads(json.dumps(flat, default=str))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def same_flags(stored: str, config_yaml: str) -> bool:
    """Do two config.yaml ask for the same run? What an older version did not write had its default."""
    import yaml

    if stored == config_yaml:
        return True
    try:
        old, new = yaml.safe_load(stored), yaml.safe_load(config_yaml)
        defaults = yaml.safe_load(to_yaml(build_config(new["task"], {})))
        # evidence was true or false before it had three values
        evidence = {True: "full", False: "off"}.get(old.get("evidence"), old.get("evidence"))
        return bool({**defaults, **old, "evidence": evidence} == {**defaults, **new})
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        return False  # not what hftl wrote


def _coerce(name: str, spec: dataclasses.Field, value: Any) -> Any:
    kind, choices = spec.metadata["kind"], spec.metadata["choices"]
    if name == "data" and not isinstance(value, bool | str):
        return str(value) if isinstance(value, Path) else value
    if name == "data" and str(value).startswith(_IN_MEMORY):
        raise ConfigError(f"The run had its data {value}: name a file, folder, sample or Hub id with --data.")
    if name == "evidence" and str(value).lower() in TRUTH:  # on and off, as of other switches
        value = "full" if TRUTH[str(value).lower()] else "off"
    result = typed_value(name, kind, value)
    if choices and result not in choices:
        hint = did_you_mean(str(value), choices)
        raise ConfigError(f"--{name} is one of {', '.join(choices)}, not {value!r}.{hint}")
    if name == "thresholds" and result != "auto" and not is_share(result):
        raise ConfigError(f"--thresholds is auto or a number between 0 and 1, not {result!r}.")
    check_bounds(name, result)
    return result
