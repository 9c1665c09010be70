"""The flow of every run, from data to a proven artifact. Read this file first: each line is one step of DESIGN."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments

from hftl import terminal
from hftl.config import TASK_NAMES, RunConfig, build_config, check_score, to_yaml
from hftl.data.files import NO_DATA
from hftl.data.settle import find_task
from hftl.errors import DataError
from hftl.evidence.again import answered
from hftl.evidence.before import Base, see_base
from hftl.evidence.control import train_scratch
from hftl.evidence.document import build_report
from hftl.evidence.gather import calibrate, gather
from hftl.evidence.page import checked, write_run_page
from hftl.evidence.scene import Final, Outcome, Scene
from hftl.forgetting.measure import forgetting, keeps, with_kept
from hftl.methods import check_combination, check_method, get_method
from hftl.methods.adapters import without_adapters
from hftl.methods.auto import AUTO
from hftl.models.classes import own_class_note
from hftl.objects import data_with, flags_in, for_python, model_name
from hftl.predict import Prediction, Predictor, load
from hftl.prepare import Prepared, prepare
from hftl.probing import Seen, by_probe, frozen_features, plan_on, rows_identity, states_beside
from hftl.publishing.parity import start_check
from hftl.publishing.save import merge_adapter, save_final, write_card
from hftl.report.notebook import in_html, in_lines
from hftl.report.report import write_report
from hftl.report.show import show_plan, show_result
from hftl.run import PARTIAL_BATCHES, Run, open_run
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
from hftl.tasks.ragged import values_of
from hftl.training.arguments import check_arguments, check_fits
from hftl.training.checkpoints import heed_signals
from hftl.training.features import predict_logits
from hftl.training.hooks import NO_HOOKS, Compute, Hooks, hooks_for
from hftl.training.precision import choose_bf16, runs_on_cpu
from hftl.training.stages import fit_plan
from hftl.training.world import broadcast_from_main, check_strategy, check_world, current_strategy, is_main_process


_log = logging.getLogger("hftl")
# Test rows that the model of a probe answers itself, beside those that its probe answers, and how far both may differ.
CHECKED, TOLERANCE = 64, 1e-4


if TYPE_CHECKING:
    from hftl.flags import Flags, PlanFlags


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

    def __repr__(self) -> str:
        return in_lines(self.report, self.run_dir)

    def _repr_html_(self) -> str:
        return in_html(self.report, self.run_dir)

    @cached_property
    def predictor(self) -> Predictor:
        """The run's model, loaded when it is first asked for and then kept."""
        return load(self.run_dir)

    def load(self) -> Predictor:
        """Return `predictor`."""
        return self.predictor

    def predict(self, inputs: Any) -> list[Prediction]:
        """Return one answer per input, as `Predictor.predict` does."""
        return self.predictor.predict(inputs)

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


@for_python
def adapt(
    task: str | None = None,
    data: Any = None,
    model: str | Path | PreTrainedModel | None = None,
    method: str | None = None,
    output_dir: str | Path | None = None,
    *,
    processing_class: Any = None,
    eval_dataset: Any = None,
    args: TrainingArguments | None = None,
    callbacks: Sequence[TrainerCallback | type[TrainerCallback]] | None = None,
    compute_metrics: Compute | None = None,
    **flags: "Unpack[Flags]",
) -> Result:
    """Adapt a pretrained model to labelled data and return the finished run.

    Args:
        task: a name that `hftl tasks` lists, such as "text-classification"; by default the data tell.
        data: a file, a folder, `sample:<name>` or a Hub id; a Dataset, a DataFrame, an Arrow table, a list of dicts, a dict
            of columns or `(X, y)`; or a dict of these by split (`DatasetDict` included). Splits that are missing are cut off train.
        model: a folder, a packaged checkpoint or a Hub id. A model object is saved in a folder of the cache first,
            which config.yaml then names.
        method: which weights learn, see `hftl.METHODS` (default: "auto", a race).
        output_dir: where the run goes, a folder that is not there yet (default: runs/<data>-<model>-<method>).
        processing_class: the tokenizer or image processor of a model object; it needs one.
        eval_dataset: the validation rows, beside `data` in memory or one file.
        args: what differs from Trainer's own defaults counts as a flag; the flags of this call come before it.
        callbacks: called by the Trainer of each stage that learns by gradient.
        compute_metrics: from an `EvalPrediction` of logits to numbers by name, for each look at the validation rows and
            for the report. hftl's own scores of the same names stay.
        flags: hftl's own, listed below, and every field of `transformers.TrainingArguments`, such as
            `num_train_epochs` (epochs), `learning_rate` or `per_device_train_batch_size` (rows).

    Raises:
        ConfigError: a flag, a value or an object is wrong, or means nothing for this run.
        DataError: the data cannot be found, read or learnt from.
        ModelError: the model cannot be found, or cannot do the task.
        RunError: the run folder is in the way, or cannot be written.
        TrainingError: the loss is no number.

    Examples:
        >>> result = adapt(data="sample:wikipedia-topics", model="all-MiniLM-L6-v2", method="probe")
        >>> result.metrics["accuracy"]["value"]
        >>> result.predict(["The orchestra played a symphony."])[0].label
    """
    named = {"method": method, "output_dir": output_dir, "model": model_name(model, processing_class), **flags}
    named = {name: value for name, value in named.items() if value is not None or name in flags}
    config = config_of(task, {"data": data_with(data, eval_dataset), **flags_in(args, named)})
    hooks = hooks_for(config.method.method or get_task(config.task).default_method, callbacks, compute_metrics)
    return run(config, hooks)


