"""The flow of every run, from data to a proven artifact. Read this file first: each line is one step of DESIGN."""

import errno
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from hftl.config import RunConfig, build_config, to_yaml
from hftl.errors import DataError, HftlError, Preempted, RunError
from hftl.evaluation.metrics import per_class
from hftl.evidence.before import see_base
from hftl.evidence.control import train_scratch
from hftl.evidence.gather import Outcome, calibrate, gather
from hftl.evidence.page import write_run_page
from hftl.forgetting.along import with_kept
from hftl.forgetting.measure import forgetting
from hftl.methods import check_combination, check_method, get_method
from hftl.methods.adapters import without_adapters
from hftl.predict import Prediction, Predictor, load
from hftl.prepare import prepare
from hftl.publishing.parity import check_saved
from hftl.publishing.save import merge_adapter, save_final, write_card
from hftl.report.report import build_report, score, write_report
from hftl.report.show import show_plan, show_result
from hftl.run_folder import (
    CONTROL,
    check_output,
    claim,
    close_partial,
    default_output_dir,
    discard_partial,
    finished_report,
    holds_training,
    is_resumable,
    open_partial,
    partial_of,
    release,
)
from hftl.seeds import run_seeds, seeds_folder
from hftl.tasks import get_task
from hftl.training.arguments import check_arguments, check_fits
from hftl.training.cache import weights_hash
from hftl.training.checkpoints import heed_signals
from hftl.training.features import predict_logits
from hftl.training.precision import choose_bf16, runs_on_cpu
from hftl.training.probing import (
    first_probe,
    frozen_features,
    mean_pooled,
    rows_identity,
    states_beside,
)
from hftl.training.stages import fit_plan
from hftl.training.states import StageData
from hftl.training.world import (
    broadcast_from_main,
    check_strategy,
    check_world,
    current_strategy,
    is_main_process,
    wait_for_all,
)


_log = logging.getLogger("hftl")
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Result:
    """A finished run."""

    metrics: dict[str, Any]  # of the test split
    report: dict[str, Any]  # all of report.json
    run_dir: Path

    @property
    def evidence(self) -> dict[str, Any] | None:
        """Ladder, verdict, forgetting, calibration and errors (docs/evidence.md); None with `evidence=False`."""
        found: dict[str, Any] | None = self.report["evidence"]
        return found

    def load(self) -> Predictor:
        """Load the run's model."""
        return load(self.run_dir)

    def predict(self, inputs: Sequence[Any]) -> list[Prediction]:
        """Predict texts, or image paths or PIL images."""
        return self.load().predict(inputs)

    def push_to_hub(self, repo_id: str, **options: Any) -> Any:
        """Publish the run on the Hub, private by default; `options` are those of `hftl.publishing.hub.push_to_hub`."""
        from hftl.publishing.hub import push_to_hub  # late: training needs no network

        return push_to_hub(self.run_dir, repo_id, **options)

    def demo(self, **options: Any) -> Any:
        """Serve the run in the browser; `options` are those of `hftl.demo.app.launch_demo`."""
        from hftl.demo.app import launch_demo  # late: gradio is an extra

        return launch_demo(self.run_dir, **options)

    def export(self, **options: Any) -> Any:
        """Write the run as ONNX; `options` are those of `hftl.export.export`."""
        from hftl.export import export  # late: onnx is an extra

        return export(self.run_dir, **options)


def adapt(
    task: str,
    data: Any = None,
    model: str | None = None,
    method: str | None = None,
    output_dir: str | Path | None = None,
    **flags: Any,
) -> Result:
    """Adapt a pretrained model to labelled data and return the finished run.

    `data` is a file, a folder, `sample:<name>`, a Hub id, a Dataset, a DatasetDict or a DataFrame. `flags` are hftl's
    own (`hftl train --help`) and every field of `transformers.TrainingArguments`. Raises an `HftlError` (ConfigError,
    DataError, ModelError, RunError, TrainingError) whose text names the cause and the fix.
    """
    named = {"data": data, "model": model, "method": method, "output_dir": output_dir}
    return run(build_config(get_task(task).name, {**named, **flags}))


