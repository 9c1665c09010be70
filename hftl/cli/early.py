"""What is wrong with the paths and names of a command line, said before torch and its kin are imported."""

from typing import Any

from hftl.atomic import check_output_file
from hftl.config import TASK_KINDS, TASK_SCORES, RunConfig, check_score
from hftl.data.files import NO_DATA, check_columns, check_data
from hftl.data.mask_folders import mask_pairs
from hftl.errors import ConfigError, DataError, ModelError
from hftl.methods import check_combination
from hftl.models.find import check_model, check_reads, model_of
from hftl.paths import typed_path
from hftl.run_folder import check_output
from hftl.selection.shortlist import Wanted, none_usable
from hftl.surroundings import check_trackers


_OTHER_FORMATS = (".json", ".jsonl", ".xls", ".xlsx", ".parquet")


def check_run(config: RunConfig, task: str | None, verb: str) -> None:
    """Raise an `HftlError` for a run that cannot begin. What `--resume` goes on with is looked at when it is found."""
    if config.resume:
        return
    check_trackers(config.training.get("report_to"))
    if task:
        check_score(config.training, TASK_SCORES[config.task])
    if verb == "train" and config.output_dir is not None:
        check_output(config.output_dir, overwrite=config.overwrite, resume=False)
    if config.data.data is None:
        raise DataError(NO_DATA)
    kind = TASK_KINDS[config.task] if task else None
    check_data(config.data.data, kind)
    check_columns(config.data.data, vars(config.data))
    folder = typed_path(config.data.data) if kind == "image" and isinstance(config.data.data, str) else None
    if folder is not None and folder.is_dir():
        mask_pairs(folder)
    if config.retain is not None:
        check_data(config.retain, kind)
    if kind and config.method.method is not None:
        check_combination(config)
    if config.model.model is not None:
        check_model(config.model.model, config.model.revision)
        if kind:
            check_reads(config.model.model, config.model.revision, config.task, "image" if kind == "image" else "text")


def check_pick(models: str | None, wishes: dict[str, Any]) -> None:
    """Raise an `HftlError` for wishes that cannot be met, or when not one of the models is anywhere."""
    names = Wanted.of(models or (), wishes).models
    problems = []
    for name in names:
        try:
            check_model(name)
        except ModelError as error:
            problems.append(str(error))
    if names and len(problems) == len(names):
        raise none_usable(problems)


def check_use(run_or_model: str, flags: dict[str, Any]) -> None:
    """Raise an `HftlError` for a trained model, or for data and an output beside it, that are not there."""
    output = typed_path(flags["output"]) if flags.get("output") is not None else None
    if output is not None and not output.is_dir():  # of masks it may be one
        check_output_file(flags["output"])
        if output.suffix.lower() in _OTHER_FORMATS:
            raise ConfigError(
                f"--output {output} would hold a CSV: call it {output.stem}.csv, or print JSON with --json."
            )
    check_model(model_of(run_or_model), flags.get("revision"))
    check_data(flags.get("data"), None)
    check_columns(flags.get("data"), flags)
