"""Load a finished run, its baseline or any model of one of the tasks, and let it answer rows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pandas as pd
import torch
import transformers
from datasets import Dataset
from PIL.Image import Image
from transformers.utils.peft_utils import find_adapter_config_file

from hftl.config import DataConfig, data_config
from hftl.data.columns import as_rows, is_columns
from hftl.data.load import load_rows
from hftl.data.splits import Rows
from hftl.errors import ConfigError, DataError, ModelError, did_you_mean
from hftl.evaluation.baselines import LinearModel
from hftl.evaluation.saved_baseline import is_baseline, load_baseline
from hftl.evaluation.word_tags import WordTags
from hftl.hub_errors import hub_errors
from hftl.models.classes import check_loaded, check_positions
from hftl.models.find import find_checkpoint, model_of
from hftl.models.load import load_adapted
from hftl.models.pooled import OWN_CLASSES, own_auto_model
from hftl.paths import typed_path
from hftl.run_data import named_columns, read_report
from hftl.surroundings import quietly
from hftl.tasks import TASKS, combinations, get_task, task_of
from hftl.tasks.inputs.pixels import PixelAnswers
from hftl.tasks.outputs.classes import Prediction as Prediction
from hftl.tasks.outputs.classes import Probable
from hftl.tasks.ragged import Ragged
from hftl.tasks.scores import lines, score
from hftl.tasks.task import Task
from hftl.training.features import predict_logits
from hftl.training.precision import runs_on_cpu


if TYPE_CHECKING:
    from hftl.flags import ColumnFlags


_SURE = 100.0  # a logit beside which all others have no probability


@dataclass(frozen=True)
class Predictor:
    """A loaded classifier, or a saved baseline: then `processor` is None where it reads no pixels."""

    model: Any  # a `LinearModel` for a baseline
    processor: Any
    task: Task
    labels: tuple[str, ...]
    threshold: float | None = None  # the confidence from which on the run answers as rightly as it was to
    columns: DataConfig | None = None  # those that the run was trained on, where their names were given

    def __call__(self, inputs: Any) -> list[Prediction]:
        """Do as `predict` does."""
        return self.predict(inputs)

    def logits(self, table: Dataset, *, use_cpu: bool = False, targets: Any = None) -> Any:
        """Return [n, classes] in fp32 for a table with the task's input columns.

        Of an output that keeps no maps it is what `Output.keep` makes of them and the `targets`.
        """
        if len(table) == 0:
            return np.zeros((0, len(self.labels)), dtype=np.float32)
        rows: Any
        if isinstance(self.model, WordTags):  # it counts no probabilities: what it answers is sure
            tags = Ragged.of([row.tolist() for row in self.model.predict(self.task.inputs.values(table))])
            return Ragged(_SURE * np.eye(len(self.labels), dtype=np.float32)[tags.values], tags.starts)
        if isinstance(self.model, LinearModel) and self.processor is None:
            rows = self.task.inputs.values(table)
        else:  # a label column of the table is not a number yet, and not needed
            rows = self.task.encode(table.select_columns(list(self.task.inputs.columns)), self.processor)
            if targets is not None and self.task.output.keep is not None:
                rows = replace(rows, targets=targets, keep=self.task.output.keep)
        if not isinstance(self.model, LinearModel):
            collate = self.task.collator(self.processor)
            return predict_logits(self.model, rows, collate, use_cpu=use_cpu or runs_on_cpu({}), title="predict")
        if self.processor is not None and self.task.inputs.raw is not None:
            rows = self.task.inputs.raw(rows)
        return self.model.outputs(rows).astype(np.float32)

    def predict(self, inputs: Any) -> list[Prediction]:
        """Return one `Answer` per row: of a classifier a `Prediction` with `label`, `probability` and `probabilities`.

        Args:
            inputs: a list, array or Series of what the model reads (texts, dicts of two texts, lists of words, images: PIL,
                uint8 pixels or paths), or a table: a DataFrame, a Dataset, a list of dicts or a dict of columns.

        Raises:
            DataError: the inputs are anything else.

        Examples:
            >>> answers = hftl.load("runs/tickets").predict(["my card was stolen"])
            >>> answers[0].label, answers[0].probability, answers[0].not_sure
        """
        columns = isinstance(inputs, dict) and is_columns(inputs)
        if isinstance(inputs, str | Path | dict | Image) and not columns:
            inputs = [inputs]
        if columns or isinstance(inputs, pd.DataFrame | Dataset) or self._are_records(inputs):
            rows = self.read(DataConfig(data=inputs, strict=True))
            if rows.skipped:
                raise DataError(
                    f"{len(rows.skipped)} of {len(rows.table)} rows cannot be answered: {rows.skipped[0]}."
                )
            return self.predict_table(rows.inputs)
        if not isinstance(inputs, Sequence | np.ndarray | pd.Series) or isinstance(inputs, bytes):
            raise DataError(f"predict takes a list of inputs, not {type(inputs).__name__}.")
        return self.predict_table(self.task.inputs.table(as_rows(inputs)))

    def _are_records(self, inputs: Any) -> bool:
        """Are these dicts rows of a table, whose columns are to be found? Pairs with the names of their parts are not."""
        dicts = isinstance(inputs, list) and len(inputs) > 0 and all(isinstance(row, dict) for row in inputs)
        names = {*self.task.inputs.columns}
        return dicts and not (len(names) > 1 and all(names <= row.keys() for row in inputs))

    def __reduce__(self) -> Any:
        """Pickle all but the task, whose functions cannot be: the model's config tells it."""
        return _of_model, (self.model, self.processor, self.labels, self.threshold, self.columns)

    def predict_table(self, table: Dataset) -> list[Any]:
        """Return one `Answer` per row."""
        output = self.task.output
        answers: list[Any] = output.answers(self.logits(table), self.labels)
        if output.located is not None:
            answers = [output.located(answer, row) for answer, row in zip(answers, table, strict=True)]
        if self.threshold is not None:
            answers = [replace(answer, not_sure=answer.confidence < self.threshold) for answer in answers]
        return answers

    def predict_proba(self, inputs: Any) -> np.ndarray:
        """Return the probability of every one of `labels` for every input, [n, labels]: as `predict` takes them.

        Raises `ConfigError` where no probability of a label is answered: of numbers and tags.
        """
        answers = self.predict(inputs)
        if not all(isinstance(answer, Probable) for answer in answers):
            raise ConfigError(f"{self.task.output.words['names'].capitalize()} have no probabilities: use predict.")
        rows = [[answer.probabilities[label] for label in self.labels] for answer in answers]
        return np.array(rows).reshape(len(rows), len(self.labels))

    @quietly()
    def evaluate(self, data: Any, **columns: "Unpack[ColumnFlags]") -> dict[str, Any]:
        """Score the model on labelled rows.

        Args:
            data: whatever `adapt` takes; of several splits it is test, else the first one.
            columns: the names of the columns, where they are not the usual ones, as `adapt` takes them.

        Returns:
            "rows" (how many), "skipped" (broken images), "metrics" (each a number, or one with its 95% interval) and
            "per_class".

        Raises:
            ConfigError: there is no such flag.
            DataError: the data cannot be read, or hold a label that the model does not know.

        Examples:
            >>> hftl.load("runs/tickets").evaluate(frame)["metrics"]["accuracy"]["value"]
        """
        known = {f.name for f in fields(DataConfig)}
        wrong = [name for name in columns if name not in known]
        if wrong:
            raise ConfigError(f"evaluate has no flag {wrong[0]!r}.{did_you_mean(wrong[0], known)}")
        named = data_config({"data": data, **columns})
        return self.scored(self.read(named, self.labels))

    def read(self, config: DataConfig, labels: tuple[str, ...] | None = None) -> Rows:
        """Return the rows that `config` names, to predict, or with `labels` to score. Raises `DataError`."""
        return load_rows(self.task.inputs, config, labels, self.task.output, self.columns)

    def scored(self, rows: Rows) -> dict[str, Any]:
        """Return what `evaluate` does, for labelled rows that have been read."""
        output, names = self.task.output, self.labels
        logits = self.logits(rows.inputs, targets=rows.labels)
        return {
            "rows": len(logits),
            "skipped": list(rows.skipped),
            "metrics": score(output, logits, rows.labels, names),
            "per_class": lines(output, output.decode(logits), rows.labels, names),
        }