def run(config: RunConfig) -> Result:
    """Do one run, or one for each of `--seeds`; SIGTERM and Ctrl-C end it with `Preempted` and what `--resume` needs.

    With `resume`, a run that is finished already is returned as it is.
    """
    config = complete(config, claimed=True)
    check_combination(config)
    output_dir = config.output_dir
    assert output_dir is not None
    try:
        finished = finished_report(output_dir, to_yaml(config)) if config.resume and not config.overwrite else None
        if finished is not None:
            _log.warning("%s is finished already: there is nothing to resume.", output_dir)
            return Result(finished["metrics"]["test"], finished, output_dir)
        check_output(output_dir, overwrite=config.overwrite, resume=config.resume)
        if is_main_process():
            claim(output_dir)
            check_output(output_dir, overwrite=config.overwrite, resume=config.resume)  # nobody else changes it now
            if config.resume and not is_resumable(output_dir) and not seeds_folder(output_dir).is_dir():
                _log.warning(
                    "%s holds nothing to go on with: the run starts from the beginning.", partial_of(output_dir)
                )
        with heed_signals():
            return _run_claimed(config)
    finally:
        release(output_dir)


def _run_claimed(config: RunConfig) -> Result:
    check_arguments(config, get_task(config.task).output.best)
    check_world(runs_on_cpu(config.training))
    config = replace(config, output_dir=broadcast_from_main(config.output_dir))  # rank 0 chose a free name
    half = choose_bf16(config.training)
    check_strategy(str(config.method.method), *current_strategy(), half=half, seeds=config.seeds)
    if config.seeds == 1:
        return _run(config)
    report = run_seeds(config, lambda one: _run(one).report)
    assert config.output_dir is not None
    return Result(report["metrics"]["test"], report, config.output_dir)


def _run(config: RunConfig) -> Result:
    """Do one run: load, extract, probe, train, evaluate, save."""
    start = time.perf_counter()
    build_plan = get_method(str(config.method.method))
    use_cpu = runs_on_cpu(config.training)
    output_dir = config.output_dir
    assert output_dir is not None
    check_output(output_dir, overwrite=config.overwrite, resume=config.resume)
    processes = check_world(use_cpu)

    ready = prepare(config)
    check_fits(config, ready.loaded.model, len(ready.train))
    task, splits, loaded, collate = ready.task, ready.splits, ready.loaded, ready.collate
    train, validation = ready.train, ready.validation

    weights = weights_hash(loaded.model)
    check_method(config.method, loaded)  # first, so that what cannot be done costs no forward pass
    base = see_base(ready, weights) if config.evidence else None
    plan = build_plan(loaded, config.method, len(train))
    clock = time.perf_counter()
    with without_adapters(plan.model):
        features, origin = frozen_features(
            task, loaded, {"train": train, "validation": validation}, collate, config, weights=weights,
            beside=states_beside(plan, (ready.rows_to_train_on, validation), collate, config),
        )  # fmt: skip
    probe = first_probe(loaded, features, train.labels, len(splits.labels), config, ready.weights)
    features_seconds = time.perf_counter() - clock
    if probe.pooling == "mean":
        loaded = mean_pooled(loaded, splits.labels)
        plan = build_plan(loaded, config.method, len(train))
    learning_rate = config.training.get("learning_rate", plan.defaults.get("learning_rate"))
    if is_main_process():
        show_plan(plan, learning_rate)
    identity = {
        **rows_identity(train, validation),
        "labels": list(splits.labels),
        "weights": weights,
    }
    work = _open_once(output_dir, to_yaml(config), identity, resume=config.resume)
    with _room_on_disk(work):
        clock = time.perf_counter()
        chosen = {part: arrays[probe.pooling] for part, arrays in features.items()}
        data = StageData(
            ready.rows_to_train_on, validation, collate, len(splits.labels),
            chosen["train"], chosen["validation"], ready.weights, task.output,
        )  # fmt: skip
        with _nothing_useless(output_dir, resume=config.resume):
            fitted = fit_plan(plan, probe, data, config, task.output.best, work)
        train_seconds = time.perf_counter() - clock

        control = None
        if base is not None and config.control == "scratch":
            control = train_scratch(ready, base.test, plan.defaults, probe, work / CONTROL)
        temperature, validation_logits = calibrate(plan, ready, fit=base is not None)
        validation_logits /= temperature.value
        model = merge_adapter(plan.model, work / "adapter", loaded)
        test = base.test if base else task.encode(splits.test, loaded.processor)  # seen by nothing that chooses
        logits = {
            "test": predict_logits(model, test, collate, use_cpu=use_cpu, title="test"),
            "validation": validation_logits,
        }
        kept = forgetting(base.retention, model, ready) if base else None
        fitted = with_kept(fitted, base.retention, kept, model, ready, work) if base and kept else fitted
        report = {}
        if is_main_process():
            timing = {"features_seconds": features_seconds, "train_seconds": train_seconds}
            outcome = Outcome(logits, temperature, learning_rate, sum(timing.values()))
            sections = {
                "metrics": {
                    "test": score(logits["test"], test.labels),
                    "validation": score(logits["validation"], validation.labels),
                },
                "per_class": per_class(logits["test"].argmax(-1), test.labels, list(splits.labels)),
                "evidence": gather(ready, features, base, probe, control, outcome, kept, work) if base else None,
                "warnings": ready.notes + fitted.notes + _partial_batch_note(processes),
            }
            sections["timing"] = {**timing, "total_seconds": time.perf_counter() - start}
            report = build_report(ready, model, probe, origin, fitted.stages, sections)
            save_final(model, loaded, work / "final")
            if base:
                saved = check_saved(work / "final", task, splits.test, logits["test"], splits.labels)
                report["parity"]["final"] = saved
            write_card(work / "final", report)
            if base:
                report = write_run_page(work / "report.html", report, ready, logits["test"])
            write_report(work / "report.json", report)
            close_partial(output_dir)
            show_result(report, str(output_dir))
        wait_for_all()
    report = broadcast_from_main(report)
    return Result(report["metrics"]["test"], report, output_dir)


