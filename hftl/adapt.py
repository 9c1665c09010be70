"""The flow of every run, from data to a proven artifact. Read this file first: each line is one step of DESIGN."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hftl.config import RunConfig, build_config, data_config, to_yaml
from hftl.data.files import NO_DATA
from hftl.data.settle import find_task
from hftl.errors import DataError
from hftl.evidence.before import Base, see_base
from hftl.evidence.control import train_scratch
from hftl.evidence.document import build_report
from hftl.evidence.gather import calibrate, gather
from hftl.evidence.page import write_run_page
from hftl.evidence.scene import Final, Outcome, Scene
from hftl.forgetting.measure import forgetting, keeps, with_kept
from hftl.methods import check_combination, check_method, get_method
from hftl.methods.adapters import without_adapters
from hftl.methods.auto import AUTO
from hftl.predict import Prediction, Predictor, load
from hftl.prepare import Prepared, prepare
from hftl.probing import Seen, frozen_features, plan_on, rows_identity, states_beside
from hftl.publishing.parity import check_saved
from hftl.publishing.save import merge_adapter, save_final, write_card
from hftl.report.report import write_report
from hftl.report.show import show_plan, show_result
from hftl.run import Run, open_run
from hftl.run_folder import (
    check_output,
    claim,
    close_partial,
    default_output_dir,
    finished_report,
    is_resumable,
    partial_of,
    release,
)
from hftl.seeds import run_seeds, seeds_folder
from hftl.selection.race import Trained, race
from hftl.selection.race_plan import stored_race, with_race
from hftl.tasks import get_task
from hftl.training.arguments import check_arguments, check_fits
from hftl.training.features import predict_logits
from hftl.training.precision import choose_bf16, runs_on_cpu
from hftl.training.signals import heed_signals
from hftl.training.stages import fit_plan
from hftl.training.world import broadcast_from_main, check_strategy, check_world, current_strategy, is_main_process


_log = logging.getLogger("hftl")
PARTIAL_BATCHES = (
    "{processes} processes: each epoch drops the rows that do not fill the last global batch. Length groups are formed "
    "for the process's own batch size; --train_sampling_strategy random gives one process's batches."
)


@dataclass(frozen=True)
class Result:
    """A finished run."""

    metrics: dict[str, Any]  # of the test split
    report: dict[str, Any]  # all of report.json
    run_dir: Path

    @property
    def evidence(self) -> dict[str, Any] | None:
        """Ladder, verdict, forgetting, calibration and errors (docs/evidence.md); None with `evidence=False`."""
        evidence: dict[str, Any] | None = self.report["evidence"]
        return evidence

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
    task: str | None = None,
    data: Any = None,
    model: str | None = None,
    method: str | None = None,
    output_dir: str | Path | None = None,
    **flags: Any,
) -> Result:
    """Adapt a pretrained model to labelled data and return the finished run.

    `task` is found from the data when it is None. `data` is a file, a folder, `sample:<name>`, a Hub id, a Dataset, a DatasetDict or a DataFrame. `flags` are hftl's
    own (`hftl train --help`) and every field of `transformers.TrainingArguments`. Raises an `HftlError` (ConfigError,
    DataError, ModelError, RunError, TrainingError) whose text names the cause and the fix.
    """
    return run(config_of(task, {"data": data, "model": model, "method": method, "output_dir": output_dir, **flags}))


def config_of(task: str | None, values: dict[str, Any]) -> RunConfig:
    """Return the run that `values` ask for, the task found from the data when it is None. Raises as `adapt` does."""
    return build_config(find_task(data_config(values)) if task is None else get_task(task).name, values)


def run(config: RunConfig) -> Result:
    """Do one run, or one for each of `--seeds`; SIGTERM and Ctrl-C end it with `Preempted` and what `--resume` needs.

    With `resume`, a run that is finished already is returned as it is.
    """
    config = stored_race(complete(config, claimed=True))
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
    check_arguments(config, get_task(config.task).output)
    check_world(runs_on_cpu(config.training))
    config = stored_race(
        replace(config, output_dir=broadcast_from_main(config.output_dir))
    )  # rank 0 chose a free name
    half = choose_bf16(config.training)
    check_strategy(str(config.method.method), *current_strategy(), half=half, seeds=config.seeds)
    if config.seeds == 1:
        return _run(config)
    report = run_seeds(config, lambda one: _run(one).report)
    assert config.output_dir is not None
    return Result(report["metrics"]["test"], report, config.output_dir)


def _run(config: RunConfig) -> Result:
    """Do one run. Each step takes what those before it returned, so that none can be done out of order."""
    with open_run(config) as run:
        ready = run.step("data", _prepare)
        base = run.step("base", see_base, ready) if config.evidence else None
        seen = run.step("features", _see, ready)
        trained = run.step("train", _fit, ready, seen, base)
        run, ready, seen, fitted = (
            trained.run,
            trained.ready,
            trained.seen,
            trained.fitted,
        )  # after a race: the winner's
        control = run.step("control", train_scratch, ready, seen, base) if config.control == "scratch" else None
        final = run.step("finish", _finish, ready, seen)
        ready = replace(ready, task=ready.task.answering_by(final.model.config))
        outcome = run.step("score", _score, ready, base, final)  # the only place where the test rows are answered
        scene = Scene(run, ready, seen, fitted, outcome, base, control, selection=trained.selection)
        if base is not None:
            scene = run.step("forgetting", _look_back, scene, base)
        report = run.on_main(_ship, scene)
    return Result(report["metrics"]["test"], report, run.folder)


def _prepare(run: Run) -> Prepared:
    """Data, model and encoded rows; what cannot be done with them costs no forward pass."""
    ready = prepare(run.config)
    check_fits(run.config, ready.loaded.model, len(ready.train))
    check_method(run.config.method, ready.loaded)
    return ready


def _see(run: Run, ready: Prepared) -> Seen:
    """One forward pass over train and validation: the frozen features and, where the plan reads them, the states."""
    config, loaded, build_plan = ready.config, ready.loaded, get_method(str(ready.config.method.method))
    plan = build_plan(loaded, config.method, len(ready.train))
    parts = {"train": ready.train, "validation": ready.validation}
    with without_adapters(plan.model):
        beside = states_beside(plan, (ready.rows_to_train_on, ready.validation), ready.collate, config)
        features, origin = frozen_features(ready, parts, beside=beside)
    seen = plan_on(ready, features, origin, plan)
    if is_main_process():
        show_plan(seen.plan, config.training.get("learning_rate", seen.learning_rate))
    return seen


def _fit(run: Run, ready: Prepared, seen: Seen, base: Base | None) -> Trained:
    """Run the plan's stages in the folder of the run, or the race that chooses a plan."""
    identity = {
        **rows_identity(ready.train, ready.validation),
        "labels": list(ready.splits.labels),
        "weights": ready.identity,
    }
    racing = run.config.method.method == AUTO.name
    run = with_race(run, ready) if racing else run
    data = seen.data(ready)
    if base is not None and run.config.method.keep is not None:
        data = replace(data, kept=keeps(base.retention, ready))
    run.open_folder(identity)
    with run.nothing_useless():
        if racing:
            return race(run, ready, seen)
        return Trained(run, ready, seen, fit_plan(seen.plan, seen.probe, data, ready.config, run.work))


