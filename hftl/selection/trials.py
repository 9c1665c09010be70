"""The runs behind a comparison or a curve: each in a folder of its own, made once and then taken as it is."""

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hftl.adapt import complete, run
from hftl.atomic import check_parent
from hftl.config import MethodConfig, RunConfig
from hftl.data.splits import Splits
from hftl.errors import ConfigError, RunError
from hftl.methods import check_combination, get_method
from hftl.predict import load
from hftl.run_folder import named_folder, partial_of
from hftl.seeds import seeds_folder
from hftl.tasks import get_task
from hftl.tasks.scores import measure
from hftl.training.features import predict_logits
from hftl.training.precision import runs_on_cpu


def in_folder(config: RunConfig, verb: str) -> RunConfig:
    """Return the config with what was left open filled in, its folder being runs/<data>-<model>-<verb>.

    That name has no number, so that the same command goes on where it stopped. Raises `ConfigError` for several
    processes, `RunError` for a folder that cannot be written or is something else.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(f"hftl {verb} runs in one process: start it without torchrun or accelerate launch.")
    name = config.data.data if isinstance(config.data.data, str) else "data"
    folder = config.output_dir or named_folder(name, config.model.model or get_task(config.task).default_model, verb)
    if folder.is_file() or (folder / "report.json").is_file():
        raise RunError(f"{folder} is no folder of a {verb}. Choose another --output_dir.")
    check_parent(folder / verb, "--output_dir")
    return complete(replace(config, output_dir=folder))


def named_methods(names: Sequence[str] | str) -> tuple[str, ...]:
    """Return the methods of a list, or of names with commas between them, each once. Raises `ConfigError`."""
    parts = names.split(",") if isinstance(names, str) else names
    return tuple(dict.fromkeys(get_method(name.strip()).name for name in parts))


def trial(config: RunConfig, method: str, name: str, methods: Sequence[str] = ()) -> RunConfig:
    """Return the run of `method` in the folder `name` of the config's own.

    A flag that only others of `methods` have is left out. Raises `ConfigError` for flags that contradict each other.
    """
    own = get_method(method).flags
    rest: dict[str, Any] = {
        f: getattr(MethodConfig(), f) for m in methods for f in get_method(m).flags if f not in own
    }
    assert config.output_dir is not None
    one = replace(config, method=replace(config.method, method=method, **rest), output_dir=config.output_dir / name)
    check_combination(one)
    return one


def report_of(config: RunConfig) -> dict[str, Any]:
    """Return the report of a run: of the finished one that the same flags made, or of one that is made now.

    Raises `RunError` where the folder holds a run that other flags made.
    """
    folder = config.output_dir
    assert folder is not None
    begun = any(path.exists() for path in (folder / "report.json", partial_of(folder), seeds_folder(folder)))
    return run(replace(config, resume=begun and not config.overwrite)).report


def answers_of(config: RunConfig, report: dict[str, Any], splits: Splits) -> Any:
    """Return what the model of a finished run answers to the test rows, in the form of targets.

    Raises `RunError` when its score on them is not the reported one: the run was made with other data.
    """
    assert config.output_dir is not None
    predictor = load(config.output_dir)
    output, names = predictor.task.output, splits.labels
    test = predictor.task.encode(splits.test, predictor.processor)
    collate, use_cpu = predictor.task.collator(predictor.processor), runs_on_cpu(config.training)
    answers = output.decode(predict_logits(predictor.model, test, collate, use_cpu=use_cpu, title="test"))
    reported = report["metrics"]["test"][output.headline]["value"]
    same = predictor.labels == names and len(splits.test) == report["data"]["rows"]["test"]
    # A row in a thousand may be answered otherwise on other hardware.
    if not same or not math.isclose(
        measure(output, answers, test.targets, names)[output.headline], reported, abs_tol=1e-3
    ):
        raise RunError(
            f"{config.output_dir} was made with other data. Choose another --output_dir, or add --overwrite."
        )
    return answers