@contextmanager
def _nothing_useless(output_dir: Path, *, resume: bool) -> Iterator[None]:
    """Remove the folder of a run whose training failed, unless `--resume` could get further with it."""
    try:
        yield
    except BaseException as error:
        again = isinstance(error, HftlError)  # the same flags would fail again
        lost = again or not (isinstance(error, Preempted) or holds_training(output_dir))
        if lost and not resume and is_main_process():  # the other ranks share the folder
            discard_partial(output_dir)
        raise


@contextmanager
def _room_on_disk(work: Path) -> Iterator[None]:
    """Turn what a full disk raises into `RunError`. torch.save reports it by a failed assertion, safetensors in words."""
    numbers = (errno.ENOSPC, errno.EDQUOT)
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        told = getattr(error, "errno", None) in numbers or any(f"(os error {n})" in str(error) for n in numbers)
        if not told and not (isinstance(error, RuntimeError) and shutil.disk_usage(work.parent).free < MEBIBYTE):
            raise
        raise RunError(f"The disk of {work} is full ({error}). Make room, and add --resume to go on.") from error


def complete(config: RunConfig, *, claimed: bool = False) -> RunConfig:
    """Fill in what was left open: method, model, run folder. Raises `DataError` when there is no data.

    With `claimed`, a run folder that is named here is this process's own from now on.
    """
    task = get_task(config.task)
    if config.data.data is None:
        raise DataError("No data was given: --data takes a file, a folder, sample:<name> or a Hub id.")
    method = replace(config.method, method=config.method.method or task.default_method)
    model = replace(config.model, model=config.model.model or task.default_model)
    data_name = config.data.data if isinstance(config.data.data, str) else "data"
    words = (data_name, str(model.model), str(method.method))
    folder = config.output_dir or default_output_dir(*words, claimed=claimed and is_main_process())
    return replace(config, method=method, model=model, output_dir=Path(folder))


def _open_once(output_dir: Path, config_yaml: str, identity: dict[str, Any], *, resume: bool) -> Path:
    """Let rank 0 make the folder of the run: two processes would remove each other's."""
    problem = None
    if is_main_process():
        try:
            open_partial(output_dir, config_yaml, identity, resume=resume)
        except RunError as error:
            problem = str(error)
    problem = broadcast_from_main(problem)
    if problem is not None:
        raise RunError(problem)
    return partial_of(output_dir)


def _partial_batch_note(processes: int) -> list[str]:
    if processes == 1:
        return []
    return [
        f"{processes} processes: each epoch drops the rows that do not fill the last global batch. Length groups are "
        "formed for the process's own batch size; --train_sampling_strategy random gives one process's batches."
    ]