@for_python
def plan(task: str | None = None, **flags: "Unpack[PlanFlags]") -> dict[str, Any]:
    """Return what `adapt` with these arguments would do, need (bytes) and take (seconds), and which method fits.

    Nothing is trained; docs/plan.md explains the values. Raises as `adapt` does.

    Examples:
        >>> plan(data="sample:digits", model="efficientnet-lite0", method="probe")["recommendation"]["method"]
    """
    from hftl.planning.plan_report import plan_report  # late: a run needs none of it

    return plan_report(complete(config_of(task, {**flags})))


def config_of(task: str | None, values: dict[str, Any]) -> RunConfig:
    """Return the run that `values` ask for, the task found from the data when it is None. Raises as `adapt` does."""
    config = build_config(next(iter(TASK_NAMES)) if task is None else task, values)  # a wrong flag costs no reading
    return replace(config, task=find_task(config.data)) if task is None else config


def run(config: RunConfig, hooks: Hooks = NO_HOOKS) -> Result:
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
            return _run_claimed(config, hooks)
    finally:
        release(output_dir)


def _run_claimed(config: RunConfig, hooks: Hooks) -> Result:
    check_arguments(config, get_task(config.task).output)
    check_world(runs_on_cpu(config.training))
    config = replace(config, output_dir=broadcast_from_main(config.output_dir))  # rank 0 chose a free name
    config = stored_race(config)
    half = choose_bf16(config.training)
    check_strategy(str(config.method.method), *current_strategy(), half=half, seeds=config.seeds)
    if config.seeds == 1:
        return _run(config, hooks)
    report = run_seeds(config, lambda one: _run(one, hooks).report)
    assert config.output_dir is not None
    return Result(report["metrics"]["test"], report, config.output_dir)


def _run(config: RunConfig, hooks: Hooks) -> Result:
    """Do one run. Each step takes what those before it returned, so that none can be done out of order."""
    with open_run(config, hooks) as run:
        ready = run.step("data", _prepare)
        base = run.step("base", see_base, ready) if config.proves else None
        seen = run.step("features", _see, ready, base)
        trained = run.step("train", _fit, ready, seen, base)
        run, ready, seen = trained.run, trained.ready, trained.seen  # after a race: the winner's
        control = run.step("control", train_scratch, ready, seen, base) if config.control == "scratch" else None
        final = run.step("finish", _finish, ready, seen)
        ready = replace(ready, task=ready.task.answering_by(final.model.config))
        # the only place where the test rows are answered
        outcome = run.step("score", _score, ready, seen, base, final)
        scene = Scene(run, ready, seen, trained.fitted, outcome, base, control, selection=trained.selection)
        if base is not None and base.retention is not None:
            scene = run.step("forgetting", _look_back, scene, base)
        report = run.on_main(_ship, scene)
    return Result(report["metrics"]["test"], report, run.folder)


def _prepare(run: Run) -> Prepared:
    """Data, model and encoded rows; what cannot be done with them costs no forward pass."""
    ready = prepare(run.config)
    check_fits(run.config, ready.loaded.model, len(ready.train))
    if run.hooks.compute_metrics is None:
        check_score(run.config.training, ready.task.output.scores)
    check_method(run.config.method, ready.loaded)
    rows = f"{len(ready.train):,} training and {len(ready.validation):,} validation rows"
    terminal.sum_up(". ".join([rows, *(line.rstrip(".") for line in ready.splits.readings)]))
    return ready


