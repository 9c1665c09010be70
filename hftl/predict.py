"""Load a finished run or any classifier, and predict label strings with probabilities."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image as PILImage
from transformers.utils.peft_utils import find_adapter_config_file

from hftl.data.images import decode_image
from hftl.errors import DataError, ModelError
from hftl.hub_errors import hub_errors
from hftl.models.adapted import load_adapted
from hftl.models.coverage import check_loaded
from hftl.models.load import find_checkpoint, prepare_processor
from hftl.models.pooled import OWN_CLASSES, own_auto_model
from hftl.paths import typed_path
from hftl.tasks import TASKS
from hftl.tasks.task import Task
from hftl.training.features import predict_logits
from hftl.training.precision import runs_on_cpu


@dataclass(frozen=True)
class Prediction:
    """One answer."""

    label: str
    probability: float
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Predictor:
    """A loaded classifier."""

    model: Any
    processor: Any
    task: Task
    labels: tuple[str, ...]

    def logits(self, table: Dataset) -> np.ndarray:
        """Return [n, classes] in fp32 for a table with the task's input column."""
        if len(table) == 0:
            return np.zeros((0, len(self.labels)), dtype=np.float32)
        # a label column of the table is not a number yet, and not needed
        encoded = self.task.encode(table.select_columns([self.task.input_column]), self.processor)
        collate = self.task.collator(self.processor)
        return predict_logits(self.model, encoded, collate, use_cpu=runs_on_cpu({}), title="predict")

    def predict(self, inputs: Sequence[Any]) -> list[Prediction]:
        """Return one `Prediction` per text, or per image path or PIL image. Raises `DataError` for anything else."""
        if isinstance(inputs, str | Path):
            inputs = [inputs]
        if not isinstance(inputs, Sequence) or isinstance(inputs, bytes):
            raise DataError(f"predict takes a list of inputs, not {type(inputs).__name__}.")
        return self.predict_table(self._table(list(inputs)))

    def predict_table(self, table: Dataset) -> list[Prediction]:
        """Return one `Prediction` per row."""
        logits = torch.from_numpy(self.logits(table)).double()
        return [
            Prediction(self.labels[int(p.argmax())], float(p.max()), dict(zip(self.labels, p.tolist(), strict=True)))
            for p in logits.softmax(-1)
        ]

    def _table(self, inputs: list[Any]) -> Dataset:
        if self.task.input_column == "text":
            wrong = [i for i in inputs if not isinstance(i, str)]
            if wrong:
                raise DataError(f"A text model predicts texts, not {type(wrong[0]).__name__}.")
            for text in inputs:
                if not text.isascii() and text != text.encode("utf-8", "replace").decode():
                    raise DataError(f"A text holds half a character pair: {text[:60]!a}. Leave such characters out.")
            return Dataset.from_dict({"text": inputs}, features=Features({"text": Value("string")}))
        for item in inputs:
            if not isinstance(item, str | Path | PILImage.Image):
                raise DataError(f"An image model predicts image files or PIL images, not {type(item).__name__}.")
            if isinstance(item, str | Path) and not typed_path(item).is_file():
                raise DataError(f"There is no image file {item}.")
            try:
                if 0 in decode_image(item).size:
                    raise DataError("An image without pixels cannot be predicted.")
            except OSError as error:
                raise DataError(f"{item} cannot be read as an image: {error}.") from None
        plain = [str(i) if isinstance(i, Path) else i for i in inputs]
        return Dataset.from_dict({"image": plain}, features=Features({"image": ImageFeature()})).cast_column(
            "image", ImageFeature(decode=False)
        )


def load(run_or_model: str | Path, revision: str | None = None) -> Predictor:
    """Load a run folder, a model folder or a Hub id. A modelling file in it is never executed.

    Raises `ModelError` when there is no such model, or it is no classifier that hftl knows.
    """
    if not isinstance(run_or_model, str | Path) or not str(run_or_model):
        raise ModelError(f"A run folder, a model folder or a Hub id is needed, not {run_or_model!r}.")
    name = str(run_or_model)
    final = typed_path(name) / "final"
    checkpoint = find_checkpoint(str(final) if (final / "config.json").is_file() else name, revision)
    common: dict[str, Any] = {"local_files_only": checkpoint.local_only}
    if checkpoint.source in ("cache", "hub"):
        common["revision"] = revision
    with hub_errors(name, "predicting", trusting=False):
        fields, _ = transformers.PretrainedConfig.get_config_dict(checkpoint.path, **common)
        task = _task_of(fields, name)
        processor = getattr(transformers, task.auto_processor).from_pretrained(
            checkpoint.path, trust_remote_code=False, **_processor_config(fields), **common
        )
        loading: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True, **common}
        model: Any
        info: dict[str, Any] | None
        if fields.get("model_type") in OWN_CLASSES:
            model, info = OWN_CLASSES[fields["model_type"]].from_pretrained(checkpoint.path, **loading)
        elif find_adapter_config_file(checkpoint.path, **common) is not None:
            model, info = load_adapted(checkpoint.path, task, processor, common), None
        else:
            auto_model = getattr(transformers, task.auto_model)
            model, info = auto_model.from_pretrained(
                checkpoint.path, dtype=torch.float32, trust_remote_code=False, use_safetensors=True, **loading
            )
        _check_answers(model.config, name)
        if info is not None:
            check_loaded(model, info, name, None)
        prepare_processor(model.eval(), processor, name)
        with torch.no_grad():
            answer = model(**task.default_model_inputs(model, processor)).logits  # what does not fit shows here
        if not torch.isfinite(answer).all():
            raise ModelError(f"{name} puts out numbers that are not finite: its weights are broken.")
    names = {int(i): str(label) for i, label in model.config.id2label.items()}
    return Predictor(model, processor, task, tuple(names[i] for i in range(len(names))))


def _processor_config(fields: dict[str, Any]) -> dict[str, Any]:
    """An own class's config is known to hftl, not to AutoTokenizer, which would ask to run remote code for it."""
    own = OWN_CLASSES.get(fields.get("model_type", ""))
    return {} if own is None else {"config": own.config_class(**fields)}


def _check_answers(config: Any, name: str) -> None:
    """Raise `ModelError` for a model whose outputs are no classes of which one is right, each with a name."""
    if set(config.id2label) != set(range(config.num_labels)):
        raise ModelError(
            f"{name} does not number its labels from 0 in id2label of config.json: {config.id2label}"[:300]
        )
    if config.num_labels == 1 or config.problem_type == "regression":
        raise ModelError(f"{name} answers with a number (regression), not with one of several labels.")
    if config.problem_type == "multi_label_classification":
        raise ModelError(f"{name} gives a row several labels (multi-label), not one of them.")


def _task_of(fields: dict[str, Any], name: str) -> Task:
    architecture = (fields.get("architectures") or ["?"])[0]
    for task in TASKS.values():
        if architecture in _classes(task):
            return task
    raise ModelError(
        f"{name} holds a {architecture}, not a trained classifier. Adapt it first: hftl train TASK --model {name}"
    )


def _classes(task: Task) -> set[str]:
    """Names of the classes that do the task: transformers' own, and hftl's."""
    stock = getattr(transformers, task.auto_model)._model_mapping._model_mapping.values()  # a name, or several
    names = {name for entry in stock for name in ([entry] if isinstance(entry, str) else entry)}
    return names | {own.__name__ for own in OWN_CLASSES.values() if own_auto_model(own) == task.auto_model}


def read_report(run: str | Path) -> dict[str, Any] | None:
    """Return report.json of a run folder, or None when the path is not a run."""
    path = Path(run) / "report.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