def _finish(run: Run, ready: Prepared, seen: Seen) -> Final:
    """Fold the temperature into the head, then merge the adapter: so the adapter's folder has the same head.

    How the model is to answer, such as its thresholds, is settled by the validation rows and saved in its config.
    """
    final = calibrate(ready, seen.plan)
    settle = ready.task.output.settle
    if settle is not None:
        outputs = final.raw / final.temperature.value
        fields = settle(outputs, ready.validation.targets, ready.splits.labels, run.config.method.thresholds)
        final.model.config.update(fields)
    return replace(final, model=merge_adapter(final.model, run.work / "adapter", seen.loaded))


def _score(run: Run, ready: Prepared, base: Base | None, final: Final) -> Outcome:
    test = base.test if base else ready.task.encode(ready.splits.test, ready.loaded.processor)
    answered = predict_logits(final.model, test, ready.collate, use_cpu=run.use_cpu, title="test")
    return Outcome(final, {"test": answered, "validation": final.raw / final.temperature.value})


def _look_back(_: Run, scene: Scene, base: Base) -> Scene:
    """What the model kept of the base; for a method between two models, along the way too."""
    ready, model = scene.ready, scene.outcome.final.model
    shares = forgetting(base.retention, model, ready)
    fitted = with_kept(scene.fitted, base.retention, shares, model, ready, scene.run.work) if shares else scene.fitted
    return replace(scene, forgetting=shares, fitted=fitted)


def _ship(scene: Scene) -> dict[str, Any]:
    """Write the run: evidence, model, proof that it loads, card, page, report; then the folder gets its name."""
    run, ready, model = scene.run, scene.ready, scene.outcome.final.model
    if run.processes > 1:
        run.notes.append(PARTIAL_BATCHES.format(processes=run.processes))
    final, test = run.work / "final", scene.outcome.logits["test"]
    report = build_report(scene, gather(scene) if scene.base else None)
    report["timing"]["total_seconds"] = round(time.perf_counter() - run.start, 3)
    save_final(model, scene.seen.loaded, final)
    if scene.base:
        report["parity"]["final"] = check_saved(final, ready.task, ready.splits.test, test, ready.splits.labels)
    write_card(final, report)
    if scene.base:
        report = write_run_page(run.work / "report.html", report, ready, test)
    write_report(run.work / "report.json", report)
    close_partial(run.folder)
    show_result(report, str(run.folder))
    return report


def complete(config: RunConfig, *, claimed: bool = False) -> RunConfig:
    """Fill in what was left open: method, model, run folder. Raises `DataError` when there is no data.

    With `claimed`, a run folder that is named here is this process's own from now on.
    """
    task = get_task(config.task)
    if config.data.data is None:
        raise DataError(NO_DATA)
    method = replace(config.method, method=config.method.method or task.default_method)
    model = replace(config.model, model=config.model.model or task.default_model)
    data_name = config.data.data if isinstance(config.data.data, str) else "data"
    words = (data_name, str(model.model), str(method.method))
    folder = config.output_dir or default_output_dir(*words, claimed=claimed and is_main_process())
    return replace(config, method=method, model=model, output_dir=Path(folder))