def _see(run: Run, ready: Prepared, base: Base | None) -> Seen:
    """One forward pass over train and validation: the frozen features and, where the plan reads them, the states."""
    config, loaded, build_plan = ready.config, ready.loaded, get_method(str(ready.config.method.method))
    plan = build_plan(loaded, config.method, len(ready.train))
    output, dense = ready.task.output, ready.task.output.keep is not None
    if dense:
        run.hooks.metrics((), ready.validation.targets)  # which refuses
    if not (loaded.outputs or build_plan.needs_probe):  # a decoder that no probe can be written into
        return Seen(loaded, {}, "none", None, plan)
    parts = {"train": ready.train} if dense else {"train": ready.train, "validation": ready.validation}
    with without_adapters(plan.model):
        beside = states_beside(plan, (ready.rows_to_train_on, ready.validation), ready.collate, config)
        features, origin = frozen_features(ready, parts, beside=beside)
    seen = plan_on(ready, features, origin, plan, base.maps.probe if base and base.maps else None)
    tried = () if dense else seen.probe.logits(values_of(features["validation"][seen.probe.pooling]))
    own = run.hooks.metrics(tried, ready.validation.targets)  # what fails, fails before the training
    check_score(config.training, [*output.scores, *(own if output.scale is None else ())])  # numbers are standardised
    origin = " (from the cache)" if seen.origin == "cache" else ""
    terminal.sum_up(f"of {len(ready.train) + len(ready.validation):,} rows{origin}")
    if is_main_process() and terminal.verbose:
        show_plan(seen.plan, config.training.get("learning_rate", seen.learning_rate))
    return seen


def _fit(run: Run, ready: Prepared, seen: Seen, base: Base | None) -> Trained:
    """Run the plan's stages in the folder of the run, or the race that chooses a plan."""
    identity = {
        **rows_identity(ready.train, ready.validation),
        "labels": list(ready.splits.labels),
        "weights": ready.identity,
    }
    run.seconds["features"] += base.learned if base and seen.features else 0.0
    racing = run.config.method.method == AUTO.name
    run = with_race(run, ready) if racing else run
    data = replace(seen.data(ready), hooks=run.hooks)
    if base is not None and run.config.method.keep is not None:
        data = replace(data, kept=keeps(base.retention, ready))
    run.open_folder(identity)
    with run.nothing_useless():
        if racing:
            return race(run, ready, seen)
        fitted = fit_plan(seen.plan, seen.probe, data, ready.config, run.work)
        terminal.sum_up(", ".join(stage.name for stage in fitted.stages))
        return Trained(run, ready, seen, fitted)


def _finish(run: Run, ready: Prepared, seen: Seen) -> Final:
    """Fold the temperature into the head, then merge the adapter: so the adapter's folder has the same head.

    How the model is to answer, such as its thresholds, is settled by the validation rows and saved in its config.
    """
    final = calibrate(ready, seen)
    settle = ready.task.output.settle
    if settle is not None:
        outputs = final.raw / final.temperature.value
        fields = settle(outputs, ready.validation.targets, ready.splits.labels, run.config.method.thresholds)
        final.model.config.update(fields)
    return replace(final, model=merge_adapter(final.model, run.work / "adapter", seen.loaded))


def _score(run: Run, ready: Prepared, seen: Seen, base: Base | None, final: Final) -> Outcome:
    """Answer the test rows, a probe's from the features that the evidence has seen: then the model answers a few.

    Where these are not the same, all rows pass through the model.
    """
    test = base.test if base else ready.task.encode(ready.splits.test, ready.loaded.processor)
    known = by_probe(ready, seen, base.features) if base and base.features else None
    rows = test if known is None else test.take(np.arange(min(CHECKED, len(test))))
    start = time.perf_counter()
    answered = predict_logits(final.model, rows, ready.collate, use_cpu=run.use_cpu, title="test")
    seconds, shared = (time.perf_counter() - start) / len(rows), 0.0
    if base is not None and known is not None:
        known = known / final.temperature.value
        same = broadcast_from_main(np.allclose(known[: len(rows)], answered, rtol=TOLERANCE, atol=TOLERANCE))
        if same:
            answered, shared = known, base.features_seconds
        else:
            answered = predict_logits(final.model, test, ready.collate, use_cpu=run.use_cpu, title="test")
    return Outcome(final, {"test": answered, "validation": final.raw / final.temperature.value}, seconds, shared)


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
    run.notes.extend(own_class_note(model))
    final, test = run.work / "final", scene.outcome.logits["test"]
    save_final(model, scene.seen.loaded, final)
    with terminal.step("evidence" if scene.base else "writing"):
        processor = scene.seen.loaded.processor
        again = answered(model, processor, ready.task, ready.splits, test, run.use_cpu)
        check = start_check(final, ready.task, ready.splits, again, processor) if scene.base else None
        report = build_report(scene, gather(scene) if scene.base else None)
        report["timing"]["total_seconds"] = round(time.perf_counter() - run.start, 3)
        if check is not None:
            report = checked(report, check)
        if scene.base:
            report = write_run_page(run.work / "report.html", report, ready, test, again, model.config)
        write_card(final, report)
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
