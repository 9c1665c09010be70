"""The first steps of every run and of every plan: data, splits, model, encoded rows."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from transformers import set_seed

from hftl.config import MethodConfig, ModelConfig, RunConfig
from hftl.data.load import load_task
from hftl.data.splits import Splits
from hftl.errors import ConfigError
from hftl.evaluation.mirror import in_words, turned
from hftl.methods import FROZEN_BODY, MAY_POOL, get_method, unread_flags
from hftl.methods.auto import AUTO
from hftl.models.decoders import LINEAR, UPERNET
from hftl.models.heads import states_by_token
from hftl.models.load import Loaded, load_model
from hftl.tasks.task import Encoded, Task
from hftl.training.cache import weights_hash
from hftl.training.losses import class_weights
from hftl.training.precision import choose_bf16, runs_on_cpu
from hftl.training.states import StageData


# Training rows from which cross-validation chooses what the head reads. Of fewer it cannot tell two points (the standard
# error of a difference is 3 at 200), and a checkpoint that says what stands for a text is believed (docs/log.md, 2026-11-28).
TOLD_APART = 200


@dataclass(frozen=True)
class Prepared:
    """All that a run has in hand when it begins to extract features."""

    config: RunConfig
    task: Task
    splits: Splits
    loaded: Loaded
    collate: Any
    train: Encoded  # not augmented
    validation: Encoded
    identity: str  # hash of the model's weights as loaded
    weights: np.ndarray | None  # one factor per class
    notes: list[str]
    cut: int  # rows that are longer than the model reads
    turned: str = ""  # which classes a mirror makes of each other, where the user asked to mirror all the same

    @property
    def strata(self) -> tuple[np.ndarray, int]:
        """Ids [n] of the strata by which the train rows are cut and drawn, and how many there are; one without any."""
        return self.strata_of(self.train)

    def strata_of(self, rows: Encoded) -> tuple[np.ndarray, int]:
        """Return the same for other rows."""
        output = self.task.output
        if output.strata is None:
            return np.zeros(len(rows.targets), dtype=np.int64), 1
        ids, count = output.strata(rows.targets, self.splits.labels)
        return ids, count

    @property
    def rows_per_name(self) -> float:
        """Median number of training rows that speak for a class, a label, and so on; of a number all of them."""
        counts = self.task.output.counts(self.train.targets, self.splits.labels)
        return float(np.median(counts[counts > 0]))

    @property
    def bf16(self) -> bool:
        """Do forward passes run in bf16?"""
        return choose_bf16(self.config.training)

    @property
    def use_cpu(self) -> bool:
        """Does the run leave an accelerator alone, or find none?"""
        return runs_on_cpu(self.config.training)

    @property
    def augmented(self) -> bool:
        """Are the training rows augmented? Windows of images are drawn in any case."""
        if self.train.window is not None:
            return True
        return self.task.inputs.augmentable and self.config.method.augmentation != "none"

    @property
    def rows_to_train_on(self) -> Encoded:
        """The train rows, which the collator augments where the run asks for it."""
        return replace(self.train, augment=self.augmented)

    @property
    def stage_data(self) -> StageData:
        """What stages train and validate on, without features."""
        rows = (self.rows_to_train_on, self.validation)
        return StageData(*rows, self.collate, self.splits.labels, None, None, self.weights, self.task.output)


def prepare(config: RunConfig) -> Prepared:
    """Load the data and the model, and encode train and validation rows; the test rows are not looked at.

    Raises `DataError` and `ModelError` for what cannot be used.
    """
    return prepare_on(config, *load_task(config.task, config.data, config.train_seed))


def prepare_on(config: RunConfig, task: Task, splits: Splits) -> Prepared:
    """Do the same with data that are loaded already."""
    _check_output(task, config)
    set_seed(config.train_seed)
    loaded = load_model(task, _with_decoder(task, config), splits.labels)
    _check_pooling(task, loaded, config)
    notes = task.inputs.settle(loaded.model, loaded.processor, loaded.name)
    finish = task.inputs.fit(loaded.model, loaded.processor, [splits.train, splits.validation], config.model)
    train, validation = (task.encode(part, loaded.processor) for part in (splits.train, splits.validation))
    fitted = finish([train.lengths, validation.lengths])
    notes += [*fitted.notes, *unread_flags(config)]
    if (
        loaded.averaged
        and _is_open(config)
        and len(train) < TOLD_APART
        and states_by_token(loaded.model, loaded.processor)
    ):
        config = replace(config, method=replace(config.method, pooling="mean"))
    mirrored = _turned(config.method, task, train, splits.labels)
    if mirrored and config.method.augment is None:
        notes.append(f"{mirrored}: training does not mirror. With --augment light it would.")
        config, mirrored = replace(config, method=replace(config.method, no_flip=True)), ""
    elif mirrored:
        notes.append(f"{mirrored}: mirroring makes wrong examples of them. Add --no_flip.")
    collate = task.collator(loaded.processor, not config.method.no_flip, config.method.augmentation)
    known = (config.method.class_weights, train.targets, len(splits.labels))
    weights, remarks = class_weights(*known) if task.output.single else (None, [])
    rows = (collate, train, validation, weights_hash(loaded.model))
    return Prepared(config, task, splits, loaded, *rows, weights, [*notes, *remarks], fitted.cut, mirrored)


def _turned(method: MethodConfig, task: Task, train: Encoded, labels: tuple[str, ...]) -> str:
    """Return which classes the augmentation would make of each other by mirroring, in words; "" for none."""
    thumbs = task.inputs.thumbs
    learns = method.method not in FROZEN_BODY and method.augmentation != "none"  # from augmented images
    if thumbs is None or method.no_flip or not learns or not task.output.single:
        return ""
    return in_words(turned(labels, thumbs(train), train.targets))


def _check_output(task: Task, config: RunConfig) -> None:
    """Raise `ConfigError` for flags that mean nothing for what is answered."""
    what = task.output.words["names"]
    if task.output.keep is None:
        given = {
            "mask_values": config.data.mask_values is not None,
            "ignore_index": config.data.ignore_index is not None,
        }
        given["sliding_windows"] = config.model.sliding_windows
        flag = next((name for name, is_so in given.items() if is_so), None)
        if flag is not None:
            raise ConfigError(f"--{flag} is for masks, and this run learns {what}. Leave it out.")
    if not task.output.single and config.method.class_weights != "none":
        raise ConfigError(f"--class_weights weighs rows by their one class, and this run learns {what}. Leave it out.")
    if not task.output.single and config.method.loss is not None:
        raise ConfigError(f"--loss {config.method.loss} is for classes, and this run learns {what}. Leave it out.")
    if config.method.loss is not None and config.method.class_weights != "none":
        raise ConfigError("--loss and --class_weights both make rare classes count more: give one.")
    method = get_method(str(config.method.method))
    _check_kept_maps(task, config)
    if method.group > 1 and task.output.alike is None:
        raise ConfigError(
            f"--method {method.name} compares rows by their classes or labels, and this run learns {what}"
            f"{'' if task.output.keep is None else ' of ' + task.output.words['units']}. "
            "Use --method probe, lora or full."
        )
    if task.output.link != "sigmoid" and config.method.thresholds != "0.5":
        raise ConfigError(f"--thresholds is for several labels, and this run learns {what}. Leave it out.")
    if config.training.get("label_smoothing_factor") and task.output.link == "none":
        raise ConfigError("--label_smoothing_factor smooths probabilities, and a number has none. Leave it out.")


def _check_kept_maps(task: Task, config: RunConfig) -> None:
    """Raise `ConfigError` for a decoder that means nothing, and for what pixels do not have."""
    method, decoder = get_method(str(config.method.method)), config.model.decoder
    if task.output.keep is None:
        if decoder is not None:
            raise ConfigError(f"--decoder is the head of a model of pixels, and {task.name} has none. Leave it out.")
        return
    if decoder == UPERNET and method.needs_probe and method is not AUTO:
        raise ConfigError(
            f"--method {method.name} is made of the probe, which is one Linear for each place and no UperNet: use "
            "--decoder linear, or --method full."
        )
    for name, value in (("retain", config.retain), ("keep", config.method.keep)):
        if value is not None:
            raise ConfigError(
                f"--{name} compares features of whole {task.inputs.called}s before and after training, and this run answers "
                f"{task.output.words['units']}. Leave it out: --method probe or head leaves the body as it is."
            )


def _with_decoder(task: Task, config: RunConfig) -> ModelConfig:
    """Return which model is loaded: of pixels, under the linear decoder where the method is made of the probe."""
    method = get_method(str(config.method.method))
    linear = task.output.keep is not None and method.needs_probe and method is not AUTO
    return replace(config.model, decoder=LINEAR) if linear else config.model


def _is_open(config: RunConfig) -> bool:
    """Is it for the data to say what the head reads?"""
    return config.method.pooling == "auto" and config.method.method in MAY_POOL


def _check_pooling(task: Task, loaded: Loaded, config: RunConfig) -> None:
    """Raise `ConfigError` for a pooling that the features cannot have."""
    wants_mean = config.method.pooling == "mean" and config.method.method in MAY_POOL
    if wants_mean and not ("mean" in task.inputs.poolings and states_by_token(loaded.model, loaded.processor)):
        raise ConfigError(
            f"--pooling mean averages the states of a text's tokens, and {loaded.name} does not put out one for each. "
            "Leave --pooling out."
        )