@quietly()
def load(run_or_model: str | Path, revision: str | None = None) -> Predictor:
    """Load a run folder, a model folder or a Hub id. A modelling file in it is never executed.

    Args:
        run_or_model: such as "runs/tickets", "runs/tickets/final" or "name/model".
        revision: branch, tag or commit of a Hub model.

    Raises:
        ModelError: there is no such model, or it is no classifier that hftl knows.

    Examples:
        >>> predictor = hftl.load("runs/tickets")
        >>> predictor(["my card was stolen"])[0].label
    """
    if not isinstance(run_or_model, str | Path) or not str(run_or_model):
        raise ModelError(f"A run folder, a model folder or a Hub id is needed, not {run_or_model!r}.")
    name = str(run_or_model)
    checkpoint = find_checkpoint(model_of(name), revision)
    common = checkpoint.options
    with hub_errors(name, "predicting", trusting=False):
        fields, _ = transformers.PretrainedConfig.get_config_dict(checkpoint.path, **common)
        check_positions(fields, name)
        task = _task_of(fields, name)
        own = OWN_CLASSES.get(fields.get("model_type", ""))
        reading = {"trust_remote_code": False, **common}
        if own is not None:  # AutoTokenizer does not know its config, and would ask to run remote code for it
            reading["config"] = own.config_class(**fields)
        processor = getattr(transformers, task.inputs.processor).from_pretrained(checkpoint.path, **reading)
        loading: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True, **common}
        model: Any
        info: dict[str, Any] | None = None
        if own is not None:
            model, info = own.from_pretrained(checkpoint.path, **loading)
        elif find_adapter_config_file(checkpoint.path, **common) is not None:
            model = load_adapted(checkpoint.path, task, processor, common)
        else:
            loading |= {"dtype": torch.float32, "trust_remote_code": False, "use_safetensors": True}
            model, info = getattr(transformers, task.auto_model).from_pretrained(checkpoint.path, **loading)
        task.output.check(model.config, name)
        task = task.answering_by(model.config)
        if info is not None:
            check_loaded(model, info, name, None)
        task.inputs.check(model.eval(), processor, name)
        with torch.no_grad():
            answer = model(**task.inputs.smallest(model, processor)).logits  # what does not fit shows here
        if not torch.isfinite(answer).all():
            raise ModelError(f"{name} puts out numbers that are not finite: its weights are broken.")
    names = {int(i): str(label) for i, label in model.config.id2label.items()}
    labels = tuple(names[i] for i in range(len(names)))
    return Predictor(model, processor, task, labels, *_beside(Path(checkpoint.path)))


def _of_model(model: Any, processor: Any, labels: tuple[str, ...], *more: Any) -> Predictor:
    task = _task_of(model.config.to_dict(), "the pickle").answering_by(model.config)
    return Predictor(model, processor, task, labels, *more)


def _beside(folder: Path) -> tuple[float | None, DataConfig | None]:
    """Return the confidence below which a run is not sure, and the columns it was trained on, by the files beside its model."""
    places = [*([folder.parent] if folder.name == "final" else []), folder]
    try:
        report, place = next(((r, p) for p in places if (r := read_report(p / "report.json"))), ({}, folder))
    except ModelError:  # damaged: the model answers without it
        report, place = {}, places[0]
    abstain = (report.get("evidence") or {}).get("abstain") or {}
    return abstain.get("threshold"), named_columns(place) if report else None  # else config.yaml is somebody else's


def _task_of(fields: dict[str, Any], name: str) -> Task:
    """Return the task that the config's class does: transformers' own, or hftl's."""
    architecture = (fields.get("architectures") or ["?"])[0]
    for task in TASKS.values():
        stock = getattr(transformers, task.auto_model)._model_mapping._model_mapping.values()  # a name, or several
        names = {name for entry in stock for name in ([entry] if isinstance(entry, str) else entry)}
        names |= {own.__name__ for own in OWN_CLASSES.values() if own_auto_model(own) == task.auto_model}
        if architecture in names:
            problem = fields.get("problem_type")
            known = {t.output.problem_type for t in combinations(task.name)}
            inputs = next(
                (t.inputs.kind for t in combinations(task.name) if [*t.inputs.columns] == fields.get("input_columns")),
                None,
            )
            return get_task(task.name, problem if problem in known else None, inputs)
    raise ModelError(
        f"{name} holds a {architecture}, not a trained classifier. Adapt it first: hftl train TASK --model {name}"
    )


def load_predictor(name: str | Path, revision: str | None = None) -> Predictor:
    """Load a run, a model, or the baseline of a run (RUN/baseline), which reads images of the size of that run.

    Raises `ModelError` when it is damaged, or when a baseline of images has lost the run's final/ beside it.
    """
    if not is_baseline(name):
        return load(name, revision)
    path = typed_path(name)
    baseline = load_baseline(path)
    run = path.resolve().parent
    kinds = {kind: task.name for task in reversed(TASKS.values()) for kind in task.inputs.features}
    report = read_report(run / "report.json")
    task = task_of(report) if report else TASKS[kinds.get(baseline.kind, "text-classification")]
    processor, dense = None, task.output.keep is not None
    if task.inputs.raw is not None and (dense or baseline.kind != "majority"):
        try:
            processor = getattr(transformers, task.inputs.processor).from_pretrained(
                run / "final", local_files_only=True
            )
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{name} reads images as {run.name}/final does, which cannot be read "
                f"({' '.join(str(error).split())[:200]}): keep the two folders side by side."
            ) from None
    model: Any = baseline
    if dense:
        known = json.loads((run / "final" / "config.json").read_text(encoding="utf-8"))
        model = PixelAnswers(baseline, transformers.PretrainedConfig.from_dict(known), processor)
        task = task.answering_by(model.config)
    return Predictor(model, processor, task, baseline.labels, columns=named_columns(run))
